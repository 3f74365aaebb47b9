//! What a call costs on its way through `Store` and its layers to the backend.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use storage_core::layer::Layers;
use storage_core::{Address, Backend, Batch, Mutation, Record, Store, Value};

use crate::data;
use crate::measure::median;

const RECORDS: u64 = 1_000;

/// Nanoseconds for a get of one record in memory, each the median of the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LayerCost {
    /// The layers that a store puts on the memory backend by itself, from the outside in.
    pub(crate) layers: String,
    /// The backend's own method.
    pub(crate) backend_ns: f64,
    /// The backend under those layers, called through its trait.
    pub(crate) layered_ns: f64,
    /// As a program does it: `Store`, collection, key.
    pub(crate) store_ns: f64,
}

/// Measures on one thread: what is asked is the cost of the code, not of contention.
pub(crate) fn cost(rounds: u64, calls: u64) -> Result<LayerCost> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let backend = storage_registry::open_backend("memory:").await?;
        let layers = Layers::default_for(&backend.info().capabilities);
        let layered = layers.apply(backend.clone());
        let store = Store::new(backend.clone());
        let addresses: Vec<_> =
            (0..RECORDS).map(|index| Address::new("bench", data::key(index))).collect::<Result<_, _>>()?;
        let puts = addresses.iter().enumerate().map(|(index, address)| {
            Mutation::put(address.clone(), Value::bytes(data::value(index as u64, 0)))
        });
        for result in backend.write(&Batch::independent(puts.collect())).await? {
            result?;
        }
        let (mut own, mut under, mut through) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            own.push(backend_get(&*backend, &addresses, calls).await?);
            under.push(backend_get(&*layered, &addresses, calls).await?);
            through.push(store_get(&store, &addresses, calls).await?);
        }
        Ok(LayerCost {
            layers: layers.to_string(),
            backend_ns: median(own),
            layered_ns: median(under),
            store_ns: median(through),
        })
    })
}

async fn backend_get(backend: &dyn Backend, addresses: &[Address], calls: u64) -> Result<f64> {
    let started = Instant::now();
    for call in 0..calls {
        let index = (call % RECORDS) as usize;
        let found = backend.get(&addresses[index..=index]).await?;
        check(found.into_iter().next().flatten(), &addresses[index])?;
    }
    Ok(started.elapsed().as_nanos() as f64 / calls as f64)
}

async fn store_get(store: &Store, addresses: &[Address], calls: u64) -> Result<f64> {
    let started = Instant::now();
    for call in 0..calls {
        let address = &addresses[(call % RECORDS) as usize];
        check(store.get(address).await?, address)?;
    }
    Ok(started.elapsed().as_nanos() as f64 / calls as f64)
}

fn check(found: Option<Record>, address: &Address) -> Result<()> {
    let record = found.with_context(|| format!("{address} is not there"))?;
    ensure!(record.address == *address, "{} was read for {address}", record.address);
    Ok(())
}
