//! What is done to every peer, and the check that what was read is what was written.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::data;
use crate::peer::{Feature, Peer};

/// Records in a batch, and in a page.
pub(crate) const BATCH: u64 = 100;
/// Records in a page.
pub(crate) const PAGE: usize = 1_000;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// Durable puts of one record
    Put,
    /// Gets of a record that is there
    GetHit,
    /// Gets of a record that is not there
    GetMiss,
    /// Durable puts of 100 records in one call
    Put100,
    /// Gets of 100 records in one call
    Get100,
    /// Nine gets to one durable put
    Mixed,
    /// Pages of 1,000 records by prefix
    Scan,
    /// Durable increments of one counter
    Increment,
}

impl Workload {
    /// What one call is, for the heading of its table.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Put => "Durable puts",
            Self::GetHit => "Gets, hit",
            Self::GetMiss => "Gets, miss",
            Self::Put100 => "Durable puts of 100 in one call (calls)",
            Self::Get100 => "Gets of 100 in one call (calls)",
            Self::Mixed => "Mixed: 90 % gets, 10 % durable puts",
            Self::Scan => "Scan by prefix (pages of 1,000)",
            Self::Increment => "Durable increments of one hot counter",
        }
    }

    /// Whether a call waits for the disk.
    pub(crate) const fn writes(self) -> bool {
        matches!(self, Self::Put | Self::Put100 | Self::Mixed | Self::Increment)
    }

    /// What a peer must have to take part.
    pub(crate) const fn needs(self) -> Option<Feature> {
        match self {
            Self::Scan => Some(Feature::Scan),
            Self::Increment => Some(Feature::Increment),
            _ => None,
        }
    }
}

/// One task's part in a round: it alone writes the records whose index leaves the rest `task` when divided by
/// `tasks`, so it knows what they hold.
pub(crate) struct Part {
    pub(crate) workload: Workload,
    pub(crate) task: u64,
    pub(crate) tasks: u64,
    /// Records loaded.
    pub(crate) records: u64,
    /// Tells rounds apart in stamps and counters.
    pub(crate) round: u64,
    pub(crate) until: Instant,
}

/// What a task did: how long each call took, and the last writes it made.
pub(crate) struct Done {
    /// In the order of the calls: to append one touches a single line of the cache, where a histogram for each of many
    /// tasks fits into none and would cost every peer a tenth of its time.
    pub(crate) latencies: Vec<Latency>,
    written: Vec<(u64, u64)>,
}

impl Part {
    /// Calls the peer until the time is up.
    pub(crate) async fn run(&self, peer: &dyn Peer) -> Result<Done> {
        let mut done = Done { latencies: Vec::new(), written: Vec::new() };
        let mut random = fastrand::Rng::with_seed(self.round << 16 | self.task);
        let mut state = State::default();
        let mut calls = 0u64;
        loop {
            let started = Instant::now();
            if started >= self.until {
                return Ok(done);
            }
            self.call(peer, &mut random, calls, &mut state, &mut done.written).await?;
            done.latencies.push(Latency::of(started.elapsed()));
            calls += 1;
            if calls.is_multiple_of(32) {
                // A call that is answered in place never waits: without this, a few tasks would keep the others out.
                tokio::task::yield_now().await;
            }
        }
    }

    async fn call(
        &self,
        peer: &dyn Peer,
        random: &mut fastrand::Rng,
        calls: u64,
        state: &mut State,
        written: &mut Vec<(u64, u64)>,
    ) -> Result<()> {
        match self.workload {
            Workload::Put => self.put(peer, random, calls, written).await,
            Workload::GetHit => self.get(peer, random).await,
            Workload::GetMiss => {
                let found = peer.get(&data::absent_key(random.u64(..self.records))).await?;
                ensure!(found.is_none(), "a record that was never written was read");
                Ok(())
            }
            Workload::Put100 => {
                let stamp = self.stamp(calls);
                let records: Vec<_> = (0..BATCH).map(|_| self.own(random)).collect();
                let batch = records.iter().map(|&index| (data::key(index), data::value(index, stamp)));
                peer.put_many(batch.collect()).await?;
                remember(written, records.iter().map(|&index| (index, stamp)));
                Ok(())
            }
            Workload::Get100 => {
                let wanted: Vec<_> = (0..BATCH).map(|_| random.u64(..self.records)).collect();
                let keys: Vec<_> = wanted.iter().map(|&index| data::key(index)).collect();
                let found = peer.get_many(&keys).await?;
                ensure!(found.len() == wanted.len(), "{} replies to {} keys", found.len(), wanted.len());
                for (index, bytes) in wanted.into_iter().zip(&found) {
                    expect(index, bytes.as_deref())?;
                }
                Ok(())
            }
            Workload::Mixed => {
                if random.u8(..10) == 0 {
                    self.put(peer, random, calls, written).await
                } else {
                    self.get(peer, random).await
                }
            }
            Workload::Scan => self.scan(peer, state).await,
            Workload::Increment => {
                let value = peer.increment(&counter(self.round)).await?;
                ensure!(value > state.counter, "a counter went from {} to {value}", state.counter);
                state.counter = value;
                Ok(())
            }
        }
    }

