//! The window against simulated databases, without a clock: a discrete-event simulation of callers that
//! each make one call at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tokio::time::Instant;

use super::*;

/// When a batch of so many items that leaves now (in seconds) comes back.
type Database = Box<dyn FnMut(f64, usize) -> f64>;

/// Any latency, any concurrency.
fn network(latency: f64, item: f64) -> Database {
    Box::new(move |now, items| now + latency + item * items as f64)
}

/// `places` batches at a time, the others wait: each costs `batch` and little for an item.
fn queueing(places: usize, latency: f64, batch: f64, item: f64) -> Database {
    let mut free = vec![0.0f64; places];
    Box::new(move |now, items| {
        let place = (0..places).min_by(|a, b| free[*a].total_cmp(&free[*b])).unwrap();
        free[place] = free[place].max(now) + batch + item * items as f64;
        free[place] + latency
    })
}

/// Who calls.
#[derive(Clone, Copy)]
enum Load {
    /// So many, each of which waits for its answer before it calls again.
    Callers(usize),
    /// So many calls a second, whatever becomes of them.
    Rate(f64),
}

struct Simulation {
    window: Window,
    database: Database,
    load: Load,
    random: fastrand::Rng,
    start: Instant,
}

/// What came of the second half.
struct Seen {
    /// The mean size of the window.
    size: f64,
    /// Calls answered in a second.
    rate: f64,
    /// The mean time of a call, in seconds.
    wait: f64,
}

impl Simulation {
    fn new(database: Database, callers: usize) -> Self {
        let random = fastrand::Rng::with_seed(7);
        Self { window: Window::new(), database, load: Load::Callers(callers), random, start: Instant::now() }
    }

    /// Runs for so many batches.
    fn run(&mut self, batches: usize) -> Seen {
        let nanos = |at: f64| (at * 1e9) as u64;
        // Events: a call (no number), or the landing of the flight of a number.
        let mut events: BinaryHeap<Reverse<(u64, Option<usize>)>> = BinaryHeap::new();
        let first = if let Load::Callers(callers) = self.load { callers } else { 1 };
        for _ in 0..first {
            events.push(Reverse((nanos(self.random.f64() * 1e-4), None)));
        }
        // When the calls came that wait, and those of each flight.
        let (mut waiting, mut flights): (Vec<u64>, Vec<Vec<u64>>) = (Vec::new(), Vec::new());
        let (mut carried, mut flying, mut landed, mut done, mut sizes, mut waited) =
            (0, 0, 0, 0, 0, Duration::ZERO);
        let (mut half, mut end) = (0, 0);
        while landed < batches {
            let Reverse((at, flight)) = events.pop().unwrap();
            end = at;
            match (flight, self.load) {
                (None, load) => {
                    waiting.push(at);
                    if let Load::Rate(rate) = load {
                        let gap = -self.random.f64().max(1e-9).ln() / rate;
                        events.push(Reverse((at + nanos(gap), None)));
                    }
                }
                (Some(flight), load) => {
                    landed += 1;
                    let calls = std::mem::take(&mut flights[flight]);
                    let these: Duration = calls.iter().map(|came| Duration::from_nanos(at - came)).sum();
                    let landing = Landing { items: calls.len(), calls: calls.len(), waited: these, flying };
                    self.window.landed(self.start + Duration::from_nanos(at), &landing);
                    flying -= 1;
                    carried -= calls.len();
                    if let Load::Callers(_) = load {
                        for _ in &calls {
                            events.push(Reverse((at + nanos(self.random.f64() * 5e-5) + 1, None)));
                        }
                    }
                    if landed == batches / 2 {
                        half = at;
                    }
                    if landed > batches / 2 {
                        done += calls.len();
                        sizes += self.window.size();
                        waited += these;
                    }
                }
            }
            if flying < self.window.size() && !waiting.is_empty() {
                flying += 1;
                let share = (waiting.len() + carried).div_ceil(self.window.size());
                let rest = waiting.split_off(waiting.len().min(share));
                carried += waiting.len();
                let back = (self.database)(at as f64 / 1e9, waiting.len());
                events.push(Reverse((nanos(back), Some(flights.len()))));
                flights.push(std::mem::replace(&mut waiting, rest));
            }
        }
        self.start += Duration::from_nanos(end);
        Seen {
            size: sizes as f64 / (batches - batches / 2) as f64,
            rate: done as f64 / ((end - half) as f64 / 1e9),
            wait: waited.as_secs_f64() / done as f64,
        }
    }
}

