//! OpenDAL's mongodb service as a peer of `storage-bench`, which tells it on standard input what to do, and reads on standard
//! output how it went. It shares the workloads with its parent, and what is read is checked as there.
//!
//! ```sh
//! cargo build --release --manifest-path storage-bench/opendal-mongodb/Cargo.toml --target-dir target/opendal-mongodb
//! ```
#![allow(dead_code, reason = "of the modules that it shares it uses a part")]

#[path = "../../src/data.rs"]
mod data;
#[path = "../../src/drive.rs"]
mod drive;
#[path = "../../src/elsewhere.rs"]
mod elsewhere;
#[path = "../../src/peers/opendal/operator.rs"]
mod operator;
#[path = "../../src/peer.rs"]
mod peer;
#[path = "../../src/workload.rs"]
mod workload;

use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context, Result};
use opendal::{Operator, services};
use serde::Serialize;

use crate::elsewhere::Order;
use crate::operator::OpenDal;
use crate::peer::{Durability, Peer, PeerInfo};

fn main() -> Result<()> {
    let url = std::env::args().nth(1).context("usage: opendal-mongodb URL")?;
    let info = PeerInfo {
        name: "opendal-mongodb",
        version: format!("opendal {}", version()),
        durability: Durability::NotSynced,
        how: "a command for each call",
    };
    let service = services::Mongodb::default()
        .connection_string(&url)
        .database("opendal")
        .collection("records")
        // Its own index, as the service makes none on another field.
        .key_field("_id")
        .value_field("value");
    answer(Ok(info.version.clone()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let operator = Operator::new(service)?;
    let peer: Arc<dyn Peer> = Arc::new(OpenDal { info, operator });
    for line in std::io::stdin().lines() {
        match serde_json::from_str(&line?)? {
            Order::Load(records) => answer(runtime.block_on(drive::load(&*peer, records)))?,
            Order::Run(task) => answer(runtime.block_on(async {
                let (driven, done) = drive::drive(&peer, task).await?;
                workload::verify(&*peer, &task.part(0), &done).await?;
                Ok(driven)
            }))?,
        }
    }
    Ok(())
}

/// Says what came of an order, in a line.
fn answer<T: Serialize>(result: Result<T>) -> Result<()> {
    let line = serde_json::to_string(&result.map_err(|error| format!("{error:#}")))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// The version of OpenDAL, as the lock file has it.
fn version() -> &'static str {
    const LOCK: &str = include_str!("../Cargo.lock");
    let entry = LOCK.split("name = \"opendal\"\nversion = \"").nth(1);
    entry.and_then(|entry| entry.split('"').next()).unwrap_or("of unknown version")
}
