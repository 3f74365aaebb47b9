//! Connections that are cut, slow, silent or refused.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use storage_core::{Backend, ErrorKind, HealthStatus, IndexSpec, Path, Result, Retry, Scan};
use storage_testkit::helpers::{get_json, put_json, put_numbered};
use storage_testkit::proxy::Proxy;
use storage_testkit::servers::{MongoServer, MongoSettings};

use crate::{
    IN_TIME, alone, counted, expect, get, harness, increment, increment_atomically, of_the_connection,
    put_one, recovers, sum, timed, users,
};

struct Behind {
    /// Ends when it is dropped.
    _server: MongoServer,
    proxy: Proxy,
    backend: Arc<dyn Backend>,
}

/// A store through a proxy, with these parameters of the URL.
async fn behind_a_proxy(parameters: &str) -> Behind {
    let server = MongoServer::start(&MongoSettings::default()).unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = server.url_of(&proxy.address().to_string());
    let url = format!("{url}?directConnection=true&{parameters}");
    let backend = recovers(|| harness::open(&url)).await;
    Behind { _server: server, proxy, backend }
}

/// How the increments that were cut at one point each ended.
#[derive(Debug, Default)]
struct Outcomes {
    done: u32,
    not_done: u32,
    unknown_and_done: u32,
    unknown_and_not_done: u32,
}

/// Cuts the connections behind so many bytes of replies and fewer, by steps or, in the long variant, each, and looks whether
/// what the store says is what happened.
async fn cut_everywhere<F>(behind: &Behind, bytes: u64, step: usize, call: impl Fn() -> F) -> Outcomes
where
    F: Future<Output = Result<()>>,
{
    let Behind { proxy, backend, .. } = behind;
    let mut outcomes = Outcomes::default();
    let step = if std::env::var_os("STORAGE_LONG").is_some() { 1 } else { step };
    for bytes in (0..bytes).step_by(step) {
        recovers(&call).await;
        let before = counted(&**backend, "counter").await;
        proxy.cut_after(bytes);
        let result = call().await;
        proxy.cut_after(u64::MAX);
        let more = counted(&**backend, "counter").await - before;
        let outcome = match (&result, more) {
            (Ok(()), 1) => &mut outcomes.done,
            (Err(error), 0) if error.retry() == Retry::Safe => &mut outcomes.not_done,
            (Err(error), 0 | 1) if error.retry() == Retry::IfIdempotent => {
                of_the_connection(error);
                if more == 1 { &mut outcomes.unknown_and_done } else { &mut outcomes.unknown_and_not_done }
            }
            (_, more) => panic!("cut after {bytes} bytes, and done {more} times: {result:?}"),
        };
        *outcome += 1;
    }
    outcomes
}

/// A write whose reply is lost has an unknown outcome: it is said, and nothing repeats it.
#[tokio::test]
async fn a_lost_reply_is_of_unknown_outcome() {
    let behind = behind_a_proxy("maxPoolSize=1").await;
    let outcomes =
        cut_everywhere(&behind, 300, 17, || async { increment(&*behind.backend, "counter").await.map(drop) });
    let outcomes = outcomes.await;
    assert!(outcomes.unknown_and_done > 5, "{outcomes:?}");
}

/// A transaction that is cut before its commit was not done, and one that is cut in it is asked for again.
#[tokio::test]
async fn a_transaction_can_be_cut_anywhere() {
    let behind = behind_a_proxy("maxPoolSize=1&timeout=3s").await;
    let outcomes =
        cut_everywhere(&behind, 1_500, 41, || increment_atomically(&*behind.backend, "counter")).await;
    assert!(outcomes.done > 10, "{outcomes:?}");
}

/// A large reply that is cut in its midst is asked for again or an error, and never a shorter page.
#[tokio::test]
async fn a_page_cut_in_its_midst_is_an_error_or_whole() {
    let Behind { _server, proxy, backend } = behind_a_proxy("maxPoolSize=1").await;
    put_numbered(&*backend, &users(), 1_000).await;
    let scan = Scan { limit: 1_000, ..Scan::new(users()) };
    for bytes in [10, 3_000, 10_000, 30_000, 60_000] {
        recovers(|| get(&*backend, "any")).await;
        proxy.cut_after(bytes);
        match backend.scan(&scan).await {
            Ok(page) => assert_eq!(page.items.len(), 1_000),
            Err(error) => of_the_connection(&error),
        }
        proxy.cut_after(u64::MAX);
    }
    let page = recovers(|| backend.scan(&scan)).await;
    assert_eq!(page.items.len(), 1_000);
}