#[test]
fn latency_alone_does_not_open_it_for_nothing() {
    // Who was answered together calls together: a few go at once and the others with the next batch, at any size.
    let Seen { size, wait, .. } = Simulation::new(network(1e-3, 0.0), 256).run(20_000);
    assert!(size < 16.0, "mean size {size}");
    assert!(wait < 2e-3, "mean time {wait} s, of two flights of 1 ms at most");
}

#[test]
fn calls_that_come_by_themselves_do_not_wait_for_company() {
    let mut simulation = Simulation::new(network(1e-3, 1e-6), 0);
    simulation.load = Load::Rate(20_000.0);
    let Seen { size, wait, .. } = simulation.run(20_000);
    assert!(size >= 4.0, "mean size {size}");
    assert!(wait < 1.2e-3, "mean time {wait} s, of which 1 ms is the network's");
}

#[test]
fn work_done_side_by_side_opens_it() {
    let Seen { size, rate, .. } = Simulation::new(network(2e-4, 2e-5), 256).run(20_000);
    assert!(size > 16.0, "mean size {size}");
    assert!(rate > 200_000.0, "{rate} a second");
}

#[test]
fn one_lock_narrows_it() {
    for callers in [16, 128] {
        let Seen { size, rate, .. } = Simulation::new(queueing(1, 0.0, 1e-3, 1e-6), callers).run(20_000);
        assert!(size < 2.0, "mean size {size} for {callers}");
        assert!(rate > 440.0 * callers as f64, "{rate} a second for {callers}");
    }
}

#[test]
fn what_more_batches_do_not_answer_sooner_goes_in_few() {
    let Seen { size, .. } = Simulation::new(queueing(1, 2e-5, 2e-6, 2e-6), 128).run(40_000);
    assert!(size < 5.0, "mean size {size}");
}

#[test]
fn a_wide_window_that_gains_nothing_narrows() {
    let mut simulation = Simulation::new(queueing(1, 0.0, 1e-8, 2e-6), 128);
    simulation.window.size = MAX;
    let Seen { size, .. } = simulation.run(60_000);
    assert!(size < 12.0, "mean size {size}");
}

#[test]
fn a_few_cores_are_used_and_not_flooded() {
    let Seen { size, .. } = Simulation::new(queueing(4, 1e-4, 5e-4, 2e-5), 128).run(20_000);
    assert!((2.0..=12.0).contains(&size), "mean size {size}");
}

#[test]
fn it_follows_a_database_that_changes() {
    let mut simulation = Simulation::new(queueing(1, 0.0, 1e-3, 1e-6), 256);
    simulation.run(20_000);
    assert!(simulation.window.size() <= 2);
    (simulation.window.hold, simulation.window.patience) = (MAX_PATIENCE, MAX_PATIENCE);
    simulation.database = network(2e-4, 2e-5);
    // The hold is over at once.
    simulation.run(1_500);
    assert!(simulation.window.size() >= 8, "{}", simulation.window.size());
    let Seen { size, .. } = simulation.run(20_000);
    assert!(size > 16.0, "mean size {size}");
}

#[test]
fn a_lone_caller_leaves_it_near_the_start() {
    let mut simulation = Simulation::new(network(1e-3, 0.0), 256);
    simulation.run(20_000);
    simulation.load = Load::Callers(1);
    simulation.run(20_000);
    assert!(simulation.window.size() <= START, "{}", simulation.window.size());
}
