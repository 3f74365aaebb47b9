//! Connections that are cut, slow, silent or refused.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use storage_core::{
    Address, Backend, Batch, ErrorKind, HealthStatus, Json, Mutation, Precondition, Result, Retry, Store,
};
use storage_testkit::helpers::{address, tree};
use storage_testkit::proxy::Proxy;
use storage_testkit::servers::{PostgresServer, PostgresSettings};

use crate::{
    expect, get, harness, increment, increment_atomically, of_the_connection, put_one, recovers, sum, timed,
    users,
};

struct Behind {
    /// Ends when it is dropped.
    server: PostgresServer,
    proxy: Proxy,
    backend: Arc<dyn Backend>,
}

/// A store through a proxy, with these parameters of the URL.
async fn behind_a_proxy(parameters: &str) -> Behind {
    let server = PostgresServer::start(&PostgresSettings::default()).unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = format!("{}?{parameters}", server.url_of(&proxy.address().to_string()));
    // With short timeouts a slow machine may need more than one.
    let backend = recovers(|| harness::open(&url)).await;
    Behind { server, proxy, backend }
}

/// How the increments that were cut at one point each ended.
#[derive(Debug, Default)]
struct Outcomes {
    done: u32,
    not_done: u32,
    unknown_and_done: u32,
    unknown_and_not_done: u32,
}

/// Cuts the connection behind so many bytes of replies and fewer, and looks whether what the store says is what happened.
async fn cut_everywhere<F>(behind: &Behind, bytes: u64, key: &str, call: impl Fn() -> F) -> Outcomes
where
    F: Future<Output = Result<()>>,
{
    let Behind { proxy, backend, .. } = behind;
    let mut outcomes = Outcomes::default();
    // Every byte takes its time.
    let step = if std::env::var_os("STORAGE_LONG").is_some() { 1 } else { 7 };
    for bytes in (0..bytes).step_by(step) {
        // The connection is there, and knows the statements: what is cut is the call itself.
        recovers(&call).await;
        let before = recovers(|| async {
            get(&**backend, key).await?;
            Ok(sum(&**backend, key).await)
        })
        .await;
        proxy.cut_after(bytes);
        let result = call().await;
        proxy.cut_after(u64::MAX);
        recovers(|| get(&**backend, key)).await;
        let more = sum(&**backend, key).await - before;
        assert!(more <= 1, "cut after {bytes} bytes, and done {more} times: {result:?}");
        let outcome = match (&result, more) {
            (Ok(()), 1) => &mut outcomes.done,
            (Err(error), 0) if error.retry() == Retry::Safe => &mut outcomes.not_done,
            (Err(error), more) if error.retry() == Retry::IfIdempotent => {
                of_the_connection(error);
                if more == 1 { &mut outcomes.unknown_and_done } else { &mut outcomes.unknown_and_not_done }
            }
            (_, more) => panic!("cut after {bytes} bytes, and done {more} times: {result:?}"),
        };
        *outcome += 1;
    }
    outcomes
}

/// A write of one statement whose reply is lost has an unknown outcome: it is said, and nothing repeats it.
#[tokio::test]
async fn a_lost_reply_is_of_unknown_outcome() {
    let behind = behind_a_proxy("pool_max=1").await;
    let store = Store::new(behind.backend.clone());
    let outcomes = cut_everywhere(&behind, 60, "counter", || async {
        increment(&**store.backend(), "counter").await.map(drop)
    });
    let outcomes = outcomes.await;
    assert!(outcomes.unknown_and_done > 5, "{outcomes:?}");
    // What is idempotent is repeated.
    for bytes in [0, 1, 10, 30] {
        recovers(|| get(&*behind.backend, "any")).await;
        behind.proxy.cut_after(bytes);
        put_one(&**store.backend(), "plain").await.unwrap();
        recovers(|| get(&*behind.backend, "any")).await;
        behind.proxy.cut_after(bytes);
        get(&**store.backend(), "plain").await.unwrap();
    }
}

/// A transaction that is cut before its commit was not done, and says so; one that is cut in it may be.
#[tokio::test]
async fn a_transaction_cut_in_its_commit_is_of_unknown_outcome() {
    let behind = behind_a_proxy("pool_max=1").await;
    let call = || increment_atomically(&*behind.backend, "counter");
    let outcomes = cut_everywhere(&behind, 900, "counter", call).await;
    assert!(outcomes.not_done > 10, "{outcomes:?}");
    assert!(outcomes.unknown_and_done > 0, "{outcomes:?}");
    assert!(outcomes.done > 10, "the cuts were all before the end: {outcomes:?}");
}

