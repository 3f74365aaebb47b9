//! How many batches may be in flight: a hill climb on the time that calls take.
//!
//! Batches that are in flight together hide latency and use more of a database's cores, but each is the
//! smaller for it. Which of the two counts more differs by an order of magnitude between databases (one
//! that does everything under one lock wants one batch at a time, one across a network wants many) and with
//! the load, so it is measured. The idea is that of Netflix's *concurrency-limits* and of the .NET thread
//! pool's hill climbing: change the limit, compare before and after, keep what is better.
//!
//! What is compared, as the *cost*, is the product of how long a call takes, from its arrival until its caller goes on,
//! and of the time for each call, which is throughput turned over. Where a fixed number of callers each wait for their answer
//! the two go together (Little's law), but for what callers do in between; where calls arrive by themselves, throughput says
//! nothing and the first decides.
//!
//! The size is a power of two, so that a step makes a difference that stands out from noise:
//!
//! - The cost is measured over *epochs*, each long enough that one big batch more or less is no matter. To try a size,
//!   epochs of the old and of the new one take turns, as what else becomes faster or slower meanwhile meets both; the
//!   medians are compared, as one epoch in which all stood still says nothing.
//! - A step up is kept only if it gains, a step down unless it loses: what is done in fewer batches costs both sides
//!   less. After a step that was kept the next goes the same way at once; after one that was not, the next goes the
//!   other way, and each failure doubles the time until then.
//! - A change of throughput by itself means another load: the climb starts anew.
//! - A window that is more than twice what the callers use shrinks to its starting size, so that it is
//!   near what is used when the load grows.

use std::time::Duration;

use tokio::time::Instant;

const START: usize = 4;
const MAX: usize = 32;
/// An epoch has so many batches of the largest size (one caller's call may fly beside a hundred's), at least
/// two flights for each place in the window, and is not shorter than a clock can measure well.
const EPOCH_BATCHES: usize = 4;
const EPOCH_TIME: Duration = Duration::from_millis(1);
/// Epochs of each size when one is tried.
const TURNS: usize = 5;
/// What the cost may be after a step, as a part of that before, for the step to be kept.
const KEEP_UP: f64 = 0.95;
const KEEP_DOWN: f64 = 1.02;
const OTHER_LOAD: f64 = 1.5;
const MAX_PATIENCE: u32 = 64;

#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    epoch: Epoch,
    stage: Stage,
    /// Where the next step goes.
    up: bool,
    /// Epochs until the next step.
    hold: u32,
    /// Epochs to hold after the next failure.
    patience: u32,
    /// Items a second when the last epoch of a settled size ended.
    settled: Option<f64>,
}

#[derive(Debug)]
enum Stage {
    Settled,
    Trying(Trial),
}

/// Two sizes that take turns.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The old one and the new one.
    sizes: [usize; 2],
    /// Of the epochs of each.
    costs: [[f64; TURNS]; 2],
    /// How many there were.
    epochs: usize,
}

impl Trial {
    /// Notes the cost of an epoch; the size of the next, if one is to follow.
    fn note(&mut self, cost: f64) -> Option<usize> {
        let size = self.epochs % 2;
        self.costs[size][self.epochs / 2] = cost;
        self.epochs += 1;
        (self.epochs < 2 * TURNS).then(|| self.sizes[self.epochs % 2])
    }

    /// Whether the new size is to be kept.
    fn is_won(&self) -> bool {
        let [before, after] = self.costs.map(|mut costs| {
            costs.sort_by(f64::total_cmp);
            costs[TURNS / 2]
        });
        after <= before * if self.sizes[1] > self.sizes[0] { KEEP_UP } else { KEEP_DOWN }
    }
}

#[derive(Debug, Default)]
struct Epoch {
    /// Flights that began under another size and are not to be counted.
    skip: usize,
    begun: Option<Instant>,
    flights: usize,
    items: usize,
    calls: usize,
    /// By all calls together.
    waited: Duration,
    /// The most items in a batch, of this epoch and of the one before.
    largest: usize,
    largest_before: usize,
    /// The most in flight.
    peak: usize,
}

impl Epoch {
    fn next(&self, begun: Option<Instant>, skip: usize) -> Self {
        let largest_before = self.largest.max(if begun.is_none() { self.largest_before } else { 0 });
        Self { skip, begun, largest_before, ..Self::default() }
    }