    async fn put(
        &self,
        peer: &dyn Peer,
        random: &mut fastrand::Rng,
        calls: u64,
        written: &mut Vec<(u64, u64)>,
    ) -> Result<()> {
        let (index, stamp) = (self.own(random), self.stamp(calls));
        peer.put(data::key(index), data::value(index, stamp)).await?;
        remember(written, [(index, stamp)]);
        Ok(())
    }

    async fn get(&self, peer: &dyn Peer, random: &mut fastrand::Rng) -> Result<()> {
        let index = random.u64(..self.records);
        let bytes = peer.get(&data::key(index)).await?;
        expect(index, bytes.as_deref()).map(drop)
    }

    async fn scan(&self, peer: &dyn Peer, state: &mut State) -> Result<()> {
        let page = peer.scan(data::PREFIX, state.next.as_deref(), PAGE).await?;
        for (key, bytes) in &page.items {
            ensure!(
                *key == data::key(state.seen),
                "the scan has {key} where {} is due",
                data::key(state.seen)
            );
            expect(state.seen, Some(bytes))?;
            state.seen += 1;
        }
        if page.next.is_none() {
            ensure!(state.seen == self.records, "the scan ended after {} of {}", state.seen, self.records);
            state.seen = 0;
        } else {
            ensure!(page.items.len() == PAGE, "a page of {} in the middle of a scan", page.items.len());
        }
        state.next = page.next;
        Ok(())
    }

    /// A record that only this task writes.
    fn own(&self, random: &mut fastrand::Rng) -> u64 {
        random.u64(..self.records / self.tasks) * self.tasks + self.task
    }

    fn stamp(&self, calls: u64) -> u64 {
        self.round << 48 | self.task << 32 | calls & 0xffff_ffff
    }
}

/// How long a call took, in units of 10 ns, up to 42 s.
#[derive(Clone, Copy)]
pub(crate) struct Latency(u32);

impl Latency {
    fn of(taken: Duration) -> Self {
        Self(u32::try_from(taken.as_nanos() / 10).unwrap_or(u32::MAX))
    }

    pub(crate) fn nanos(self) -> u64 {
        u64::from(self.0) * 10
    }
}

/// Where a task is.
#[derive(Default)]
struct State {
    seen: u64,
    next: Option<String>,
    counter: i64,
}

fn counter(round: u64) -> String {
    format!("counter-{round}")
}

/// The bytes read for a record are bytes that were written to it.
fn expect(index: u64, bytes: Option<&[u8]>) -> Result<u64> {
    let bytes = bytes.with_context(|| format!("{} is not there", data::key(index)))?;
    data::stamp(index, bytes).with_context(|| format!("{} holds what nobody wrote", data::key(index)))
}

/// Keeps the last write of each of the last 256 records or so.
fn remember(written: &mut Vec<(u64, u64)>, new: impl IntoIterator<Item = (u64, u64)>) {
    written.extend(new);
    if written.len() > 512 {
        written.drain(..written.len() - 256);
    }
}

/// Every acknowledged write is there, with its last value, and the counter counted every call.
pub(crate) async fn verify(peer: &dyn Peer, part: &Part, done: &[Done]) -> Result<()> {
    for task in done {
        let last: std::collections::HashMap<u64, u64> = task.written.iter().copied().collect();
        for (index, stamp) in last {
            let bytes = peer.get(&data::key(index)).await?;
            let found = expect(index, bytes.as_deref())?;
            ensure!(
                found == stamp,
                "{} holds write {found:x}, not the last one, {stamp:x}",
                data::key(index)
            );
        }
    }
    if part.workload == Workload::Increment {
        let calls: u64 = done.iter().map(|task| task.latencies.len() as u64).sum();
        let next = peer.increment(&counter(part.round)).await?;
        ensure!(next as u64 == calls + 1, "{calls} increments count to {}", next - 1);
    }
    Ok(())
}
