//! PgBouncer in transaction mode between a store and its server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use serde_json::json;
use storage_core::{ErrorKind, Filter, IndexSpec, Path, Query, Scan, Test};
use storage_testkit::helpers::{get_json, keys_all, put, put_json, put_numbered, write_one};
use storage_testkit::servers::{PgBouncer, PostgresServer, PostgresSettings};

use crate::{get, harness, increment, increment_atomically, put_one, recovers, sum, users};

fn pooler(settings: &PostgresSettings) -> (PostgresServer, PgBouncer) {
    let server = PostgresServer::start(settings).unwrap();
    let pooler = PgBouncer::start(&server).unwrap();
    (server, pooler)
}

/// Twenty times as many connections of stores as the pooler has to the server, and each call its own transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_stores_share_few_connections() {
    let settings =
        PostgresSettings { password: Some(harness::PASSWORD.to_owned()), ..PostgresSettings::default() };
    let (server, pooler) = pooler(&settings);
    // A hundred connections at once take a slow machine longer than a store waits by default.
    let patience = "timeout=60s&connect_timeout=60s&acquire_timeout=60s";
    let parameters = format!("prepared_statements=false&pool_max=10&statement_timeout=7777ms&{patience}");
    let url = format!("{}?{parameters}", pooler.url());
    let mut stores = Vec::new();
    for _ in 0..10 {
        stores.push(harness::open(&url).await.unwrap());
    }
    let tasks = stores.iter().flat_map(|store| (0..10).map(move |task| (store.clone(), task)));
    let tasks = tasks.map(|(store, task)| {
        tokio::spawn(async move {
            for i in 0..2 {
                increment(&*store, "single").await.unwrap();
                increment_atomically(&*store, "atomic").await.unwrap();
                put_one(&*store, &format!("{task}-{i}")).await.unwrap();
                get(&*store, "single").await.unwrap();
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    assert_eq!((sum(&*stores[0], "single").await, sum(&*stores[0], "atomic").await), (200, 200));
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'storage'";
    let connections: u32 = server.psql(connections).unwrap().parse().unwrap();
    assert!(connections <= 5, "{connections}");
    // Nothing of ours is left behind on connections that others get too.
    let options: sqlx::postgres::PgConnectOptions = pooler.url().parse().unwrap();
    let mut plain = sqlx::ConnectOptions::connect(&options.extra_float_digits(None)).await.unwrap();
    let mut left = BTreeSet::new();
    for _ in 0..10 {
        let rows = sqlx::raw_sql("SELECT current_setting('statement_timeout') FROM pg_sleep(0.01)");
        let row = rows.fetch_one(&mut plain).await.unwrap();
        left.insert(sqlx::Row::get::<String, _>(&row, 0));
    }
    assert_eq!(left, BTreeSet::from(["0".to_owned()]), "a setting of ours stayed");
    assert_eq!(server.psql("SELECT count(*) FROM pg_prepared_statements").unwrap(), "0");
}

/// All kinds of calls work, among them those that make indexes, list and maintain.
#[tokio::test]
async fn every_call_works() {
    let (_server, pooler) = pooler(&PostgresSettings::default());
    let backend = harness::open(&format!("{}?prepared_statements=false", pooler.url())).await.unwrap();
    put_numbered(&*backend, &users(), 500).await;
    let scan = Scan { limit: 100, ..Scan::new(users()) };
    let first = backend.scan(&scan).await.unwrap();
    let second = backend.scan(&Scan { after: first.next, ..scan }).await.unwrap();
    assert_eq!((first.items.len(), second.items.len()), (100, 100));
    let path = Path::new("n").unwrap();
    let index = IndexSpec::new(users(), path.clone());
    assert!(backend.ensure_index(&index).await.unwrap());
    assert_eq!(backend.list_indexes(&users()).await.unwrap(), [index]);
    let filter = Filter::Field(path.clone(), Test::Gte(json!(490)));
    assert_eq!(backend.query(&Query::new(users(), filter)).await.unwrap().items.len(), 10);
    assert!(backend.drop_index(&users(), &path).await.unwrap());
    for task in [storage_core::Maintenance::Sweep, storage_core::Maintenance::Analyse] {
        backend.maintain(task).await.unwrap();
    }
    assert_eq!(backend.clear(&users()).await.unwrap(), 500);
    put_json(&*backend, &users(), "ada", json!({"a": "\u{0}"})).await;
    assert_eq!(get_json(&*backend, &users(), "ada").await, Some(json!({"a": "\u{0}"})));
}

/// A store that prepares statements learns that it may not, rather than failing now and then.
#[tokio::test]
async fn prepared_statements_are_refused_with_the_way_out() {
    let (_server, pooler) = pooler(&PostgresSettings::default());
    let error =
        harness::open(&pooler.url()).await.map(drop).expect_err("the pooler takes no such connection");
    assert!(error.message().contains("prepared_statements"), "{error:?}");
    assert_eq!(error.retry(), storage_core::Retry::Never, "{error:?}");
}

/// A server that is restarted behind its pooler is found again.
#[tokio::test]
async fn a_restart_behind_the_pooler_is_survived() {
    let (server, pooler) = pooler(&PostgresSettings::default());
    let backend = harness::open(&format!("{}?prepared_statements=false", pooler.url())).await.unwrap();
    increment(&*backend, "n").await.unwrap();
    server.kill().unwrap();
    crate::of_the_connection(&increment(&*backend, "n").await.expect_err("the server is away"));
    server.restart().unwrap();
    recovers(|| get(&*backend, "n")).await;
    assert_eq!(sum(&*backend, "n").await, 1);
    recovers(|| increment(&*backend, "n")).await;
}

/// Records move into partitions, and back, while others write through the same pooler.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_move_into_partitions_and_back() {
    let (server, pooler) = pooler(&PostgresSettings::default());
    let url = format!("{}?prepared_statements=false", pooler.url());
    let backend = harness::open(&url).await.unwrap();
    put_numbered(&*backend, &users(), 3_000).await;
    let index = IndexSpec { unique: true, ..IndexSpec::new(users(), Path::new("n").unwrap()) };
    assert!(backend.ensure_index(&index).await.unwrap());
    let ended = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (backend, ended) = (backend.clone(), ended.clone());
            tokio::spawn(async move {
                let (counter, mut count) = (format!("counter{writer}"), 0_u64);
                while !ended.load(Ordering::Relaxed) {
                    increment(&*backend, &counter).await.unwrap();
                    increment_atomically(&*backend, &counter).await.unwrap();
                    count += 2;
                }
                assert_eq!(sum(&*backend, &counter).await, count);
                count
            })
        })
        .collect();
    for (partitions, tables) in [(json!([{"collections": ["users"], "hash": 4}]), "4"), (json!([]), "1")] {
        let divided = harness::open_divided(&url, partitions).await.unwrap();
        let found = server.psql("SELECT count(DISTINCT tableoid) FROM storage.records").unwrap();
        assert_eq!(found, tables);
        assert_eq!(divided.list_indexes(&users()).await.unwrap(), std::slice::from_ref(&index));
        assert_eq!(keys_all(&*divided, &users(), "k", 1_000).await.len(), 3_000);
        let taken = write_one(&*divided, put(&users(), "twin", json!({"n": 7}))).await;
        assert_eq!(taken.expect_err("it is unique").kind(), ErrorKind::Conflict);
    }
    ended.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
}
