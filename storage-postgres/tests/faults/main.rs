//! What goes wrong between a program and real servers, and whether it is told, in time, and mended.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod changes;
mod connection;
mod failover;
mod full;
#[path = "../harness/mod.rs"]
mod harness;
mod index;
mod locked;
mod pooler;
mod refused;
mod restart;
mod terminated;
mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection};
use storage_core::{
    Backend, Batch, CollectionName, Error, ErrorKind, Mutation, Precondition, Result, Value, Written,
};
use storage_testkit::faults::{RECOVERY, expect, of_the_connection, recovers, timed};
use storage_testkit::helpers::{address, get_one, put, put_json, write_one};
use storage_testkit::servers::{PostgresServer, PostgresSettings};

fn users() -> CollectionName {
    CollectionName::new("users").unwrap()
}

/// A store on a server of its own, with these parameters of the URL.
async fn alone(parameters: &str) -> (PostgresServer, Arc<dyn Backend>) {
    alone_with(&PostgresSettings::default(), parameters).await
}

async fn alone_with(settings: &PostgresSettings, parameters: &str) -> (PostgresServer, Arc<dyn Backend>) {
    let server = PostgresServer::start(settings).unwrap();
    let backend = harness::open(&format!("{}?{parameters}", server.url())).await.unwrap();
    (server, backend)
}

/// One statement, on the way that common batches go.
async fn increment(backend: &dyn Backend, key: &str) -> Result<Written> {
    write_one(backend, Mutation::increment(address(&users(), key), "n", 1)).await
}

/// A transaction of several statements: the counter and a record beside it, both or none.
async fn increment_atomically(backend: &dyn Backend, key: &str) -> Result<()> {
    let batch = Batch::atomic(vec![
        Mutation::increment(address(&users(), key), "n", 1),
        put(&users(), "beside", json!(key)),
        Mutation::check(address(&users(), "never"), Precondition::Absent),
    ]);
    backend.write(&batch).await?.into_iter().collect::<Result<Vec<_>>>().map(drop)
}

async fn get(backend: &dyn Backend, key: &str) -> Result<()> {
    backend.get(&[address(&users(), key)]).await.map(drop)
}

async fn put_one(backend: &dyn Backend, key: &str) -> Result<()> {
    write_one(backend, put(&users(), key, json!(key))).await.map(drop)
}

/// What was counted, by the counter itself; 0 if there is none.
async fn sum(backend: &dyn Backend, key: &str) -> u64 {
    match get_one(backend, &users(), key).await.map(|record| record.value) {
        None => 0,
        Some(Value::Counters(fields)) => u64::try_from(fields["n"]).unwrap(),
        Some(other) => panic!("{other:?}"),
    }
}

/// Waits until so many more puts are acknowledged.
async fn more(total: &AtomicU64, count: u64) {
    let goal = total.load(Ordering::Relaxed) + count;
    let reached = async {
        while total.load(Ordering::Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(RECOVERY, reached).await.expect("writing goes on");
}

/// Another program that has a record of the store locked until its connection is dropped.
struct Lock {
    connection: PgConnection,
}

impl Lock {
    /// Locks the record of a key, which is made if it is not there.
    async fn of(server: &PostgresServer, backend: &dyn Backend, key: &str) -> Self {
        if get_one(backend, &users(), key).await.is_none() {
            put_json(backend, &users(), key, json!(1)).await;
        }
        // The superuser may say that it is never the one of two that the server undoes.
        let url = format!("postgres://postgres@{}/storage", server.address());
        let mut connection = PgConnection::connect(&url).await.unwrap();
        connection.execute("SET deadlock_timeout = '1min'").await.unwrap();
        connection.execute("BEGIN").await.unwrap();
        let lock = format!("SELECT 1 FROM storage.records WHERE key = '{key}' FOR UPDATE");
        let locked = connection.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
        assert_eq!(locked.rows_affected(), 1);
        Self { connection }
    }

    async fn release(mut self) {
        self.connection.execute("ROLLBACK").await.unwrap();
        self.connection.close().await.unwrap();
    }
}

/// Waits until so many connections of stores wait for a lock.
async fn waiting_for_locks(server: &PostgresServer, count: usize) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'storage'";
    let goal = count.to_string();
    recovers(|| async {
        match server.psql(waiting)? {
            found if found == goal => Ok(()),
            found => Err(Error::new(ErrorKind::Busy, format!("{found} of {goal} wait"))),
        }
    })
    .await;
}
