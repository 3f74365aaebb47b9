//! An import through `Store` against `\copy` of the same rows into a table of the same shape.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use storage_testkit::servers::PostgresServer;

use crate::data;
use crate::measure::median;
use crate::peer::Peer;
use crate::workload::PAGE;

/// Pages at each end of the collection that are compared.
const PAGES: usize = 50;
/// How often each is read.
const TIMES: usize = 5;

/// What is imported, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImportPlan {
    pub(crate) records: u64,
    pub(crate) rounds: u64,
    /// Records in one call of `Store`.
    pub(crate) batch: u64,
    /// Calls under way at once.
    pub(crate) in_flight: u64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Import {
    pub(crate) records: u64,
    pub(crate) batch: u64,
    pub(crate) in_flight: u64,
    /// Seconds through `Store`, in each round.
    pub(crate) store: Vec<f64>,
    /// Seconds of `psql` with `\copy`, in each round.
    pub(crate) copy: Vec<f64>,
    /// The speed through `Store` to that of `\copy`: the median of the ratios within a round.
    pub(crate) ratio: f64,
    /// Microseconds for a page of 1,000 records at the start of the collection, the median.
    pub(crate) first_pages_us: f64,
    /// The same at its end.
    pub(crate) last_pages_us: f64,
}

/// Measures in an empty store, in rounds; each import finds an empty table, and no checkpoint waits to be made.
pub(crate) async fn compare(
    peer: &Arc<dyn Peer>,
    server: &PostgresServer,
    directory: &Path,
    plan: ImportPlan,
) -> Result<Import> {
    let ImportPlan { records, batch, in_flight, .. } = plan;
    let (mut store, mut copy) = (Vec::new(), Vec::new());
    let rows = directory.join("rows.txt");
    let rows = rows.to_str().context("a directory whose name is not UTF-8")?.replace('\'', "''");
    server.psql("CREATE TABLE storage.copied (LIKE storage.records INCLUDING ALL)")?;
    for round in 1..=plan.rounds {
        server.psql("TRUNCATE storage.records;\nCHECKPOINT;")?;
        let started = Instant::now();
        through_store(peer, plan).await?;
        store.push(started.elapsed().as_secs_f64());
        count(server, "storage.records", records)?;
        if round == 1 {
            server.psql(&format!("\\copy (SELECT * FROM storage.records) TO '{rows}'"))?;
        }
        server.psql("TRUNCATE storage.copied;\nCHECKPOINT;")?;
        let started = Instant::now();
        server.psql(&format!("\\copy storage.copied FROM '{rows}'"))?;
        copy.push(started.elapsed().as_secs_f64());
        count(server, "storage.copied", records)?;
    }
    let (first_pages_us, last_pages_us) = pages(&**peer, records).await?;
    let ratio = median(store.iter().zip(&copy).map(|(store, copy)| copy / store).collect());
    Ok(Import { records, batch, in_flight, store, copy, ratio, first_pages_us, last_pages_us })
}

async fn through_store(peer: &Arc<dyn Peer>, plan: ImportPlan) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..plan.in_flight)
        .map(|_| {
            let (peer, next) = (peer.clone(), next.clone());
            tokio::spawn(async move {
                loop {
                    let from = next.fetch_add(plan.batch, Ordering::Relaxed);
                    if from >= plan.records {
                        return anyhow::Ok(());
                    }
                    let batch = from..plan.records.min(from + plan.batch);
                    let batch = batch.map(|index| (data::key(index), data::value(index, 0)));
                    peer.put_many(batch.collect()).await?;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.context("a writer panicked")??;
    }
    Ok(())
}

fn count(server: &PostgresServer, table: &str, records: u64) -> Result<()> {
    let counted = server.psql(&format!("SELECT count(*) FROM {table}"))?;
    ensure!(counted == records.to_string(), "{table} has {counted} rows of {records}");
    Ok(())
}

/// The time of a page at the start and at the end of the collection, in microseconds: medians. They alternate, so that a slow
/// moment of the machine hits both.
async fn pages(peer: &dyn Peer, records: u64) -> Result<(f64, f64)> {
    // Where each full page begins, and that all is there.
    let (mut starts, mut next, mut seen) = (Vec::new(), None, 0u64);
    loop {
        let page = peer.scan(data::PREFIX, next.as_deref(), PAGE).await?;
        for (key, value) in &page.items {
            ensure!(*key == data::key(seen), "the scan has {key} where {} is due", data::key(seen));
            ensure!(data::stamp(seen, value) == Some(0), "{key} holds what nobody wrote");
            seen += 1;
        }
        if page.items.len() == PAGE {
            starts.push(next);
        }
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    ensure!(seen == records, "the scan ended after {seen} of {records}");
    let pages = PAGES.min(starts.len() / 2).max(1);
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        for (start, end) in starts.iter().zip(starts.iter().rev()).take(pages) {
            for (after, times) in [(start, &mut first), (end, &mut last)] {
                let started = Instant::now();
                let page = peer.scan(data::PREFIX, after.as_deref(), PAGE).await?;
                times.push(started.elapsed().as_secs_f64() * 1e6);
                ensure!(page.items.len() == PAGE, "a page of {}", page.items.len());
            }
        }
    }
    Ok((median(first), median(last)))
}
