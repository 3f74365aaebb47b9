//! What fails, how it says so, and what opening and closing mean.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use storage_core::{
    Address, Backend, Batch, CollectionName, Count, ErrorKind, Feature, Filter, HealthStatus, IndexSpec,
    ListRange, Maintenance, Mutation, Path, Precondition, Query, Result, Scan,
};

use crate::Cx;
use crate::helpers::{
    address, expect_kind, get_json, get_one, in_millis, ok, put, put_json, write_ok, write_one,
};
use crate::negative;

/// How long it may take to find out that an endpoint is no good.
const FAST: Duration = Duration::from_secs(20);

/// Opening what cannot be opened fails soon, in words that say what to do, and without the password.
pub async fn bad_endpoint_fails_fast(cx: Cx) {
    let started = Instant::now();
    let opened = cx.fixture().open_bad_endpoint().await;
    let took = started.elapsed();
    let error = match opened {
        Ok(backend) => panic!("a bad endpoint was opened: {:?}", backend.info()),
        Err(error) => error,
    };
    assert!(took < FAST, "it took {took:?} to fail: {error}");
    let fits = [
        ErrorKind::InvalidInput,
        ErrorKind::NotFound,
        ErrorKind::PermissionDenied,
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::Corrupt,
    ];
    assert!(fits.contains(&error.kind()), "the wrong kind for a bad endpoint: {error:?}");
    assert!(!error.message().is_empty());
    hides(&cx, &error.to_string(), "the error");
    hides(&cx, &format!("{error:?}"), "the error's Debug");
}

/// What was written before a close is there after it, or nothing is, as the fixture says.
pub async fn reopened_store_is_as_it_was(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let version = put_json(&*backend, &users, "ada", json!({"n": [1, "two"]})).await;
    write_ok(&*backend, put(&users, "gone", json!(1))).await;
    write_ok(&*backend, Mutation::delete(address(&users, "gone"))).await;
    let before = get_one(&*backend, &users, "ada").await;
    ok(backend.close().await, "close");
    drop(backend);

    let backend = cx.open().await;
    let after = get_one(&*backend, &users, "ada").await;
    if cx.fixture().persistent() {
        assert_eq!(after, before, "the record after the restart");
    } else {
        assert_eq!(after, None, "the fixture says that nothing is kept");
    }
    assert_eq!(get_one(&*backend, &users, "gone").await, None);
    let new = put_json(&*backend, &users, "ada", json!(2)).await;
    if cx.fixture().persistent() {
        assert_ne!(new, version, "a restart gives no version out again");
    }
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!(2)));
}

/// After a close every call says that the store is closed; also one that was opened and never used.
pub async fn closed_store_errors(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "ada", json!(1)).await;
    let info = backend.info().clone();
    ok(backend.close().await, "close");
    assert_eq!(*backend.info(), info, "info works when closed");
    for (what, result) in every_call(&cx, &*backend, &users).await {
        expect_kind(result, ErrorKind::Closed, &format!("{what} of a closed store"));
    }
}

/// Closing twice, and from several tasks at once, is closing once.
pub async fn double_close_ok(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "ada", json!(1)).await;
    let closing: Vec<_> = (0..4)
        .map(|_| {
            let backend: Arc<dyn Backend> = backend.clone();
            tokio::spawn(async move { backend.close().await })
        })
        .collect();
    for close in closing {
        ok(close.await.expect("closing does not panic"), "one of several closes");
    }
    ok(backend.close().await, "a close of what is closed");
    let result = backend.get(&[address(&users, "ada")]).await;
    expect_kind(result, ErrorKind::Closed, "get after it was closed twice");
}

/// What is not offered is refused as unsupported, and what is offered is not.
pub async fn unclaimed_capability_unsupported(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    for feature in Feature::ALL {
        if !cx.has(feature) {
            negative::twin(&*backend, &users, feature).await;
        } else if cx.has(Feature::Put) {
            let result = negative::request(&*backend, &cx.collection(), feature).await;
            ok(result, &format!("a request that needs the feature {feature}, which is offered,"));
        }
    }
}

/// No secret is in what the backend says of itself, nor in an error.
pub async fn debug_and_errors_hide_secrets(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let info = backend.info();
    assert!(
        !info.name.is_empty() && !info.location.is_empty(),
        "a backend says what and where it is: {info:?}"
    );
    // The guard shows the backend that it is around.
    hides(&cx, &format!("{backend:?}"), "the backend's Debug");
    hides(&cx, &format!("{backend:#?}"), "the backend's Debug over several lines");
    hides(&cx, &info.location, "the location");
    hides(&cx, &format!("{info:?}"), "the info's Debug");
    let health = ok(backend.health().await, "health");
    hides(&cx, &format!("{health:?}"), "the health");
    hides(&cx, &format!("{:?}", ok(backend.stats().await, "stats")), "the stats");

    // Stored values may be secrets too.
    let stored = "stored-value-f00d";
    put_json(&*backend, &users, "ada", json!({ "token": stored })).await;
    let mut failures = Vec::new();
    if cx.has(Feature::Preconditions) {
        let again = put(&users, "ada", json!({ "token": stored })).on(Precondition::Absent);
        failures.push(("making what is there", write_one(&*backend, again).await.map(drop)));
    }
    if cx.has(Feature::Counters) {
        let increment = Mutation::increment(address(&users, "ada"), "n", 1);
        failures.push(("an increment of JSON", write_one(&*backend, increment).await.map(drop)));
    }
    let none = Scan { limit: 0, ..Scan::new(users.clone()) };
    failures.push(("a page of nothing", backend.scan(&none).await.map(drop)));
    ok(backend.close().await, "close");
    failures.push(("get of a closed store", backend.get(&[address(&users, "ada")]).await.map(drop)));
    hides(&cx, &format!("{backend:?}"), "the Debug of the closed backend");
    for (what, result) in failures {
        let Err(error) = result else { panic!("{what} went through") };
        assert_eq!(error.backend_name(), info.name, "{what}: the error names its backend: {error:?}");
        assert!(!error.operation_name().is_empty(), "{what}: the error names its operation: {error:?}");
        let mut texts = vec![error.to_string(), format!("{error:?}"), format!("{error:#?}")];
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            texts.extend([inner.to_string(), format!("{inner:?}")]);
            source = inner.source();
        }
        for text in texts {
            hides(&cx, &text, what);
            assert!(!text.contains(stored), "{what}: a stored value is in the error: {text}");
        }
    }
}

