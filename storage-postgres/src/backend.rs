//! The backend: each method is a call of the client.

use std::fmt;

use async_trait::async_trait;
use storage_core::{
    Address, AtomicScope, Backend, BackendInfo, Batch, Capabilities, ChangeEvent, Changes, Coalescing,
    CollectionName, Count, Error, Feature, Health, IndexSpec, Key, ListItems, ListRange, Maintenance,
    MaintenanceReport, Page, Path, Query, Record, Result, Scan, Stats, Written,
};

use crate::client::Client;
use crate::config::PostgresConfig;
use crate::descriptor::PostgresType;
use crate::pool::{PoolSettings, PoolStats};

/// An open PostgreSQL store.
///
/// ```no_run
/// use storage_core::Store;
/// use storage_postgres::{PostgresBackend, PostgresConfig};
///
/// # #[tokio::main]
/// # async fn main() -> storage_core::Result<()> {
/// let config = PostgresConfig::from_url("postgres://localhost/app")?;
/// let store = Store::new(std::sync::Arc::new(PostgresBackend::open(config).await?));
/// # store.backend().close().await
/// # }
/// ```
pub struct PostgresBackend {
    info: BackendInfo,
    client: Client,
}

impl PostgresBackend {
    /// Connects, and checks that the tables are those that this program needs. Makes or upgrades them if they are not and
    /// the configuration has [`create_schema`](PostgresConfig::create_schema).
    ///
    /// # Errors
    /// [`Unavailable`](storage_core::ErrorKind::Unavailable) or [`Timeout`](storage_core::ErrorKind::Timeout) if no
    /// server answers, [`Unauthenticated`](storage_core::ErrorKind::Unauthenticated),
    /// [`PermissionDenied`](storage_core::ErrorKind::PermissionDenied), and
    /// [`InvalidInput`](storage_core::ErrorKind::InvalidInput) for a file of certificates that cannot be read, a database
    /// that is not in UTF-8, and tables of another version.
    pub async fn open(config: PostgresConfig) -> Result<Self> {
        let mut capabilities = Self::capabilities();
        if config.changes {
            capabilities = capabilities.native([Feature::Changes]);
        }
        let info = BackendInfo {
            name: PostgresType::NAME.into(),
            version: PostgresType::type_version(),
            location: config.location(),
            capabilities,
        };
        let client = Client::new(&config)?;
        client.agree(config.create_schema).await?;
        client.agree_on_changes(config.create_schema).await?;
        client.pool.keep();
        Ok(Self { info, client })
    }

    /// Changes the pool while it is in use. What is in use stays so until its call ends: a smaller pool is reached as
    /// connections are given back, and no call fails.
    ///
    /// # Errors
    /// [`InvalidInput`](storage_core::ErrorKind::InvalidInput) for a pool of no connections, or a minimum above the maximum.
    pub fn reconfigure_pool(&self, settings: PoolSettings) -> Result<()> {
        self.client.check_open()?;
        self.client.pool.reconfigure(settings)
    }

    /// How the pool is now.
    pub fn pool_stats(&self) -> PoolStats {
        self.client.pool.stats()
    }

    pub(crate) fn capabilities() -> Capabilities {
        use Feature::*;

        let mut capabilities = Capabilities::none().native([
            Get,
            Put,
            Preconditions,
            Expiry,
            Atomic,
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
            Analyse,
            Compact,
        ]);
        capabilities.atomic_scope = AtomicScope::Store;
        capabilities.coalesce_reads = Coalescing::Pays;
        capabilities.coalesce_writes = Coalescing::Pays;
        capabilities
    }
}

impl fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBackend").field("location", &self.info.location).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for PostgresBackend {
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
            Maintenance::Analyse => self.client.analyse().await,
            Maintenance::Compact => self.client.compact().await,
            other => Err(Error::unsupported(other.as_str())),
        }
    }

    async fn close(&self) -> Result<()> {
        self.client.close().await;
        Ok(())
    }
}
