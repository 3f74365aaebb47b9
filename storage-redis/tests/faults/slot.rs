//! A slot of a cluster that moves from one master to another while it is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use storage_core::{Backend, CollectionName, Count, Mutation, Scan, Value};
use storage_testkit::helpers::{address, get_json, get_record, keys_all, put, put_numbered, write_one};
use storage_testkit::servers::{RedisCluster, RedisServer};
use tokio::sync::watch;

use crate::harness;

const RECORDS: usize = 400;

/// A slot with its old and its new master.
struct Move<'a> {
    slot: String,
    from: &'a RedisServer,
    to: &'a RedisServer,
}

impl<'a> Move<'a> {
    /// Of the slot of a collection, to whichever master has it not.
    fn of(cluster: &'a RedisCluster, prefix: &str, collection: &CollectionName) -> Self {
        let key = format!("{{{prefix}:{collection}}}:i");
        let slot = cluster.nodes[0].command(&["CLUSTER", "KEYSLOT", &key]).unwrap().trim().to_owned();
        let masters: Vec<&RedisServer> = cluster
            .nodes
            .iter()
            .filter(|node| node.command(&["ROLE"]).unwrap().starts_with("master"))
            .collect();
        let has = |node: &RedisServer| {
            // A node that does not have the slot says where it is.
            !node.command(&["TYPE", &key]).unwrap_or_else(|error| error.to_string()).contains("MOVED")
        };
        let from = masters.iter().find(|node| has(node)).unwrap();
        let to = masters.iter().find(|node| node.port() != from.port()).unwrap();
        Self { slot, from, to }
    }

    fn begin(&self) {
        let (from, to) = (id(self.from), id(self.to));
        expect_ok(self.to, &["CLUSTER", "SETSLOT", &self.slot, "IMPORTING", &from]);
        expect_ok(self.from, &["CLUSTER", "SETSLOT", &self.slot, "MIGRATING", &to]);
    }

    /// Moves some keys; how many are left.
    fn step(&self, count: usize) -> usize {
        let keys = self.from.command(&["CLUSTER", "GETKEYSINSLOT", &self.slot, &count.to_string()]).unwrap();
        let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
        if !keys.is_empty() {
            let port = self.to.port().to_string();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys);
            expect_ok(self.from, &migrate);
        }
        self.from.command(&["CLUSTER", "COUNTKEYSINSLOT", &self.slot]).unwrap().trim().parse().unwrap()
    }

    fn end(&self) {
        let to = id(self.to);
        for node in [self.to, self.from] {
            expect_ok(node, &["CLUSTER", "SETSLOT", &self.slot, "NODE", &to]);
        }
    }
}

fn id(node: &RedisServer) -> String {
    node.command(&["CLUSTER", "MYID"]).unwrap().trim().to_owned()
}

fn expect_ok(node: &RedisServer, words: &[&str]) {
    let reply = node.command(words).unwrap();
    assert!(matches!(reply.trim(), "OK" | "NOKEY"), "{words:?}: {reply}");
}

/// Records, counters and lists are read and written while their slot moves: MOVED and ASK are followed, what has to wait
/// waits, and afterwards everything is there, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_while_it_is_used() {
    let cluster = &*harness::CLUSTER;
    let prefix = harness::prefix();
    let url = format!("redis+cluster://{}?shards=1&prefix={prefix}", cluster.hosts());
    let backend = harness::open(&url).await.unwrap();
    let items = CollectionName::new("items").unwrap();
    put_numbered(&*backend, &items, RECORDS).await;
    for i in 0..20 {
        count_one(&*backend, &items, &format!("counter{i}")).await;
        append_one(&*backend, &items, &format!("list{i}")).await;
    }
    for _ in 0..2 {
        // There, and back again.
        move_under_load(&Move::of(cluster, &prefix, &items), &backend, &items).await;
    }
}