    /// How it went, once it is over.
    fn outcome(&self, now: Instant, size: usize) -> Option<Outcome> {
        let time = now.saturating_duration_since(self.begun?);
        let batches = EPOCH_BATCHES * self.largest.max(self.largest_before);
        let over = self.items >= batches && self.flights >= 2 * size && time >= EPOCH_TIME && self.calls > 0;
        over.then(|| Outcome {
            rate: self.items as f64 / time.as_secs_f64(),
            cost: self.waited.as_secs_f64() * time.as_secs_f64() / (self.calls * self.calls) as f64,
            peak: self.peak,
        })
    }
}

/// How an epoch went.
struct Outcome {
    /// Items a second.
    rate: f64,
    /// How long a call took, times the time for each: in seconds, squared.
    cost: f64,
    /// The most in flight.
    peak: usize,
}

/// A batch that came back.
#[derive(Debug, Default)]
pub(super) struct Landing {
    /// What was done; nothing if it failed.
    pub(super) items: usize,
    /// Those that were answered.
    pub(super) calls: usize,
    /// From the arrival of each call until its caller went on, all together.
    pub(super) waited: Duration,
    /// How many were in flight, this one included.
    pub(super) flying: usize,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            size: START,
            epoch: Epoch::default(),
            stage: Stage::Settled,
            up: false,
            hold: 0,
            patience: 1,
            settled: None,
        }
    }

    /// The most batches that may be in flight.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// A batch came back.
    pub(super) fn landed(&mut self, now: Instant, landing: &Landing) {
        let epoch = &mut self.epoch;
        if epoch.skip > 0 {
            epoch.skip -= 1;
            return;
        }
        if epoch.begun.is_none() {
            epoch.begun = Some(now);
            return;
        }
        epoch.flights += 1;
        epoch.items += landing.items;
        epoch.calls += landing.calls;
        epoch.waited += landing.waited;
        epoch.largest = epoch.largest.max(landing.items);
        epoch.peak = epoch.peak.max(landing.flying);
        let Some(outcome) = epoch.outcome(now, self.size) else { return };
        *epoch = epoch.next(Some(now), 0);
        match self.stage {
            Stage::Settled => self.settled(&outcome),
            Stage::Trying(trial) => self.trying(trial, &outcome),
        }
    }

    fn settled(&mut self, outcome: &Outcome) {
        if 2 * outcome.peak <= self.size {
            if self.size > START {
                self.resize(self.size / 2);
            }
            return;
        }
        let rate = outcome.rate;
        let other = |before: f64| rate > before * OTHER_LOAD || rate * OTHER_LOAD < before;
        if self.settled.replace(rate).is_some_and(other) {
            (self.hold, self.patience) = (0, 1);
        }
        match self.hold.checked_sub(1) {
            Some(left) => self.hold = left,
            None => self.step(outcome),
        }
    }

    fn trying(&mut self, mut trial: Trial, outcome: &Outcome) {
        if let Some(size) = trial.note(outcome.cost) {
            self.stage = Stage::Trying(trial);
            self.resize(size);
            return;
        }
        self.stage = Stage::Settled;
        if trial.is_won() {
            self.patience = 1;
            self.settled = Some(outcome.rate);
            self.step(outcome);
        } else {
            self.up = !self.up;
            self.hold = self.patience;
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
            self.resize(trial.sizes[0]);
        }
    }

    /// Tries the next size: up only if the present one is used up, and the other way at an end.
    fn step(&mut self, outcome: &Outcome) {
        let can_rise = self.size < MAX && outcome.peak >= self.size;
        let can_fall = self.size > 1;
        self.up = if self.up { can_rise || !can_fall } else { !can_fall };
        if !(can_rise && self.up || can_fall && !self.up) {
            return;
        }
        let to = if self.up { self.size * 2 } else { self.size / 2 };
        let mut trial = Trial { sizes: [self.size, to], costs: Default::default(), epochs: 0 };
        trial.note(outcome.cost);
        self.stage = Stage::Trying(trial);
        self.resize(to);
    }

    fn resize(&mut self, size: usize) {
        self.epoch = self.epoch.next(None, self.size.max(size));
        self.size = size;
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
