//! A long scan beside many writes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use storage_core::{Batch, Mutation, Scan};
use storage_testkit::helpers::{address, numbered, put, put_numbered};

use crate::{alone, users};

const STABLE: usize = 100_000;
/// Writes a second beside the scan.
const RATE: u64 = 10_000;

/// While 10,000 records a second are put and deleted, a scan of 100,000 others finds each of them once, and the memory of
/// this process does not grow with what it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_beside_writes_misses_nothing() {
    let (_server, backend) = alone(["--appendonly", "no"]).await;
    put_numbered(&*backend, &users(), STABLE).await;
    let (ended, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writing = {
        let (backend, ended, written) = (backend.clone(), ended.clone(), written.clone());
        tokio::spawn(async move {
            let started = Instant::now();
            for round in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
                // Between the stable keys, so that pages begin and end among them.
                let keys = (0..50)
                    .map(|i| format!("{}-{}", numbered((round * 7919 + i * 1999) % STABLE), round % 20));
                let mutations = keys.map(|key| match round / 20 % 2 {
                    0 => put(&users(), &key, json!(round)),
                    _ => Mutation::delete(address(&users(), &key)),
                });
                let results = backend.write(&Batch::independent(mutations.collect())).await.unwrap();
                let done = results.iter().filter(|result| result.is_ok()).count() as u64;
                let total = written.fetch_add(done, Ordering::Relaxed) + done;
                let due = Duration::from_secs_f64(total as f64 / RATE as f64);
                tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            }
        })
    };
    let started = Instant::now();
    let mut scan = Scan { limit: 500, ..Scan::new(users()) };
    let mut seen = HashSet::with_capacity(STABLE);
    let (mut before, mut most, mut pages) = (None, 0, 0);
    loop {
        let page = backend.scan(&scan).await.unwrap();
        pages += 1;
        for record in &page.items {
            let key = record.address.key.as_str();
            if !key.contains('-') {
                assert!(seen.insert(key.to_owned()), "{key} came twice");
            }
        }
        // What the allocator and the set of keys take is there after a tenth.
        if seen.len() > STABLE / 10 {
            before.get_or_insert_with(resident);
        }
        most = most.max(resident());
        scan.after = page.next;
        if scan.after.is_none() {
            break;
        }
    }
    let took = started.elapsed();
    ended.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    let written = written.load(Ordering::Relaxed);
    let rate = written as f64 / took.as_secs_f64();
    assert_eq!(seen.len(), STABLE, "stable keys that the scan found");
    let grown = most.saturating_sub(before.unwrap_or(most));
    println!(
        "scanned {pages} pages in {took:?} beside {rate:.0} writes a second; memory grew by {} KiB",
        grown / 1024
    );
    assert!(grown < 16 << 20, "memory grew by {grown} bytes");
    // Where the machine is too slow for the rate, the scan is slow as well, and writes come between its pages.
    assert!(
        rate > 0.5 * RATE as f64 || written > 10 * pages,
        "only {rate:.0} writes a second, {written} beside {pages} pages"
    );
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
