//! Indexes whose making is interrupted.

use std::sync::Arc;

use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection};
use storage_core::{Backend, ErrorKind, Filter, IndexSpec, Path, Query, Result, Test};
use storage_testkit::helpers::{put, put_json, put_numbered, query_all, write_one};
use storage_testkit::servers::PostgresServer;

use crate::{Lock, alone, harness, recovers, users, waiting_for_locks};

fn spec(unique: bool) -> IndexSpec {
    IndexSpec { unique, ..IndexSpec::new(users(), Path::new("n").unwrap()) }
}

/// Begins to make an index, which waits for the transaction of another program.
async fn waiting(
    server: &PostgresServer,
    backend: &Arc<dyn Backend>,
    unique: bool,
) -> (Lock, tokio::task::JoinHandle<Result<bool>>) {
    put_numbered(&**backend, &users(), 200).await;
    let mut lock = Lock::of(server, &**backend, "theirs").await;
    lock.connection
        .execute("UPDATE storage.records SET version = version + 1 WHERE key = 'theirs'")
        .await
        .unwrap();
    let backend = backend.clone();
    let making = tokio::spawn(async move { backend.ensure_index(&spec(unique)).await });
    waiting_for_locks(server, 1).await;
    (lock, making)
}

/// There is no index, nothing of one is in the way of writes, queries are right, and it can be made again.
async fn nothing_is_left(backend: &dyn Backend, unique: bool) {
    assert_eq!(backend.list_indexes(&users()).await.unwrap(), []);
    for key in ["twin1", "twin2"] {
        write_one(backend, put(&users(), key, json!({"n": 7_000}))).await.unwrap();
    }
    let twins = || Query::new(users(), Filter::Field(Path::new("n").unwrap(), Test::Eq(json!(7_000))));
    assert_eq!(query_all(backend, twins()).await.len(), 2);
    write_one(backend, storage_core::Mutation::delete(storage_testkit::helpers::address(&users(), "twin2")))
        .await
        .unwrap();
    assert!(recovers(|| async { backend.ensure_index(&spec(unique)).await }).await);
    assert_eq!(backend.list_indexes(&users()).await.unwrap(), [spec(unique)]);
    let again = write_one(backend, put(&users(), "twin2", json!({"n": 7_000}))).await;
    if unique {
        assert_eq!(again.expect_err("it is unique").kind(), ErrorKind::Conflict);
    } else {
        again.unwrap();
    }
    assert!(backend.drop_index(&users(), &spec(unique).path).await.unwrap());
    put_json(backend, &users(), "twin2", json!({"n": 7_000})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_build_leaves_nothing() {
    for unique in [false, true] {
        let (server, backend) = alone("").await;
        let (lock, making) = waiting(&server, &backend, unique).await;
        server.terminate().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        lock.release().await;
        let error = making.await.unwrap().expect_err("its connection was ended");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        nothing_is_left(&*backend, unique).await;
    }
}

/// Whoever began is gone, with the server or alone, and cannot clean up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_died_with_its_server_is_in_nobodys_way() {
    for unique in [false, true] {
        let (server, backend) = alone("").await;
        let (_lock, making) = waiting(&server, &backend, unique).await;
        server.kill().unwrap();
        making.await.unwrap().expect_err("the server died");
        server.restart().unwrap();
        let fresh = harness::open(&server.url()).await.unwrap();
        nothing_is_left(&*fresh, unique).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_whose_caller_is_gone_is_made_by_the_next() {
    for unique in [false, true] {
        let (server, backend) = alone("").await;
        let (lock, making) = waiting(&server, &backend, unique).await;
        making.abort();
        assert!(making.await.unwrap_err().is_cancelled());
        lock.release().await;
        // Meanwhile the server may end what it began, or not.
        recovers(|| async { backend.ensure_index(&spec(unique)).await }).await;
        assert_eq!(backend.list_indexes(&users()).await.unwrap(), [spec(unique)]);
        put_json(&*backend, &users(), "one", json!({"n": 8_000})).await;
        let two = write_one(&*backend, put(&users(), "two", json!({"n": 8_000}))).await;
        assert_eq!(two.is_err(), unique, "{two:?}");
    }
}

/// A record that changes while the values of an index are collected holds its new value in the end, and not its old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_a_unique_index_is_made_is_held_as_it_is_then() {
    let (server, backend) = alone("").await;
    put_json(&*backend, &users(), "ada", json!({"n": "old"})).await;
    put_json(&*backend, &users(), "bob", json!({"n": "barred"})).await;
    assert!(backend.ensure_index(&spec(true)).await.unwrap());
    let name = server.psql("SELECT DISTINCT index FROM storage.unique_values").unwrap();
    assert!(backend.drop_index(&users(), &spec(true).path).await.unwrap());

    // Another program keeps the collecting from going on once it has read the records, for it may take the same value.
    let mut barrier = PgConnection::connect(&server.url()).await.unwrap();
    barrier.execute("BEGIN").await.unwrap();
    let barred = "INSERT INTO storage.unique_values (index, value, key) VALUES ($1, 'sbarred', 'other')";
    sqlx::query(barred).bind(name).execute(&mut barrier).await.unwrap();
    let making = tokio::spawn({
        let backend = backend.clone();
        async move { backend.ensure_index(&spec(true)).await }
    });
    waiting_for_locks(&server, 1).await;
    let changing = tokio::spawn({
        let backend = backend.clone();
        async move { write_one(&*backend, put(&users(), "ada", json!({"n": "new"}))).await }
    });
    // Whether it has to wait is not what counts.
    tokio::select! {
        () = waiting_for_locks(&server, 2) => {}
        () = recovers(|| async {
            let busy = || storage_core::Error::new(ErrorKind::Busy, "the record is not changed yet");
            changing.is_finished().then_some(()).ok_or_else(busy)
        }) => {}
    }
    barrier.execute("ROLLBACK").await.unwrap();
    changing.await.unwrap().unwrap();
    assert!(making.await.unwrap().unwrap());

    let new = write_one(&*backend, put(&users(), "eve", json!({"n": "new"}))).await;
    assert_eq!(new.expect_err("ada holds it").kind(), ErrorKind::Conflict);
    put_json(&*backend, &users(), "eve", json!({"n": "old"})).await;
}
