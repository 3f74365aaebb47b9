//! Rounds: every peer in turn, again and again, so that a slow minute of the machine hits all of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::drive::{Task, drive};
use crate::peer::Peer;
use crate::workload::{Workload, verify};

/// One peer under one workload with some number of tasks.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    pub(crate) peer: &'static str,
    pub(crate) workload: Workload,
    pub(crate) tasks: u64,
    /// Calls per second, the median of the rounds.
    pub(crate) calls_per_second: f64,
    /// Calls per second in each round.
    pub(crate) rounds: Vec<f64>,
    /// Half of the calls were answered within this many microseconds.
    pub(crate) p50_us: f64,
    /// 99 in 100 were answered within this many microseconds.
    pub(crate) p99_us: f64,
    /// To the baseline: the median of the ratios within each round.
    pub(crate) ratio: Option<f64>,
    /// Commands sent to the server for each call, over all rounds, if that is known.
    pub(crate) commands_per_call: Option<f64>,
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) records: u64,
    pub(crate) rounds: u64,
    pub(crate) each: Duration,
}

/// Runs a workload on all peers that have what it needs, in alternation.
pub(crate) async fn compare(
    peers: &[Arc<dyn Peer>],
    workload: Workload,
    tasks: u64,
    plan: Plan,
    baseline: &str,
) -> Result<Vec<Measurement>> {
    let able: Vec<_> =
        peers.iter().filter(|peer| workload.needs().is_none_or(|need| peer.has(need))).collect();
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); able.len()];
    let mut times = able.iter().map(|_| histogram()).collect::<Result<Vec<_>>>()?;
    let mut commands: Vec<Option<u64>> = vec![Some(0); able.len()];
    for round in 1..=plan.rounds {
        for (position, peer) in able.iter().enumerate() {
            let name = peer.info().name;
            let failed = || format!("{name}: {workload:?} with {tasks} tasks, round {round}");
            // Counters are kept apart by workload round and number of tasks.
            let id = round << 8 | tasks & 0xff;
            let once = once(peer, workload, tasks, plan, id).await.with_context(failed)?;
            rounds[position].push(once.calls_per_second);
            times[position].add(once.latencies)?;
            commands[position] = commands[position].zip(once.commands).map(|(all, these)| all + these);
        }
    }
    let base = able.iter().position(|peer| peer.info().name == baseline);
    let measured = able.iter().enumerate().map(|(position, peer)| {
        let ratios =
            base.map(|base| rounds[position].iter().zip(&rounds[base]).map(|(a, b)| a / b).collect());
        Measurement {
            peer: peer.info().name,
            workload,
            tasks,
            calls_per_second: median(rounds[position].clone()),
            rounds: rounds[position].clone(),
            p50_us: times[position].value_at_quantile(0.5) as f64 / 1e3,
            p99_us: times[position].value_at_quantile(0.99) as f64 / 1e3,
            ratio: ratios.map(median),
            commands_per_call: commands[position].map(|sent| sent as f64 / times[position].len() as f64),
        }
    });
    Ok(measured.collect())
}

/// One peer in one round.
struct Once {
    calls_per_second: f64,
    latencies: Histogram<u64>,
    commands: Option<u64>,
}

async fn once(peer: &Arc<dyn Peer>, workload: Workload, tasks: u64, plan: Plan, round: u64) -> Result<Once> {
    let task = Task { workload, tasks, records: plan.records, seconds: plan.each.as_secs_f64(), round };
    let sent_before = peer.commands().await?;
    let (driven, commands) = if let Some(elsewhere) = peer.elsewhere() {
        (elsewhere.run(task).await?, None)
    } else {
        let (driven, done) = drive(peer, task).await?;
        let commands = peer.commands().await?.zip(sent_before).map(|(after, before)| after - before);
        verify(&**peer, &task.part(0), &done).await?;
        (driven, commands)
    };
    let mut all = histogram()?;
    for nanos in driven.nanos {
        all.saturating_record(nanos);
    }
    Ok(Once { calls_per_second: all.len() as f64 / driven.seconds, latencies: all, commands })
}

/// Of durations in nanoseconds, up to ten minutes, with three digits.
fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000_000, 3)?)
}

/// The middle value, or the mean of the two in the middle; not a number if there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }
}
