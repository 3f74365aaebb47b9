//! Connections that are cut, slow, silent or refused.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use storage_core::{Backend, ErrorKind, Retry, Store};
use storage_testkit::helpers::{address, get_json, get_record, put, put_json};
use storage_testkit::proxy::Proxy;
use storage_testkit::servers::{RedisServer, RedisSettings};

use crate::{append, expect, get, harness, increment, of_the_connection, put_one, recovers, timed, users};

/// More than a call with a short timeout takes, on a machine that does much else.
const IN_TIME: Duration = Duration::from_secs(10);

struct Behind {
    /// Ends when it is dropped.
    server: RedisServer,
    proxy: Proxy,
    backend: Arc<dyn Backend>,
}

/// A store with one connection, through a proxy.
async fn behind_a_proxy(parameters: &str) -> Behind {
    let server = RedisServer::start(&RedisSettings::default()).unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = format!("redis://{}?connections=1&{parameters}", proxy.address());
    let backend = recovers(|| harness::open(&url)).await;
    Behind { server, proxy, backend }
}

/// What was counted, by the counter itself.
async fn sum(backend: &dyn Backend, key: &str) -> u64 {
    let record = get_record(backend, &users(), key).await;
    match record.value {
        storage_core::Value::Counters(fields) => u64::try_from(fields["n"]).unwrap(),
        storage_core::Value::List { length } => length,
        other => panic!("{other:?}"),
    }
}

/// A request whose reply was lost has an unknown outcome. What is not idempotent is done once, and not again by any
/// layer; what is idempotent is repeated, and succeeds.
#[tokio::test]
async fn a_lost_reply_repeats_only_what_is_idempotent() {
    let Behind { server: _server, proxy, backend } = behind_a_proxy("").await;
    let store = Store::new(backend.clone());
    // The server learns the scripts: one whose reply is lost while it does not know them has done nothing.
    increment(&*backend, "counter").await.unwrap();
    append(&*backend, "list").await.unwrap();
    put_one(&*backend, "plain").await.unwrap();
    for round in 2..=20 {
        recovers(|| get(&*backend, "any")).await;
        proxy.cut_after(0);
        let lost = increment(&**store.backend(), "counter").await;
        expect(lost, ErrorKind::Unavailable, Retry::IfIdempotent, "");
        recovers(|| get(&*backend, "any")).await;
        assert_eq!(sum(&*backend, "counter").await, round, "the increment was done once");

        proxy.cut_after(0);
        let lost = append(&**store.backend(), "list").await;
        expect(lost, ErrorKind::Unavailable, Retry::IfIdempotent, "");
        recovers(|| get(&*backend, "any")).await;
        assert_eq!(sum(&*backend, "list").await, round, "the append was done once");

        proxy.cut_after(0);
        put_one(&**store.backend(), "plain").await.unwrap();
        proxy.cut_after(0);
        get(&**store.backend(), "plain").await.unwrap();
    }
}

/// Wherever in a reply the cut is, what is acknowledged was done, and what was not done is not acknowledged.
#[tokio::test]
async fn cuts_in_mid_reply_lose_and_double_nothing() {
    let Behind { server: _server, proxy, backend } = behind_a_proxy("").await;
    let store = Store::new(backend.clone());
    let (mut acknowledged, mut unknown) = (0, 0);
    for bytes in 0..80 {
        recovers(|| get(&*backend, "any")).await;
        proxy.cut_after(bytes);
        let at_once = (0..4).map(|_| increment(&**store.backend(), "counter"));
        for done in join_all(at_once).await {
            match done {
                Ok(_) => acknowledged += 1,
                Err(error) => {
                    of_the_connection(&error);
                    unknown += u64::from(error.retry() == Retry::IfIdempotent);
                }
            }
        }
    }
    proxy.cut_after(u64::MAX);
    recovers(|| get(&*backend, "any")).await;
    let sum = sum(&*backend, "counter").await;
    assert!(acknowledged > 0 && unknown > 0, "{acknowledged} acknowledged, {unknown} unknown");
    assert!(acknowledged <= sum, "{acknowledged} acknowledged, and only {sum} counted");
    assert!(
        sum <= acknowledged + unknown,
        "{acknowledged} acknowledged, {unknown} unknown, and {sum} counted"
    );
}

