//! A disk that fails: chosen calls of the writer end in an error of the system.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use storage_core::{
    Address, Backend, Batch, CollectionName, Error, ErrorKind, HealthStatus, Json, Mutation, Result, Retry,
    Scan,
};

use super::child::{acknowledge, attempt, ready, report, trouble};
use super::lane::{Lane, Position};
use super::ledger::Ledger;
use super::parent::{Event, Program, Writer};
use super::tool::{self, compile, run};
use super::{Failure, Outcome, Test, rounds};

/// The role of a writer whose disk fails.
pub(super) const ROLE: &str = "fault";
/// Records that are there before, too many for a small cache.
const BULK: u64 = 500;
/// Steps after which the fault must have come.
const MOST_STEPS: usize = 2000;

/// `EIO` and `ENOSPC`, which have these numbers on every Unix.
const INPUT_OUTPUT: u32 = 5;
const NO_SPACE: u32 = 28;

/// Lets every sync fail from some moment on, a later one in each run: the write under way fails with an error
/// that says its outcome is unknown, later ones are refused, reading goes on, also of what is in no cache, the
/// health is degraded; and when the store is opened again without the fault, every acknowledged write is there.
///
/// Give a URL with a small cache. Needs `cc`.
pub fn failing_syncs(url: &'static str) -> Test {
    Test { name: "a_failing_sync_stops_writing_and_loses_nothing", run: run_syncs, url }
}

/// Lets writes to the file fail, a later one in each run. If one fails, reading goes on and writing recovers; if
/// all fail from then on, reading goes on; nothing that was acknowledged is lost.
///
/// Give a URL with a small cache. Needs `cc`.
pub fn failing_writes(url: &'static str) -> Test {
    Test { name: "a_failing_write_is_an_error_and_loses_nothing", run: run_writes, url }
}

/// What fails.
#[derive(Clone, Copy)]
struct Fault {
    call: &'static str,
    error: u32,
    times: u32,
}

const FOREVER: u32 = 1_000_000_000;

fn run_syncs(program: &Program) -> Outcome {
    sweep(program, &[Fault { call: "sync", error: INPUT_OUTPUT, times: FOREVER }], rounds(20, 100), 1)
}

fn run_writes(program: &Program) -> Outcome {
    let faults = [
        Fault { call: "write", error: INPUT_OUTPUT, times: 1 },
        Fault { call: "write", error: NO_SPACE, times: 1 },
        Fault { call: "write", error: INPUT_OUTPUT, times: FOREVER },
        Fault { call: "write", error: NO_SPACE, times: FOREVER },
    ];
    sweep(program, &faults, rounds(6, 100), 7)
}

/// Runs a writer for each fault and moment, the moments `stride` calls apart.
fn sweep(program: &Program, faults: &[Fault], moments: usize, stride: usize) -> Outcome {
    let directory = tempfile::tempdir().map_err(Failure::broken)?;
    let library = compile(directory.path(), "fault.so", tool::FAULT, &["-shared", "-fPIC"])?;
    let seed = directory.path().join("seed");
    fill(program, &seed)?;
    let (mut acknowledged, mut opening) = (0, 0);
    for fault in faults {
        for after in (0..moments).map(|moment| moment * stride) {
            let what =
                format!("{} error {} after {after} calls, {} times", fault.call, fault.error, fault.times);
            let path = directory.path().join("store");
            run(Command::new("cp").arg("-r").arg(&seed).arg(&path)).map_err(Failure::Broken)?;
            let mut command = program.command(ROLE, &path)?;
            command
                .env("LD_PRELOAD", &library)
                .env("FAULT_CALL", fault.call)
                .env("FAULT_AFTER", after.to_string());
            command.env("FAULT_ERROR", fault.error.to_string()).env("FAULT_TIMES", fault.times.to_string());
            let events = Writer::start(command)?.finish()?;
            opening += usize::from(!events.contains(&Event::Ready));
            let mut ledger = Ledger::default();
            ledger.hold(&events, None, &what)?;
            ledger.hold(&program.finish(&path)?, None, format_args!("{what}, and then none"))?;
            acknowledged += ledger.acknowledged;
            std::fs::remove_dir_all(&path).map_err(Failure::broken)?;
        }
    }
    let runs = faults.len() * moments;
    if opening * 2 > runs {
        return Err(Failure::broken(format!(
            "{opening} of {runs} faults came while the store was being opened"
        )));
    }
    Ok(format!(
        "{runs} runs, {opening} of them failed when the store was opened, {acknowledged} acknowledged writes, none lost"
    ))
}

