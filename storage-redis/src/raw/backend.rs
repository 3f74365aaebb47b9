//! The backend of plain strings: each method is a call of the client, or not offered.

use std::fmt;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use storage_core::{
    Address, Backend, BackendInfo, Batch, Capabilities, ChangeEvent, Changes, Coalescing, CollectionName,
    Count, Error, Feature, Health, IndexSpec, Key, ListItems, ListRange, Maintenance, MaintenanceReport,
    Page, Path, Query, Record, Result, Scan, Stats, Written,
};

use super::strings::Strings;
use crate::config::{Format, RawValues, RedisConfig};
use crate::descriptor::RedisType;
use crate::server;

/// Plain strings under plain keys, which other programs read and write too. The crate's documentation says what a
/// record of theirs looks like, and what is not offered.
///
/// ```no_run
/// use storage_core::Store;
/// use storage_redis::{RawBackend, RedisConfig};
///
/// # #[tokio::main]
/// # async fn main() -> storage_core::Result<()> {
/// let config = RedisConfig::from_url("redis://localhost/0?format=raw&values=bytes")?;
/// let store = Store::new(std::sync::Arc::new(RawBackend::open(config).await?));
/// # store.backend().close().await
/// # }
/// ```
pub struct RawBackend {
    info: BackendInfo,
    strings: Strings,
}

impl RawBackend {
    /// Connects. Nothing is written.
    ///
    /// # Errors
    /// As [`RedisBackend::open`](crate::RedisBackend::open), and
    /// [`InvalidInput`](storage_core::ErrorKind::InvalidInput) for a configuration of another [`Format`].
    pub async fn open(config: RedisConfig) -> Result<Self> {
        if config.format != Format::Raw {
            return Err(Error::invalid("a raw store has the configuration format = raw"));
        }
        let info = BackendInfo {
            name: RedisType::NAME.into(),
            version: RedisType::type_version(),
            location: config.location(),
            capabilities: Self::capabilities(&config),
        };
        Ok(Self { info, strings: Strings::open(&config).await? })
    }

    fn capabilities(config: &RedisConfig) -> Capabilities {
        let mut capabilities = Capabilities::none().native([Feature::Get, Feature::Put, Feature::Expiry]);
        if config.values == Some(RawValues::Bytes) {
            capabilities = capabilities.native([Feature::Bytes]);
        }
        capabilities.coalesce_reads = Coalescing::Pays;
        capabilities.coalesce_writes = Coalescing::Pays;
        capabilities
    }

    fn refuse<T>(&self, what: impl fmt::Display) -> Result<T> {
        self.strings.check_open().and(Err(Error::unsupported(what)))
    }
}

impl fmt::Debug for RawBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawBackend").field("location", &self.info.location).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for RawBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        self.strings.get(keys).await
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        self.strings.write(batch).await
    }

    async fn scan(&self, _: &Scan) -> Result<Page<Record>> {
        self.refuse(Feature::Scan)
    }

    async fn keys(&self, _: &Scan) -> Result<Page<Key>> {
        self.refuse(Feature::Scan)
    }

    async fn query(&self, _: &Query) -> Result<Page<Record>> {
        self.refuse(Feature::Query)
    }

    async fn list_range(&self, _: &ListRange) -> Result<Option<ListItems>> {
        self.refuse(Feature::Lists)
    }

    async fn count(&self, _: &Count) -> Result<u64> {
        self.refuse(Feature::Count)
    }

    async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.refuse(Feature::Collections)
    }

    async fn clear(&self, _: &CollectionName) -> Result<u64> {
        self.refuse(Feature::Clear)
    }

    async fn ensure_index(&self, _: &IndexSpec) -> Result<bool> {
        self.refuse(Feature::Indexes)
    }

    async fn list_indexes(&self, _: &CollectionName) -> Result<Vec<IndexSpec>> {
        self.refuse(Feature::Indexes)
    }

    async fn drop_index(&self, _: &CollectionName, _: &Path) -> Result<bool> {
        self.refuse(Feature::Indexes)
    }

    async fn changes(&self, _: &Changes) -> Result<Page<ChangeEvent>> {
        self.refuse(Feature::Changes)
    }

    async fn health(&self) -> Result<Health> {
        self.strings.check_open()?;
        Ok(server::health(&self.strings.link).await)
    }

    async fn stats(&self) -> Result<Stats> {
        self.strings.check_open()?;
        Ok(Stats {
            reads: self.strings.reads.load(Ordering::Relaxed),
            writes: self.strings.writes.load(Ordering::Relaxed),
            records: None,
            bytes: None,
            details: server::details(&self.strings.link).await?,
        })
    }

    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        self.refuse(task.as_str())
    }

    async fn close(&self) -> Result<()> {
        self.strings.closed.store(true, Ordering::Release);
        Ok(())
    }
}
