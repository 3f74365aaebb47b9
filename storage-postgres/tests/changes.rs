//! The feed of changes: nothing is skipped, whatever order transactions commit in, and who waits is woken.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use storage_core::{
    Backend, Batch, ChangeEvent, Changes, CollectionName, Cursor, ErrorKind, Feature, Json, Maintenance,
    Mutation, Precondition, Timestamp,
};
use storage_testkit::helpers::{
    address, expect_kind, in_millis, ok, pass, put_json, write_all, write_ok, write_one,
};
use storage_testkit::servers::{PostgresServer, PostgresSettings};

struct Own {
    backend: Arc<dyn Backend>,
    server: String,
    schema: String,
}

impl Own {
    async fn open() -> Self {
        Self::with(harness::shared_url(), &[]).await
    }

    async fn with(server: String, more: &[(&str, &str)]) -> Self {
        let schema = harness::schema();
        let mut url = harness::with(&harness::with(&server, "schema", &schema), "changes", "true");
        for (name, value) in more {
            url = harness::with(&url, name, value);
        }
        let backend = ok(harness::open(&url).await, "open");
        Self { backend, server, schema }
    }

    async fn beside(&self) -> PgConnection {
        let url = self.server.split('?').next().unwrap();
        PgConnection::connect(url).await.unwrap()
    }

    /// Writes a record by plain SQL.
    async fn sql(&self, connection: &mut PgConnection, key: &str, n: i64) {
        let text = format!(
            "INSERT INTO {}.records (collection, key, json) VALUES ('c', '{key}', '{{\"n\": {n}}}') \
             ON CONFLICT (collection, key) DO UPDATE SET json = excluded.json",
            self.schema
        );
        connection.execute(AssertSqlSafe(text)).await.unwrap();
    }

    async fn now(&self) -> Cursor {
        let page = self.page(None, Duration::ZERO).await;
        assert_eq!(page.0, []);
        page.1
    }

    async fn page(&self, after: Option<&Cursor>, wait: Duration) -> (Vec<ChangeEvent>, Cursor) {
        let changes = Changes { collection: None, after: after.cloned(), limit: 100, wait };
        let page = ok(self.backend.changes(&changes).await, "changes");
        (page.items, page.next.expect("a feed has no end"))
    }

