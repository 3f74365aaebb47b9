//! Readers of the feed of changes while servers die and are replaced.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use storage_core::{Backend, Changes, Cursor, Result};
use storage_testkit::helpers::{put, put_json, write_one};
use storage_testkit::proxy::Proxy;
use storage_testkit::servers::{PostgresReplica, PostgresServer, PostgresSettings};

use crate::{alone_with, harness, more, of_the_connection, put_one, recovers, users};

async fn page(backend: &dyn Backend, after: Option<Cursor>, wait: Duration) -> Result<(Vec<String>, Cursor)> {
    let page = backend.changes(&Changes { collection: None, after, limit: 50, wait }).await?;
    let keys = page.items.iter().map(|event| event.address.key.as_str().to_owned()).collect();
    Ok((keys, page.next.expect("the feed has no end")))
}

async fn now(backend: &dyn Backend) -> Cursor {
    recovers(|| page(backend, None, Duration::ZERO)).await.1
}

/// Follows the feed until nothing came for a while after it was told that nothing more will.
async fn follow(backend: Arc<dyn Backend>, mut after: Cursor, ended: Arc<AtomicBool>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    loop {
        let last = ended.load(Ordering::Relaxed);
        match page(&*backend, Some(after.clone()), Duration::from_millis(300)).await {
            Ok((keys, next)) => {
                after = next;
                if keys.is_empty() && last {
                    return seen;
                }
                seen.extend(keys);
            }
            Err(error) => {
                of_the_connection(&error);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Writes until it is told to end; the keys that were acknowledged.
async fn load(
    backend: Arc<dyn Backend>,
    writer: usize,
    ended: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for i in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
        let key = format!("w{writer}-{i}");
        match write_one(&*backend, put(&users(), &key, json!(i))).await {
            Ok(_) => {
                total.fetch_add(1, Ordering::Relaxed);
                acknowledged.push(key);
            }
            Err(error) => of_the_connection(&error),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    acknowledged
}

/// A reader beside writers gets all that was acknowledged, whatever happens meanwhile.
async fn nothing_is_skipped(backend: Arc<dyn Backend>, happens: impl AsyncFnOnce()) {
    let (writing, reading) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let total = Arc::new(AtomicU64::new(0));
    let start = now(&*backend).await;
    let reader = tokio::spawn(follow(backend.clone(), start, reading.clone()));
    let writers: Vec<_> = (0..4)
        .map(|writer| tokio::spawn(load(backend.clone(), writer, writing.clone(), total.clone())))
        .collect();
    more(&total, 40).await;
    happens().await;
    recovers(|| put_one(&*backend, "after")).await;
    more(&total, 40).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    writing.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    reading.store(true, Ordering::Relaxed);
    let seen = tokio::time::timeout(crate::RECOVERY, reader).await.expect("the feed goes on").unwrap();
    let skipped: Vec<&String> = acknowledged.difference(&seen).collect();
    assert!(skipped.is_empty(), "{} of {} were skipped: {skipped:?}", skipped.len(), acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_over_kills() {
    let (server, backend) = alone_with(&PostgresSettings::default(), "changes=true").await;
    nothing_is_skipped(backend, async || {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            server.kill().unwrap();
            server.restart().unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_over_a_failover() {
    let primary = PostgresServer::start(&PostgresSettings::default()).unwrap();
    let replica = PostgresReplica::start(&primary).unwrap();
    primary.set("synchronous_standby_names", "*").unwrap();
    let hosts = format!("{},{}", primary.address(), replica.server().address());
    let timeouts = "timeout=1s&connect_timeout=1s&acquire_timeout=1s";
    let url = format!("{}?changes=true&{timeouts}", primary.url_of(&hosts));
    let backend = recovers(|| harness::open(&url)).await;
    nothing_is_skipped(backend, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        primary.kill().unwrap();
        replica.promote().unwrap();
    })
    .await;
}

/// A replica has the feed too, as far as it has come.
#[tokio::test]
async fn a_replica_has_the_feed() {
    let primary = PostgresServer::start(&PostgresSettings::default()).unwrap();
    let writer = harness::open(&format!("{}?changes=true", primary.url())).await.unwrap();
    let replica = PostgresReplica::start(&primary).unwrap();
    replica.catch_up(&primary).unwrap();
    let url = format!("{}?changes=true&target=any&create_schema=false", replica.server().url());
    let reader = harness::open(&url).await.unwrap();
    let mut after = now(&*reader).await;
    for i in 0..20 {
        put_one(&*writer, &format!("k{i}")).await.unwrap();
    }
    replica.catch_up(&primary).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let (keys, next) = page(&*reader, Some(after), Duration::from_secs(5)).await.unwrap();
        assert!(!keys.is_empty(), "only {} of 20 came", seen.len());
        after = next;
        seen.extend(keys);
    }
    assert_eq!(seen, (0..20).map(|i| format!("k{i}")).collect::<Vec<_>>());
}

/// Numbers of transactions that left nothing on the disk are given again after a crash. A cursor from before is not ahead
/// of what comes after.
#[tokio::test]
async fn a_cursor_of_before_a_crash_skips_nothing_after_it() {
    // What is undone is not written until somebody commits.
    let settings = PostgresSettings::with(["wal_writer_delay = '10s'", "autovacuum = off"]);
    let (server, backend) = alone_with(&settings, "changes=true").await;
    let start = now(&*backend).await;
    put_json(&*backend, &users(), "before", json!(1)).await;
    // A reader of all, one from the present, and one of a collection that never changes.
    server.psql(&"BEGIN; SELECT pg_current_xact_id(); ROLLBACK;\n".repeat(100)).unwrap();
    let (keys, all) = page(&*backend, Some(start), Duration::ZERO).await.unwrap();
    assert_eq!(keys, ["before"]);
    let (_, all) = page(&*backend, Some(all), Duration::ZERO).await.unwrap();
    let present = now(&*backend).await;
    server.kill().unwrap();
    server.restart().unwrap();
    recovers(|| crate::get(&*backend, "before")).await;
    let keys: Vec<String> = (0..10).map(|i| format!("k{i}")).collect();
    for key in &keys {
        put_one(&*backend, key).await.unwrap();
    }
    for (who, cursor) in [("of all", all), ("from the present", present)] {
        let (seen, _) = page(&*backend, Some(cursor), Duration::from_secs(2)).await.unwrap();
        assert_eq!(seen, keys, "a reader {who}");
    }
}

/// A replica lets nobody listen. Who waits there looks from time to time, and does not connect anew with each call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_at_a_replica_tries_to_listen_once() {
    let (primary, writer) = alone_with(&PostgresSettings::default(), "changes=true").await;
    let replica = PostgresReplica::start(&primary).unwrap();
    replica.catch_up(&primary).unwrap();
    let proxy = Proxy::start(replica.server().address()).await.unwrap();
    let url = primary.url_of(&proxy.address().to_string());
    let reader = harness::open(&format!("{url}?changes=true&create_schema=false")).await.unwrap();
    let mut after = now(&*reader).await;
    let before = proxy.connected();
    for _ in 0..10 {
        let (keys, next) = page(&*reader, Some(after), Duration::from_millis(100)).await.unwrap();
        assert!(keys.is_empty());
        after = next;
    }
    put_one(&*writer, "ada").await.unwrap();
    let (keys, _) = page(&*reader, Some(after), crate::RECOVERY).await.unwrap();
    assert_eq!(keys, ["ada"]);
    assert_eq!(proxy.connected(), before + 1);
}
