//! The backend: each method is a call of the client.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Instant;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use serde_json::json;
use storage_core::{
    Address, AtomicScope, Backend, BackendInfo, Batch, Capabilities, ChangeEvent, Changes, Coalescing,
    CollectionName, Count, Error, Feature, Health, HealthStatus, IndexSpec, Key, ListItems, ListRange,
    Maintenance, MaintenanceReport, Page, Path, Query, Record, Result, Scan, Stats, Written,
};

use crate::client::{Client, items, text};
use crate::config::{RedisConfig, Topology};
use crate::descriptor::RedisType;

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
    /// data of another layout.
    pub async fn open(config: RedisConfig) -> Result<Self> {
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

    /// Whether the server takes writes: a master does, a replica does not.
    async fn role(&self) -> Result<String> {
        let reply = self.client.link.one(0, redis::cmd("ROLE")).await?;
        text(items(reply)?.into_iter().next().unwrap_or(redis::Value::Nil))
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
        let started = Instant::now();
        let (status, detail) = match self.role().await {
            Ok(role) if role == "master" => (HealthStatus::Up, "the master answers".to_owned()),
            Ok(role) => (HealthStatus::Degraded, format!("reads only: the server's role is {role}")),
            Err(error) => (HealthStatus::Down, error.message().to_owned()),
        };
        Ok(Health { status, latency: started.elapsed(), detail })
    }

    async fn stats(&self) -> Result<Stats> {
        self.client.check_open()?;
        let mut details = std::collections::BTreeMap::new();
        let mut command = redis::cmd("INFO");
        command.arg("server").arg("clients").arg("memory");
        let mut told =
            text(self.client.link.one(0, command).await.unwrap_or(redis::Value::Nil)).unwrap_or_default();
        if told.is_empty() {
            // Servers before 7.0 take one section at a time.
            told = text(self.client.link.one(0, redis::cmd("INFO")).await?)?;
        }
        for line in told.lines() {
            if let Some((name, value)) = line.split_once(':')
                && matches!(
                    name,
                    "redis_version" | "connected_clients" | "used_memory" | "maxmemory" | "uptime_in_seconds"
                )
            {
                let value = value.parse::<u64>().map_or_else(|_| json!(value), |number| json!(number));
                details.insert(name.into(), value);
            }
        }
        if let Some(connected) = self.client.link.connected() {
            details.insert("connections_made".into(), json!(connected));
        }
        let collections = self.client.collections().await?;
        let sizes = try_join_all(collections.iter().map(|collection| self.client.size(collection))).await?;
        Ok(Stats {
            reads: self.client.reads.load(Ordering::Relaxed),
            writes: self.client.writes.load(Ordering::Relaxed),
            records: Some(sizes.into_iter().sum()),
            bytes: None,
            details,
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
