//! What a call costs on its way into a shared library and back.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use storage_core::{Address, Backend, Batch, Mutation, Value};

use crate::data;
use crate::measure::median;
use crate::peers::plugin;

/// The size of a value in bytes.
const BYTES: usize = 100;
const RECORDS: u64 = 1_000;

/// Nanoseconds for a get of one record of 100 bytes in memory, each the median of the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BorderCost {
    /// Linked in.
    pub(crate) linked_ns: f64,
    /// From the shared library, answered inline.
    pub(crate) inline_ns: f64,
}

/// Measures on one thread, the two in turn.
pub(crate) fn cost(library: &Path, rounds: u64, calls: u64) -> Result<BorderCost> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let linked = storage_registry::open_backend("memory:").await?;
        let loaded = plugin::open_library(library, "memory:").await?;
        let addresses: Vec<_> =
            (0..RECORDS).map(|index| Address::new("bench", data::key(index))).collect::<Result<_, _>>()?;
        for backend in [&linked, &loaded] {
            let puts =
                addresses.iter().map(|address| Mutation::put(address.clone(), Value::bytes(vec![7; BYTES])));
            for result in backend.write(&Batch::independent(puts.collect())).await? {
                result?;
            }
        }
        let (mut own, mut across) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            own.push(gets(&*linked, &addresses, calls).await?);
            across.push(gets(&*loaded, &addresses, calls).await?);
        }
        Ok(BorderCost { linked_ns: median(own), inline_ns: median(across) })
    })
}

async fn gets(backend: &dyn Backend, addresses: &[Address], calls: u64) -> Result<f64> {
    let started = Instant::now();
    for call in 0..calls {
        let index = (call % RECORDS) as usize;
        let found = backend.get(&addresses[index..=index]).await?;
        let size = found.first().and_then(Option::as_ref).map(|record| record.value.size());
        anyhow::ensure!(size.is_some_and(|size| size > BYTES), "{} was not read", addresses[index]);
    }
    Ok(started.elapsed().as_nanos() as f64 / calls as f64)
}