async fn move_under_load(moving: &Move<'_>, backend: &Arc<dyn Backend>, items: &CollectionName) {
    let before = totals(&**backend, items).await;
    let ended = Arc::new(AtomicBool::new(false));
    moving.begin();
    let (progress, mut writes) = watch::channel(0);
    let writing = tokio::spawn(load(backend.clone(), items.clone(), ended.clone(), progress));
    let reading = {
        let (backend, items, ended) = (backend.clone(), items.clone(), ended.clone());
        tokio::spawn(async move {
            // A record without what belongs to it would be counters without fields, or an empty list.
            let mut last = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                let now = totals(&*backend, &items).await;
                assert!(now.0 >= last.0 && now.1 >= last.1, "{now:?} after {last:?}");
                last = now;
            }
        })
    };
    while moving.step(25) > 0 {
        // Each kind of request meets a slot of which some keys are here and some there.
        assert_eq!(get_json(&**backend, items, "k000000").await, Some(json!({"n": 0})));
        let addresses: Vec<_> =
            (0..RECORDS).map(|i| address(items, &storage_testkit::helpers::numbered(i))).collect();
        let read = backend.get(&addresses).await.unwrap();
        assert!(read.iter().all(Option::is_some), "a record is missing while it moves");
        assert!(keys_all(&**backend, items, "k", 1_000).await.len() >= RECORDS);
        let counted = backend.count(&Count { collection: items.clone(), filter: None }).await.unwrap();
        assert!(counted as usize >= RECORDS + 40, "{counted} counted while they move");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    moving.end();
    // What waited goes on.
    let settled = *writes.borrow() + 20;
    let more = writes.wait_for(|count| *count > settled);
    tokio::time::timeout(crate::RECOVERY, more).await.expect("writing goes on").unwrap();
    ended.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    reading.await.unwrap();
    let after = totals(&**backend, items).await;
    assert_eq!(
        (after.0 - before.0, after.1 - before.1),
        (written.counted, written.appended),
        "counted and appended"
    );
    let keys = keys_all(&**backend, items, "", 1_000).await;
    for key in &written.puts {
        assert!(keys.iter().any(|found| found.as_str() == key), "{key} was acknowledged and is in no scan");
    }
    assert_eq!(keys.iter().filter(|key| key.as_str().starts_with('k')).count(), RECORDS);
    backend.scan(&Scan { prefix: "k".into(), ..Scan::new(items.clone()) }).await.unwrap();
}

#[derive(Default)]
struct Written {
    puts: Vec<String>,
    counted: u64,
    appended: u64,
}

/// Writes of all kinds, none of which may fail: what waits, waits for less than the deadline.
async fn load(
    backend: Arc<dyn Backend>,
    items: CollectionName,
    ended: Arc<AtomicBool>,
    progress: watch::Sender<usize>,
) -> Written {
    let mut written = Written::default();
    for i in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
        // An existing record, a new one, counters and a list.
        write_one(&*backend, put(&items, "k000001", json!({"n": 1}))).await.unwrap();
        let key = format!("new{i}");
        write_one(&*backend, put(&items, &key, json!(i))).await.unwrap();
        written.puts.push(key);
        progress.send_replace(written.puts.len());
        count_one(&*backend, &items, &format!("counter{}", i % 20)).await;
        written.counted += 1;
        append_one(&*backend, &items, &format!("list{}", i % 20)).await;
        written.appended += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    written
}

async fn count_one(backend: &dyn Backend, items: &CollectionName, key: &str) {
    write_one(backend, Mutation::increment(address(items, key), "n", 1)).await.unwrap();
}

async fn append_one(backend: &dyn Backend, items: &CollectionName, key: &str) {
    write_one(backend, Mutation::append(address(items, key), vec![json!(1).into()])).await.unwrap();
}

/// The sum of all counters, and the length of all lists.
async fn totals(backend: &dyn Backend, items: &CollectionName) -> (u64, u64) {
    let (mut counted, mut appended) = (0, 0);
    for i in 0..20 {
        match get_record(backend, items, &format!("counter{i}")).await.value {
            Value::Counters(fields) => counted += fields["n"].cast_unsigned(),
            other => panic!("{other:?}"),
        }
        match get_record(backend, items, &format!("list{i}")).await.value {
            Value::List { length } => appended += length,
            other => panic!("{other:?}"),
        }
    }
    (counted, appended)
}
