//! The stack as data, and that the adapter forwards everything.

use std::sync::Arc;
use std::time::Duration;

use storage_core::layer::{Layer, Layers, Retry, Timeout};
use storage_core::{
    Backend, Capabilities, Changes, Coalescing, CollectionName, Count, ErrorKind, Filter, IndexSpec,
    ListRange, Maintenance, Path, Query, Retry as Class, Scan,
};

use crate::fake::Fake;
use crate::{at, put};

#[test]
fn the_default_stack_merges_only_where_that_pays() {
    let mut capabilities = Capabilities::none();
    assert_eq!(Layers::default_for(&capabilities).to_string(), "tracing > metrics > retry > timeout > guard");
    capabilities.coalesce_reads = Coalescing::Pays;
    let layers = Layers::default_for(&capabilities);
    assert_eq!(layers.to_string(), "tracing > metrics > retry > timeout > coalesce > guard");
    assert_eq!(Layers::none().to_string(), "guard");
}

#[test]
fn with_puts_each_layer_in_its_place_or_replaces_it() {
    let layers = Layers::none()
        .with(Layer::Coalesce)
        .with(Layer::Tracing)
        .with(Layer::Timeout(Timeout::default()))
        .with(Layer::Retry(Retry::default()));
    assert_eq!(layers.to_string(), "tracing > retry > timeout > coalesce > guard");
    let patient = Retry { attempts: 9, ..Retry::default() };
    let layers = layers.with(Layer::Retry(patient)).without("timeout").without("nothing");
    assert_eq!(layers.as_slice(), [Layer::Tracing, Layer::Retry(patient), Layer::Coalesce]);
}

/// glibc's allocator keeps blocks of up to 1,032 bytes for each thread. Larger ones are taken and given back under a lock,
/// which cost a busy store a seventh of its calls.
#[test]
fn the_future_of_a_call_fits_the_allocators_fast_path() {
    let mut capabilities = Capabilities::none();
    (capabilities.coalesce_reads, capabilities.coalesce_writes) = (Coalescing::Pays, Coalescing::Pays);
    let layers = Layers::default_for(&capabilities);
    let backend = layers.apply(Arc::new(Fake::with(capabilities)));
    let (keys, batch) = ([at("a")], put("a"));
    assert!(size_of_val(&*backend.get(&keys)) <= 1024, "{}", size_of_val(&*backend.get(&keys)));
    assert!(size_of_val(&*backend.write(&batch)) <= 1024, "{}", size_of_val(&*backend.write(&batch)));
}

#[test]
fn it_is_data() {
    let text = r#"["tracing",{"timeout":{"read":"1m 30s","write":null}},"coalesce"]"#;
    let layers: Layers = serde_json::from_str(text).unwrap();
    let timeout = Timeout { read: Some(Duration::from_secs(90)), write: None, bulk: None };
    assert_eq!(layers.as_slice(), [Layer::Tracing, Layer::Timeout(timeout), Layer::Coalesce]);
    let again = serde_json::to_string(&layers).unwrap();
    assert_eq!(serde_json::from_str::<Layers>(&again).unwrap(), layers);

    for (wrong, names) in [
        (r#"["metrics","metrics"]"#, "metrics is there twice"),
        (r#"["retries"]"#, "retries"),
        (r#"[{"retry":{"times":3}}]"#, "times"),
        (r#"[{"retry":{"base":"soon"}}]"#, "duration"),
    ] {
        let error = serde_json::from_str::<Layers>(wrong).unwrap_err().to_string();
        assert!(error.contains(names), "{error}");
    }
}

#[test]
fn the_applied_stack_prints_from_the_outside_in() {
    let fake = Arc::new(Fake::new());
    let stack = Layers::default_for(&fake.info().capabilities).apply(fake);
    let shown = format!("{stack:?}");
    let head = "tracing > metrics > retry > timeout > coalesce > guard > Fake";
    assert!(shown.starts_with(head), "{shown}");
}

#[tokio::test]
async fn every_operation_goes_through_once() {
    let fake = Arc::new(Fake::new());
    let stack = Layers::default_for(&fake.info().capabilities).apply(fake.clone());
    let users = CollectionName::new("users").unwrap();
    let path = Path::new("age").unwrap();
    let page = Scan::new(users.clone());
    let changes = Changes { collection: None, after: None, limit: 1, wait: Duration::ZERO };

    assert_eq!(stack.get(&[at("a"), at("no")]).await.unwrap()[1], None);
    assert_eq!(stack.write(&put("a")).await.unwrap().len(), 1);
    stack.scan(&page).await.unwrap();
    stack.keys(&page).await.unwrap();
    stack.query(&Query::new(users.clone(), Filter::all())).await.unwrap();
    assert_eq!(stack.list_range(&ListRange { address: at("a"), start: 0, limit: 1 }).await.unwrap(), None);
    assert_eq!(stack.count(&Count { collection: users.clone(), filter: None }).await.unwrap(), 1);
    stack.collections().await.unwrap();
    assert_eq!(stack.clear(&users).await.unwrap(), 2);
    stack.ensure_index(&IndexSpec::new(users.clone(), path.clone())).await.unwrap();
    stack.list_indexes(&users).await.unwrap();
    stack.drop_index(&users, &path).await.unwrap();
    stack.changes(&changes).await.unwrap();
    stack.health().await.unwrap();
    stack.stats().await.unwrap();
    stack.maintain(Maintenance::Sweep).await.unwrap();
    stack.close().await.unwrap();
    assert_eq!(
        *fake.calls.lock().unwrap(),
        [
            "get",
            "write",
            "scan",
            "keys",
            "query",
            "list_range",
            "count",
            "collections",
            "clear",
            "ensure_index",
            "list_indexes",
            "drop_index",
            "changes",
            "health",
            "stats",
            "maintain",
            "close"
        ]
    );
    assert_eq!(stack.get(&[at("a")]).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(stack.health().await.unwrap_err().kind(), ErrorKind::Closed);
    stack.close().await.unwrap();
}

#[tokio::test]
async fn the_guard_is_always_there() {
    let fake = Arc::new(Fake::with(Capabilities::none()));
    let bare = Layers::none().apply(fake.clone());
    assert_eq!(bare.get(&[at("a")]).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let fake = Fake::failing(1, ErrorKind::Busy, Class::Safe);
    let bare = Layers::none().apply(fake.clone());
    assert_eq!(bare.health().await.unwrap_err().backend_name(), "fake");
    assert_eq!(fake.count(), 1);
}
