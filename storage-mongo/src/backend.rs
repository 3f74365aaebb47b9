//! The backend: each method is a call of the client.

use std::fmt;

use async_trait::async_trait;
use storage_core::{
    Address, AtomicScope, Backend, BackendInfo, Batch, Capabilities, ChangeEvent, Changes, Coalescing,
    CollectionName, Count, Error, Feature, Health, IndexSpec, Key, ListItems, ListRange, Maintenance,
    MaintenanceReport, Page, Path, Query, Record, Result, Scan, Stats, Written,
};

use crate::client::Client;
use crate::config::MongoConfig;
use crate::convert::MAX_VALUE_BYTES;
use crate::descriptor::MongoType;
use crate::monitor::PoolStats;

/// How deep JSON may be nested: the server takes documents of 100 levels, of which a command and a record have some.
pub(crate) const JSON_DEPTH: usize = 90;

/// Most mutations of a batch, or keys of a get: MongoDB advises against transactions that change more documents
/// (<https://www.mongodb.com/docs/manual/core/transactions-production-consideration/>).
const BATCH_LEN: usize = 1_000;

/// An open MongoDB store.
///
/// ```no_run
/// use storage_core::Store;
/// use storage_mongo::{MongoBackend, MongoConfig};
///
/// # #[tokio::main]
/// # async fn main() -> storage_core::Result<()> {
/// let config = MongoConfig::from_url("mongodb://localhost/app")?;
/// let store = Store::new(std::sync::Arc::new(MongoBackend::open(config).await?));
/// # store.backend().close().await
/// # }
/// ```
pub struct MongoBackend {
    info: BackendInfo,
    client: Client,
}

impl MongoBackend {
    /// Connects, and asks what servers there are: a replica set or a sharded cluster has atomic batches and a feed of
    /// changes, a standalone server has neither.
    ///
    /// # Errors
    /// [`Unavailable`](storage_core::ErrorKind::Unavailable) or [`Timeout`](storage_core::ErrorKind::Timeout) if no
    /// server answers, [`Unauthenticated`](storage_core::ErrorKind::Unauthenticated), and
    /// [`InvalidInput`](storage_core::ErrorKind::InvalidInput) for a file of certificates that cannot be read.
    pub async fn open(config: MongoConfig) -> Result<Self> {
        let client = Client::open(&config).await?;
        let info = BackendInfo {
            name: MongoType::NAME.into(),
            version: MongoType::type_version(),
            location: config.location(),
            capabilities: Self::capabilities(client.topology.transactions),
        };
        Ok(Self { info, client })
    }

    /// How the pools of connections are now, of all servers together.
    pub fn pool_stats(&self) -> PoolStats {
        self.client.monitor.stats()
    }

    /// What is offered with or without transactions.
    pub(crate) fn capabilities(transactions: bool) -> Capabilities {
        use Feature::*;

        let mut capabilities = Capabilities::none().native([
            Get,
            Put,
            Preconditions,
            Expiry,
            Scan,
            OrderedScan,
            Query,
            Sort,
            Indexes,
            UniqueIndexes,
            Count,
            Collections,
            Clear,
            Bytes,
            Counters,
            Lists,
            Sweep,
        ]);
        if transactions {
            capabilities = capabilities.native([Atomic, Changes]);
            capabilities.atomic_scope = AtomicScope::Store;
        }
        capabilities.coalesce_reads = Coalescing::Pays;
        capabilities.coalesce_writes = Coalescing::Pays;
        capabilities.limits.batch_len = BATCH_LEN;
        capabilities.limits.atomic_len = BATCH_LEN;
        // The names and lengths of the fields that hold it come to it.
        capabilities.limits.value_bytes = MAX_VALUE_BYTES - (1 << 10);
        capabilities.limits.json_depth = JSON_DEPTH;
        capabilities
    }
}

impl fmt::Debug for MongoBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoBackend").field("location", &self.info.location).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for MongoBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        self.client.get(keys).await
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        self.client.write(batch).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.client.scan(scan).await
    }

    async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.client.keys(scan).await
    }

    async fn query(&self, query: &Query) -> Result<Page<Record>> {
        self.client.query(query).await
    }

    async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        self.client.list_range(range).await
    }

    async fn count(&self, count: &Count) -> Result<u64> {
        self.client.count(count).await
    }

    async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.client.collections().await
    }

    async fn clear(&self, collection: &CollectionName) -> Result<u64> {
        self.client.clear(collection).await
    }

    async fn ensure_index(&self, index: &IndexSpec) -> Result<bool> {
        self.client.ensure_index(index).await
    }

    async fn list_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        self.client.list_indexes(collection).await
    }

    async fn drop_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        self.client.drop_index(collection, path).await
    }

    async fn changes(&self, changes: &Changes) -> Result<Page<ChangeEvent>> {
        self.client.changes(changes).await
    }

    async fn health(&self) -> Result<Health> {
        self.client.check_open()?;
        Ok(self.client.health().await)
    }

    async fn stats(&self) -> Result<Stats> {
        self.client.check_open()?;
        self.client.stats().await
    }

    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        self.client.check_open()?;
        match task {
            Maintenance::Sweep => self.client.sweep().await,
            other => Err(Error::unsupported(other.as_str())),
        }
    }

    async fn close(&self) -> Result<()> {
        self.client.close().await;
        Ok(())
    }
}
