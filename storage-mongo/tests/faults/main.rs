//! What goes wrong between a program and real servers, and whether it is told, in time, and mended.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod changes;
mod connection;
mod failpoints;
#[path = "../harness/mod.rs"]
mod harness;
mod reads;
mod restart;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use serde_json::json;
use storage_core::{Backend, Batch, CollectionName, Mutation, Precondition, Result, Value, Written};
use storage_testkit::faults::{RECOVERY, expect, of_the_connection, recovers, timed};
use storage_testkit::helpers::{address, get_one, put, write_one};
use storage_testkit::servers::{MongoServer, MongoSettings};
use tokio::sync::{Mutex, MutexGuard};

/// More than a call with a short timeout takes, on a machine that does much else.
const IN_TIME: Duration = Duration::from_secs(15);

/// The commands that write outside of transactions.
const WRITES: &[&str] = &["update", "delete", "findAndModify", "bulkWrite"];

fn users() -> CollectionName {
    CollectionName::new("users").unwrap()
}

/// A store on a server that fails as a test asks it to, by fail points, which a server has one of.
struct Faulty {
    backend: Arc<dyn Backend>,
    admin: mongodb::Database,
    /// The name of the store's client: what fails does so for it alone.
    application: String,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl Faulty {
    /// With these parameters of the URL.
    async fn open(parameters: &[(&str, &str)]) -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
        let one_at_a_time = ONE_AT_A_TIME.lock().await;
        let server = harness::shared_url();
        let admin = harness::database(&server).await.unwrap().client().database("admin");
        let prefix = harness::prefix();
        let application = format!("faulty-{prefix}");
        let url = harness::with(&harness::with(&server, "prefix", &prefix), "appName", &application);
        // A server that says it is no primary is looked at again after this time.
        let url = harness::with(&url, "heartbeatFrequencyMS", "500");
        let url = parameters.iter().fold(url, |url, (name, value)| harness::with(&url, name, value));
        let backend = recovers(|| harness::open(&url)).await;
        let faulty = Self { backend, admin, application, _one_at_a_time: one_at_a_time };
        faulty.heal().await;
        faulty
    }

    /// Fails commands of these names so many times.
    async fn fail(&self, times: i32, commands: &[&str], how: Document) {
        self.fail_point(doc! {"times": times}, commands, how).await;
    }

    /// Fails all commands of these names.
    async fn fail_always(&self, commands: &[&str], how: Document) {
        self.fail_point("alwaysOn", commands, how).await;
    }

    /// Fails nothing any more.
    async fn heal(&self) {
        self.fail_point("off", &[], doc! {}).await;
    }

    async fn fail_point(&self, mode: impl Into<Bson>, commands: &[&str], how: Document) {
        let mut data = doc! {"failCommands": commands.to_vec(), "appName": &self.application};
        data.extend(how);
        let mut command = doc! {"configureFailPoint": "failCommand", "mode": mode};
        if !matches!(command.get_str("mode"), Ok("off")) {
            command.insert("data", data);
        }
        self.admin.run_command(command).await.unwrap();
    }
}

/// A store on a server of its own, whose acknowledged writes are on the disk.
async fn alone(parameters: &str) -> (MongoServer, Arc<dyn Backend>) {
    let settings = MongoSettings { journaled: true, ..MongoSettings::default() };
    let server = MongoServer::start(&settings).unwrap();
    let url = format!("{}?{parameters}", server.url());
    let backend = recovers(|| harness::open(&url)).await;
    (server, backend)
}

/// One command.
async fn increment(backend: &dyn Backend, key: &str) -> Result<Written> {
    write_one(backend, Mutation::increment(address(&users(), key), "n", 1)).await
}

/// A transaction: the counter and a record beside it, both or none.
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

/// As [`sum`], once the store has found its way back.
async fn counted(backend: &dyn Backend, key: &str) -> u64 {
    recovers(|| get(backend, key)).await;
    sum(backend, key).await
}
