//! The public store: typed views over a backend under its layers.

mod collection;
mod conflict;
mod counters;
mod idempotent;
mod list;
mod pages;
mod transaction;
mod write;

pub use collection::{Collection, Entry};
pub use counters::Counters;
pub use idempotent::{IDEMPOTENCY_COLLECTION, IDEMPOTENCY_RETENTION, Idempotent};
pub use list::List;
pub use pages::{Keys, PageRequest, Pages, Querying, Scanning};
pub use transaction::{Transaction, TransactionCollection};
pub use write::{Append, Delete, Expiring, Increment, IncrementMany, Operation, Put, Write};

use std::sync::Arc;

use crate::layer::Layers;
use crate::request::check_mutation;
use crate::{
    Address, Atomicity, Backend, Batch, CollectionName, Error, ErrorKind, Health, Maintenance,
    MaintenanceReport, Mutation, Record, Result, Retry, Stats, Written,
};

/// A store: a backend under its layers, with typed views on top. Cheap to clone.
///
/// ```
/// use std::sync::Arc;
/// use storage_core::{Address, Batch, Json, MemoryBackend, Mutation, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// let store = Store::new(Arc::new(MemoryBackend::new()));
/// let ada = Address::new("users", "ada")?;
/// store.write(Batch::atomic(vec![Mutation::put(ada.clone(), Json::parse("{}")?)])).await?;
/// assert!(store.get(&ada).await?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    backend: Arc<dyn Backend>,
    layers: Arc<Layers>,
}

impl Store {
    /// A store over `backend` with the default layers for it.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        let layers = Layers::default_for(&backend.info().capabilities);
        Self::with_layers(backend, layers)
    }

    /// A store over `backend` with these layers, and the guard innermost.
    pub fn with_layers(backend: Arc<dyn Backend>, layers: Layers) -> Self {
        Self { backend: layers.apply(backend), layers: Arc::new(layers) }
    }

    /// The backend with all layers on top: the untyped interface, for everything the typed one leaves out.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The layers, from the outside in.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Reads a record; `None` if there is none or it has expired.
    pub async fn get(&self, address: &Address) -> Result<Option<Record>> {
        let records = self.backend.get(std::slice::from_ref(address)).await?;
        Ok(records.into_iter().next().flatten())
    }

    /// Reads records: one entry for each address, in order, `None` where there is no record.
    ///
    /// More addresses than fit in one request are read by several, one after the other; each is consistent in
    /// itself only.
    pub async fn get_many(&self, addresses: &[Address]) -> Result<Vec<Option<Record>>> {
        let most = self.backend.info().capabilities.limits.batch_len.max(1);
        if (1..=most).contains(&addresses.len()) {
            return self.backend.get(addresses).await;
        }
        let mut records = Vec::with_capacity(addresses.len());
        for part in addresses.chunks(most) {
            records.extend(self.backend.get(part).await?);
        }
        Ok(records)
    }

    /// Applies a batch: one result for each mutation, in order.
    ///
    /// In an independent batch a mutation that the backend would refuse whatever it holds (too large, not
    /// offered) has that error as its result, and the others are sent. A batch beyond the backend's limits is
    /// sent in parts, in order; if a later part fails as a whole, its mutations have that error as their
    /// result, the parts after it are not sent, and their mutations have the error with [`Retry::Safe`].
    ///
    /// # Errors
    /// An atomic batch fails whole: with the error of the mutation that failed
    /// ([`Error::failed_mutation`]), or with [`TooLarge`](ErrorKind::TooLarge) beyond the limits. An
    /// independent one fails if its first part does.
    pub async fn write(&self, batch: Batch) -> Result<Vec<Result<Written>>> {
        if batch.atomicity == Atomicity::Atomic {
            return self.backend.write(&batch).await;
        }
        let info = self.backend.info();
        let refused: Vec<Option<Error>> = batch
            .mutations
            .iter()
            .map(|mutation| check_mutation(mutation, &info.capabilities).err())
            .collect();
        if refused.iter().all(Option::is_none) {
            return self.write_parts(batch.mutations).await;
        }
        let sent = batch.mutations.into_iter().zip(&refused).filter(|(_, refused)| refused.is_none());
        let mut written = self.write_parts(sent.map(|(mutation, _)| mutation).collect()).await?.into_iter();
        let results = refused.into_iter().map(|refused| match refused {
            Some(error) => Err(error.operation("write").backend(info.name.clone())),
            None => written.next().unwrap_or_else(|| Err(incomplete())),
        });
        Ok(results.collect())
    }

    async fn write_parts(&self, mutations: Vec<Mutation>) -> Result<Vec<Result<Written>>> {
        let limits = self.backend.info().capabilities.limits;
        let total = mutations.len();
        let mut results = Vec::with_capacity(total);
        for part in parts(mutations, limits.batch_len, limits.batch_bytes) {
            let size = part.len();
            match self.backend.write(&Batch::independent(part)).await {
                Ok(written) => results.extend(written),
                Err(error) if results.is_empty() => return Err(error),
                Err(error) => {
                    results.extend(std::iter::repeat_n(error.clone(), size).map(Err));
                    let unsent = error.with_retry(Retry::Safe);
                    results.extend(std::iter::repeat_n(unsent, total - results.len()).map(Err));
                    break;
                }
            }
        }
        Ok(results)
    }

    /// The names of the collections that hold a record, in order.
    pub async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.backend.collections().await
    }

    /// Probes whether the database does its work.
    pub async fn health(&self) -> Result<Health> {
        self.backend.health().await
    }

    /// What the store holds and has done since it was opened.
    pub async fn stats(&self) -> Result<Stats> {
        self.backend.stats().await
    }

    /// Does a chore now.
    pub async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        self.backend.maintain(task).await
    }

    /// Makes everything durable and lets go of files and connections, for all clones of the store. A second
    /// call does nothing.
    pub async fn close(&self) -> Result<()> {
        self.backend.close().await
    }
}

/// Applies one mutation.
async fn write_one(backend: &dyn Backend, mutation: Mutation) -> Result<Written> {
    let results = backend.write(&Batch::independent(vec![mutation])).await?;
    results.into_iter().next().unwrap_or_else(|| Err(incomplete()))
}

/// All results of an atomic batch, none of which can be an error.
async fn write_atomic(backend: &dyn Backend, mutations: Vec<Mutation>) -> Result<Vec<Written>> {
    backend.write(&Batch::atomic(mutations)).await?.into_iter().collect()
}

fn incomplete() -> Error {
    Error::new(ErrorKind::Internal, "the backend's reply has fewer results than the request has entries")
}

/// Cuts mutations into parts of at most `len` mutations and `bytes` bytes; one that alone is larger is a part
/// of its own, for the guard to refuse.
fn parts(mutations: Vec<Mutation>, len: usize, bytes: usize) -> Vec<Vec<Mutation>> {
    let mut parts: Vec<Vec<Mutation>> = Vec::new();
    let mut size = 0;
    for mutation in mutations {
        let more = mutation.size();
        match parts.last_mut() {
            Some(part) if part.len() < len && size + more <= bytes => {
                size += more;
                part.push(mutation);
            }
            _ => {
                size = more;
                parts.push(vec![mutation]);
            }
        }
    }
    parts
}
