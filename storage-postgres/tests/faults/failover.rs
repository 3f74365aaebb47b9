//! Primaries that die and are replaced by their replica, both of which the URL names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use storage_core::{Address, Backend, CollectionName, ErrorKind, Retry, Store};
use storage_testkit::helpers::{put, write_one};
use storage_testkit::servers::{PostgresReplica, PostgresServer, PostgresSettings};

use crate::{expect, get, harness, more, of_the_connection, put_one, recovers, timed};

/// No call takes longer: a second to connect to each of two hosts, a second for the reply, each up to three times, and
/// pauses; and as long again for a slow machine.
const DEADLINE: Duration = Duration::from_secs(20);

struct Pair {
    primary: PostgresServer,
    replica: PostgresReplica,
}

impl Pair {
    /// A primary that acknowledges what its replica has.
    fn start() -> Self {
        let primary = PostgresServer::start(&PostgresSettings::default()).unwrap();
        let replica = PostgresReplica::start(&primary).unwrap();
        primary.set("synchronous_standby_names", "*").unwrap();
        Self { primary, replica }
    }

    fn url(&self, parameters: &str) -> String {
        let hosts = format!("{},{}", self.primary.address(), self.replica.server().address());
        format!("{}?{parameters}", self.primary.url_of(&hosts))
    }
}

fn collection(writer: usize) -> CollectionName {
    CollectionName::new(format!("writer{writer}")).unwrap()
}

/// Writes until it is told to end; the keys that were acknowledged.
async fn load(
    backend: Arc<dyn Backend>,
    writer: usize,
    ended: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
) -> Vec<Address> {
    let mut acknowledged = Vec::new();
    for i in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
        let mutation = put(&collection(writer), &format!("k{i}"), json!(i));
        let address = mutation.address.clone();
        let (took, written) = timed(write_one(&*backend, mutation)).await;
        match written {
            Ok(_) => {
                total.fetch_add(1, Ordering::Relaxed);
                acknowledged.push(address);
            }
            Err(error) => of_the_connection(&error),
        }
        assert!(took < DEADLINE, "a write took {took:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    acknowledged
}

/// Ends a primary under load and promotes its replica. All writers go on, and nothing that was acknowledged is lost.
async fn survives(end: impl Fn(&PostgresServer)) {
    let pair = Pair::start();
    let url = pair.url("timeout=1s&connect_timeout=1s&acquire_timeout=1s");
    let backend = recovers(|| harness::open(&url)).await;
    let store = Store::new(backend.clone());
    let ended = Arc::new(AtomicBool::new(false));
    let totals: Vec<_> = (0..8).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let tasks = totals.iter().enumerate().map(|(writer, total)| {
        tokio::spawn(load(store.backend().clone(), writer, ended.clone(), total.clone()))
    });
    let tasks: Vec<_> = tasks.collect();
    for total in &totals {
        more(total, 20).await;
    }
    end(&pair.primary);
    tokio::time::sleep(Duration::from_millis(300)).await;
    pair.replica.promote().unwrap();
    let promoted = Instant::now();
    recovers(|| put_one(&*backend, "after")).await;
    assert!(promoted.elapsed() < DEADLINE, "writing goes on after {:?}", promoted.elapsed());
    // The writers as well, by themselves.
    for total in &totals {
        more(total, 20).await;
    }
    ended.store(true, Ordering::Relaxed);
    for task in tasks {
        let acknowledged = task.await.unwrap();
        for addresses in acknowledged.chunks(500) {
            for (address, record) in addresses.iter().zip(recovers(|| backend.get(addresses)).await) {
                assert!(record.is_some(), "{address} was acknowledged, and is lost");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_primary_is_replaced() {
    survives(|primary| primary.kill().unwrap()).await;
}

/// Its connections stay open, and nothing comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_primary_is_replaced() {
    survives(|primary| primary.freeze().unwrap()).await;
}

/// Whichever comes first in the URL, writes go to the primary; a store that any host will do reads from the first.
#[tokio::test]
async fn the_target_decides_on_the_host() {
    let pair = Pair::start();
    let (primary, replica) = (pair.primary.address(), pair.replica.server().address());
    let backwards = |parameters: &str| {
        let url = format!("{}?{parameters}", pair.primary.url_of(&format!("{replica},{primary}")));
        async move { harness::open(&url).await }
    };
    let writer = backwards("").await.unwrap();
    put_one(&*writer, "ada").await.unwrap();
    pair.replica.catch_up(&pair.primary).unwrap();
    let reader = backwards("target=any&create_schema=false").await.unwrap();
    get(&*reader, "ada").await.unwrap();
    let connected = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'storage'";
    assert_ne!(pair.replica.server().psql(connected).unwrap(), "0");
    expect(put_one(&*reader, "bob").await, ErrorKind::Unavailable, Retry::Safe, "takes no writes");
    // With the primary away, reads go on there, and writes find nobody.
    pair.primary.kill().unwrap();
    recovers(|| get(&*reader, "ada")).await;
    let _ = put_one(&*writer, "bob").await; // The connection that broke.
    expect(put_one(&*writer, "bob").await, ErrorKind::Unavailable, Retry::Safe, "");
    pair.replica.promote().unwrap();
    recovers(|| put_one(&*writer, "bob")).await;
}

/// A server that turns read-only under the store's feet is not written to, and is again when it takes writes.
#[tokio::test]
async fn a_server_that_becomes_read_only_is_told() {
    let (server, backend) = crate::alone("").await;
    put_one(&*backend, "ada").await.unwrap();
    server.set("default_transaction_read_only", "on").unwrap();
    recovers(|| async {
        match put_one(&*backend, "ada").await {
            Err(_) => Ok(()),
            Ok(()) => Err(storage_core::Error::new(ErrorKind::Busy, "it still takes writes")),
        }
    })
    .await;
    expect(put_one(&*backend, "ada").await, ErrorKind::Unavailable, Retry::Safe, "takes no writes");
    expect(
        crate::increment_atomically(&*backend, "n").await,
        ErrorKind::Unavailable,
        Retry::Safe,
        "takes no writes",
    );
    get(&*backend, "ada").await.unwrap();
    server.set("default_transaction_read_only", "off").unwrap();
    recovers(|| put_one(&*backend, "ada")).await;
}
