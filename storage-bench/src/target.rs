//! The ratios that `storage` has set itself, held against one run.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::border::BorderCost;
use crate::import::Import;
use crate::layers::LayerCost;
use crate::limit::Limit;
use crate::measure::{Measurement, median};
use crate::peer::{Durability, PeerInfo};
use crate::workload::Workload;

/// One thing to reach, and what was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    what: String,
    wanted: f64,
    measured: f64,
    /// Whether it is enough: at least `wanted`, or at most where `at_most` says so.
    held: bool,
    at_most: bool,
}

impl Target {
    fn at_least(what: impl Into<String>, wanted: f64, measured: f64) -> Self {
        Self { what: what.into(), wanted, measured, held: measured >= wanted, at_most: false }
    }
}

/// The targets for which this run has both sides.
pub(crate) fn targets(
    measurements: &[Measurement],
    peers: &[PeerInfo],
    layers: Option<&LayerCost>,
    limits: &[Limit],
    border: Option<&BorderCost>,
    slow_syncs: bool,
) -> Vec<Target> {
    let find = |peer: &str, workload, tasks| {
        measurements.iter().find(|m| m.peer == peer && m.workload == workload && m.tasks == tasks)
    };
    let ratio = |workload, tasks, other: &str| {
        let (ours, theirs) = (find("storage-file", workload, tasks)?, find(other, workload, tasks)?);
        Some(median(ours.rounds.iter().zip(&theirs.rounds).map(|(a, b)| a / b).collect()))
    };
    let mut found = Vec::new();
    if let Some(measured) = ratio(Workload::Put, 128, "redb-group") {
        found.push(Target::at_least("durable puts, 128 writers, to redb-group", 0.85, measured));
    }
    let services =
        peers.iter().filter(|p| p.name.starts_with("opendal") && p.durability == Durability::Synced);
    let best = services
        .filter_map(|peer| find(peer.name, Workload::Put, 128))
        .max_by(|a, b| a.calls_per_second.total_cmp(&b.calls_per_second));
    if let Some((best, measured)) = best.and_then(|m| Some((m.peer, ratio(Workload::Put, 128, m.peer)?))) {
        found.push(Target::at_least(
            format!("durable puts, 128 writers, to OpenDAL's best ({best})"),
            10.0,
            measured,
        ));
    }
    if let Some(measured) = ratio(Workload::Put, 1, "redb") {
        found.push(Target::at_least("durable puts, one writer, to redb", 0.9, measured));
    }
    for tasks in [1, 16, 128] {
        if let Some(measured) = ratio(Workload::GetHit, tasks, "redb") {
            found.push(Target::at_least(format!("gets, hit, at {tasks}, to redb"), 0.5, measured));
        }
    }
    found.extend(redis(measurements, limits));
    found.extend(postgres(measurements, slow_syncs));
    found.extend(mongo(measurements));
    // Where a call waits for a disk or a socket; gets of the file store are answered from memory.
    for (ours, workload, other) in [
        ("storage-file.so", Workload::Put, "storage-file"),
        ("storage-redis.so", Workload::Put, "storage-redis"),
        ("storage-redis.so", Workload::GetHit, "storage-redis"),
    ] {
        if let (Some(ours), Some(theirs)) = (find(ours, workload, 64), find(other, workload, 64)) {
            let measured = median(ours.rounds.iter().zip(&theirs.rounds).map(|(a, b)| a / b).collect());
            let what = format!("{} at 64, {} to linked in", workload.title(), ours.peer);
            found.push(Target::at_least(what, 0.75, measured));
        }
    }
    if let Some(cost) = border {
        let measured = (cost.inline_ns - cost.linked_ns) / 1e3;
        let what = "an inline get of 100 bytes across the border over linked in, in µs".into();
        found.push(Target { what, wanted: 0.5, measured, held: measured <= 0.5, at_most: true });
    }
    if let Some(cost) = layers {
        let measured = (cost.store_ns - cost.backend_ns) / 1e3;
        let what = "a Store call in memory over the backend's own method, in µs".into();
        found.push(Target { what, wanted: 1.0, measured, held: measured < 1.0, at_most: true });
    }
    found
}

