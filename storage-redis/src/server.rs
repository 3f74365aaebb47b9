//! What a server says of itself.

use std::collections::BTreeMap;
use std::time::Instant;

use redis::Value as Reply;
use serde_json::{Value as Tree, json};
use smol_str::SmolStr;
use storage_core::{Health, HealthStatus, Result};

use crate::client::{items, text};
use crate::link::Link;

/// What of `INFO` is in the statistics.
const TOLD: [&str; 5] =
    ["redis_version", "connected_clients", "used_memory", "maxmemory", "uptime_in_seconds"];

/// Whether the server takes writes: a master does, a replica does not.
pub(crate) async fn health(link: &Link) -> Health {
    let started = Instant::now();
    let (status, detail) = match role(link).await {
        Ok(role) if role == "master" => (HealthStatus::Up, "the master answers".to_owned()),
        Ok(role) => (HealthStatus::Degraded, format!("reads only: the server's role is {role}")),
        Err(error) => (HealthStatus::Down, error.message().to_owned()),
    };
    Health { status, latency: started.elapsed(), detail }
}

async fn role(link: &Link) -> Result<String> {
    // A server tells its role also while it loads its data and refuses all else.
    link.one(0, redis::cmd("PING")).await?;
    let reply = link.one(0, redis::cmd("ROLE")).await?;
    text(items(reply)?.into_iter().next().unwrap_or(Reply::Nil))
}

/// The server's own statistics, and the connections to it.
pub(crate) async fn details(link: &Link) -> Result<BTreeMap<SmolStr, Tree>> {
    let mut details = BTreeMap::new();
    let mut command = redis::cmd("INFO");
    command.arg("server").arg("clients").arg("memory");
    let mut told = text(link.one(0, command).await.unwrap_or(Reply::Nil)).unwrap_or_default();
    if told.is_empty() {
        // Servers before 7.0 take one section at a time.
        told = text(link.one(0, redis::cmd("INFO")).await?)?;
    }
    for (name, value) in told.lines().filter_map(|line| line.split_once(':')) {
        if TOLD.contains(&name) {
            let value = value.parse::<u64>().map_or_else(|_| json!(value), |number| json!(number));
            details.insert(name.into(), value);
        }
    }
    if let Some(connected) = link.connected() {
        details.insert("connections_made".into(), json!(connected));
    }
    Ok(details)
}
