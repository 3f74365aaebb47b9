//! The backend: each method reads from the snapshot or hands a job to the committer.

use std::fmt;
use std::path::Path as FsPath;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use async_trait::async_trait;
use serde_json::json;
use storage_core::{
    Address, AtomicScope, Backend, BackendInfo, Batch, Capabilities, ChangeEvent, Changes, CollectionName,
    Count, Error, ErrorKind, Feature, Health, HealthStatus, IndexSpec, Key, ListItems, ListRange,
    Maintenance, MaintenanceReport, Page, Path, Query, Record, Result, Scan, Stats, Timestamp, Written,
};

use crate::client::{Client, Job, Shared, closed};
use crate::committer::Committer;
use crate::config::{Durability, FileConfig};
use crate::descriptor::FileType;
use crate::open;

/// An open file store.
///
/// ```
/// use storage_core::Store;
/// use storage_file::{FileBackend, FileConfig};
///
/// # #[tokio::main]
/// # async fn main() -> storage_core::Result<()> {
/// # let directory = tempfile::tempdir().expect("a temporary directory");
/// # let path = directory.path().join("data");
/// let store = Store::new(std::sync::Arc::new(FileBackend::open(FileConfig::new(path)).await?));
/// # store.backend().close().await?;
/// # Ok(())
/// # }
/// ```
pub struct FileBackend {
    info: BackendInfo,
    client: Option<Client>,
    committer: Mutex<Option<JoinHandle<()>>>,
    durability: Durability,
    closed: AtomicBool,
}

impl FileBackend {
    /// Opens the store in the directory `config.path`, making it if there is none.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) if another process has it open, [`Corrupt`](ErrorKind::Corrupt) if the file is
    /// damaged, cut short, or of a newer format, [`PermissionDenied`](ErrorKind::PermissionDenied),
    /// [`StorageFull`](ErrorKind::StorageFull); all name the file.
    pub async fn open(config: FileConfig) -> Result<Self> {
        let opening = tokio::task::spawn_blocking(move || Self::start(config));
        opening.await.map_err(|error| Error::new(ErrorKind::Internal, format!("opening: {error}")))?
    }

    fn start(config: FileConfig) -> Result<Self> {
        let info = BackendInfo {
            name: FileType::NAME.into(),
            version: FileType::type_version(),
            location: location(&config.path),
            capabilities: Self::capabilities(),
        };
        let durability = config.durability;
        let shared = Shared::new(open::file_path(&config));
        let opened = open::open(&config, durability == Durability::None)?;
        let committer = Committer::new(config, std::sync::Arc::clone(&shared), opened)?;
        let (sender, jobs) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("storage-file".into())
            .spawn(move || committer.run(&jobs))
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable, format!("no thread for the store: {error}"))
            })?;
        Ok(Self {
            info,
            client: Some(Client::new(shared, sender)),
            committer: Mutex::new(Some(thread)),
            durability,
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn capabilities() -> Capabilities {
        let native = Feature::ALL
            .into_iter()
            .filter(|feature| !matches!(feature, Feature::Changes | Feature::Analyse));
        let mut capabilities = Capabilities::none().native(native);
        capabilities.atomic_scope = AtomicScope::Store;
        capabilities
    }

    pub(crate) fn client(&self) -> Result<&Client> {
        self.client.as_ref().filter(|_| !self.closed.load(Ordering::Acquire)).ok_or_else(closed)
    }

    async fn verify(&self) -> Result<MaintenanceReport> {
        let client = self.client()?;
        let mut problems = client.submit(Job::Check).await?;
        let mut report = client.read_long(|snapshot| Ok(snapshot.verify())).await?;
        problems.append(&mut report.problems);
        Ok(MaintenanceReport { problems, ..report })
    }

    async fn sweep(&self) -> Result<MaintenanceReport> {
        let client = self.client()?;
        let mut report = MaintenanceReport::default();
        loop {
            let removed = client.submit(Job::Sweep).await?;
            report.removed += removed;
            if removed == 0 {
                report.examined = report.removed;
                return Ok(report);
            }
        }
    }
}

fn location(path: &FsPath) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    format!("file://{}", absolute.display())
}

