//! The writer: a child process that reports on its standard output, a line at a time.
//!
//! | line | meaning |
//! |---|---|
//! | `= LANE LOW HIGH` | after opening, the lane's records were whole and of these steps |
//! | `ready` | all lanes were read, and writing begins |
//! | `+ LANE STEP NS` | the step was acknowledged, not later than at `NS` |
//! | `! NS TEXT` | something is wrong |
//! | `end` | the store was closed |
//!
//! `NS` is `CLOCK_MONOTONIC`, the same in all processes. A line is one `write`, so none is half there.

use std::fmt;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use storage_core::{Backend, CollectionName, Feature, IndexSpec, Maintenance, Path, Result, TypeDescriptor};

use super::lane::{Lane, Position, lanes, shared_counter};
use super::{fault, parent};

/// Does what the parent started this process for.
pub(super) fn main(descriptor: &'static dyn TypeDescriptor, role: &str) -> ExitCode {
    // A panic that the backend contains is one all the same.
    std::panic::set_hook(Box::new(|panic| trouble(panic)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let url = std::env::var(parent::URL);
    let (Ok(runtime), Ok(url)) = (runtime, url) else {
        trouble("the writer has no runtime or no URL");
        return ExitCode::FAILURE;
    };
    let backend = match runtime.block_on(parent::open(descriptor, &url)) {
        Ok(backend) => backend,
        // A disk that fails while the store is being opened makes opening fail: that is an error, no crash.
        Err(_) if role == fault::ROLE => {
            say("end");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            trouble(format_args!("the store does not open: {error} ({})", error.kind()));
            return ExitCode::FAILURE;
        }
    };
    if role == fault::ROLE {
        runtime.block_on(fault::child(backend.as_ref()));
    } else {
        runtime.block_on(write(backend));
    }
    say("end");
    ExitCode::SUCCESS
}

async fn write(backend: Arc<dyn Backend>) {
    let capabilities = backend.info().capabilities.clone();
    let mut tasks = Vec::new();
    for (lane, position) in report(backend.as_ref()).await {
        tasks.push((lane, position.low));
    }
    if capabilities.has(Feature::Verify) {
        match backend.maintain(Maintenance::Verify).await {
            Ok(report) => {
                report.problems.iter().for_each(|problem| trouble(format_args!("verify: {problem}")))
            }
            Err(error) => trouble(format_args!("verify: {error}")),
        }
    }
    if capabilities.has(Feature::Indexes)
        && let Err(error) = index(backend.as_ref()).await
    {
        trouble(format_args!("making an index: {error}"));
    }
    ready();
    let stop = until_told();
    let tasks: Vec<_> = tasks
        .into_iter()
        .map(|(lane, last)| tokio::spawn(drive(Arc::clone(&backend), lane, last, Arc::clone(&stop))))
        .collect();
    for task in tasks {
        if let Err(error) = task.await {
            trouble(error);
        }
    }
    if let Err(error) = backend.close().await {
        trouble(format_args!("closing: {error}"));
    }
}

/// Says which steps the store holds, or what is wrong with it.
pub(super) async fn report(backend: &dyn Backend) -> Vec<(Lane, Position)> {
    let mut found = Vec::new();
    for lane in lanes(&backend.info().capabilities) {
        match lane.position(backend).await {
            Ok(position) => {
                say(format_args!("= {lane} {} {}", position.low, position.high));
                found.push((lane, position));
            }
            Err(problem) => trouble(problem),
        }
    }
    if let Err(problem) = shared_counter(backend).await {
        trouble(problem);
    }
    found
}

/// An index over records that come and go, so that verifying has one to hold against them.
async fn index(backend: &dyn Backend) -> Result<bool> {
    backend.ensure_index(&IndexSpec::new(CollectionName::new("crash-main")?, Path::new("step")?)).await
}

/// Writes step after step, at least one, until it is told to stop.
async fn drive(backend: Arc<dyn Backend>, lane: Lane, last: u64, stop: Arc<AtomicBool>) {
    for step in last + 1.. {
        match attempt(backend.as_ref(), lane, step).await {
            Ok(()) => acknowledge(lane, step),
            Err(error) => {
                return trouble(format_args!("{lane}: writing step {step}: {error} ({})", error.kind()));
            }
        }
        if stop.load(Ordering::Acquire) {
            return;
        }
    }
}

pub(super) async fn attempt(backend: &dyn Backend, lane: Lane, step: u64) -> Result<()> {
    let results = backend.write(&lane.batch(step)?).await?;
    results.into_iter().try_for_each(|result| result.map(drop))
}

/// Set when the parent closes our standard input, or is gone.
fn until_told() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Release);
    });
    stop
}

pub(super) fn ready() {
    say("ready");
}

pub(super) fn acknowledge(lane: Lane, step: u64) {
    say(format_args!("+ {lane} {step} {}", now()));
}

pub(super) fn trouble(what: impl fmt::Display) {
    say(format_args!("! {} {}", now(), what.to_string().replace('\n', " ")));
}

fn say(line: impl fmt::Display) {
    // If nobody listens any more there is nobody to tell.
    let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
