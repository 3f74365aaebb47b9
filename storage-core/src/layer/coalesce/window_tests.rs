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

struct Simulation {
    window: Window,
    database: Database,
    callers: usize,
    random: fastrand::Rng,
    start: Instant,
}

impl Simulation {
    fn new(database: Database, callers: usize) -> Self {
        Self {
            window: Window::new(),
            database,
            callers,
            random: fastrand::Rng::with_seed(7),
            start: Instant::now(),
        }
    }

    /// Runs for so many batches; returns the mean size in the second half and the throughput.
    fn run(&mut self, batches: usize) -> (f64, f64) {
        let nanos = |at: f64| (at * 1e9) as u64;
        // Events: a caller calls (0 items), or a batch lands.
        let mut events: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        for _ in 0..self.callers {
            events.push(Reverse((nanos(self.random.f64() * 1e-4), 0)));
        }
        let (mut waiting, mut flying, mut landed, mut done, mut sizes) = (0, 0, 0, 0, 0);
        let (mut half, mut end) = (0, 0);
        while landed < batches {
            let Reverse((at, items)) = events.pop().unwrap();
            end = at;
            if items == 0 {
                waiting += 1;
            } else {
                landed += 1;
                self.window.landed(self.start + Duration::from_nanos(at), items, flying);
                flying -= 1;
                for _ in 0..items {
                    events.push(Reverse((at + nanos(self.random.f64() * 5e-5) + 1, 0)));
                }
                if landed == batches / 2 {
                    half = at;
                }
                if landed > batches / 2 {
                    done += items;
                    sizes += self.window.size();
                }
            }
            if flying < self.window.size() && waiting > 0 {
                flying += 1;
                let back = (self.database)(at as f64 / 1e9, waiting);
                events.push(Reverse((nanos(back), waiting)));
                waiting = 0;
            }
        }
        self.start += Duration::from_nanos(end);
        let seconds = (end - half) as f64 / 1e9;
        (sizes as f64 / (batches - batches / 2) as f64, done as f64 / seconds)
    }
}

#[test]
fn latency_alone_opens_it() {
    let (size, _) = Simulation::new(network(1e-3, 0.0), 256).run(20_000);
    assert!(size > 16.0, "mean size {size}");
}

#[test]
fn work_done_side_by_side_opens_it() {
    let (size, rate) = Simulation::new(network(2e-4, 2e-5), 256).run(20_000);
    assert!(size > 16.0, "mean size {size}");
    assert!(rate > 200_000.0, "{rate} a second");
}

#[test]
fn one_lock_narrows_it() {
    for callers in [16, 128] {
        let (size, rate) = Simulation::new(queueing(1, 0.0, 1e-3, 1e-6), callers).run(20_000);
        assert!(size < 2.0, "mean size {size} for {callers}");
        assert!(rate > 450.0 * callers as f64, "{rate} a second for {callers}");
    }
}

#[test]
fn a_few_cores_are_used_and_not_flooded() {
    let (size, _) = Simulation::new(queueing(4, 1e-4, 5e-4, 2e-5), 128).run(20_000);
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
    let (size, _) = simulation.run(20_000);
    assert!(size > 16.0, "mean size {size}");
}

#[test]
fn a_lone_caller_leaves_it_near_the_start() {
    let mut simulation = Simulation::new(network(1e-3, 0.0), 256);
    simulation.run(20_000);
    simulation.callers = 1;
    simulation.run(20_000);
    assert_eq!(simulation.window.size(), START);
}
