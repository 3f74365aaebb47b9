//! A disk that fills up.

use std::io::Write;
use std::path::Path;

use serde_json::json;
use storage_core::{Address, Backend, Batch, Error, ErrorKind, Json, Maintenance, Mutation, Result};

use super::disk::Small;
use super::parent::Program;
use super::{Failure, Outcome, Test};

/// The size of the disk.
const MEBIBYTES: u32 = 10;
/// Records in each atomic batch, of about 4 KiB each.
const BATCH: u64 = 4;
/// More than fits on the disk.
const MOST_BATCHES: u64 = 10_000;

/// Fills a small disk: writes fail with [`StorageFull`](ErrorKind::StorageFull), what was acknowledged can be read,
/// in the same process and after opening the store again on the full disk, and once there is room writing goes
/// on, in the same process. Needs root for a tmpfs.
pub fn full_disk(url: &'static str) -> Test {
    Test { name: "a_full_disk_is_an_error_and_loses_nothing", run, url }
}

fn run(program: &Program) -> Outcome {
    let disk = Small::new(MEBIBYTES)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(Failure::broken)?.block_on(fill(program, disk.path()))
}

async fn fill(program: &Program, disk: &Path) -> Outcome {
    let (filler, store) = (disk.join("filler"), disk.join("store"));
    take_room(&filler, 2 << 20)?;
    let backend = program.open(&store).await.map_err(Failure::broken)?;
    let mut batches = 0;
    let mut refused = 0;
    for turn in ["at first", "after room was made and filled again"] {
        refused += until_full(backend.as_ref(), &mut batches, turn).await?;
        check(backend.as_ref(), batches, turn).await?;
        if turn == "at first" {
            std::fs::remove_file(&filler).map_err(Failure::broken)?;
            for _ in 0..20 {
                let done = write(backend.as_ref(), batches).await;
                done.map_err(|error| {
                    Failure::broken(format!("there is room again, and a write fails: {error:?}"))
                })?;
                batches += 1;
            }
            check(backend.as_ref(), batches, "after room was made").await?;
            verify(backend.as_ref()).await?;
            take_room(&filler, 1 << 30)?;
        }
    }
    backend.close().await.map_err(|error| Failure::broken(format!("closing on a full disk: {error:?}")))?;
    drop(backend);

    let opened = program.open(&store).await;
    let backend = opened.map_err(|error| Failure::broken(format!("opening on a full disk: {error:?}")))?;
    check(backend.as_ref(), batches, "opened again on the full disk").await?;
    std::fs::remove_file(&filler).map_err(Failure::broken)?;
    let done = write(backend.as_ref(), batches).await;
    done.map_err(|error| Failure::broken(format!("opened again, with room, and a write fails: {error:?}")))?;
    check(backend.as_ref(), batches + 1, "opened again, with room").await?;
    verify(backend.as_ref()).await?;
    backend.close().await.map_err(Failure::broken)?;
    Ok(format!("{batches} batches of {BATCH} acknowledged, {refused} refused, none lost"))
}

/// Writes until the disk is full, then insists; how many writes were refused.
async fn until_full(backend: &dyn Backend, batches: &mut u64, when: &str) -> Outcome<u64> {
    let mut refused = 0;
    while refused < 20 {
        match write(backend, *batches).await {
            Ok(()) => *batches += 1,
            Err(error) if error.kind() == ErrorKind::StorageFull => refused += 1,
            Err(error) => return Err(Failure::broken(format!("{when}: a full disk gives {error:?}"))),
        }
        if *batches > MOST_BATCHES {
            return Err(Failure::broken(format!("{when}: the disk never gets full")));
        }
    }
    Ok(refused)
}

async fn write(backend: &dyn Backend, number: u64) -> Result<()> {
    let puts =
        (0..BATCH).map(|part| Ok(Mutation::put(key(number, part)?, Json::encode(&value(number, part))?)));
    backend
        .write(&Batch::atomic(puts.collect::<Result<_>>()?))
        .await?
        .into_iter()
        .try_for_each(|result| result.map(drop))
}

fn key(number: u64, part: u64) -> Result<Address> {
    Address::new("crash-full", format!("{number:06}/{part}"))
}

fn value(number: u64, part: u64) -> serde_json::Value {
    json!({"number": number, "part": part, "text": "x".repeat(4000)})
}

/// Every acknowledged record is there, and of the first batch that was not, all or nothing.
async fn check(backend: &dyn Backend, batches: u64, when: &str) -> Outcome<()> {
    let broken = |error: Error| Failure::broken(format!("{when}: reading: {error:?}"));
    for number in 0..=batches {
        let keys = (0..BATCH).map(|part| key(number, part)).collect::<Result<Vec<_>>>().map_err(broken)?;
        let found = backend.get(&keys).await.map_err(broken)?;
        let there = found.iter().flatten().count() as u64;
        if there != BATCH && (there > 0 || number < batches) {
            return Err(Failure::broken(format!(
                "{when}: of batch {number} of {batches} there are {there} records"
            )));
        }
        for (record, part) in found.iter().flatten().zip(0..) {
            let tree = record.value.as_json().map(Json::tree).transpose().map_err(broken)?;
            if tree != Some(value(number, part)) {
                return Err(Failure::broken(format!("{when}: {} is not what was written", record.address)));
            }
        }
    }
    Ok(())
}

async fn verify(backend: &dyn Backend) -> Outcome<()> {
    let report = backend.maintain(Maintenance::Verify).await.map_err(Failure::broken)?;
    if report.problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::broken(format!("verify: {:?}", report.problems)))
    }
}

/// Takes up to so many bytes of the disk, or what is left of it.
fn take_room(filler: &Path, bytes: usize) -> Outcome<()> {
    let mut file = std::fs::File::create(filler).map_err(Failure::broken)?;
    let page = [0; 4096];
    for _ in 0..bytes / page.len() {
        if file.write_all(&page).is_err() {
            break;
        }
    }
    Ok(())
}
