//! Connections that the server ends while they are used.

use std::sync::Arc;

use serde_json::json;
use storage_core::{ErrorKind, Result, Retry, Store};
use storage_testkit::helpers::get_json;

use crate::{
    Lock, alone, expect, get, harness, increment, increment_atomically, of_the_connection, recovers, sum,
    users, waiting_for_locks,
};

/// A transaction whose connection is ended in its middle is undone whole, and says that it was not done.
#[tokio::test]
async fn a_transaction_is_undone() {
    let (server, backend) = alone("").await;
    let beside = Lock::of(&server, &*backend, "beside").await;
    for round in 0..3 {
        let call = {
            let backend = backend.clone();
            tokio::spawn(async move { increment_atomically(&*backend, "counter").await })
        };
        waiting_for_locks(&server, 1).await;
        let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        assert_eq!(server.psql(ended).unwrap(), "t");
        expect(call.await.unwrap(), ErrorKind::Unavailable, Retry::Safe, "");
        assert_eq!(sum(&*backend, "counter").await, 0, "round {round}");
    }
    // Through a store, what is safe to repeat is repeated.
    let store = Store::new(backend.clone());
    let call = {
        let layers = store.backend().clone();
        tokio::spawn(async move { increment_atomically(&*layers, "counter").await })
    };
    waiting_for_locks(&server, 1).await;
    server
        .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        .unwrap();
    waiting_for_locks(&server, 1).await;
    beside.release().await;
    call.await.unwrap().unwrap();
    assert_eq!(sum(&*backend, "counter").await, 1);
    assert_eq!(get_json(&*backend, &users(), "beside").await, Some(json!("counter")));
}

/// A statement that is ended was not done, and its connection is not used again.
#[tokio::test]
async fn a_statement_is_undone() {
    let (server, backend) = alone("pool_max=2").await;
    increment(&*backend, "counter").await.unwrap();
    let lock = Lock::of(&server, &*backend, "counter").await;
    for what in ["pg_terminate_backend", "pg_cancel_backend"] {
        let call = {
            let backend = backend.clone();
            tokio::spawn(async move { increment(&*backend, "counter").await })
        };
        waiting_for_locks(&server, 1).await;
        server
            .psql(&format!("SELECT {what}(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
            .unwrap();
        let error = call.await.unwrap().expect_err(what);
        of_the_connection(&error);
        assert_eq!(error.retry(), Retry::Safe, "{what}: {error:?}");
        assert_eq!(sum(&*backend, "counter").await, 1, "{what}");
    }
    lock.release().await;
    increment(&*backend, "counter").await.unwrap();
    assert_eq!(sum(&*backend, "counter").await, 2);
}

/// Connections that were ended while nobody used them are replaced: at most one call notices.
#[tokio::test]
async fn idle_connections_are_replaced() {
    let (server, backend) = alone("pool_max=8").await;
    for _ in 0..3 {
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let backend = Arc::clone(&backend);
                tokio::spawn(async move { get(&*backend, "ada").await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert!(server.terminate().unwrap() > 0);
        let mut failed = 0;
        for _ in 0..8 {
            failed += u32::from(increment(&*backend, "counter").await.is_err());
        }
        assert!(failed <= 1, "{failed} calls failed one after the other");
    }
    let counted = sum(&*backend, "counter").await;
    assert!(counted >= 21, "{counted}");
}

/// A load with connections ended at random loses and doubles nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled() {
    let (server, backend) = alone("pool_max=4").await;
    let store = Store::new(backend.clone());
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let backend = store.backend().clone();
            tokio::spawn(async move {
                let (mut counted, mut unknown) = (0_u64, 0_u64);
                let note = |result: Result<()>, counted: &mut u64, unknown: &mut u64| match result {
                    Ok(()) => *counted += 1,
                    Err(error) => {
                        of_the_connection(&error);
                        *unknown += u64::from(error.retry() == Retry::IfIdempotent);
                    }
                };
                for i in 0..150 {
                    let result = if (i + writer) % 2 == 0 {
                        increment(&*backend, "counter").await.map(drop)
                    } else {
                        increment_atomically(&*backend, "counter").await
                    };
                    note(result, &mut counted, &mut unknown);
                }
                (counted, unknown)
            })
        })
        .collect();
    let mut rounds = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        server.terminate().unwrap();
        rounds += 1;
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    assert!(rounds > 3, "the load was over before anything happened to it");
    let (mut counted, mut unknown) = (0, 0);
    for writer in writers {
        let (ours, not_known) = writer.await.unwrap();
        counted += ours;
        unknown += not_known;
    }
    let again = harness::open(&server.url()).await.unwrap();
    let sum = recovers(|| async { Ok(sum(&*again, "counter").await) }).await;
    assert!(
        counted <= sum && sum <= counted + unknown,
        "{counted} counted, {unknown} unknown, and {sum} there"
    );
}
