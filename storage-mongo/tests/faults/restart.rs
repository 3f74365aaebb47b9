//! A server that goes away under load, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mongodb::bson::doc;
use serde_json::json;
use storage_core::{Backend, ErrorKind, HealthStatus, Retry};
use storage_testkit::helpers::{address, put, write_one};
use storage_testkit::servers::MongoServer;

use crate::{
    alone, expect, get, harness, increment, increment_atomically, of_the_connection, put_one, recovers, sum,
    users,
};

/// What one writer has done.
#[derive(Default)]
struct Done {
    /// Keys whose put was acknowledged.
    puts: Vec<String>,
    /// Increments that were acknowledged, of each of the two counters.
    counted: [u64; 2],
    /// Increments of which nobody knows whether they were done.
    unknown: [u64; 2],
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_under_load_loses_nothing() {
    survives(Memory::Lost, async |server: &MongoServer| {
        server.kill().unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.restart().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_nothing() {
    survives(Memory::Lost, async |server: &MongoServer| {
        server.stop().unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.restart().unwrap();
    })
    .await;
}

/// A primary that steps down answers until then, and takes no writes until it is one again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_steps_down_under_load_loses_nothing() {
    survives(Memory::Kept, async |server: &MongoServer| {
        step_down(server, 1).await;
        tokio::time::sleep(Duration::from_millis(1_200)).await;
    })
    .await;
}

async fn step_down(server: &MongoServer, seconds: i32) {
    let database = harness::database(&server.url()).await.unwrap();
    let command = doc! {"replSetStepDown": seconds, "force": true};
    database.client().database("admin").run_command(command).await.unwrap();
}

/// Whether a server still knows afterwards which transactions it has committed. MongoDB always does; the stand-in says of those
/// that were committed before its restart that they were not, and they are done once more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Kept,
    Lost,
}

/// Nothing that was acknowledged is lost, nothing is done twice, and writing goes on by itself.
async fn survives(memory: Memory, happens: impl AsyncFn(&MongoServer)) {
    let (server, backend) = alone("maxPoolSize=4&timeout=3s&heartbeatFrequencyMS=500").await;
    let (ended, total) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let (backend, ended, total) = (backend.clone(), ended.clone(), total.clone());
            tokio::spawn(async move { load(&*backend, task, &ended, &total).await })
        })
        .collect();
    for _ in 0..2 {
        more(&total, 25).await;
        happens(&server).await;
    }
    more(&total, 25).await;
    ended.store(true, Ordering::Relaxed);
    let mut done = Done::default();
    for task in tasks {
        let one = task.await.unwrap();
        done.puts.extend(one.puts);
        for counter in 0..2 {
            done.counted[counter] += one.counted[counter];
            done.unknown[counter] += one.unknown[counter];
        }
    }
    let addresses: Vec<_> = done.puts.iter().map(|key| address(&users(), key)).collect();
    for (key, record) in done.puts.iter().zip(recovers(|| backend.get(&addresses)).await) {
        assert!(record.is_some(), "{key} was acknowledged, and is lost");
    }
    for (counter, key) in ["single", "atomic"].into_iter().enumerate() {
        let (counted, unknown) = (done.counted[counter], done.unknown[counter]);
        let (sum, most) = (sum(&*backend, key).await, counted + unknown);
        let told = memory == Memory::Kept || key == "single";
        assert!(
            counted <= sum && (sum <= most || !told),
            "{key}: {counted} to {most} increments, and {sum} counted"
        );
    }
}

/// Writes until it is told to end.
async fn load(backend: &dyn Backend, task: usize, ended: &AtomicBool, total: &AtomicU64) -> Done {
    let mut done = Done::default();
    for i in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
        let key = format!("t{task}-{i}");
        match write_one(backend, put(&users(), &key, json!(i))).await {
            Ok(_) => {
                total.fetch_add(1, Ordering::Relaxed);
                done.puts.push(key);
            }
            Err(error) => of_the_connection(&error),
        }
        let single = increment(backend, "single").await.map(drop);
        let atomic = increment_atomically(backend, "atomic").await;
        for (counter, result) in [single, atomic].into_iter().enumerate() {
            match result {
                Ok(()) => done.counted[counter] += 1,
                // Other writers change the same counter.
                Err(error) if error.kind() == ErrorKind::Conflict => assert_eq!(error.retry(), Retry::Safe),
                Err(error) => {
                    of_the_connection(&error);
                    done.unknown[counter] += u64::from(error.retry() == Retry::IfIdempotent);
                }
            }
        }
    }
    done
}

/// Waits until so many more puts are acknowledged.
async fn more(total: &AtomicU64, count: u64) {
    let goal = total.load(Ordering::Relaxed) + count;
    let reached = async {
        while total.load(Ordering::Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::RECOVERY, reached).await.expect("writing goes on");
}

/// While there is no primary, writes were not done and the health says what is wrong; afterwards all is well.
#[tokio::test]
async fn without_a_primary_nothing_is_written() {
    let (server, backend) = alone("timeout=2s&heartbeatFrequencyMS=500").await;
    put_one(&*backend, "ada").await.unwrap();
    step_down(&server, 6).await;
    let error = expect(increment(&*backend, "n").await, ErrorKind::Unavailable, Retry::Safe, "");
    assert!(!error.message().is_empty());
    assert_eq!(backend.health().await.unwrap().status, HealthStatus::Degraded);
    recovers(|| increment(&*backend, "n")).await;
    assert_eq!(sum(&*backend, "n").await, 1);
    assert_eq!(backend.health().await.unwrap().status, HealthStatus::Up);
}

/// A server that was not there when the program began is found by opening again, and a store outlives its server's stop.
#[tokio::test]
async fn a_server_that_is_away_is_told_in_time() {
    let (server, backend) = alone("timeout=2s").await;
    put_one(&*backend, "ada").await.unwrap();
    server.stop().unwrap();
    let url = format!("{}?timeout=2s", server.url());
    let (took, opened) = crate::timed(harness::open(&url)).await;
    expect(opened, ErrorKind::Unavailable, Retry::Safe, "no server can be reached");
    assert!(took < crate::IN_TIME, "{took:?}");
    server.restart().unwrap();
    recovers(|| get(&*backend, "ada")).await;
    harness::open(&url).await.unwrap();
}
