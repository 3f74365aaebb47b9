//! One peer under one workload, once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::data;
use crate::peer::Peer;
use crate::workload::{Done, Part, Workload};

/// What is to be done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) workload: Workload,
    pub(crate) tasks: u64,
    /// Records loaded.
    pub(crate) records: u64,
    pub(crate) seconds: f64,
    /// Tells rounds apart in stamps and counters.
    pub(crate) round: u64,
}

impl Task {
    /// The part of one task, which begins now.
    pub(crate) fn part(&self, task: u64) -> Part {
        let Self { workload, tasks, records, seconds, round } = *self;
        Part {
            workload,
            task,
            tasks,
            records,
            round,
            until: Instant::now() + Duration::from_secs_f64(seconds),
        }
    }
}

/// How it went: how long it took, and how long each call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Driven {
    pub(crate) seconds: f64,
    pub(crate) nanos: Vec<u64>,
}

/// Writes the records that are read later.
pub(crate) async fn load(peer: &dyn Peer, records: u64) -> Result<()> {
    let mut from = 0;
    while from < records {
        let to = records.min(from + 1_000);
        peer.put_many((from..to).map(|index| (data::key(index), data::value(index, 0))).collect()).await?;
        from = to;
    }
    Ok(())
}

/// Runs all tasks at once.
pub(crate) async fn drive(peer: &Arc<dyn Peer>, task: Task) -> Result<(Driven, Vec<Done>)> {
    let started = Instant::now();
    let running: Vec<_> = (0..task.tasks)
        .map(|number| {
            let (peer, part) = (peer.clone(), task.part(number));
            tokio::spawn(async move { part.run(&*peer).await })
        })
        .collect();
    let mut done: Vec<Done> = Vec::with_capacity(running.len());
    for task in running {
        done.push(task.await.context("a task panicked")??);
    }
    let seconds = started.elapsed().as_secs_f64();
    let nanos = done.iter().flat_map(|task| &task.latencies).map(|latency| latency.nanos()).collect();
    Ok((Driven { seconds, nanos }, done))
}
