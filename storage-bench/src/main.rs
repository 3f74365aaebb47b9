//! Side-by-side benchmarks: `storage` through `Store`, raw engines and drivers, and OpenDAL, in one run.
//!
//! ```sh
//! cargo run --release -p storage-bench -- --quick
//! cargo run --release -p storage-bench -- --markdown > table.md
//! cargo run --release -p storage-bench -- --set redis
//! cargo xtask plugins --release && cargo build --release -p storage-plugin --example memory_plugin
//! cargo run --release -p storage-bench -- --set plugins --tasks 1,64
//! ```
//!
//! Every peer acknowledges a write only after it was synced, unless its row says otherwise. Rounds alternate
//! between the peers, and ratios are taken within a round. What is read is checked against what was written.

// What this program is for is talking to a person at a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod border;
mod data;
mod group;
mod layers;
mod limit;
mod machine;
mod measure;
mod peer;
mod peers;
mod report;
mod target;
mod workload;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::measure::Plan;
use crate::peers::Set;
use crate::report::Report;
use crate::workload::Workload;

#[derive(Parser)]
#[command(about = "Side-by-side benchmarks of storage, raw engines and OpenDAL", version)]
struct Args {
    /// A short look: 5,000 records, one round of half a second
    #[arg(long, conflicts_with_all = ["seconds", "rounds", "records"])]
    quick: bool,
    /// Concurrent tasks
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 128], value_parser = clap::value_parser!(u64).range(1..=255))]
    tasks: Vec<u64>,
    /// Workloads [default: all]
    #[arg(long, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// Which peers are compared
    #[arg(long, value_enum, default_value_t = Set::Embedded)]
    set: Set,
    /// Some peers of the set only [default: all]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// The peer that ratios are taken to [default: redb-group, redis-raw, storage-file]
    #[arg(long)]
    baseline: Option<String>,
    /// How long each peer runs in a round, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Rounds; 255 at most
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=255))]
    rounds: u64,
    /// Records to load before; at least 1,000
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    records: u64,
    /// Where to put the stores, on the disk to measure; they are removed afterwards
    #[arg(long, default_value = "target")]
    dir: PathBuf,
    /// Where the plugins of the set `plugins` are
    #[arg(long, default_value = "target/plugins/release")]
    plugins: PathBuf,
    /// A plugin that keeps records in memory and answers inline, to measure the border alone
    #[arg(long, default_value = "target/release/examples/libmemory_plugin.so")]
    memory_plugin: PathBuf,
    /// Leaves out the cost of the layers
    #[arg(long)]
    no_layers: bool,
    /// Prints JSON instead of Markdown
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Prints Markdown, as it does anyway
    #[arg(long)]
    markdown: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(
        args.seconds > 0.0 && args.seconds <= 3_600.0,
        "--seconds is {}: more than 0, at most 3600",
        args.seconds
    );
    let layers = if args.no_layers {
        None
    } else {
        eprintln!("layers");
        let (rounds, calls) = if args.quick { (3, 20_000) } else { (11, 200_000) };
        Some(layers::cost(rounds, calls)?)
    };
    let border = if args.set == Set::Plugins {
        let (rounds, calls) = if args.quick { (3, 20_000) } else { (11, 200_000) };
        Some(border::cost(&args.memory_plugin, rounds, calls)?)
    } else {
        None
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(run(&args, layers, border))?;
    println!("{}", if args.json { report.json()? } else { report.markdown()? });
    Ok(())
}

async fn run(
    args: &Args,
    layers: Option<layers::LayerCost>,
    border: Option<border::BorderCost>,
) -> Result<Report> {
    let plan = if args.quick {
        Plan { records: 5_000, rounds: 1, each: Duration::from_millis(500) }
    } else {
        Plan { records: args.records, rounds: args.rounds, each: Duration::from_secs_f64(args.seconds) }
    };
    std::fs::create_dir_all(&args.dir).with_context(|| args.dir.display().to_string())?;
    let directory = tempfile::Builder::new().prefix("storage-bench-").tempdir_in(&args.dir)?;
    // Paths are absolute, so that no peer resolves one in its own way.
    let parent = directory.path().canonicalize()?;
    let machine = machine::Machine::look(&parent);

    let names = args.set.names();
    let baseline = args.baseline.as_deref().unwrap_or(args.set.baseline());
    for named in args.peers.iter().map(String::as_str).chain([baseline]) {
        ensure!(names.contains(&named), "no peer {named:?} in this set; there are {}", names.join(", "));
    }
    let place = peers::Place::new(args.set, &parent, &args.plugins)?;
    let mut peers = Vec::new();
    for name in names.iter().filter(|name| args.peers.is_empty() || args.peers.iter().any(|p| p == *name)) {
        let started = Instant::now();
        let peer = peers::open(name, &place).await.with_context(|| format!("opening {name}"))?;
        measure::load(&*peer, plan.records).await.with_context(|| format!("loading {name}"))?;
        eprintln!("loaded {} records into {name} in {:.1} s", plan.records, started.elapsed().as_secs_f64());
        peers.push(peer);
    }
    let workloads: Vec<Workload> =
        if args.workload.is_empty() { Workload::value_variants().to_vec() } else { args.workload.clone() };
    let mut measurements = Vec::new();
    let mut counts = args.tasks.clone();
    counts.sort_unstable();
    counts.dedup();
    for workload in workloads {
        for &tasks in &counts {
            let found = measure::compare(&peers, workload, tasks, plan, baseline).await?;
            for m in &found {
                let speed = report::thousands(m.calls_per_second);
                let ratio = m.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x"));
                let p99 = report::duration(m.p99_us);
                let name = workload.to_possible_value().map_or(String::new(), |v| v.get_name().to_owned());
                eprintln!("{name:<10} {tasks:>4}  {:<16} {speed:>8}/s {ratio:>8}  p99 {p99}", m.peer);
            }
            measurements.extend(found);
        }
    }
    let limits = match place.redis_port() {
        Some(port) => limit::redis_benchmark(port, args.quick)?,
        None => Vec::new(),
    };
    let infos: Vec<_> = peers.iter().map(|peer| peer.info().clone()).collect();
    Ok(Report {
        command: std::iter::once("storage-bench".to_owned())
            .chain(std::env::args().skip(1))
            .collect::<Vec<_>>()
            .join(" "),
        machine,
        baseline: baseline.to_owned(),
        records: plan.records,
        rounds: plan.rounds,
        seconds_each: plan.each.as_secs_f64(),
        targets: target::targets(&measurements, &infos, layers.as_ref(), &limits, border.as_ref()),
        limits,
        peers: infos,
        measurements,
        layers,
        border,
    })
}
