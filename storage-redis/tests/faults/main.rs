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

use serde_json::json;
use storage_core::{Backend, CollectionName, Json, Mutation, Result, Written};
use storage_testkit::faults::{RECOVERY, expect, of_the_connection, recovers, timed};
use storage_testkit::helpers::{address, put, write_one};
use storage_testkit::servers::RedisServer;

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