    /// Waits until the transactions that run now have ended, those of other tests too: they hold the feed back, and
    /// only then does it tell everything that was committed before.
    async fn settle(&self) {
        let mut beside = self.beside().await;
        let next: String = sqlx::query_scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
            .fetch_one(&mut beside)
            .await
            .unwrap();
        for _ in 0..3_000 {
            let ended = sqlx::query_scalar("SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8");
            if ended.bind(&next).fetch_one(&mut beside).await.unwrap() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a transaction runs for longer than 30 s");
    }

    /// Everything after a cursor that was committed before.
    async fn all(&self, after: &Cursor) -> Vec<ChangeEvent> {
        self.settle().await;
        let (mut events, mut after) = (Vec::new(), after.clone());
        loop {
            let (items, next) = self.page(Some(&after), Duration::ZERO).await;
            if items.is_empty() {
                return events;
            }
            events.extend(items);
            after = next;
        }
    }
}

fn c() -> CollectionName {
    CollectionName::new("c").unwrap()
}

/// Key and `n` of each event, `-` for what is gone.
fn told(events: &[ChangeEvent]) -> String {
    let each = events.iter().map(|event| {
        let n = event.record.as_ref().map(|record| match record.value.as_json() {
            Some(json) => json.tree().unwrap()["n"].to_string(),
            None => record.value.kind().to_string(),
        });
        format!("{}={}", event.address.key, n.as_deref().unwrap_or("-"))
    });
    each.collect::<Vec<_>>().join(" ")
}

/// What commits late, although it began early, is told late, and so is what would otherwise hide it.
#[tokio::test(flavor = "multi_thread")]
async fn late_commits_are_not_skipped() {
    let own = Own::open().await;
    let start = own.now().await;
    let mut early = own.beside().await;
    let mut early = early.begin().await.unwrap();
    own.sql(&mut early, "early", 1).await;
    put_json(&*own.backend, &c(), "late", json!({"n": 2})).await;
    let (events, cursor) = own.page(Some(&start), Duration::from_millis(300)).await;
    assert_eq!(told(&events), "", "the one that is still open may yet come before");
    early.commit().await.unwrap();
    assert_eq!(told(&own.all(&cursor).await), "early=1 late=2");
    assert_eq!(told(&own.all(&start).await), "early=1 late=2");

    let mut undone = own.beside().await;
    let mut undone = undone.begin().await.unwrap();
    own.sql(&mut undone, "undone", 3).await;
    put_json(&*own.backend, &c(), "done", json!({"n": 4})).await;
    undone.rollback().await.unwrap();
    assert_eq!(told(&own.all(&start).await), "early=1 late=2 done=4");
}

/// The last that is told of a record is how it is, even if the transactions that changed it began in another order.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_event_of_a_record_is_its_state() {
    let own = Own::open().await;
    let start = own.now().await;
    let mut first = own.beside().await;
    let mut first = first.begin().await.unwrap();
    first.execute("SELECT pg_current_xact_id()").await.unwrap();
    put_json(&*own.backend, &c(), "k", json!({"n": 1})).await;
    own.sql(&mut first, "k", 2).await;
    first.commit().await.unwrap();
    let events = own.all(&start).await;
    assert_eq!(events.len(), 2);
    assert_eq!(told(&events[1..]), "k=2");
}

/// Many transactions that take their time, some undone: a reader beside them gets every change that was made.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_beside_many_writers_gets_everything() {
    const WRITERS: i64 = 8;
    let own = Arc::new(Own::open().await);
    let start = own.now().await;
    let stop = Arc::new(AtomicBool::new(false));
    let settled = Arc::new(AtomicBool::new(false));
    let commits = Arc::new(AtomicUsize::new(0));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (own, stop, commits) = (own.clone(), stop.clone(), commits.clone());
        writers.push(tokio::spawn(async move {
            let mut connection = own.beside().await;
            let (mut made, mut n) = (BTreeMap::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let mut transaction = connection.begin().await.unwrap();
                let keys = [format!("w{writer}-{n}"), format!("w{writer}")];
                for key in &keys {
                    own.sql(&mut transaction, key, n).await;
                }
                tokio::time::sleep(Duration::from_millis((writer * 7 + n * 13).unsigned_abs() % 40)).await;
                if n % 5 == 0 {
                    transaction.rollback().await.unwrap();
                } else {
                    transaction.commit().await.unwrap();
                    commits.fetch_add(1, Ordering::Relaxed);
                    made.extend(keys.map(|key| (key, n)));
                }
            }
            made
        }));
    }
    let reader = {
        let (own, settled) = (own.clone(), settled.clone());
        tokio::spawn(async move {
            let (mut seen, mut after) = (BTreeMap::new(), start);
            loop {
                let last = settled.load(Ordering::Relaxed);
                let (events, next) = own.page(Some(&after), Duration::from_millis(300)).await;
                if last && events.is_empty() {
                    return seen;
                }
                for event in events {
                    let tree =
                        event.record.expect("nothing is removed").value.as_json().unwrap().tree().unwrap();
                    seen.insert(event.address.key.to_string(), tree["n"].as_i64().unwrap());
                }
                after = next;
            }
        })
    };
    // For a while, and as long as a busy machine needs for enough of them.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) || commits.load(Ordering::Relaxed) < 200 {
        assert!(started.elapsed() < Duration::from_secs(60), "only {commits:?} commits");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut made = BTreeMap::new();
    for writer in writers {
        made.extend(writer.await.unwrap());
    }
    own.settle().await;
    settled.store(true, Ordering::Relaxed);
    let seen = reader.await.unwrap();
    assert_eq!(seen, made);
}