/// A server that takes everything and answers nothing costs each call its deadline, however many there are.
#[tokio::test]
async fn a_black_hole_is_a_timeout() {
    let Behind { _server, proxy, backend } = behind_a_proxy("timeout=1500ms").await;
    put_json(&*backend, &users(), "ada", json!(1)).await;
    recovers(|| increment_atomically(&*backend, "lost")).await;
    proxy.set_blocked(true);
    for round in 0..2 {
        let calls = join_all((0..100).map(|_| timed(get(&*backend, "ada"))));
        let writes = join_all((0..20).map(|_| timed(increment_atomically(&*backend, "lost"))));
        let (calls, writes) = tokio::join!(calls, writes);
        for (took, call) in calls.into_iter().chain(writes) {
            let error = call.expect_err("nothing answers");
            of_the_connection(&error);
            assert!(took < IN_TIME, "round {round}: {took:?}");
        }
    }
    let (took, health) = timed(backend.health()).await;
    assert_eq!(health.unwrap().status, HealthStatus::Down);
    assert!(took < IN_TIME, "{took:?}");
    proxy.set_blocked(false);
    recovers(|| get(&*backend, "ada")).await;
    assert_eq!(get_json(&*backend, &users(), "ada").await, Some(json!(1)));
}

/// Who gets no connection in time has sent nothing, and is told what to do.
#[tokio::test]
async fn a_call_that_no_connection_is_free_for_is_busy() {
    let Behind { _server, proxy, backend } = behind_a_proxy("maxPoolSize=1&timeout=1s").await;
    increment(&*backend, "counter").await.unwrap();
    proxy.set_blocked(true);
    // It has the connection for as long as it takes.
    let index = IndexSpec::new(users(), Path::new("n").unwrap());
    let holder = tokio::spawn({
        let backend = backend.clone();
        async move { backend.ensure_index(&index).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let ((took, refused), health) = tokio::join!(timed(increment(&*backend, "counter")), backend.health());
    expect(refused, ErrorKind::Busy, Retry::Safe, "maxPoolSize");
    assert!(took < IN_TIME, "{took:?}");
    assert_eq!(health.unwrap().status, HealthStatus::Degraded, "others have the connection");
    holder.abort();
    proxy.set_blocked(false);
    recovers(|| get(&*backend, "ada")).await;
}

/// A server that falls silent while it has a write: the driver gives it up before the call's time is over, and nobody knows.
#[tokio::test]
async fn a_server_that_falls_silent_leaves_the_outcome_unknown() {
    let (server, backend) = alone("timeout=20s&connectTimeoutMS=3000&heartbeatFrequencyMS=500").await;
    increment(&*backend, "counter").await.unwrap();
    server.freeze().unwrap();
    let (took, told) = timed(increment(&*backend, "counter")).await;
    server.thaw().unwrap();
    let error = told.expect_err("nothing answers");
    of_the_connection(&error);
    assert_eq!(error.retry(), Retry::IfIdempotent, "it was sent: {error:?}");
    assert!(took < IN_TIME, "{took:?}");
    assert!((1..=2).contains(&counted(&*backend, "counter").await));
}

/// Where no connection can be made nothing was sent, and the error says so in time.
#[tokio::test]
async fn a_refused_connection_is_safe_to_repeat() {
    let Behind { _server, proxy, backend } = behind_a_proxy("timeout=1s").await;
    get(&*backend, "ada").await.unwrap();
    proxy.refuse().await.expect("a port to refuse on");
    // The first may find the connection that was cut.
    let _ = get(&*backend, "ada").await;
    for _ in 0..3 {
        let (took, refused) = timed(increment(&*backend, "counter")).await;
        expect(refused, ErrorKind::Unavailable, Retry::Safe, "no server can be reached");
        assert!(took < IN_TIME, "{took:?}");
    }
    proxy.accept().await.unwrap();
    recovers(|| increment(&*backend, "counter")).await;
    assert_eq!(sum(&*backend, "counter").await, 1);
}

/// After a cut the store finds new connections by itself.
#[tokio::test]
async fn a_cut_is_mended() {
    let Behind { _server, proxy, backend } = behind_a_proxy("maxPoolSize=8").await;
    for round in 0..3 {
        let keys: Vec<String> = (0..8).map(|i| format!("n{round}-{i}")).collect();
        join_all(keys.iter().map(|key| put_one(&*backend, key)))
            .await
            .into_iter()
            .collect::<Result<Vec<_>>>()
            .unwrap();
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Reads are repeated, each on another connection.
        let mut failed = 0;
        for key in &keys {
            failed += u32::from(get(&*backend, key).await.is_err());
        }
        assert!(failed <= 4, "{failed} calls failed one after the other");
        recovers(|| put_one(&*backend, "after")).await;
    }
}
