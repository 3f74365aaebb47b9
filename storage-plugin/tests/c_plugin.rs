//! The plugin in C of `examples/plugin-c`, built by its own Makefile and loaded as a host does it.

use std::process::Command;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use storage_core::{
    Address, AtomicScope, Backend, Batch, Change, CollectionName, Count, Cursor, ErrorKind, Feature, Json,
    Maintenance, Mutation, Precondition, Request, Result, Scan, Timestamp, TypeDescriptor, Value, Version,
};
use storage_plugin::host::{LoadLimits, Plugin};
use storage_plugin::{Outgoing, wire};
use storage_testkit::{Fixture, Harness};

#[path = "abi/cc.rs"]
mod cc;

mod conformance {
    storage_testkit::conformance!(super::CMemory);
}

storage_testkit::differential!(CMemory);

/// The plugin, which a process can load only once.
static PLUGIN: LazyLock<Arc<Plugin>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory for the plugin");
    let example = cc::path("../examples/plugin-c");
    cc::run(Command::new("make").arg("-C").arg(example).arg(format!("OUT={}", dir.path().display())));
    let file = dir.path().join("libc_memory.so");

    let symbols =
        cc::run(Command::new("nm").args(["--dynamic", "--defined-only", "--format=just-symbols"]).arg(&file));
    assert_eq!(symbols.trim(), "storage_plugin_entry", "a plugin exports its entry and nothing else");
    let note = storage_plugin::note::read(&std::fs::read(&file).expect("the plugin")).expect("the note");
    let plugin = Plugin::load(&file, LoadLimits::default()).expect("the plugin loads");
    assert_eq!((note.name.as_str(), &note.version), (plugin.name(), &plugin.version()));
    assert_eq!((note.abi, note.build.as_str()), (plugin.abi(), plugin.build()));
    plugin
});

struct CMemory;

#[async_trait]
impl Harness for CMemory {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        Ok(Box::new(CMemory))
    }
}

#[async_trait]
impl Fixture for CMemory {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        PLUGIN.open(PLUGIN.config_from_url("c-memory:")?).await
    }

    fn persistent(&self) -> bool {
        false
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        PLUGIN.open(PLUGIN.config_from_url("c-memory://nowhere")?).await
    }
}

/// `clear` is pending. Dropped at whatever moment, it has removed some records or all, and the plugin completes it: a
/// call that it lost would keep its store, and count against it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_clears_are_cancelled() {
    const RECORDS: u64 = 5_000;
    let store = CMemory.open().await.expect("a store");
    let users = CollectionName::new("users").expect("a name");
    let count = Count { collection: users.clone(), filter: None };
    let put =
        |i| Mutation::put(Address::new("users", format!("k{i}")).expect("an address"), Value::bytes(vec![0]));
    let fill = Batch::independent((0..RECORDS).map(put).collect());
    let mut cancelled = 0;
    for round in 0..200 {
        if round % 20 == 0 {
            store.write(&fill).await.expect("records");
        }
        let cleared = within(round % 5, store.clear(&users)).await;
        cancelled += u64::from(cleared.is_none());
        let left = store.count(&count).await.expect("the number of records");
        assert!(cleared.is_none() || left == 0, "{left} records are left after {cleared:?}");
    }
    assert!(cancelled > 0, "no call was dropped before it was done");
    store.write(&fill).await.expect("records");
    assert_eq!(store.clear(&users).await.expect("cleared"), RECORDS, "the store works on");
    store.close().await.expect("closed");
    assert_eq!((PLUGIN.violations(), PLUGIN.disabled()), (0, None));
}

/// What the call gives, or `None` where it was dropped, pending after so many turns of the scheduler. Tokio's timers are
/// no use here: they go by whole milliseconds, in which the plugin has long been done.
async fn within<T>(turns: u64, call: impl Future<Output = T>) -> Option<T> {
    let patience = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        done = call => Some(done),
        () = patience => None,
    }
}

/// A store that is dropped with a call of it under way is let go of after the call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_outlive_their_calls() {
    let users = CollectionName::new("users").expect("a name");
    let at = Address::new("users", "ada").expect("an address");
    for _ in 0..100 {
        let store = CMemory.open().await.expect("a store");
        store
            .write(&Batch::independent(vec![Mutation::put(at.clone(), Value::bytes(vec![0; 5_000]))]))
            .await
            .unwrap();
        let records = store.get(std::slice::from_ref(&at)).await.expect("records");
        drop(within(0, store.clear(&users)).await);
        drop(store);
        let Some(Value::Bytes(blob)) = records[0].as_ref().map(|record| &record.value) else {
            panic!("{records:?}")
        };
        assert!(blob.data.iter().all(|byte| *byte == 0), "a value is there as long as somebody holds it");
    }
    assert_eq!((PLUGIN.violations(), PLUGIN.disabled()), (0, None));
}

/// Requests, whole and damaged in many ways, with sanitizers that see a byte read outside a message, a leak, and
/// arithmetic that is not defined.
#[test]
fn malformed_requests_do_no_harm() {
    let dir = tempfile::tempdir().expect("a directory for the program");
    let (corpus, program) = (dir.path().join("requests"), dir.path().join("malformed"));
    std::fs::write(&corpus, requests().iter().flat_map(packed).collect::<Vec<u8>>()).unwrap();
    let example = cc::path("../examples/plugin-c/memory.c");
    let driver = cc::path("tests/abi/malformed.c");
    let flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread", "-g", "-O1"];
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let mut build = cc::cc();
    build
        .args(flags)
        .args(sanitizers)
        .arg("-I")
        .arg(cc::path("include"))
        .arg(driver)
        .arg(example)
        .arg("-o")
        .arg(&program);
    cc::run(&mut build);
    let printed = cc::run(Command::new(program).arg(corpus).arg("50000"));
    assert_eq!(printed, format!("{} requests, 50000 damaged\n", requests().len()));
}