/// Every kind of write is told once, and what changes nothing is not.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_write_is_told() {
    let own = Own::open().await;
    let (backend, at) = (&*own.backend, |key: &str| address(&c(), key));
    let start = own.now().await;
    put_json(backend, &c(), "a", json!({"n": 1})).await;
    write_ok(backend, Mutation::increment(at("b"), "x", 1)).await;
    write_ok(backend, Mutation::append(at("l"), vec![Json::from(json!(1))])).await;
    write_ok(backend, Mutation::touch(at("a"), Some(in_millis(60_000)))).await;
    let refused = Mutation::put(at("a"), Json::from(json!({"n": 2}))).on(Precondition::Absent);
    expect_kind(write_one(backend, refused).await, ErrorKind::PreconditionFailed, "it is there");
    let made = Mutation::put(at("d"), Json::from(json!({"n": 3}))).on(Precondition::Absent);
    write_ok(backend, made).await;
    write_ok(backend, Mutation::delete(at("nothing"))).await;
    let both = vec![Mutation::put(at("e"), Json::from(json!({"n": 4}))), Mutation::delete(at("a"))];
    write_all(backend, Batch::atomic(both)).await;
    let soon = in_millis(2_000);
    write_ok(backend, Mutation::put(at("f"), Json::from(json!({"n": 5}))).expiring(Some(soon))).await;
    let before = own.all(&start).await;
    let mut keys: Vec<&str> = before.iter().map(|event| event.address.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "a", "a", "b", "d", "e", "f", "l"]);
    pass(soon).await;
    ok(backend.maintain(Maintenance::Sweep).await, "sweep");
    ok(backend.clear(&c()).await, "clear");
    let after = own.all(&start).await;
    assert_eq!(after.len(), before.len() + 5, "the sweep and the clear: {}", told(&after));
    assert!(after.iter().all(|event| event.record.is_none()), "all is gone: {}", told(&after));
    let (since, now) = (Timestamp::now().since(after[0].at), after.last().unwrap().at);
    assert!(since < Duration::from_secs(60) && now >= after[0].at, "times are those of the changes");
}

