//! Records that others have locked, and all that waits behind them.

use std::time::Duration;

use futures_util::future::join_all;
use storage_core::{ErrorKind, Result, Retry};

use crate::{
    Lock, alone, alone_with, expect, get, harness, increment, increment_atomically, put_one, recovers, sum,
    timed, waiting_for_locks,
};
use storage_testkit::servers::PostgresSettings;

/// The server gives a statement up in time, and undoes it: nothing was done, and it says so.
#[tokio::test]
async fn the_server_gives_up_first() {
    for prepared in ["true", "false"] {
        let parameters = format!("timeout=20s&statement_timeout=2s&prepared_statements={prepared}");
        let (server, backend) = alone(&parameters).await;
        increment(&*backend, "counter").await.unwrap();
        let lock = Lock::of(&server, &*backend, "counter").await;
        let single = timed(increment(&*backend, "counter"));
        let atomic = timed(increment_atomically(&*backend, "counter"));
        let ((took, late), (took_atomic, late_atomic)) = tokio::join!(single, atomic);
        expect(late, ErrorKind::Timeout, Retry::Safe, "gave the statement up");
        assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(15), "{took:?}");
        expect(late_atomic, ErrorKind::Timeout, Retry::Safe, "");
        assert!(took_atomic < Duration::from_secs(15), "{took_atomic:?}");
        // Reads do not wait for writers.
        get(&*backend, "counter").await.unwrap();
        lock.release().await;
        increment(&*backend, "counter").await.unwrap();
        increment_atomically(&*backend, "counter").await.unwrap();
        assert_eq!(sum(&*backend, "counter").await, 3);
    }
}

/// Where the client gives up first nobody knows what the server does, and the client's deadline holds.
#[tokio::test]
async fn the_client_gives_up_first() {
    let (server, backend) = alone("timeout=2s&statement_timeout=20s").await;
    increment(&*backend, "counter").await.unwrap();
    let lock = Lock::of(&server, &*backend, "counter").await;
    let single = timed(increment(&*backend, "counter"));
    let atomic = timed(increment_atomically(&*backend, "counter"));
    let ((took, late), (took_atomic, late_atomic)) = tokio::join!(single, atomic);
    expect(late, ErrorKind::Timeout, Retry::IfIdempotent, "within 2s");
    assert!(took < Duration::from_secs(15), "{took:?}");
    // A transaction was not committed, whatever the server does.
    expect(late_atomic, ErrorKind::Timeout, Retry::Safe, "within 2s");
    assert!(took_atomic < Duration::from_secs(15), "{took_atomic:?}");
    lock.release().await;
    recovers(|| get(&*backend, "counter")).await;
    let counted = sum(&*backend, "counter").await;
    assert!((1..=2).contains(&counted), "{counted}");
}

/// A call waits for a connection as long as it was told to, and is then sent away, with nothing done.
#[tokio::test]
async fn an_exhausted_pool_is_busy() {
    let (server, backend) = alone("pool_max=2&acquire_timeout=2s&timeout=60s").await;
    increment(&*backend, "counter").await.unwrap();
    let lock = Lock::of(&server, &*backend, "counter").await;
    let hold = (0..2).map(|_| {
        let backend = backend.clone();
        tokio::spawn(async move { increment(&*backend, "counter").await })
    });
    let hold: Vec<_> = hold.collect();
    waiting_for_locks(&server, 2).await;
    for (took, refused) in join_all((0..50).map(|_| timed(put_one(&*backend, "more")))).await {
        let error = expect(refused, ErrorKind::Busy, Retry::Safe, "pool_max");
        assert!(error.message().contains("within 2s"), "{error:?}");
        assert!(took >= Duration::from_millis(1_900) && took < Duration::from_secs(15), "{took:?}");
    }
    // A call that is given up while it waits takes no connection with it.
    for _ in 0..10 {
        let _ = tokio::time::timeout(Duration::from_millis(5), put_one(&*backend, "more")).await;
    }
    lock.release().await;
    for call in hold {
        call.await.unwrap().unwrap();
    }
    // Few, and of keys of their own, so that none waits long for a slow disk.
    let keys: Vec<String> = (0..8).map(|i| format!("more{i}")).collect();
    let many = join_all(keys.iter().map(|key| put_one(&*backend, key))).await;
    many.into_iter().collect::<Result<Vec<_>>>().unwrap();
    assert_eq!(sum(&*backend, "counter").await, 3);
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'storage'";
    let connections: u32 = server.psql(connections).unwrap().parse().unwrap();
    assert!(connections <= 2, "{connections}");
}

