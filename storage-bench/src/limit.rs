//! What the server's own load generator reaches: a limit that no client of one record a call passes.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::data::VALUE_BYTES;
use crate::workload::Workload;

/// One figure of `redis-benchmark`, with its default of 50 connections.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limit {
    pub(crate) workload: Workload,
    /// Requests sent at once on each connection.
    pub(crate) pipeline: u32,
    pub(crate) per_second: f64,
}

/// Runs `redis-benchmark` against a server on a loopback port.
pub(crate) fn redis_benchmark(port: u16, quick: bool) -> Result<Vec<Limit>> {
    let mut found = Vec::new();
    for (pipeline, requests) in [(1, 200_000), (16, 1_000_000)] {
        let requests = if quick { requests / 10 } else { requests };
        let output = Command::new("redis-benchmark")
            .args(["-p", &port.to_string(), "-t", "set,get", "-d", &VALUE_BYTES.to_string(), "-r", "20000"])
            .args(["-n", &requests.to_string(), "-P", &pipeline.to_string(), "--csv"])
            .output()
            .context("redis-benchmark, which comes with the server")?;
        ensure!(output.status.success(), "redis-benchmark: {}", String::from_utf8_lossy(&output.stderr));
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut cells = line.split(',').map(|cell| cell.trim_matches('"'));
            let workload = match cells.next() {
                Some("SET") => Workload::Put,
                Some("GET") => Workload::GetHit,
                _ => continue,
            };
            let per_second =
                cells.next().and_then(|cell| cell.parse().ok()).context("no number in its table")?;
            found.push(Limit { workload, pipeline, per_second });
        }
    }
    Ok(found)
}
