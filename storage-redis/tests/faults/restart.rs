//! A server that is killed under load, and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use storage_core::{Backend, Retry, Store, Value};
use storage_testkit::helpers::{address, put, write_one};

use crate::{alone, increment, of_the_connection, recovers, users};

/// What one writer has done.
#[derive(Default)]
struct Done {
    /// Keys whose put was acknowledged.
    puts: Vec<String>,
    /// Increments that were acknowledged.
    counted: u64,
    /// Increments of which nobody knows whether they were done.
    unknown: u64,
}

/// Nothing that was acknowledged is lost, nothing is done twice, and writing goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_under_load_loses_nothing() {
    let (server, backend) = alone(["--appendfsync", "always"]).await;
    let store = Store::new(backend.clone());
    let (ended, total) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (backend, ended, total) = (store.backend().clone(), ended.clone(), total.clone());
            tokio::spawn(async move { load(&*backend, task, &ended, &total).await })
        })
        .collect();
    for _ in 0..3 {
        more(&total, 300).await;
        server.process().stop(Signal::KILL).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.restart().unwrap();
    }
    more(&total, 300).await;
    ended.store(true, Ordering::Relaxed);
    let mut done = Done::default();
    for task in tasks {
        let one = task.await.unwrap();
        done.puts.extend(one.puts);
        done.counted += one.counted;
        done.unknown += one.unknown;
    }
    let addresses: Vec<_> = done.puts.iter().map(|key| address(&users(), key)).collect();
    for (key, record) in done.puts.iter().zip(recovers(|| backend.get(&addresses)).await) {
        assert!(record.is_some(), "{key} was acknowledged, and is lost");
    }
    let counter = storage_testkit::helpers::get_record(&*backend, &users(), "counter").await;
    let Value::Counters(fields) = counter.value else { panic!("no counters") };
    let (sum, most) = (fields["n"].cast_unsigned(), done.counted + done.unknown);
    assert!(done.counted <= sum && sum <= most, "{} to {most} increments, and {sum} counted", done.counted);
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
        match increment(backend, "counter").await {
            Ok(_) => done.counted += 1,
            Err(error) => {
                of_the_connection(&error);
                done.unknown += u64::from(error.retry() == Retry::IfIdempotent);
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
