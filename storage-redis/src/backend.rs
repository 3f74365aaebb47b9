//! The backend: each method is a call of the client.

use std::fmt;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use storage_core::{
    Address, AtomicScope, Backend, BackendInfo, Batch, Capabilities, ChangeEvent, Changes, Coalescing,
    CollectionName, Count, Error, Feature, Health, IndexSpec, Key, ListItems, ListRange, Maintenance,
    MaintenanceReport, Page, Path, Query, Record, Result, Scan, Stats, Written,
};

use crate::client::Client;
use crate::config::{Format, RedisConfig, Topology};
use crate::descriptor::RedisType;
use crate::server;

/// Most mutations, and most bytes, in an atomic batch. It is one script, and while it runs the server does nothing else:
/// some 20 µs for a mutation and 14 ms for a MiB (measured; see docs/performance.md), so 40 ms and a quarter of a second.
const ATOMIC_LEN: usize = 2_000;
const ATOMIC_BYTES: usize = 16 << 20;

/// An open Redis store.
///
/// ```no_run
/// use storage_core::Store;
/// use storage_redis::{RedisBackend, RedisConfig};
///
/// # #[tokio::main]
/// # async fn main() -> storage_core::Result<()> {
/// let config = RedisConfig::from_url("redis://localhost")?;
/// let store = Store::new(std::sync::Arc::new(RedisBackend::open(config).await?));
/// # store.backend().close().await
/// # }
/// ```
pub struct RedisBackend {
    info: BackendInfo,
    client: Client,
}

impl RedisBackend {
    /// Connects, and checks that the data under the prefix was written in this layout.
    ///
    /// # Errors
    /// [`Unavailable`](storage_core::ErrorKind::Unavailable) or [`Timeout`](storage_core::ErrorKind::Timeout) if no
    /// server answers, [`Unauthenticated`](storage_core::ErrorKind::Unauthenticated),
    /// [`InvalidInput`](storage_core::ErrorKind::InvalidInput) for a file of certificates that cannot be read and for
    /// data of another layout or [`Format`].
    pub async fn open(config: RedisConfig) -> Result<Self> {
        if config.format != Format::Record {
            return Err(Error::invalid("a store of records has the configuration format = record"));
        }
        let info = BackendInfo {
            name: RedisType::NAME.into(),
            version: RedisType::type_version(),
            location: config.location(),
            capabilities: Self::capabilities(&config),
        };
        Ok(Self { info, client: Client::open(&config).await? })
    }

    pub(crate) fn capabilities(config: &RedisConfig) -> Capabilities {
        use Feature::*;

        let mut capabilities = Capabilities::none()
            .native([
                Get,
                Put,
                Preconditions,
                Expiry,
                Atomic,
                Scan,
                OrderedScan,
                Collections,
                Clear,
                Bytes,
                Counters,
                Lists,
                Sweep,
            ])
            .emulated(Query, "reads the whole collection")
            .emulated(Sort, "reads the whole collection, and keeps one page")
            .emulated(Count, "the server looks at each record; with a filter, reads the whole collection");
        capabilities.atomic_scope = match (config.topology, config.shards()) {
            (Topology::Cluster, 1) => AtomicScope::Collection,
            (Topology::Cluster, _) => AtomicScope::Record,
            _ => AtomicScope::Store,
        };
        capabilities.limits.atomic_len = ATOMIC_LEN;
        capabilities.limits.atomic_bytes = ATOMIC_BYTES;
        capabilities.coalesce_reads = Coalescing::Pays;
        capabilities.coalesce_writes = Coalescing::Pays;
        capabilities
    }

    async fn sweep(&self) -> Result<MaintenanceReport> {
        let collections = self.client.collections().await?;
        let swept =
            try_join_all(collections.iter().map(|collection| self.client.remove(collection, false))).await?;
        Ok(MaintenanceReport {
            examined: swept.iter().map(|removed| removed.seen).sum(),
            removed: swept.iter().map(|removed| removed.expired).sum(),
            ..MaintenanceReport::default()
        })
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("location", &self.info.location).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for RedisBackend {
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
        Ok(self.client.remove(collection, true).await?.live)
    }

    async fn ensure_index(&self, _: &IndexSpec) -> Result<bool> {
        self.client.check_open().and(Err(Error::unsupported(Feature::Indexes)))
    }

    async fn list_indexes(&self, _: &CollectionName) -> Result<Vec<IndexSpec>> {
        self.client.check_open().and(Err(Error::unsupported(Feature::Indexes)))
    }

    async fn drop_index(&self, _: &CollectionName, _: &Path) -> Result<bool> {
        self.client.check_open().and(Err(Error::unsupported(Feature::Indexes)))
    }

    async fn changes(&self, _: &Changes) -> Result<Page<ChangeEvent>> {
        self.client.check_open().and(Err(Error::unsupported(Feature::Changes)))
    }

    async fn health(&self) -> Result<Health> {
        self.client.check_open()?;
        Ok(server::health(&self.client.link).await)
    }

    async fn stats(&self) -> Result<Stats> {
        self.client.check_open()?;
        let collections = self.client.collections().await?;
        let sizes = try_join_all(collections.iter().map(|collection| self.client.size(collection))).await?;
        Ok(Stats {
            reads: self.client.reads.load(Ordering::Relaxed),
            writes: self.client.writes.load(Ordering::Relaxed),
            records: Some(sizes.into_iter().sum()),
            bytes: None,
            details: server::details(&self.client.link).await?,
        })
    }

    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        self.client.check_open()?;
        match task {
            Maintenance::Sweep => self.sweep().await,
            other => Err(Error::unsupported(other.as_str())),
        }
    }

    async fn close(&self) -> Result<()> {
        self.client.closed.store(true, Ordering::Release);
        Ok(())
    }
}
