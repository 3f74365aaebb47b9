//! A server that goes away under load, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use storage_core::{Backend, Retry, Store};
use storage_testkit::helpers::{address, put, write_one};
use storage_testkit::servers::PostgresServer;

use crate::{alone, increment, increment_atomically, more, of_the_connection, recovers, sum, users};

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
    survives(PostgresServer::kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_nothing() {
    survives(PostgresServer::stop).await;
}

/// Nothing that was acknowledged is lost, nothing is done twice, and writing goes on by itself.
async fn survives(end: fn(&PostgresServer) -> storage_core::Result<()>) {
    let (server, backend) = alone("pool_max=4").await;
    let store = Store::new(backend.clone());
    let (ended, total) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (backend, ended, total) = (store.backend().clone(), ended.clone(), total.clone());
            tokio::spawn(async move { load(&*backend, task, &ended, &total).await })
        })
        .collect();
    for _ in 0..3 {
        more(&total, 100).await;
        end(&server).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.restart().unwrap();
    }
    more(&total, 100).await;
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
    for keys in done.puts.chunks(500) {
        let addresses: Vec<_> = keys.iter().map(|key| address(&users(), key)).collect();
        for (key, record) in keys.iter().zip(recovers(|| backend.get(&addresses)).await) {
            assert!(record.is_some(), "{key} was acknowledged, and is lost");
        }
    }
    for (counter, key) in ["single", "atomic"].into_iter().enumerate() {
        let (counted, unknown) = (done.counted[counter], done.unknown[counter]);
        let (sum, most) = (sum(&*backend, key).await, counted + unknown);
        assert!(counted <= sum && sum <= most, "{key}: {counted} to {most} increments, and {sum} counted");
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
                Err(error) => {
                    of_the_connection(&error);
                    done.unknown[counter] += u64::from(error.retry() == Retry::IfIdempotent);
                }
            }
        }
    }
    done
}
