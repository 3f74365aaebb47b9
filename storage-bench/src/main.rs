//! Side-by-side benchmarks: `storage` through `Store`, raw engines and drivers, and OpenDAL, in one run.
//!
//! ```sh
//! cargo run --release -p storage-bench -- --quick
//! cargo run --release -p storage-bench -- --markdown > table.md
//! cargo run --release -p storage-bench -- --set redis
//! cargo run --release -p storage-bench -- --set postgres --sync-delay 1ms
//! cargo build --release --manifest-path storage-bench/opendal-mongodb/Cargo.toml --target-dir target/opendal-mongodb
//! cargo run --release -p storage-bench -- --set mongo
//! cargo run --release -p storage-bench -- --set postgres --import 1000000 --rounds 3
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
mod drive;
mod elsewhere;
mod group;
mod import;
mod layers;
mod limit;
mod machine;
mod measure;
mod peer;
mod peers;
mod report;
mod sync_delay;
mod target;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
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
    /// The peer that ratios are taken to [default: redb-group, redis-raw, sqlx-raw, mongodb-raw, storage-file]
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
    /// OpenDAL's mongodb service, a program of its own
    #[arg(long, default_value = "target/opendal-mongodb/release/opendal-mongodb")]
    opendal_mongodb: PathBuf,
    /// Makes every sync of the PostgreSQL server take at least so long, such as 1ms; needs a C compiler
    #[arg(long, value_parser = humantime::parse_duration)]
    sync_delay: Option<Duration>,
    /// Measures an import of so many records into PostgreSQL, against \copy, and nothing else
    #[arg(long, value_name = "RECORDS", num_args = 0..=1, default_missing_value = "1000000")]
    #[arg(conflicts_with_all = ["workload", "tasks", "peers", "baseline", "records", "seconds"])]
    #[arg(value_parser = clap::value_parser!(u64).range(1_000..=999_999_999))]
    import: Option<u64>,
    /// Records in one call of an import
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    import_batch: u64,
    /// Calls of an import under way at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=128))]
    import_in_flight: u64,
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

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let postgres_only = args.sync_delay.is_some() || args.import.is_some();
    ensure!(!postgres_only || args.set == Set::Postgres, "--sync-delay and --import are for --set postgres");
    if let Some(delay) = args.sync_delay.filter(|_| !sync_delay::is_on()) {
        return sync_delay::run_again(delay);
    }
    ensure!(
        args.seconds > 0.0 && args.seconds <= 3_600.0,
        "--seconds is {}: more than 0, at most 3600",
        args.seconds
    );
    let layers = if args.no_layers || args.import.is_some() {
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
    Ok(ExitCode::SUCCESS)
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
    // The servers of tests keep their data where temporary files are.
    let machine = match args.set {
        Set::Postgres | Set::Mongo => machine::Machine::look(&std::env::temp_dir()),
        _ => machine::Machine::look(&parent),
    };

    let names = args.set.names();
    let baseline = args.baseline.as_deref().unwrap_or(args.set.baseline());
    for named in args.peers.iter().map(String::as_str).chain([baseline]) {
        ensure!(names.contains(&named), "no peer {named:?} in this set; there are {}", names.join(", "));
    }
    let place = peers::Place::new(args.set, &parent, &args.plugins, &args.opendal_mongodb, args.sync_delay)?;
    let server = place.postgres_server().map(|postgres| postgres.describe()).transpose()?;
    let mut report = Report {
        command: std::iter::once("storage-bench".to_owned())
            .chain(std::env::args().skip(1))
            .collect::<Vec<_>>()
            .join(" "),
        machine,
        baseline: baseline.to_owned(),
        records: plan.records,
        rounds: plan.rounds,
        seconds_each: plan.each.as_secs_f64(),
        targets: Vec::new(),
        limits: Vec::new(),
        peers: Vec::new(),
        measurements: Vec::new(),
        layers,
        border,
        server,
        import: None,
    };
    if let (Some(records), Some(postgres)) = (args.import, place.postgres_server()) {
        let (batch, in_flight) = (args.import_batch, args.import_in_flight);
        let import = import::ImportPlan { records, rounds: plan.rounds, batch, in_flight };
        let peer = peers::open("storage-postgres", &place).await.context("opening storage-postgres")?;
        let import = import::compare(&peer, postgres.server(), &parent, import).await?;
        report.targets = target::import(&import);
        report.import = Some(import);
        return Ok(report);
    }
    let mut peers = Vec::new();
    for name in names.iter().filter(|name| args.peers.is_empty() || args.peers.iter().any(|p| p == *name)) {
        let started = Instant::now();
        let peer = peers::open(name, &place).await.with_context(|| format!("opening {name}"))?;
        let loaded = match peer.elsewhere() {
            Some(elsewhere) => elsewhere.load(plan.records).await,
            None => drive::load(&*peer, plan.records).await,
        };
        loaded.with_context(|| format!("loading {name}"))?;
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
                let sent = m.commands_per_call.map_or(String::new(), |sent| format!("  {sent:.3} sent"));
                eprintln!("{name:<10} {tasks:>4}  {:<16} {speed:>8}/s {ratio:>8}  p99 {p99}{sent}", m.peer);
            }
            measurements.extend(found);
        }
    }
    let mut limits = Vec::new();
    if let Some(port) = place.redis_port() {
        limits.extend(limit::redis_benchmark(port, args.quick)?);
    }
    if let Some(postgres) = place.postgres_server() {
        limits.extend(limit::pgbench(postgres.server(), args.quick)?);
    }
    report.peers = peers.iter().map(|peer| peer.info().clone()).collect();
    let (layers, border) = (report.layers.as_ref(), report.border.as_ref());
    let slow_syncs = args.sync_delay.is_some();
    report.targets = target::targets(&measurements, &report.peers, layers, &limits, border, slow_syncs);
    (report.limits, report.measurements) = (limits, measurements);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_measured_alone() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
        let parse =
            |rest: &[&str]| Args::try_parse_from([&["storage-bench", "--set", "postgres"], rest].concat());
        let args = parse(&["--import", "--sync-delay", "1ms"]).unwrap();
        assert_eq!((args.import, args.sync_delay), (Some(1_000_000), Some(Duration::from_millis(1))));
        assert!(parse(&["--import", "--tasks", "1"]).is_err());
    }
}