/// A large reply that is cut in its midst is an error, and never a shorter value.
#[tokio::test]
async fn a_page_cut_in_its_midst_is_an_error() {
    let Behind { server: _server, proxy, backend } = behind_a_proxy("").await;
    storage_testkit::helpers::put_numbered(&*backend, &users(), 1_000).await;
    let scan = storage_core::Scan { limit: 1_000, ..storage_core::Scan::new(users()) };
    for bytes in [10, 3_000, 30_000, 60_000] {
        recovers(|| get(&*backend, "any")).await;
        proxy.cut_after(bytes);
        of_the_connection(&backend.scan(&scan).await.expect_err("its reply was cut"));
    }
    let page = recovers(|| backend.scan(&scan)).await;
    assert_eq!(page.items.len(), 1_000);
}

/// Six seconds of latency are waited for where the deadline allows it, and for no longer than it allows.
#[tokio::test]
async fn six_seconds_of_latency_pass_no_deadline() {
    let server = RedisServer::start(&RedisSettings::default()).unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let open = |deadline: &str| {
        let timeouts = format!("response_timeout={deadline}&connect_timeout={deadline}");
        let url = format!("redis://{}?{timeouts}", proxy.address());
        async move { harness::open(&url).await.unwrap() }
    };
    let (patient, hasty) = (open("30s").await, open("2s").await);
    put_json(&*patient, &users(), "ada", json!(1)).await;
    for _ in 0..2 {
        get(&*patient, "ada").await.unwrap();
        get(&*hasty, "ada").await.unwrap();
    }
    let latency = Duration::from_secs(6);
    proxy.set_latency(latency);
    let collection = users();
    let patient_read = timed(get_json(&*patient, &collection, "ada"));
    // More than it has connections, so that some wait for others to connect.
    let hasty_calls = join_all((0..40).map(|i| {
        let backend = hasty.clone();
        timed(async move {
            if i % 2 == 0 { get(&*backend, "ada").await } else { put_one(&*backend, "bob").await }
        })
    }));
    let ((took, read), hasty_calls) = tokio::join!(patient_read, hasty_calls);
    assert_eq!(read, Some(json!(1)));
    assert!(took >= latency && took < IN_TIME, "{took:?}");
    for (took, call) in hasty_calls {
        expect(call, ErrorKind::Timeout, Retry::IfIdempotent, "");
        assert!(took < IN_TIME, "one reply may take 2 s, and the call took {took:?}");
    }
    // Now they have to connect first, and that takes too long as well: nothing was sent.
    let again = join_all((0..40).map(|_| timed(get(&*hasty, "ada")))).await;
    for (took, call) in again {
        expect(call, ErrorKind::Timeout, Retry::Safe, "");
        assert!(took < IN_TIME, "connecting may take 2 s, and the call took {took:?}");
    }
    proxy.set_latency(Duration::ZERO);
    recovers(|| get(&*hasty, "ada")).await;
}

