//! What the server's own load generator reaches: a limit for clients of one record a call.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use storage_testkit::servers::PostgresServer;

use crate::data::VALUE_BYTES;
use crate::workload::Workload;

/// One figure of a load generator.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limit {
    /// The program, with the arguments that matter.
    pub(crate) command: String,
    pub(crate) workload: Workload,
    /// Requests sent at once on each connection.
    pub(crate) pipeline: u32,
    pub(crate) per_second: f64,
}

/// Runs `redis-benchmark`, with its default of 50 connections, against a server on a loopback port.
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
            let command = format!("redis-benchmark -c 50 -P {pipeline}");
            found.push(Limit { command, workload, pipeline, per_second });
        }
    }
    Ok(found)
}

/// Runs `pgbench` with prepared selects of single rows, by their key, out of 100,000.
pub(crate) fn pgbench(server: &PostgresServer, quick: bool) -> Result<Vec<Limit>> {
    let run = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("pgbench")
            .args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", PostgresServer::NAME])
            .args(arguments)
            .arg(PostgresServer::NAME)
            .output()
            .context("pgbench, which comes with the server's client programs")?;
        ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    run(&["-i", "-q", "-s", "1"])?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let seconds = if quick { "1" } else { "5" };
    let mut found = Vec::new();
    for clients in [1, 16, 50, 128] {
        let (connections, threads) = (clients.to_string(), clients.min(cores).to_string());
        let told = run(&["-n", "-S", "-M", "prepared", "-c", &connections, "-j", &threads, "-T", seconds])?;
        // `tps = 61234.567890 (without initial connection time)`
        let tps = told.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
        let per_second = tps.and_then(|tps| tps.parse().ok()).context("pgbench tells no tps")?;
        let command = format!("pgbench -S -M prepared -c {clients}");
        found.push(Limit { command, workload: Workload::GetHit, pipeline: 1, per_second });
    }
    Ok(found)
}
