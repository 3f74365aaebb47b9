//! The feed of changes: nothing is skipped, and who waits is woken.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use serde_json::json;
use storage_core::{
    Backend, Batch, ChangeEvent, Changes, CollectionName, Cursor, ErrorKind, Feature, Json, Maintenance,
    Mutation, Precondition, Timestamp,
};
use storage_testkit::helpers::{
    address, expect_kind, get_record, in_millis, ok, pass, put, put_json, write_all, write_ok, write_one,
};
use storage_testkit::servers::{MongoServer, MongoSettings};
use tokio::sync::{Mutex, MutexGuard};

/// What is a matter of milliseconds, on a machine that does much else.
const SOON: Duration = Duration::from_secs(15);

struct Own {
    backend: Arc<dyn Backend>,
    database: mongodb::Database,
    prefix: String,
    _alone: MutexGuard<'static, ()>,
}

impl Own {
    async fn open() -> Self {
        // The stand-in tells of no write while an earlier one, whosever, is being done: docs/mongodb-stand-in.md.
        static ALONE: Mutex<()> = Mutex::const_new(());
        let alone = ALONE.lock().await;
        let (server, prefix) = (harness::shared_url(), harness::prefix());
        let backend = ok(harness::open(&harness::with(&server, "prefix", &prefix)).await, "open");
        Self { backend, database: harness::database(&server).await.unwrap(), prefix, _alone: alone }
    }