/// What `storage-redis` is to reach on one server.
fn redis(measurements: &[Measurement], limits: &[Limit]) -> Vec<Target> {
    let rounds = |peer: &str, workload, tasks| {
        let mut all = measurements.iter();
        all.find(|m| m.peer == peer && m.workload == workload && m.tasks == tasks).map(|m| &m.rounds)
    };
    let ratio = |workload, tasks, other: &str| {
        let (ours, theirs) = (rounds("storage-redis", workload, tasks)?, rounds(other, workload, tasks)?);
        Some(median(ours.iter().zip(theirs).map(|(a, b)| a / b).collect()))
    };
    let mut found = Vec::new();
    for (name, workload) in [("gets", Workload::GetHit), ("puts", Workload::Put)] {
        for (tasks, other, wanted) in [
            (128, "redis-raw", 1.3),
            (128, "opendal-redis", 8.0),
            (16, "redis-raw", 0.95),
            (1, "redis-raw", 0.9),
        ] {
            if let Some(measured) = ratio(workload, tasks, other) {
                found.push(Target::at_least(format!("{name} at {tasks}, to {other}"), wanted, measured));
            }
        }
        let limit = limits.iter().find(|limit| limit.workload == workload && limit.pipeline == 16);
        if let (Some(limit), Some(ours)) = (limit, rounds("storage-redis", workload, 128)) {
            let measured = median(ours.clone()) / limit.per_second;
            found.push(Target::at_least(format!("{name} at 128, to redis-benchmark -P 16"), 0.8, measured));
        }
    }
    for (name, workload) in [("gets", Workload::Get100), ("puts", Workload::Put100)] {
        for tasks in [1, 16, 128] {
            if let Some(measured) = ratio(workload, tasks, "redis-raw") {
                found.push(Target::at_least(
                    format!("{name} of 100 at {tasks}, to redis-raw"),
                    0.9,
                    measured,
                ));
            }
        }
    }
    found
}

/// What `storage-postgres` is to reach on one server, to a driver with ten connections.
fn postgres(measurements: &[Measurement], slow_syncs: bool) -> Vec<Target> {
    let rounds = |peer: &str, workload, tasks| {
        let mut all = measurements.iter();
        all.find(|m| m.peer == peer && m.workload == workload && m.tasks == tasks).map(|m| &m.rounds)
    };
    // Fewer, slower syncs are shared by more.
    let puts = if slow_syncs { 7.0 } else { 5.0 };
    let wanted = [
        ("gets", Workload::GetHit, [(128, 5.0), (16, 1.5), (1, 0.9)]),
        ("puts", Workload::Put, [(128, puts), (16, 1.1), (1, 0.9)]),
        ("hot increments", Workload::Increment, [(128, 40.0), (16, 5.0), (1, 0.9)]),
    ];
    let mut found = Vec::new();
    for (name, workload, all) in wanted {
        for (tasks, wanted) in all {
            let (ours, theirs) =
                (rounds("storage-postgres", workload, tasks), rounds("sqlx-raw", workload, tasks));
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                let measured = median(ours.iter().zip(theirs).map(|(a, b)| a / b).collect());
                found.push(Target::at_least(format!("{name} at {tasks}, to sqlx-raw"), wanted, measured));
            }
        }
    }
    found
}

/// What `storage-mongo` is to reach on one server, to a driver that sends a command for each call.
fn mongo(measurements: &[Measurement]) -> Vec<Target> {
    let rounds = |peer: &str, workload, tasks| {
        let mut all = measurements.iter();
        all.find(|m| m.peer == peer && m.workload == workload && m.tasks == tasks).map(|m| &m.rounds)
    };
    let mut found = Vec::new();
    for (name, workload, all) in
        [("gets", Workload::GetHit, [(128, 3.0), (1, 0.9)]), ("puts", Workload::Put, [(128, 5.0), (1, 0.9)])]
    {
        for (tasks, wanted) in all {
            let sides = rounds("storage-mongo", workload, tasks).zip(rounds("mongodb-raw", workload, tasks));
            if let Some((ours, theirs)) = sides {
                let measured = median(ours.iter().zip(theirs).map(|(a, b)| a / b).collect());
                found.push(Target::at_least(format!("{name} at {tasks}, to mongodb-raw"), wanted, measured));
            }
        }
    }
    found
}

/// What an import is to reach, and what reading it page by page may cost.
pub(crate) fn import(import: &Import) -> Vec<Target> {
    let records = import.records;
    let ratio = import.last_pages_us / import.first_pages_us;
    // What two measurements of the same differ by.
    let wanted = 1.1;
    vec![
        Target::at_least(format!("import of {records} records, to psql \\copy"), 0.7, import.ratio),
        Target {
            what: format!("a page at the end of {records} records, to one at the start"),
            wanted,
            measured: ratio,
            held: ratio <= wanted,
            at_most: true,
        },
    ]
}

/// The targets as a table.
pub(crate) fn markdown(targets: &[Target]) -> Result<String> {
    let mut out = String::from("| target | wanted | measured | |\n|---|--:|--:|---|\n");
    for target in targets {
        let sign = if target.at_most { "<" } else { "≥" };
        let verdict = if target.held { "held" } else { "**missed**" };
        let Target { what, wanted, measured, .. } = target;
        writeln!(out, "| {what} | {sign} {wanted} | {measured:.2} | {verdict} |")?;
    }
    Ok(out)
}
