//! A plugin that panics, hangs and blocks: the host gets errors, and lives.

use std::fs;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use serde_json::{Value as Tree, json};
use storage_core::{
    Address, Backend, Batch, Changes, CollectionName, Count, ErrorKind, Filter, IndexSpec, Json, ListRange,
    Maintenance, Mutation, Path, Query, Result, Retry, Scan, TypeDescriptor, Value,
};
use storage_plugin::host::{LoadLimits, Plugin};

use crate::build;

const PANICS: [&str; 9] = [
    "panic",
    "panic_number",
    "panic_bomb",
    "panic_later",
    "panic_later_number",
    "panic_later_bomb",
    "panic_in_task",
    "panic_in_task_number",
    "panic_in_task_bomb",
];

/// The plugin from a file of its own, with statics of its own, as other tests disable it.
fn load(limits: LoadLimits) -> Arc<Plugin> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let copy = directory.path().join("libmisbehaving.so");
    fs::copy(build::example("misbehaving_plugin"), &copy).expect("a copy of the plugin");
    Plugin::load(&copy, limits).expect("the plugin loads")
}

/// As [`load`], and it is never disabled.
fn load_with_patience() -> Arc<Plugin> {
    load(LoadLimits { misbehaviours: u32::MAX, ..LoadLimits::default() })
}

async fn open(plugin: &Plugin, config: Tree) -> Arc<dyn Backend> {
    plugin.open(config).await.expect("the store opens")
}

fn address() -> Address {
    Address::new("things", "one").expect("an address")
}

fn one() -> Value {
    Value::Json(Json::encode(&1).expect("a value"))
}

/// A store that works, works.
async fn check_works(store: &dyn Backend) {
    let put = Batch::independent(vec![Mutation::put(address(), one())]);
    assert!(store.write(&put).await.expect("a write").remove(0).is_ok());
    let found = store.get(&[address()]).await.expect("a read").remove(0);
    assert_eq!(found.expect("what was put").value, one());
}

/// Calls every method that a plugin has a part in, and returns the errors.
async fn fail_everywhere(store: &dyn Backend) -> Vec<storage_core::Error> {
    let collection = CollectionName::new("things").expect("a name");
    let path = Path::new("a").expect("a path");
    let index = IndexSpec::new(collection.clone(), path.clone());
    let scan = Scan::new(collection.clone());
    let query = Query::new(collection.clone(), Filter::And(Vec::new()));
    let list = ListRange { address: address(), start: 0, limit: 10 };
    let count = Count { collection: collection.clone(), filter: None };
    let changes = Changes { collection: None, after: None, limit: 10, wait: Duration::ZERO };
    [
        store.get(&[address()]).await.map(drop),
        store.write(&Batch::independent(vec![Mutation::delete(address())])).await.map(drop),
        store.scan(&scan).await.map(drop),
        store.keys(&scan).await.map(drop),
        store.query(&query).await.map(drop),
        store.list_range(&list).await.map(drop),
        store.count(&count).await.map(drop),
        store.collections().await.map(drop),
        store.clear(&collection).await.map(drop),
        store.ensure_index(&index).await.map(drop),
        store.list_indexes(&collection).await.map(drop),
        store.drop_index(&collection, &path).await.map(drop),
        store.changes(&changes).await.map(drop),
        store.health().await.map(drop),
        store.stats().await.map(drop),
        store.maintain(Maintenance::Verify).await.map(drop),
        store.close().await,
    ]
    .map(|result: Result<()>| result.expect_err("the method panics"))
    .into()
}