/// A request as `malformed.c` reads it.
fn packed(request: &Outgoing) -> Vec<u8> {
    let size = |len: usize| u32::try_from(len).expect("a small part").to_ne_bytes();
    let parts = || std::iter::once(request.head()).chain(request.blobs());
    let mut bytes = size(request.blobs().len()).to_vec();
    bytes.extend(parts().flat_map(|part| size(part.len())));
    bytes.extend(parts().flatten());
    bytes
}

/// One of each request that the plugin knows, and some that it does not.
fn requests() -> Vec<Outgoing> {
    let at = |key: &str| Address::new("users", key).expect("an address");
    let users = CollectionName::new("users").expect("a name");
    let counters = || Value::Counters([("a".into(), 1), ("b".into(), i64::MIN)].into());
    let version = Version::from_sequence(1);
    let change = |key: &str, change: Change| Mutation::new(at(key), change);
    let json = || Json::parse(r#"{"text": "a value", "list": [1, 2, 3]}"#).expect("JSON");
    let batch = vec![
        Mutation::put(at("json"), json()).expiring(Some(Timestamp::from_millis(i64::MAX))),
        Mutation::put(at("bytes"), Value::bytes(vec![7; 300])).on(Precondition::Absent),
        Mutation::put(at("counters"), counters()),
        Mutation::increment(at("counters"), "b", -1),
        Mutation::increment(at("counters"), "a", i64::MAX),
        Mutation::increment(at("new"), "n", 5).on(Precondition::Version(version)),
        Mutation::touch(at("json"), None).on(Precondition::Present),
        Mutation::check(at("json"), Precondition::Absent),
        Mutation::delete(at("gone")),
        change("bytes", Change::Delete),
    ];
    let lists = vec![Mutation::append(at("list"), vec![json()])];
    let scan = Scan { prefix: "b".into(), limit: 2, ..Scan::new(users.clone()) };
    let cursor = |digits: usize| Some(Cursor::new("7".repeat(digits)).expect("a cursor"));
    let count = Count { collection: users.clone(), filter: None };
    let mut all: Vec<Outgoing> = [
        Request::Write(&Batch::independent(batch.clone())),
        Request::Write(&Batch::atomic(batch[..3].to_vec())),
        Request::Write(&Batch::atomic(batch)),
        Request::Write(&Batch::independent(lists)),
        Request::Get(&[at("json"), at("bytes"), at("counters"), at("none")]),
        Request::Scan(&Scan::new(users.clone())),
        Request::Scan(&scan),
        Request::Keys(&Scan { after: cursor(32), ..scan.clone() }),
        Request::Keys(&Scan { after: cursor(storage_core::MAX_CURSOR_BYTES), ..scan.clone() }),
        Request::Count(&count),
        Request::Collections,
        Request::Clear(&users),
        Request::ListIndexes(&users),
        Request::Health,
        Request::Stats,
        Request::Maintain(Maintenance::Sweep),
    ]
    .iter()
    .map(wire::request)
    .collect();
    all.extend([
        wire::config_from_url("c-memory:"),
        wire::validate(&serde_json::json!({"unknown": [1, 2]})),
        wire::open(&serde_json::json!({})),
    ]);
    all
}

/// What it declares is what the conformance cases are run for, so none may get lost.
#[test]
fn describes_itself() {
    let capabilities = PLUGIN.capabilities();
    let features: Vec<Feature> = capabilities.features.keys().copied().collect();
    let expected = [
        Feature::Get,
        Feature::Put,
        Feature::Preconditions,
        Feature::Expiry,
        Feature::Atomic,
        Feature::Scan,
        Feature::OrderedScan,
        Feature::Count,
        Feature::Collections,
        Feature::Clear,
        Feature::Bytes,
        Feature::Counters,
    ];
    assert_eq!((features, capabilities.atomic_scope), (expected.to_vec(), AtomicScope::Store));
    assert_eq!(PLUGIN.schemes(), ["c-memory"]);
    assert_eq!(PLUGIN.violations(), 0);
}

/// The configuration is an object without keys, however it is written.
#[test]
fn validates_its_configuration() {
    for good in ["c-memory:", "c-memory://"] {
        let config = PLUGIN.config_from_url(good).expect("a URL of this type");
        PLUGIN.validate(&config).expect("the configuration of a URL");
    }
    for bad in ["c-memory:x", "c-memory", "memory:", ""] {
        assert_eq!(PLUGIN.config_from_url(bad).expect_err(bad).kind(), ErrorKind::InvalidInput, "{bad}");
    }
    for bad in [r#"{"a":1}"#, "[]", "null", "{}{}", "\"{}\""].map(serde_json::from_str::<serde_json::Value>) {
        let Ok(bad) = bad else { continue };
        assert_eq!(
            PLUGIN.validate(&bad).expect_err("a bad configuration").kind(),
            ErrorKind::InvalidInput,
            "{bad}"
        );
    }
}