    /// The collection of the database that has the records of `c`, or that of another name.
    fn raw(&self, name: &str) -> mongodb::Collection<Document> {
        self.database.collection(&format!("{}{name}", self.prefix))
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

    /// Everything after a cursor, up to what comes within half a second.
    async fn all(&self, after: &Cursor) -> Vec<ChangeEvent> {
        let (mut events, mut after) = (Vec::new(), after.clone());
        loop {
            let (items, next) = self.page(Some(&after), Duration::from_millis(500)).await;
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
    let both = vec![
        Mutation::put(at("e"), Json::from(json!({"n": 4}))),
        Mutation::delete(at("a")),
        Mutation::check(at("d"), Precondition::Present),
    ];
    write_all(backend, Batch::atomic(both)).await;
    let soon = in_millis(1_000);
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
    assert!(
        after[before.len()..].iter().all(|event| event.record.is_none()),
        "all is gone: {}",
        told(&after)
    );
    let (since, now) = (Timestamp::now().since(after[0].at), after.last().unwrap().at);
    assert!(since < Duration::from_secs(60) && now >= after[0].at, "times are those of the changes");
}

/// What others write into the collections is told if it is a record; what moves items of a list is not.
#[tokio::test(flavor = "multi_thread")]
async fn only_records_are_told() {
    let own = Own::open().await;
    put_json(&*own.backend, &c(), "k", json!({"n": 1})).await;
    let start = own.now().await;
    own.raw("c").insert_one(doc! {"_id": "no record", "n": 1}).await.unwrap();
    own.raw("c:items").insert_one(doc! {"_id": "chunk", "version": "x"}).await.unwrap();
    own.database
        .collection(&format!("other{}", own.prefix))
        .insert_one(doc! {"_id": "k", "version": "x"})
        .await
        .unwrap();
    own.raw("c").update_one(doc! {"_id": "k"}, doc! {"$set": {"lock": true}}).await.unwrap();
    own.raw("c").update_one(doc! {"_id": "k"}, doc! {"$unset": {"lock": ""}}).await.unwrap();
    assert_eq!(told(&own.all(&start).await), "");
    own.raw("c").update_one(doc! {"_id": "k"}, doc! {"$set": {"version": "v", "json.n": 2}}).await.unwrap();
    assert_eq!(told(&own.all(&start).await), "k=2");
}

/// A long list is told by each append, without its items, and spilling it is told by nothing.
#[tokio::test(flavor = "multi_thread")]
async fn long_lists_are_told_by_their_appends() {
    let own = Own::open().await;
    let start = own.now().await;
    for _ in 0..4 {
        let items = (0..300).map(|i| Json::from(json!({"i": i}))).collect();
        write_ok(&*own.backend, Mutation::append(address(&c(), "l"), items)).await;
    }
    let events = own.all(&start).await;
    assert_eq!(events.len(), 4, "{}", told(&events));
    let record = get_record(&*own.backend, &c(), "l").await;
    assert_eq!(events[3].record.as_ref(), Some(&record));
}

/// The last that is told of a record is how it is, and a reader beside writers gets every change that was made.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_beside_many_writers_gets_everything() {
    const WRITERS: i64 = 4;
    let own = Arc::new(Own::open().await);
    let start = own.now().await;
    let stop = Arc::new(AtomicBool::new(false));
    let settled = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (own, stop) = (own.clone(), stop.clone());
        writers.push(tokio::spawn(async move {
            let (mut made, mut n) = (BTreeMap::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let keys = [format!("w{writer}-{n}"), format!("w{writer}")];
                let puts = keys.iter().map(|key| put(&c(), key, json!({"n": n}))).collect();
                let batch = if n % 2 == 0 { Batch::atomic(puts) } else { Batch::independent(puts) };
                write_all(&*own.backend, batch).await;
                made.extend(keys.map(|key| (key, n)));
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
    tokio::time::sleep(Duration::from_secs(4)).await;
    stop.store(true, Ordering::Relaxed);
    let mut made = BTreeMap::new();
    for writer in writers {
        made.extend(writer.await.unwrap());
    }
    settled.store(true, Ordering::Relaxed);
    let seen = reader.await.unwrap();
    assert!(made.len() > 40, "{} changes", made.len());
    assert_eq!(seen, made);
}

/// Pages of any size have every change once.
#[tokio::test(flavor = "multi_thread")]
async fn pages_go_on_where_the_one_before_ended() {
    let own = Own::open().await;
    let start = own.now().await;
    let keys: Vec<String> = (0..25).map(|i| format!("k{i:02}")).collect();
    for key in &keys {
        put_json(&*own.backend, &c(), key, json!({"n": 1})).await;
    }
    for limit in [1, 7, 25, 1_000] {
        let (mut seen, mut after) = (Vec::new(), start.clone());
        loop {
            let changes = Changes { collection: None, after: Some(after), limit, wait: Duration::ZERO };
            let page = ok(own.backend.changes(&changes).await, "changes");
            after = page.next.unwrap();
            assert!(page.items.len() <= limit as usize);
            if page.items.is_empty() {
                break;
            }
            seen.extend(page.items.iter().map(|event| event.address.key.to_string()));
        }
        assert_eq!(seen, keys, "by pages of {limit}");
    }
}

/// Large records end a page before its limit, and none is left out.
#[tokio::test(flavor = "multi_thread")]
async fn large_records_make_short_pages() {
    let own = Own::open().await;
    let start = own.now().await;
    for i in 0..4 {
        put_json(&*own.backend, &c(), &format!("k{i}"), json!({"n": i, "text": "x".repeat(3 << 20)})).await;
    }
    let largest = json!({"n": 9, "text": "x".repeat((16 << 20) - (20 << 10))});
    put_json(&*own.backend, &c(), "largest", largest.clone()).await;
    put_json(&*own.backend, &c(), "largest", largest).await;
    let (first, _) = own.page(Some(&start), Duration::from_secs(5)).await;
    assert!((1..4).contains(&first.len()), "{} of a page", first.len());
    assert_eq!(told(&own.all(&start).await), "k0=0 k1=1 k2=2 k3=3 largest=9 largest=9");
}

/// Who waits is woken by a change, and returns when its time is over.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_readers_are_woken() {
    let own = Arc::new(Own::open().await);
    let start = own.now().await;
    for wait in [400, 1_700] {
        let asked = Instant::now();
        let (events, _) = own.page(Some(&start), Duration::from_millis(wait)).await;
        assert_eq!(told(&events), "");
        let took = asked.elapsed();
        let wait = Duration::from_millis(wait);
        assert!(took >= wait && took < wait + SOON, "{wait:?}: {took:?}");
    }
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let (own, start) = (own.clone(), start.clone());
            tokio::spawn(async move { own.page(Some(&start), Duration::from_secs(30)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let put = Instant::now();
    put_json(&*own.backend, &c(), "k", json!({"n": 1})).await;
    for reader in readers {
        assert_eq!(told(&reader.await.unwrap().0), "k=1");
    }
    assert!(put.elapsed() < SOON, "woken after {:?}", put.elapsed());
    // And by the store's end.
    let waiting = {
        let (own, start) = (own.clone(), own.now().await);
        let changes =
            Changes { collection: None, after: Some(start), limit: 1, wait: Duration::from_secs(60) };
        tokio::spawn(async move { own.backend.changes(&changes).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    ok(own.backend.close().await, "close");
    let ended = tokio::time::timeout(SOON, waiting).await.expect("it ends").unwrap();
    assert!(ended.is_err(), "{ended:?}");
}

/// A cursor goes with its collection and outlives the store that gave it.
#[tokio::test(flavor = "multi_thread")]
async fn cursors_are_checked() {
    let own = Own::open().await;
    let backend = &*own.backend;
    let of = |collection: &str, after: Option<Cursor>| Changes {
        collection: Some(CollectionName::new(collection).unwrap()),
        after,
        limit: 100,
        wait: Duration::ZERO,
    };
    let start = ok(backend.changes(&of("c", None)).await, "changes").next.unwrap();
    put_json(backend, &CollectionName::new("d").unwrap(), "other", json!({"n": 2})).await;
    put_json(backend, &c(), "k", json!({"n": 1})).await;
    let page = ok(backend.changes(&of("c", Some(start.clone()))).await, "changes");
    assert_eq!(told(&page.items), "k=1", "of one collection");
    expect_kind(backend.changes(&of("d", Some(start.clone()))).await, ErrorKind::InvalidInput, "of another");
    ok(backend.close().await, "close");
    let again =
        ok(harness::open(&harness::with(&harness::shared_url(), "prefix", &own.prefix)).await, "open");
    let page = ok(again.changes(&of("c", Some(start))).await, "changes");
    assert_eq!(told(&page.items), "k=1");
}

/// A cursor whose changes the server has removed is refused, not served with a gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_too_old_is_refused() {
    let settings = MongoSettings::with(["--oplog-max-entries", "50"]);
    let server = MongoServer::start(&settings).unwrap();
    let backend = ok(harness::open(&server.url()).await, "open");
    let changes = |after| Changes { collection: None, after, limit: 10, wait: Duration::ZERO };
    let start = ok(backend.changes(&changes(None)).await, "changes").next;
    let mut refused = None;
    for round in 0..40 {
        let puts = (0..100).map(|i| put(&c(), &format!("k{round}-{i}"), json!(i))).collect();
        write_all(&*backend, Batch::independent(puts)).await;
        refused = backend.changes(&changes(start.clone())).await.err();
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("the server keeps 50 changes");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused:?}");
    assert!(refused.message().contains("start again"), "{refused}");
    let now = ok(backend.changes(&changes(None)).await, "changes").next;
    ok(backend.changes(&changes(now)).await, "a new cursor goes on");
}

/// A server alone has no feed.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_alone_has_no_feed() {
    let server = MongoServer::start(&MongoSettings { standalone: true, ..MongoSettings::default() }).unwrap();
    let backend = ok(harness::open(&server.url()).await, "open");
    assert!(!backend.info().capabilities.has(Feature::Changes));
    let changes = Changes { collection: None, after: None, limit: 1, wait: Duration::ZERO };
    expect_kind(backend.changes(&changes).await, ErrorKind::Unsupported, "without the feed");
}