/// Waits for what comes soon.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < Duration::from_secs(20), "it did not come to pass: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many calls hang or hung in the plugin, and how many of them were dropped there.
async fn counted(store: &dyn Backend) -> (u64, u64) {
    let details = store.stats().await.expect("statistics").details;
    let count = |name| details.get(name).and_then(Tree::as_u64).expect("a count");
    (count("hung"), count("dropped"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_any_method_is_an_error() {
    let plugin = load_with_patience();
    let works = open(&plugin, json!({})).await;
    for fault in PANICS {
        let store = open(&plugin, json!({"fault": fault})).await;
        for error in fail_everywhere(&*store).await {
            assert_eq!(error.kind(), ErrorKind::Internal, "{fault}: {error}");
            assert!(error.message().contains("panicked"), "{fault}: {error}");
            assert_eq!(error.backend_name(), "misbehaving");
            let told = error.message().contains("as it was told to");
            assert_eq!(told, !fault.ends_with("number") && !fault.ends_with("bomb"), "{fault}: {error}");
            check_works(&*works).await;
        }
    }
    assert_eq!((plugin.violations(), plugin.disabled()), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_type_itself_is_an_error() {
    let plugin = load_with_patience();
    for fault in PANICS {
        let error = plugin.open(json!({"fault": fault, "at": "open"})).await.unwrap_err();
        assert_eq!((error.kind(), error.operation_name()), (ErrorKind::Internal, "open"), "{error}");
        assert!(error.message().contains("panicked"), "{fault}: {error}");
    }
    for fault in ["panic", "panic_number", "panic_bomb"] {
        let error = plugin.validate(&json!({"fault": fault, "at": "validate"})).unwrap_err();
        assert!(error.message().contains("panicked"), "{fault}: {error}");
        let url = format!("misbehaving:?fault={fault}&at=config_from_url");
        let error = plugin.config_from_url(&url).unwrap_err();
        assert!(error.message().contains("panicked"), "{fault}: {error}");
    }
    assert_eq!(plugin.config_from_url("misbehaving:?fault=hang").unwrap(), json!({"fault": "hang"}));
    check_works(&*open(&plugin, json!({})).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_panics_in_a_row_disable_the_plugin() {
    let plugin = load(LoadLimits::default());
    let heard = Arc::new(AtomicUsize::new(0));
    plugin.on_disabled({
        let heard = Arc::clone(&heard);
        move |_| {
            heard.fetch_add(1, SeqCst);
        }
    });
    let works = open(&plugin, json!({})).await;
    let panics = open(&plugin, json!({"fault": "panic_later"})).await;
    // Four are forgiven, if a good answer comes after them.
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(panics.health().await.unwrap_err().kind(), ErrorKind::Internal);
        }
        check_works(&*works).await;
    }
    assert_eq!((plugin.disabled(), heard.load(SeqCst)), (None, 0));
    for _ in 0..5 {
        assert_eq!(panics.health().await.unwrap_err().kind(), ErrorKind::Internal);
    }
    let reason = plugin.disabled().expect("the plugin is disabled");
    assert!(reason.contains("health") && reason.contains("as it was told to"), "{reason}");
    for error in [works.get(&[address()]).await.map(drop), plugin.open(json!({})).await.map(drop)] {
        let error = error.expect_err("the plugin is disabled");
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Never), "{error}");
        assert!(
            error.message().contains("misbehaving@1.0.0") && error.message().contains(&reason),
            "{error}"
        );
    }
    assert_eq!(heard.load(SeqCst), 1);
    works.close().await.expect("a store can still be closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_do_not_end_when_cancelled_disable_the_plugin() {
    let plugin = load(LoadLimits { cancel: Duration::from_millis(50), ..LoadLimits::default() });
    let blocks = open(&plugin, json!({"fault": "block", "at": "health"})).await;
    let given_up = || tokio::time::timeout(Duration::from_millis(5), blocks.health());
    assert!(given_up().await.is_err(), "the call blocks");
    // More than five of them: one that is given up before the plugin has begun it does end.
    eventually("the plugin is disabled", || async {
        drop(given_up().await);
        plugin.disabled().is_some()
    })
    .await;
    assert_eq!(plugin.violations(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_dropped_calls_are_cancelled_inside() {
    let plugin = load(LoadLimits::default());
    let store = open(&plugin, json!({"fault": "hang", "at": "get"})).await;
    let call = || {
        let store = Arc::clone(&store);
        async move { store.get(&[address()]).await.map(drop) }
    };
    let calls: Vec<_> = (0..1_000).map(|_| tokio::spawn(call())).collect();
    eventually("all calls hang", || async { counted(&*store).await == (1_000, 0) }).await;
    calls.iter().for_each(|call| call.abort());
    eventually("all calls are dropped", || async { counted(&*store).await == (1_000, 1_000) }).await;

    // And at any other moment: before the plugin has begun, while it begins, while it hangs.
    let calls = (0..1_000_u64).map(|n| tokio::time::timeout(Duration::from_micros(n % 50 * 40), call()));
    let calls: Vec<_> = calls.map(tokio::spawn).collect();
    for call in calls {
        assert!(call.await.expect("the task ends").is_err(), "the call hangs");
    }
    eventually("all calls are dropped", || async {
        let (hung, dropped) = counted(&*store).await;
        hung == dropped
    })
    .await;
    assert_eq!((plugin.violations(), plugin.disabled()), (0, None));
    store.close().await.expect("the store closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_it_is_cancelled_harms_nothing() {
    let plugin = load_with_patience();
    let store = open(&plugin, json!({"fault": "panic_on_cancel", "at": "get"})).await;
    for _ in 0..50 {
        let given_up = tokio::time::timeout(Duration::from_millis(1), store.get(&[address()])).await;
        assert!(given_up.is_err(), "the call hangs");
    }
    eventually("all calls are dropped", || async {
        let (hung, dropped) = counted(&*store).await;
        hung == dropped && hung > 0
    })
    .await;
    check_works(&*open(&plugin, json!({})).await).await;
    assert_eq!(plugin.violations(), 0);
    store.close().await.expect("the store closes");
}
