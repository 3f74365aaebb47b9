//! The backend: each request as one call of the client, on a thread that may block.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use storage_core::{
    Address, Backend, BackendInfo, Batch, Capabilities, ChangeEvent, Changes, CollectionName, Count, Error,
    ErrorKind, Feature, Health, HealthStatus, IndexSpec, Key, ListItems, ListRange, Maintenance,
    MaintenanceReport, Page, Path, Query, Record, Result, Scan, Stats, Written,
};

use crate::client::Client;
use crate::config::DirectoryConfig;
use crate::descriptor::DirectoryType;

/// An open directory store.
#[derive(Debug)]
pub struct DirectoryBackend {
    info: BackendInfo,
    client: Arc<Client>,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl DirectoryBackend {
    /// Opens the store of a directory, which is made if it is missing. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) if it is open already, in this process or another, and what the file system meets.
    pub async fn open(config: DirectoryConfig) -> Result<Self> {
        let root =
            std::path::absolute(&config.path).map_err(|error| crate::error::system(error, &config.path))?;
        let info = BackendInfo {
            name: DirectoryType::NAME.into(),
            version: DirectoryType::type_version(),
            location: format!("directory://{}", root.display()),
            capabilities: Self::capabilities(),
        };
        let client = Arc::new(blocking(move || Client::open(root)).await?);
        Ok(Self { info, client, reads: AtomicU64::new(0), writes: AtomicU64::new(0) })
    }

    pub(crate) fn capabilities() -> Capabilities {
        const LISTS: &str = "lists the whole collection";
        let native = [Feature::Get, Feature::Put, Feature::Preconditions, Feature::Clear, Feature::Bytes];
        Capabilities::none()
            .native(native)
            .emulated(Feature::Scan, LISTS)
            .emulated(Feature::OrderedScan, LISTS)
            .emulated(Feature::Count, LISTS)
            .emulated(Feature::Collections, "lists the whole store")
    }

    /// Runs a call of the client on a thread that may block. It runs to its end also if the future is dropped.
    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Client) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let client = Arc::clone(&self.client);
        blocking(move || call(&client)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Internal, format!("the call did not end: {error}")).with_source(error))
    })
}

#[async_trait]
impl Backend for DirectoryBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        let asked = keys.to_vec();
        let records = self.run(move |client| client.get(&asked)).await?;
        self.reads.fetch_add(keys.len() as u64, Ordering::Relaxed);
        Ok(records)
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        let batch = batch.clone();
        let results = self.run(move |client| client.write(&batch)).await?;
        let applied = results.iter().filter(|result| result.is_ok()).count();
        self.writes.fetch_add(applied as u64, Ordering::Relaxed);
        Ok(results)
    }

    async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        let scan = scan.clone();
        self.run(move |client| client.scan(&scan)).await
    }

    async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        let scan = scan.clone();
        self.run(move |client| client.keys(&scan)).await
    }

    async fn query(&self, _: &Query) -> Result<Page<Record>> {
        Err(Error::unsupported(Feature::Query))
    }

    async fn list_range(&self, _: &ListRange) -> Result<Option<ListItems>> {
        Err(Error::unsupported(Feature::Lists))
    }

    async fn count(&self, count: &Count) -> Result<u64> {
        if count.filter.is_some() {
            return Err(Error::unsupported(Feature::Query));
        }
        let collection = count.collection.clone();
        self.run(move |client| client.count(&collection)).await
    }

    async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.run(Client::collections).await
    }

    async fn clear(&self, collection: &CollectionName) -> Result<u64> {
        let collection = collection.clone();
        self.run(move |client| client.clear(&collection)).await
    }

    async fn ensure_index(&self, _: &IndexSpec) -> Result<bool> {
        Err(Error::unsupported(Feature::Indexes))
    }

    async fn list_indexes(&self, _: &CollectionName) -> Result<Vec<IndexSpec>> {
        Err(Error::unsupported(Feature::Indexes))
    }

    async fn drop_index(&self, _: &CollectionName, _: &Path) -> Result<bool> {
        Err(Error::unsupported(Feature::Indexes))
    }

    async fn changes(&self, _: &Changes) -> Result<Page<ChangeEvent>> {
        Err(Error::unsupported(Feature::Changes))
    }

    async fn health(&self) -> Result<Health> {
        let started = Instant::now();
        let (status, detail) = match self.run(Client::probe).await {
            Ok(()) => (HealthStatus::Up, "the directory can be read".to_owned()),
            Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
            Err(error) => (HealthStatus::Down, error.message().to_owned()),
        };
        Ok(Health { status, latency: started.elapsed(), detail })
    }

    async fn stats(&self) -> Result<Stats> {
        self.run(Client::check_open).await?;
        let (reads, writes) = (self.reads.load(Ordering::Relaxed), self.writes.load(Ordering::Relaxed));
        Ok(Stats { reads, writes, ..Stats::default() })
    }

    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        Err(Error::unsupported(task.as_str()))
    }

    async fn close(&self) -> Result<()> {
        self.run(|client| {
            client.close();
            Ok(())
        })
        .await
    }
}