/// Calls that are dropped in the middle leave no connection in the middle of something.
#[tokio::test]
async fn calls_that_are_dropped_leave_nothing_behind() {
    let (server, backend) = alone("pool_max=3").await;
    increment(&*backend, "counter").await.unwrap();
    let lock = Lock::of(&server, &*backend, "counter").await;
    for i in 0..12 {
        let call = async {
            if i % 2 == 0 {
                increment_atomically(&*backend, "counter").await
            } else {
                increment(&*backend, "counter").await.map(drop)
            }
        };
        let dropped = tokio::time::timeout(Duration::from_millis(20 + 7 * i), call).await;
        assert!(dropped.is_err(), "{dropped:?}");
    }
    // Others go on meanwhile.
    put_one(&*backend, "other").await.unwrap();
    lock.release().await;
    for i in 0..20 {
        put_one(&*backend, &format!("k{i}")).await.unwrap();
        increment_atomically(&*backend, "fresh").await.unwrap();
    }
    assert_eq!(sum(&*backend, "fresh").await, 20);
    let open = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'storage' AND state LIKE 'idle in transaction%'";
    recovers(|| async {
        match server.psql(open)?.as_str() {
            "0" => Ok(()),
            open => Err(storage_core::Error::new(ErrorKind::Busy, format!("{open} open transactions"))),
        }
    })
    .await;
}

/// A server with no place for another client is busy, and nothing was done.
#[tokio::test]
async fn too_many_clients_are_busy() {
    let settings = PostgresSettings::with([
        "max_connections = 6",
        "superuser_reserved_connections = 3",
        "max_wal_senders = 0",
        "wal_level = replica",
    ]);
    let (server, first) = alone_with(&settings, "pool_max=1&pool_min=1").await;
    let (second, third) = (server.url(), format!("{}?pool_max=1", server.url()));
    // Three places are not the superuser's, and the store has one. Those that ended may have theirs a while longer.
    let mut others = Vec::new();
    for _ in 0..2 {
        let connect = || async {
            let connected = <sqlx::PgConnection as sqlx::Connection>::connect(&second).await;
            connected.map_err(|error| storage_core::Error::new(ErrorKind::Busy, error.to_string()))
        };
        others.push(recovers(connect).await);
    }
    expect(harness::open(&third).await.map(drop), ErrorKind::Busy, Retry::Safe, "connection");
    get(&*first, "ada").await.unwrap();
    drop(others);
    recovers(|| harness::open(&third)).await;
}

/// A deadlock with another program, which locks the same records in another order, undoes the store's transaction, and is
/// over when it is repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_with_another_program_is_survived() {
    use sqlx::Executor as _;
    let settings = PostgresSettings::with(["deadlock_timeout = '3s'"]);
    let (server, backend) = alone_with(&settings, "timeout=20s").await;
    increment(&*backend, "a").await.unwrap();
    let mut theirs = Lock::of(&server, &*backend, "beside").await;
    let ours = {
        let backend = backend.clone();
        tokio::spawn(async move { increment_atomically(&*backend, "a").await })
    };
    waiting_for_locks(&server, 1).await;
    // Of the two the server undoes ours, which asks after three seconds whether there is a deadlock.
    let lock = "SELECT 1 FROM storage.records WHERE key = 'a' FOR UPDATE";
    theirs.connection.execute(lock).await.unwrap();
    assert!(!ours.is_finished(), "it waits again");
    theirs.release().await;
    ours.await.unwrap().unwrap();
    assert_eq!(sum(&*backend, "a").await, 2);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'storage'";
    assert_eq!(
        recovers(|| async {
            match server.psql(deadlocks)? {
                none if none == "0" => {
                    Err(storage_core::Error::new(ErrorKind::Busy, "no deadlock is counted"))
                }
                some => Ok(some),
            }
        })
        .await,
        "1"
    );
}

/// Batches with the same records in opposite orders do not get in each other's way: locks are taken in one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_batches_do_not_deadlock() {
    let (server, backend) = alone("").await;
    let batch = |kind: usize, reverse: bool| {
        let mut mutations: Vec<_> = (0..20)
            .map(|i| {
                let at = storage_testkit::helpers::address(&crate::users(), &format!("{}{i}", kind % 3));
                match kind % 3 {
                    0 => storage_core::Mutation::put(at, storage_core::Json::from(serde_json::json!(i))),
                    1 => storage_core::Mutation::increment(at, "n", 1),
                    _ => storage_core::Mutation::append(
                        at,
                        vec![storage_core::Json::from(serde_json::json!(i))],
                    ),
                }
            })
            .collect();
        if reverse {
            mutations.reverse();
        }
        if kind.is_multiple_of(2) {
            storage_core::Batch::atomic(mutations)
        } else {
            storage_core::Batch::independent(mutations)
        }
    };
    let writers = (0..12).map(|writer| {
        let backend = backend.clone();
        let batch = batch(writer % 6, writer >= 6);
        tokio::spawn(async move {
            for _ in 0..30 {
                for result in backend.write(&batch).await.unwrap() {
                    result.unwrap();
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'storage'";
    assert_eq!(server.psql(deadlocks).unwrap(), "0");
}
