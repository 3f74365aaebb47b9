//! Masters that die and are replaced, behind sentinels and in a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use storage_core::{Address, Backend, CollectionName, Error, ErrorKind, Store};
use storage_testkit::helpers::{put, write_one};
use storage_testkit::servers::{RedisCluster, RedisSentinels, RedisServer};

use crate::{harness, of_the_connection, recovers};

/// No call takes longer: a second to connect, a second for the reply, each up to three times, and pauses; twice that, on a
/// machine that does much else.
const DEADLINE: Duration = Duration::from_secs(16);

const WRITERS: usize = 8;

/// A collection for each writer, so that all masters of a cluster have some.
fn collection(writer: usize) -> CollectionName {
    CollectionName::new(format!("writer{writer}")).unwrap()
}

/// Writes until it is told to end, and counts what was acknowledged; the last of it.
async fn load(
    backend: Arc<dyn Backend>,
    writer: usize,
    ended: Arc<AtomicBool>,
    acknowledged: Arc<[AtomicU64; WRITERS]>,
) -> Address {
    let mut last = None;
    for i in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
        let mutation = put(&collection(writer), &format!("k{i}"), json!(i));
        let address = mutation.address.clone();
        let started = Instant::now();
        match write_one(&*backend, mutation).await {
            Ok(_) => {
                acknowledged[writer].fetch_add(1, Ordering::Relaxed);
                last = Some(address);
            }
            Err(error) => of_the_connection(&error),
        }
        assert!(started.elapsed() < DEADLINE, "a write took {:?}", started.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    last.expect("some writes were acknowledged")
}

/// Kills or freezes a master under load. Every writer goes on with the replica, and what the replica had is there.
async fn survives(backend: Arc<dyn Backend>, master: &RedisServer, how: Signal) {
    let store = Store::new(backend.clone());
    let mut before = Vec::new();
    for writer in 0..WRITERS {
        let mutation = put(&collection(writer), "before", json!(writer));
        recovers(|| write_one(&*backend, mutation.clone())).await;
        before.push(mutation.address);
    }
    // Replicas acknowledge in their own time; what they do not have when the master dies is lost.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let ended = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new([const { AtomicU64::new(0) }; WRITERS]);
    let writing = |writer| load(store.backend().clone(), writer, ended.clone(), acknowledged.clone());
    let tasks: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(writing(writer))).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    match how {
        Signal::STOP => master.process().signal(how).unwrap(),
        _ => master.process().stop(how).unwrap(),
    }
    let mut after = Vec::new();
    for writer in 0..WRITERS {
        let mutation = put(&collection(writer), "after", json!(writer));
        recovers(|| write_one(&*backend, mutation.clone())).await;
        after.push(mutation.address);
    }
    // The writers as well, by themselves: what the old master acknowledged last may be lost.
    let counts = || acknowledged.each_ref().map(|count| count.load(Ordering::Relaxed));
    let then = counts();
    recovers(|| async {
        let all_go_on = counts().iter().zip(then).all(|(now, then)| *now > then);
        if all_go_on { Ok(()) } else { Err(Error::new(ErrorKind::Busy, "a writer waits still")) }
    })
    .await;
    ended.store(true, Ordering::Relaxed);
    let all: Vec<Address> = before.into_iter().chain(after).collect();
    for (address, record) in all.iter().zip(recovers(|| backend.get(&all)).await) {
        assert!(record.is_some(), "{address} is lost");
    }
    for task in tasks {
        let last = task.await.unwrap();
        let record = recovers(|| backend.get(std::slice::from_ref(&last))).await.remove(0);
        assert!(record.is_some(), "{last} was acknowledged by the new master, and is lost");
    }
}

/// The sentinels make the replica master, and the store asks them where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_promoted_by_sentinels() {
    let servers = RedisSentinels::start(Duration::from_secs(1)).unwrap();
    let url = format!("redis+sentinel://{}/{}/0", servers.hosts(), RedisSentinels::MASTER);
    let hasty = format!("{url}?connect_timeout=1s&response_timeout=1s");
    let backend = recovers(|| harness::open(&hasty)).await;
    survives(backend.clone(), &servers.master, Signal::KILL).await;
    // The old master comes back, and becomes a replica: nothing is written to it.
    servers.master.restart().unwrap();
    recovers(|| async {
        let role = servers.master.command(&["ROLE"])?;
        if role.starts_with("slave") { Ok(()) } else { Err(Error::new(ErrorKind::Busy, role)) }
    })
    .await;
    // The machine may be slow; a refusal would be the old master's.
    let later = recovers(|| async {
        match crate::put_one(&*backend, "later").await {
            Err(error) if error.kind() == ErrorKind::Timeout => Err(error),
            done => Ok(done),
        }
    });
    later.await.unwrap();
    // One sentinel fewer is no loss either.
    servers.sentinels[0].stop(Signal::KILL).unwrap();
    let again = harness::open(&url).await.unwrap();
    crate::get(&*again, "later").await.unwrap();
}

/// The replica of a dead master of a cluster takes its slots over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_in_a_cluster() {
    replaced_in_a_cluster(Signal::KILL).await;
}

/// And that of one that is silent: its connections stay open, and nothing comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_master_is_replaced_in_a_cluster() {
    replaced_in_a_cluster(Signal::STOP).await;
}

async fn replaced_in_a_cluster(how: Signal) {
    let cluster = RedisCluster::start(Duration::from_secs(2)).unwrap();
    let timeouts = "connect_timeout=1s&response_timeout=1s";
    let url = format!("redis+cluster://{}?shards=4&{timeouts}", cluster.hosts());
    let backend = recovers(|| harness::open(&url)).await;
    survives(backend, &cluster.nodes[0], how).await;
}