/// Makes a store with more in it than a small cache holds.
fn fill(program: &Program, path: &Path) -> Outcome<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::broken)?;
    let work = async {
        let backend = program.open(path).await?;
        let puts = (0..BULK).map(|number| Ok(Mutation::put(key(number)?, Json::encode(&value(number))?)));
        let results = backend.write(&Batch::independent(puts.collect::<Result<_>>()?)).await?;
        results.into_iter().try_for_each(|result| result.map(drop))?;
        backend.close().await
    };
    runtime.block_on(work).map_err(|error: Error| Failure::broken(format!("filling the store: {error:?}")))
}

fn key(number: u64) -> Result<Address> {
    Address::new("crash-bulk", format!("{number:06}"))
}

fn value(number: u64) -> serde_json::Value {
    json!({"number": number, "text": "y".repeat(1000)})
}

/// The writer whose disk fails.
pub(super) async fn child(backend: &dyn Backend) {
    let found = report(backend).await;
    let set = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let (syncing, passing) = (set("FAULT_CALL", "sync"), set("FAULT_TIMES", "1"));
    // The fault may have come, and even passed, while the store was opened, which can then be read.
    if backend.health().await.is_ok_and(|health| health.status == HealthStatus::Up) {
        ready();
        match until_error(backend, &found).await {
            Some(error) => judge(&error, syncing),
            None => trouble(format_args!("{MOST_STEPS} steps were written, and the fault never came")),
        }
    }
    report(backend).await;
    if let Err(problem) = bulk(backend).await {
        trouble(problem);
    }
    if syncing {
        refused(backend).await;
    } else if passing {
        recovered(backend, &found).await;
    }
    // On a disk that fails it is no wonder if this fails too.
    let _ = backend.close().await;
}

/// What the write that met the fault says.
fn judge(error: &Error, syncing: bool) {
    if syncing && (error.kind(), error.retry()) != (ErrorKind::Unavailable, Retry::IfIdempotent) {
        trouble(format_args!("a failed sync does not say that the outcome is unknown: {error:?}"));
    }
    if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::StorageFull) {
        trouble(format_args!("a failing disk gives {error:?}"));
    }
}

async fn until_error(backend: &dyn Backend, lanes: &[(Lane, Position)]) -> Option<Error> {
    for (round, (lane, position)) in (0..MOST_STEPS).zip(lanes.iter().cycle()) {
        let step = position.low + 1 + (round / lanes.len()) as u64;
        match attempt(backend, *lane, step).await {
            Ok(()) => acknowledge(*lane, step),
            Err(error) => return Some(error),
        }
    }
    None
}

/// All that was there before can be read.
async fn bulk(backend: &dyn Backend) -> Result<(), String> {
    let failed = |error: Error| format!("reading after the fault: {error} ({})", error.kind());
    let mut scan = Scan::new(CollectionName::new("crash-bulk").map_err(failed)?);
    let mut number = 0;
    loop {
        let page = backend.scan(&scan).await.map_err(failed)?;
        for record in &page.items {
            let tree = record.value.as_json().map(Json::tree).transpose().map_err(failed)?;
            if record.address != key(number).map_err(failed)? || tree != Some(value(number)) {
                return Err(format!("after the fault record {number} reads as {}", record.address));
            }
            number += 1;
        }
        scan.after = page.next;
        if scan.after.is_none() {
            break;
        }
    }
    if number == BULK { Ok(()) } else { Err(format!("after the fault {number} of {BULK} records are read")) }
}

async fn refused(backend: &dyn Backend) {
    match probe(backend).await {
        Ok(()) => trouble("a write is taken after a sync failed"),
        Err(error) if error.kind() != ErrorKind::Unavailable => {
            trouble(format_args!("a later write gives {error:?}"))
        }
        Err(_) => {}
    }
    match backend.health().await {
        Ok(health) if health.status == HealthStatus::Degraded => {}
        other => trouble(format_args!("the health after a failed sync is {other:?}")),
    }
}

/// After a fault that passed the very next write works.
async fn recovered(backend: &dyn Backend, lanes: &[(Lane, Position)]) {
    if let Err(error) = probe(backend).await {
        return trouble(format_args!("the fault has passed, and a write gives {error:?}"));
    }
    for (lane, _) in lanes {
        match lane.position(backend).await {
            Ok(position) => match attempt(backend, *lane, position.low + 1).await {
                Ok(()) => acknowledge(*lane, position.low + 1),
                Err(error) => {
                    trouble(format_args!("{lane}: the fault has passed, and a write gives {error:?}"))
                }
            },
            Err(problem) => trouble(problem),
        }
    }
}

async fn probe(backend: &dyn Backend) -> Result<()> {
    let put = Mutation::put(Address::new("crash-probe", "probe")?, Json::encode(&true)?);
    backend.write(&Batch::independent(vec![put])).await?.into_iter().try_for_each(|result| result.map(drop))
}