/// Behind a pooler each write is such a transaction.
#[tokio::test]
async fn without_prepared_statements_it_is_the_same() {
    let behind = behind_a_proxy("pool_max=1&prepared_statements=false").await;
    let call = || async { increment(&*behind.backend, "counter").await.map(drop) };
    let outcomes = cut_everywhere(&behind, 400, "counter", call).await;
    assert!(outcomes.not_done > 10, "{outcomes:?}");
    assert!(outcomes.unknown_and_done > 0, "{outcomes:?}");
    assert!(outcomes.done > 10, "the cuts were all before the end: {outcomes:?}");
}

/// A batch of which some parts were done and others not says so for each: puts, increments, appends and deletes go by
/// different statements.
#[tokio::test]
async fn a_mixed_batch_tells_its_parts_apart() {
    let Behind { server, proxy, backend } = behind_a_proxy("pool_max=1").await;
    let step = if std::env::var_os("STORAGE_LONG").is_some() { 1 } else { 9 };
    let (mut done, mut not_done, mut unknown) = (0, 0, 0);
    for bytes in (0..700).step_by(step) {
        let at = |name: &str| address(&users(), &format!("{name}{bytes}"));
        let deleted = format!("deleted{bytes}");
        recovers(|| put_one(&*backend, &deleted)).await;
        let batch = |at: &dyn Fn(&str) -> Address| {
            Batch::independent(vec![
                Mutation::put(at("put"), Json::from(json!(1))),
                Mutation::delete(at("deleted")),
                Mutation::increment(at("counter"), "n", 1),
                Mutation::append(at("list"), vec![Json::from(json!(1))]),
                Mutation::put(at("conditional"), Json::from(json!(1))).on(Precondition::Absent),
            ])
        };
        // The statements are known, whatever the connection.
        let warm = batch(&|name| address(&users(), &format!("warm-{name}")));
        recovers(|| backend.write(&warm)).await;
        proxy.cut_after(bytes as u64);
        let results = backend.write(&batch(&at)).await;
        proxy.cut_after(u64::MAX);
        recovers(|| get(&*backend, "any")).await;
        let names = ["put", "deleted", "counter", "list", "conditional"];
        let found = backend.get(&names.map(at)).await.unwrap();
        for (i, (name, found)) in names.iter().zip(found).enumerate() {
            let happened = found.is_some() != (*name == "deleted");
            let told = match &results {
                Ok(results) => results[i].as_ref().map(drop),
                Err(error) => Err(error),
            };
            match told {
                Ok(()) => {
                    assert!(happened, "{name}, cut after {bytes}: it was acknowledged, and is not there")
                }
                Err(error) if error.retry() == Retry::Safe => {
                    assert!(!happened, "{name}, cut after {bytes}: it was done: {error:?}");
                }
                Err(error) => of_the_connection(error),
            }
            match told.map_err(storage_core::Error::retry) {
                Ok(()) => done += 1,
                Err(Retry::Safe) => not_done += 1,
                Err(_) => unknown += 1,
            }
        }
    }
    drop(server);
    assert!(
        done > 20 && not_done > 20 && unknown > 20,
        "{done} done, {not_done} not done, {unknown} unknown"
    );
}

/// Opening a store for the first time, which makes its tables, can be cut anywhere: they are there whole or not at all.
#[tokio::test]
async fn opening_can_be_cut_anywhere() {
    let server = PostgresServer::start(&PostgresSettings::default()).unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = server.url_of(&proxy.address().to_string());
    let step = if std::env::var_os("STORAGE_LONG").is_some() { 7 } else { 101 };
    let mut failed = 0;
    for bytes in (0..4_000).step_by(step) {
        let url = harness::with(&url, "schema", &format!("cut{bytes}"));
        proxy.cut_after(bytes as u64);
        let opened = harness::open(&url).await;
        proxy.cut_after(u64::MAX);
        if let Err(error) = opened {
            of_the_connection(&error);
            failed += 1;
        }
        let backend = recovers(|| harness::open(&url)).await;
        increment_atomically(&*backend, "n").await.unwrap();
        assert_eq!(sum(&*backend, "n").await, 1);
    }
    assert!(failed > 10, "{failed} were cut");
}