/// A server that takes everything and answers nothing costs each call its deadline, however many there are.
#[tokio::test]
async fn a_black_hole_is_a_timeout() {
    let Behind { server: _server, proxy, backend } =
        behind_a_proxy("response_timeout=500ms&connect_timeout=500ms").await;
    recovers(|| put_one(&*backend, "ada")).await;
    proxy.set_blocked(true);
    for round in 0..2 {
        let calls = join_all((0..200).map(|_| timed(get(&*backend, "ada")))).await;
        let writes = join_all((0..20).map(|_| timed(increment(&*backend, "lost")))).await;
        let writes = writes.into_iter().map(|(took, written)| (took, written.map(drop)));
        for (took, call) in calls.into_iter().chain(writes) {
            let error = call.expect_err("nothing answers");
            assert_eq!(error.kind(), ErrorKind::Timeout, "round {round}: {error:?}");
            assert!(took < IN_TIME, "round {round}: connecting and a reply may take 500 ms each: {took:?}");
        }
    }
    let (took, health) = timed(backend.health()).await;
    assert_eq!(health.unwrap().status, storage_core::HealthStatus::Down);
    assert!(took < IN_TIME, "{took:?}");
    proxy.set_blocked(false);
    recovers(|| get(&*backend, "ada")).await;
}

/// Of a large batch, what comes after a part that was not answered is not sent, and waits for nothing.
#[tokio::test]
async fn a_batch_in_a_black_hole_waits_once() {
    let deadline = Duration::from_secs(3);
    let Behind { server: _server, proxy, backend } =
        behind_a_proxy("response_timeout=3s&connect_timeout=3s").await;
    put_json(&*backend, &users(), "ada", json!(1)).await;
    // Three parts: the first is sent and waits, the others are not.
    proxy.set_blocked(true);
    let large = (0..1_500).map(|i| put(&users(), &format!("k{i}"), json!(i)));
    let (took, written) = timed(backend.write(&storage_core::Batch::independent(large.collect()))).await;
    let error = written.expect_err("nothing answers");
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Timeout, Retry::IfIdempotent), "{error:?}");
    assert!(took < 2 * deadline, "a part that was not sent waited for its own deadline: {took:?}");
    proxy.set_blocked(false);
    recovers(|| get(&*backend, "ada")).await;
    assert_eq!(get_json(&*backend, &users(), "ada").await, Some(json!(1)));
}

/// Where no connection can be made nothing was sent, and the error says so.
#[tokio::test]
async fn a_refused_connection_is_safe_to_repeat() {
    // Longer than the test waits: a refusal is told at once.
    let Behind { server: _server, proxy, backend } = behind_a_proxy("connect_timeout=30s").await;
    get(&*backend, "ada").await.unwrap();
    proxy.refuse().await.unwrap();
    // The first may find the connection that was cut.
    let _ = get(&*backend, "ada").await;
    for _ in 0..3 {
        let (took, refused) = timed(increment(&*backend, "counter")).await;
        expect(refused, ErrorKind::Unavailable, Retry::Safe, "refused");
        assert!(took < IN_TIME, "{took:?}");
    }
    proxy.accept().await.unwrap();
    recovers(|| increment(&*backend, "counter")).await;
    assert_eq!(sum(&*backend, "counter").await, 1);
}

/// A batch of which some parts were done and others not says so for each.
#[tokio::test]
async fn a_batch_cut_between_its_parts_tells_them_apart() {
    let Behind { server: _server, proxy, backend } = behind_a_proxy("").await;
    get(&*backend, "any").await.unwrap();
    // Over 512 mutations are sent in two calls of the script, one after the other.
    let batch = storage_core::Batch::independent(
        (0..600).map(|i| put(&users(), &format!("k{i}"), json!(i))).collect(),
    );
    recovers(|| put_one(&*backend, "first")).await;
    // The reply to the first part passes ("+OK"), the one to the second does not.
    proxy.cut_after(5);
    let results = backend.write(&batch).await.unwrap();
    assert!(results[..512].iter().all(Result::is_ok), "{:?}", results[0]);
    for result in &results[512..] {
        of_the_connection(result.as_ref().expect_err("its reply was cut"));
    }
    recovers(|| get(&*backend, "any")).await;
    let addresses: Vec<_> = (0..512).map(|i| address(&users(), &format!("k{i}"))).collect();
    assert!(backend.get(&addresses).await.unwrap().iter().all(Option::is_some));
}