impl fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBackend")
            .field("location", &self.info.location)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

impl Drop for FileBackend {
    /// Waits until what was acknowledged is written and the file is closed.
    fn drop(&mut self) {
        self.client = None;
        let thread = self.committer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Backend for FileBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        let client = self.client()?;
        client.shared.reads.fetch_add(keys.len() as u64, Ordering::Relaxed);
        let now = Timestamp::now();
        client.read(|snapshot| keys.iter().map(|address| snapshot.get(address, now)).collect()).await
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        let client = self.client()?;
        if batch.mutations.is_empty() {
            return Ok(Vec::new());
        }
        client.submit(|reply| Job::Write(batch.clone(), reply)).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.client()?.read(|snapshot| snapshot.scan(scan)).await
    }

    async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.client()?.read(|snapshot| snapshot.keys(scan)).await
    }

    async fn query(&self, query: &Query) -> Result<Page<Record>> {
        let query = query.clone();
        self.client()?.read_long(move |snapshot| snapshot.query(&query)).await
    }

    async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        self.client()?.read(|snapshot| snapshot.list_range(range)).await
    }

    async fn count(&self, count: &Count) -> Result<u64> {
        let count = count.clone();
        self.client()?.read_long(move |snapshot| snapshot.count(&count)).await
    }

    async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.client()?.read(|snapshot| snapshot.collections()).await
    }

    async fn clear(&self, collection: &CollectionName) -> Result<u64> {
        let client = self.client()?;
        let mut removed = 0;
        loop {
            let (live, done) = client.submit(|reply| Job::Clear(collection.clone(), reply)).await?;
            removed += live;
            if done {
                return Ok(removed);
            }
        }
    }

    async fn ensure_index(&self, index: &IndexSpec) -> Result<bool> {
        self.client()?.submit(|reply| Job::EnsureIndex(index.clone(), reply)).await
    }

    async fn list_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        self.client()?
            .read(|snapshot| Ok(snapshot.indexes.of(collection).map(|index| index.spec.clone()).collect()))
            .await
    }

    async fn drop_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        self.client()?.submit(|reply| Job::DropIndex(collection.clone(), path.clone(), reply)).await
    }

    async fn changes(&self, _: &Changes) -> Result<Page<ChangeEvent>> {
        self.client()?;
        Err(Error::unsupported(Feature::Changes))
    }

    async fn health(&self) -> Result<Health> {
        let started = Instant::now();
        let client = self.client()?;
        let read = client.read(|snapshot| snapshot.collections().map(drop)).await;
        let written = client.submit(|reply| Job::Write(Batch::independent(Vec::new()), reply)).await;
        let (status, detail) = match (read, written) {
            (Ok(()), Ok(_)) => (HealthStatus::Up, "the file can be read and written".to_owned()),
            (Ok(()), Err(error)) => (HealthStatus::Degraded, format!("reads only: {}", error.message())),
            (Err(error), _) => (HealthStatus::Down, error.message().to_owned()),
        };
        Ok(Health { status, latency: started.elapsed(), detail })
    }

    async fn stats(&self) -> Result<Stats> {
        let client = self.client()?;
        let records = client.read(|snapshot| snapshot.len()).await?;
        let shared = &client.shared;
        Ok(Stats {
            reads: shared.reads.load(Ordering::Relaxed),
            writes: shared.writes.load(Ordering::Relaxed),
            records: Some(records),
            bytes: std::fs::metadata(&shared.file).ok().map(|file| file.len()),
            details: [
                ("file".into(), json!(shared.file)),
                ("durability".into(), json!(self.durability)),
                ("commits".into(), json!(shared.commits.load(Ordering::Relaxed))),
            ]
            .into(),
        })
    }

    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        match task {
            Maintenance::Sweep => self.sweep().await,
            Maintenance::Compact => self.client()?.submit(Job::Compact).await,
            Maintenance::Verify => self.verify().await,
            Maintenance::Analyse => self.client().and(Err(Error::unsupported(Feature::Analyse))),
        }
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        match &self.client {
            Some(client) => client.close().await,
            None => Ok(()),
        }
    }
}
