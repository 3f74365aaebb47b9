//! What goes wrong between a program and real servers, and whether it is told, in time, and mended.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod connection;
mod failover;
mod foreign;
#[path = "../harness/mod.rs"]
mod harness;
mod refused;
mod restart;
mod scan;
mod slot;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use storage_core::{Backend, CollectionName, Error, ErrorKind, Json, Mutation, Result, Retry, Written};
use storage_testkit::helpers::{address, put, write_one};
use storage_testkit::servers::RedisServer;

/// What a test gives work to find its way back.
const RECOVERY: Duration = Duration::from_secs(30);

fn users() -> CollectionName {
    CollectionName::new("users").unwrap()
}

fn url(server: &RedisServer) -> String {
    format!("redis://{}?connections=1", server.address())
}

/// A store on a server of its own.
async fn alone<const N: usize>(more: [&str; N]) -> (RedisServer, Arc<dyn Backend>) {
    let server = RedisServer::start(&storage_testkit::servers::RedisSettings::with(more)).unwrap();
    let backend = harness::open(&url(&server)).await.unwrap();
    (server, backend)
}

async fn increment(backend: &dyn Backend, key: &str) -> Result<Written> {
    write_one(backend, Mutation::increment(address(&users(), key), "n", 1)).await
}

async fn append(backend: &dyn Backend, key: &str) -> Result<Written> {
    write_one(backend, Mutation::append(address(&users(), key), vec![Json::from(json!(1))])).await
}

async fn get(backend: &dyn Backend, key: &str) -> Result<()> {
    backend.get(&[address(&users(), key)]).await.map(drop)
}

async fn put_one(backend: &dyn Backend, key: &str) -> Result<()> {
    write_one(backend, put(&users(), key, json!(key))).await.map(drop)
}

/// An error of this kind and class, whose message has a text in it.
#[track_caller]
fn expect<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, retry: Retry, text: &str) -> Error {
    let error = result.expect_err("it has to fail");
    assert_eq!((error.kind(), error.retry()), (kind, retry), "{error:?}");
    assert!(error.message().to_lowercase().contains(&text.to_lowercase()), "no {text:?} in {error:?}");
    error
}

/// An error of a connection, which says that what was asked for may have been done, or was not done.
#[track_caller]
fn of_the_connection(error: &Error) {
    let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Busy];
    assert!(kinds.contains(&error.kind()), "the wrong kind for a connection that broke: {error:?}");
    assert_ne!(error.retry(), Retry::Never, "{error:?}");
}

/// Repeats a call until it succeeds, on the same open store.
async fn recovers<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> T {
    let until = Instant::now() + RECOVERY;
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < until, "it does not recover: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How long a call took, with its result.
async fn timed<T>(call: impl Future<Output = T>) -> (Duration, T) {
    let started = Instant::now();
    let done = call.await;
    (started.elapsed(), done)
}