/// A large reply that is cut in its midst is an error, and never a shorter page.
#[tokio::test]
async fn a_page_cut_in_its_midst_is_an_error() {
    let Behind { server: _server, proxy, backend } = behind_a_proxy("pool_max=1").await;
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

/// Latency is waited for where the deadline allows it, and for no longer than it allows.
#[tokio::test]
async fn latency_passes_no_deadline() {
    let server = PostgresServer::start(&PostgresSettings::default()).unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let open = |deadline: &str| {
        let timeouts = format!("timeout={deadline}&connect_timeout={deadline}&acquire_timeout={deadline}");
        let url = format!("{}?pool_max=20&{timeouts}", server.url_of(&proxy.address().to_string()));
        async move { harness::open(&url).await }
    };
    let patient = open("30s").await.unwrap();
    let hasty = recovers(|| open("1500ms")).await;
    put_one(&*patient, "ada").await.unwrap();
    // Of keys of their own: else each waits for the disk as often as there are.
    let keys: Vec<String> = (0..20).map(|i| format!("k{i}")).collect();
    for _ in 0..2 {
        get(&*patient, "ada").await.unwrap();
        recovers(|| async {
            let puts = join_all(keys.iter().map(|key| put_one(&*hasty, key))).await;
            puts.into_iter().collect::<Result<Vec<_>>>()
        })
        .await;
    }
    proxy.set_latency(Duration::from_secs(4));
    let patient_read = timed(get(&*patient, "ada"));
    // More than it has connections, so that some wait for one.
    let hasty_calls = join_all((0..40).map(|i| {
        let backend = hasty.clone();
        timed(async move {
            if i % 2 == 0 { get(&*backend, "ada").await } else { put_one(&*backend, "bob").await }
        })
    }));
    let ((took, read), hasty_calls) = tokio::join!(patient_read, hasty_calls);
    read.unwrap();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(30), "{took:?}");
    for (took, call) in hasty_calls {
        of_the_connection(&call.expect_err("the reply takes four seconds"));
        // Waiting for a connection, connecting and a reply may take 1.5 s each.
        assert!(took < Duration::from_secs(15), "{took:?}");
    }
    // Now they have to connect first, and that takes too long as well: nothing was sent.
    for (took, call) in join_all((0..40).map(|_| timed(increment(&*hasty, "n")))).await {
        let error = call.expect_err("connecting takes four seconds");
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Busy), "{error:?}");
        assert_eq!(error.retry(), Retry::Safe, "{error:?}");
        assert!(took < Duration::from_secs(15), "{took:?}");
    }
    proxy.set_latency(Duration::ZERO);
    recovers(|| get(&*hasty, "ada")).await;
    assert_eq!(sum(&*patient, "n").await, 0);
}

/// A server that takes everything and answers nothing costs each call its deadline, however many there are.
#[tokio::test]
async fn a_black_hole_is_a_timeout() {
    let timeouts = "timeout=1s&connect_timeout=1s&acquire_timeout=1s";
    let Behind { server: _server, proxy, backend } = behind_a_proxy(timeouts).await;
    recovers(|| put_one(&*backend, "ada")).await;
    proxy.set_blocked(true);
    for round in 0..2 {
        let calls = join_all((0..200).map(|_| timed(get(&*backend, "ada"))));
        let writes = join_all((0..20).map(|_| timed(increment_atomically(&*backend, "lost"))));
        let (calls, writes) = tokio::join!(calls, writes);
        for (took, call) in calls.into_iter().chain(writes) {
            let error = call.expect_err("nothing answers");
            assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Busy), "round {round}: {error:?}");
            assert!(took < Duration::from_secs(15), "round {round}: three times a second: {took:?}");
        }
    }
    let (took, health) = timed(backend.health()).await;
    assert_eq!(health.unwrap().status, HealthStatus::Down);
    assert!(took < Duration::from_secs(15), "{took:?}");
    proxy.set_blocked(false);
    let ada = [address(&users(), "ada")];
    let found = recovers(|| backend.get(&ada)).await;
    assert_eq!(found[0].as_ref().map(tree), Some(json!("ada")));
}

/// Where no connection can be made nothing was sent, and the error says so at once.
#[tokio::test]
async fn a_refused_connection_is_safe_to_repeat() {
    let Behind { server: _server, proxy, backend } = behind_a_proxy("").await;
    get(&*backend, "ada").await.unwrap();
    proxy.refuse().await.unwrap();
    // The first may find the connection that was cut.
    let _ = get(&*backend, "ada").await;
    for _ in 0..3 {
        let (took, refused) = timed(increment(&*backend, "counter")).await;
        expect(refused, ErrorKind::Unavailable, Retry::Safe, "cannot be reached");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    proxy.accept().await.unwrap();
    recovers(|| increment(&*backend, "counter")).await;
    assert_eq!(sum(&*backend, "counter").await, 1);
}

/// After a cut, a call finds a new connection and not, one after the other, those that broke as well.
#[tokio::test]
async fn one_cut_costs_each_caller_at_most_one_call() {
    let Behind { server: _server, proxy, backend } = behind_a_proxy("pool_max=8").await;
    for _ in 0..3 {
        let warm = join_all((0..8).map(|i| increment_slowly(&backend, i))).await;
        warm.into_iter().collect::<Result<Vec<_>>>().unwrap();
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut failed = 0;
        for _ in 0..8 {
            failed += u32::from(get(&*backend, "ada").await.is_err());
        }
        assert!(failed <= 1, "{failed} calls failed one after the other");
    }
}

async fn increment_slowly(backend: &Arc<dyn Backend>, i: usize) -> Result<()> {
    increment_atomically(&**backend, &format!("n{i}")).await
}
