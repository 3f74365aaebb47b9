//! The pool: bounded waits, sizes that change while it is in use, connections that come and go.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use storage_core::{Address, Backend as _, Batch, Error, ErrorKind, Json, Mutation, Retry};
use storage_postgres::{PoolSettings, PostgresBackend, PostgresConfig};
use storage_testkit::faults::recovers;

use harness::{SERVER, schema, with};

/// A store whose connections the server lists under the returned name, and that has the patience to wait for locks.
async fn store(parameters: &[(&str, &str)]) -> (Arc<PostgresBackend>, String) {
    let name = schema();
    let mut url = with(&with(&SERVER.url(), "schema", &name), "application_name", &name);
    url = with(&url, "timeout", "30s");
    for (key, value) in parameters {
        url = with(&url, key, value);
    }
    let backend = PostgresBackend::open(PostgresConfig::from_url(&url).unwrap()).await.unwrap();
    (Arc::new(backend), name)
}

fn at(key: &str) -> Address {
    Address::new("users", key).unwrap()
}

async fn put(backend: &PostgresBackend, key: &str) -> storage_core::Result<()> {
    let put = Mutation::put(at(key), Json::parse("1").unwrap());
    backend.write(&Batch::independent(vec![put])).await?.remove(0).map(drop)
}

/// The processes of the server that have a store's connections.
fn pids(name: &str, which: &str) -> Vec<u32> {
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE application_name = '{name}' AND {which}");
    SERVER.psql(&sql).unwrap().lines().map(|pid| pid.parse().unwrap()).collect()
}

/// How many connections the server has of a store.
fn connections(name: &str) -> usize {
    pids(name, "true").len()
}

/// Waits until one call of a store waits for a lock.
async fn one_waits(name: &str) {
    let waits = || pids(name, "wait_event_type = 'Lock'").len() == 1;
    wait_for("the put does not wait for the lock", waits).await;
}

async fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Keeps all writers of a store waiting until the connection is closed.
async fn lock(name: &str) -> PgConnection {
    let mut connection = PgConnection::connect(&SERVER.url()).await.unwrap();
    connection.execute("BEGIN").await.unwrap();
    let lock = format!("LOCK TABLE {name}.records IN EXCLUSIVE MODE");
    connection.execute(AssertSqlSafe(lock)).await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_finds_no_connection_is_busy_in_time() {
    let (backend, name) = store(&[("pool_max", "1"), ("acquire_timeout", "200ms")]).await;
    put(&backend, "ada").await.unwrap();
    let locked = lock(&name).await;
    let waiting = tokio::spawn({
        let backend = backend.clone();
        async move { put(&backend, "ada").await }
    });
    one_waits(&name).await;
    let started = Instant::now();
    let error = backend.get(&[at("ada")]).await.unwrap_err();
    let took = started.elapsed();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Busy, Retry::Safe), "{error:?}");
    assert!(error.message().contains("pool_max"), "{error}");
    // Without the parameter it would be five seconds.
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(backend.pool_stats().timeouts, 1);
    locked.close().await.unwrap();
    waiting.await.unwrap().unwrap();
    backend.get(&[at("ada")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_changes_under_load_and_no_call_fails() {
    let (backend, name) = store(&[("pool_max", "2")]).await;
    put(&backend, "ada").await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (backend, stop) = (backend.clone(), stop.clone());
            tokio::spawn(async move {
                let mut calls = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    backend.get(&[at("ada")]).await.unwrap();
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let settings = PoolSettings { min: 0, ..PostgresConfig::from_url("postgres://h").unwrap().pool() };
    for max in [8, 1, 12, 3, 5, 2] {
        backend.reconfigure_pool(PoolSettings { max, ..settings }).unwrap();
        let full = || backend.pool_stats().open == max && connections(&name) == max as usize;
        wait_for(&format!("the pool does not become one of {max}"), full).await;
        assert_eq!(backend.pool_stats().max, max);
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        assert!(task.await.unwrap() > 0);
    }
    for wrong in [PoolSettings { max: 0, ..settings }, PoolSettings { min: 3, max: 2, ..settings }] {
        assert_eq!(backend.reconfigure_pool(wrong).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(backend.pool_stats().max, 2, "what is wrong changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_go_and_the_least_number_stays() {
    let (backend, name) = store(&[("pool_min", "2"), ("pool_max", "6"), ("idle_timeout", "300ms")]).await;
    wait_for("the least number is not made", || connections(&name) == 2).await;
    let locked = lock(&name).await;
    let puts = (0..5).map(|key| {
        let backend = backend.clone();
        tokio::spawn(async move { put(&backend, &key.to_string()).await })
    });
    let puts: Vec<_> = puts.collect();
    wait_for("the calls do not use connections of their own", || connections(&name) == 5).await;
    locked.close().await.unwrap();
    for put in puts {
        put.await.unwrap().unwrap();
    }
    wait_for("idle connections stay", || connections(&name) == 2).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!((connections(&name), backend.pool_stats().idle), (2, 2));
    SERVER
        .psql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'"
        ))
        .unwrap();
    // The first call learns of it; those after it find new connections.
    let _ = backend.get(&[at("ada")]).await;
    backend.get(&[at("ada")]).await.unwrap();
    wait_for("what was lost is not made up for", || connections(&name) == 2).await;
}

/// Between the rounds in which idle connections are looked at, which here are five seconds apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_got_old_in_use_or_idle_is_not_used_again() {
    let parameters = [("pool_max", "1"), ("max_lifetime", "1500ms"), ("idle_timeout", "10min")];
    let (backend, name) = store(&parameters).await;
    put(&backend, "ada").await.unwrap();
    let locked = lock(&name).await;
    // It is still young when it is taken: else it would be replaced.
    let made = backend.pool_stats().connects;
    let waiting = tokio::spawn({
        let backend = backend.clone();
        async move { put(&backend, "ada").await }
    });
    one_waits(&name).await;
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    locked.close().await.unwrap();
    waiting.await.unwrap().unwrap();
    let after = backend.pool_stats();
    assert_eq!((after.open, after.idle), (0, 0), "it got old in use");
    assert!(after.connects <= made + 1, "{after:?}");
    backend.get(&[at("ada")]).await.unwrap();
    let fresh = backend.pool_stats();
    assert_eq!((fresh.idle, fresh.connects), (1, after.connects + 1));
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    backend.get(&[at("ada")]).await.unwrap();
    assert_eq!(backend.pool_stats().connects, fresh.connects + 1, "it got old while it was idle");
}

/// Also if nobody calls.
#[tokio::test]
async fn old_connections_that_are_kept_for_later_are_replaced() {
    let (backend, _) =
        store(&[("pool_min", "1"), ("max_lifetime", "300ms"), ("idle_timeout", "600ms")]).await;
    wait_for("old connections stay", || backend.pool_stats().connects >= 5).await;
    assert!(backend.pool_stats().open <= 1, "{:?}", backend.pool_stats());
}

#[tokio::test]
async fn connections_are_replaced_when_they_are_old() {
    let (backend, name) = store(&[("pool_max", "1"), ("max_lifetime", "1s")]).await;
    // On a slow machine it may be old before it is seen.
    let first = recovers(|| async {
        backend.get(&[at("ada")]).await.unwrap();
        let pids: Result<[u32; 1], _> = pids(&name, "true").try_into();
        pids.map_err(|pids| Error::new(ErrorKind::Busy, format!("{pids:?}")))
    })
    .await;
    let made = backend.pool_stats().connects;
    wait_for("an old connection stays", || pids(&name, "true") != first).await;
    backend.get(&[at("ada")]).await.unwrap();
    assert!(backend.pool_stats().connects > made);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_costs_its_connection_and_no_place() {
    let (backend, name) = store(&[("pool_max", "2"), ("acquire_timeout", "1s")]).await;
    put(&backend, "ada").await.unwrap();
    let locked = lock(&name).await;
    for _ in 0..6 {
        let dropped = tokio::time::timeout(Duration::from_millis(50), put(&backend, "ada")).await;
        assert!(dropped.is_err(), "the put did not wait");
    }
    for _ in 0..4 {
        backend.get(&[at("ada")]).await.unwrap();
    }
    assert!(backend.pool_stats().open <= 2, "{:?}", backend.pool_stats());
    locked.close().await.unwrap();
    put(&backend, "ada").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_calls_and_leaves_no_connection() {
    let (backend, name) = store(&[("pool_max", "3")]).await;
    put(&backend, "ada").await.unwrap();
    let locked = lock(&name).await;
    let under_way = tokio::spawn({
        let backend = backend.clone();
        async move { put(&backend, "bob").await }
    });
    one_waits(&name).await;
    let mut closing = backend.close();
    let early = tokio::time::timeout(Duration::from_millis(300), &mut closing).await;
    assert!(early.is_err(), "close waits for the call under way");
    locked.close().await.unwrap();
    closing.await.unwrap();
    let moment = Duration::from_secs(10);
    tokio::time::timeout(moment, under_way).await.expect("the call has ended").unwrap().unwrap();
    assert_eq!(backend.get(&[at("ada")]).await.unwrap_err().kind(), ErrorKind::Closed);
    wait_for("connections stay", || connections(&name) == 0).await;
    backend.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_server_costs_no_connection() {
    let (backend, name) = store(&[("pool_max", "2")]).await;
    put(&backend, "ada").await.unwrap();
    let made = backend.pool_stats().connects;
    SERVER.psql(&format!("ALTER TABLE {name}.records RENAME TO away")).unwrap();
    for _ in 0..5 {
        assert_eq!(backend.get(&[at("ada")]).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(put(&backend, "ada").await.unwrap_err().kind(), ErrorKind::NotFound);
        let put = |key| Mutation::put(at(key), Json::parse("1").unwrap());
        let atomic = Batch::atomic(vec![put("a"), Mutation::delete(at("b")), put("c")]);
        assert_eq!(backend.write(&atomic).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    SERVER.psql(&format!("ALTER TABLE {name}.away RENAME TO records")).unwrap();
    backend.get(&[at("ada")]).await.unwrap();
    assert_eq!(backend.pool_stats().connects, made);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_waited_for_once() {
    let server = storage_testkit::servers::PostgresServer::start(&Default::default()).unwrap();
    let url = with(&with(&server.url(), "timeout", "2s"), "pool_min", "6");
    let backend = PostgresBackend::open(PostgresConfig::from_url(&url).unwrap()).await.unwrap();
    let backend = Arc::new(backend);
    wait_for("the connections are not made", || backend.pool_stats().idle == 6).await;
    let made = backend.pool_stats().connects;
    server.freeze().unwrap();
    let started = Instant::now();
    let error = backend.get(&[at("ada")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    // Less than six connections would take, one after the other.
    assert!(started.elapsed() < Duration::from_secs(10));
    server.thaw().unwrap();
    let ada = [at("ada")];
    recovers(|| backend.get(&ada)).await;
    // The others that were open are taken to be no better: they are not tried one after the other, but replaced.
    wait_for("the others are kept", || backend.pool_stats().connects >= made + 6).await;
}