/// A store that works is up, and the probe took some time.
pub async fn health_of_a_working_store_is_up(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "ada", json!(1)).await;
    let started = Instant::now();
    let health = ok(backend.health().await, "health");
    assert_eq!(health.status, HealthStatus::Up, "{health:?}");
    assert!(health.latency <= started.elapsed(), "the probe took longer than the call: {health:?}");
    assert!(!health.detail.is_empty(), "it says what was probed");
}

/// Reads and writes are counted, each as often as it was done.
pub async fn stats_count_what_was_done(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let stats = async || ok(backend.stats().await, "stats");
    let start = stats().await;
    for i in 0..5 {
        put_json(&*backend, &users, &format!("k{i}"), json!(i)).await;
    }
    let both = Batch::independent(vec![put(&users, "k0", json!(9)), Mutation::delete(address(&users, "k4"))]);
    crate::helpers::write_all(&*backend, both).await;
    let written = stats().await;
    assert_eq!(written.writes - start.writes, 7, "mutations applied: {written:?}");

    let asked: Vec<Address> = ["k0", "k1", "missing"].map(|key| address(&users, key)).to_vec();
    ok(backend.get(&asked).await, "get");
    ok(backend.get(&asked[..1]).await, "get");
    let read = stats().await;
    assert_eq!(read.reads - written.reads, 4, "records read by key, found or not: {read:?}");
    assert_eq!(read.writes, written.writes, "reading writes nothing");
    if let Some(records) = read.records {
        assert_eq!(records, 4, "records held: {read:?}");
    }
    if cx.has(Feature::Preconditions) {
        let refused = put(&users, "k0", json!(1)).on(Precondition::Absent);
        expect_kind(
            write_one(&*backend, refused).await,
            ErrorKind::PreconditionFailed,
            "making what is there",
        );
        assert_eq!(stats().await.writes, read.writes, "a mutation that failed was not applied");
    }
}

/// No secret of the fixture is in `text`.
#[track_caller]
fn hides(cx: &Cx, text: &str, what: &str) {
    for secret in cx.fixture().secrets() {
        assert!(!secret.is_empty(), "an empty text is no secret");
        // The message leaves the text out: it has the secret in it.
        assert!(!text.contains(&secret), "{what} shows a secret of {} characters", secret.chars().count());
    }
}

/// The outcome of every call that the backend offers, but `info` and `close`.
async fn every_call(
    cx: &Cx,
    backend: &dyn Backend,
    collection: &CollectionName,
) -> Vec<(&'static str, Result<()>)> {
    let (c, at) = (collection.clone(), address(collection, "ada"));
    let path = Path::new("n").expect("a path");
    let range = ListRange { address: at.clone(), start: 0, limit: 1 };
    let query = Query::new(c.clone(), Filter::all());
    let count = Count { collection: c.clone(), filter: None };
    let touch = Mutation::touch(at.clone(), Some(in_millis(60_000)));
    let mut calls =
        vec![("health", backend.health().await.map(drop)), ("stats", backend.stats().await.map(drop))];
    let mut call = |feature, name, result: Result<()>| {
        if cx.has(feature) {
            calls.push((name, result));
        }
    };
    call(Feature::Get, "get", backend.get(std::slice::from_ref(&at)).await.map(drop));
    call(Feature::Put, "put", write_one(backend, put(&c, "ada", json!(2))).await.map(drop));
    call(Feature::Put, "delete", write_one(backend, Mutation::delete(at.clone())).await.map(drop));
    call(Feature::Put, "an empty write", backend.write(&Batch::independent(Vec::new())).await.map(drop));
    call(Feature::Get, "an empty get", backend.get(&[]).await.map(drop));
    call(Feature::Expiry, "touch", write_one(backend, touch).await.map(drop));
    call(Feature::Scan, "scan", backend.scan(&Scan::new(c.clone())).await.map(drop));
    call(Feature::Scan, "keys", backend.keys(&Scan::new(c.clone())).await.map(drop));
    call(Feature::Query, "query", backend.query(&query).await.map(drop));
    call(Feature::Lists, "list_range", backend.list_range(&range).await.map(drop));
    call(Feature::Count, "count", backend.count(&count).await.map(drop));
    call(Feature::Collections, "collections", backend.collections().await.map(drop));
    call(Feature::Clear, "clear", backend.clear(&c).await.map(drop));
    let index = IndexSpec::new(c.clone(), path.clone());
    call(Feature::Indexes, "ensure_index", backend.ensure_index(&index).await.map(drop));
    call(Feature::Indexes, "list_indexes", backend.list_indexes(&c).await.map(drop));
    call(Feature::Indexes, "drop_index", backend.drop_index(&c, &path).await.map(drop));
    call(Feature::Changes, "changes", negative::request(backend, &c, Feature::Changes).await);
    call(Feature::Sweep, "sweep", backend.maintain(Maintenance::Sweep).await.map(drop));
    call(Feature::Verify, "verify", backend.maintain(Maintenance::Verify).await.map(drop));
    calls
}