/// Who waits is woken by a change, returns when its time is over, and holds one connection for all who wait.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_readers_are_woken() {
    // On a server of its own: transactions of other tests would hold the feed back.
    let server = PostgresServer::start(&PostgresSettings::default()).unwrap();
    let own = Arc::new(Own::with(server.url(), &[("application_name", "waiting")]).await);
    let start = own.now().await;
    let asked = Instant::now();
    let (events, start) = own.page(Some(&start), Duration::from_millis(400)).await;
    assert_eq!(told(&events), "");
    assert!((400..15_000).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let (own, start) = (own.clone(), start.clone());
            tokio::spawn(async move { own.page(Some(&start), Duration::from_secs(30)).await })
        })
        .collect();
    let mut beside = own.beside().await;
    let sql = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' \
               AND l.mode = 'ShareLock' AND a.application_name = 'waiting'";
    let mut listening = async || -> i64 { sqlx::query_scalar(sql).fetch_one(&mut beside).await.unwrap() };
    let asked = Instant::now();
    while listening().await == 0 {
        assert!(asked.elapsed() < Duration::from_secs(15), "nobody listens");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // If there were others, they would have come.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(listening().await, 1, "sessions that listen");
    let put = Instant::now();
    put_json(&*own.backend, &c(), "k", json!({"n": 1})).await;
    for reader in readers {
        assert_eq!(told(&reader.await.unwrap().0), "k=1");
    }
    assert!(put.elapsed() < Duration::from_secs(15), "woken after {:?}", put.elapsed());
    // They are told, and do not find it when they look again after 250 ms: not each time on a slow machine.
    let (started, mut fastest) = (Instant::now(), Duration::MAX);
    let (mut after, mut n) = (own.now().await, 1);
    while n < 11 || fastest >= Duration::from_millis(200) {
        assert!(started.elapsed() < Duration::from_secs(60), "woken after {fastest:?}");
        n += 1;
        let asked = Instant::now();
        let reader = {
            let (own, after) = (own.clone(), after.clone());
            tokio::spawn(async move { own.page(Some(&after), Duration::from_secs(30)).await })
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        put_json(&*own.backend, &c(), "k", json!({"n": n})).await;
        let (events, next) = reader.await.unwrap();
        fastest = fastest.min(asked.elapsed());
        assert_eq!(told(&events), format!("k={n}"));
        after = next;
    }
    assert_eq!(listening().await, 1, "sessions that listen");
    ok(own.backend.close().await, "close");
    let closed = Instant::now();
    while listening().await != 0 {
        assert!(closed.elapsed() < Duration::from_secs(15), "a session listens after the store was closed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A cursor goes with its collection, and one whose changes were removed is refused, not served with a gap.
#[tokio::test(flavor = "multi_thread")]
async fn cursors_are_checked() {
    let own = Own::with(harness::shared_url(), &[("changes_retention", "1ms")]).await;
    let backend = &*own.backend;
    let of = |collection: &str, after: Option<Cursor>| Changes {
        collection: Some(CollectionName::new(collection).unwrap()),
        after,
        limit: 100,
        wait: Duration::ZERO,
    };
    let start = ok(backend.changes(&of("c", None)).await, "changes").next.unwrap();
    put_json(backend, &c(), "k", json!({"n": 1})).await;
    put_json(backend, &CollectionName::new("d").unwrap(), "other", json!({"n": 2})).await;
    // Else the page may end between the two, and its cursor before what is removed below.
    own.settle().await;
    let page = ok(backend.changes(&of("c", Some(start.clone()))).await, "changes");
    assert_eq!(told(&page.items), "k=1", "of one collection");
    expect_kind(backend.changes(&of("d", Some(start.clone()))).await, ErrorKind::InvalidInput, "of another");
    let mut refused = None;
    for _ in 0..200 {
        ok(backend.maintain(Maintenance::Sweep).await, "sweep");
        refused = backend.changes(&of("c", Some(start.clone()))).await.err();
        if refused.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refused = refused.expect("what came after the cursor is removed");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.message().contains("removed"), "{refused}");
    let page = ok(backend.changes(&of("c", page.next)).await, "a cursor behind what was removed goes on");
    assert_eq!(told(&page.items), "");
}

/// The feed is offered only if it is switched on, logs what is written without it, and can be stopped.
#[tokio::test(flavor = "multi_thread")]
async fn the_feed_is_switched() {
    let own = Own::open().await;
    assert!(own.backend.info().capabilities.has(Feature::Changes));
    let start = own.now().await;
    let url = harness::with(&own.server, "schema", &own.schema);
    let without = ok(harness::open(&url).await, "open");
    assert!(!without.info().capabilities.has(Feature::Changes));
    let changes = Changes { collection: None, after: None, limit: 1, wait: Duration::ZERO };
    expect_kind(without.changes(&changes).await, ErrorKind::Unsupported, "without the feed");
    put_json(&*without, &c(), "k", json!({"n": 1})).await;
    assert_eq!(told(&own.all(&start).await), "k=1");
    let config = storage_postgres::PostgresConfig::from_url(&url).unwrap();
    assert!(ok(storage_postgres::stop_changes(&config).await, "stop_changes"));
    assert!(!ok(storage_postgres::stop_changes(&config).await, "stop_changes"));
    put_json(&*without, &c(), "k", json!({"n": 2})).await;
    assert_eq!(own.all(&start).await.len(), 1, "nothing is logged any more");
}
