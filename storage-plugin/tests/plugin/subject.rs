//! A storage type that does what the key of a `get` orders it to do.

use std::future::{Future, pending};
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Tree, json};
use storage_core::{
    Address, Backend, BackendInfo, Batch, Capabilities, ChangeEvent, Changes, CollectionName, Count, Error,
    Health, IndexSpec, Key, ListItems, ListRange, Maintenance, MaintenanceReport, MemoryBackend, Page, Path,
    Query, Record, Result, Scan, Stats, TypeDescriptor, Written,
};

pub(crate) static SUBJECT: Subject = Subject;

/// How many calls hang or hung, and how many of them were dropped.
pub(crate) static HUNG: AtomicUsize = AtomicUsize::new(0);
pub(crate) static DROPPED: AtomicUsize = AtomicUsize::new(0);
/// How many stores were closed.
pub(crate) static CLOSED: AtomicUsize = AtomicUsize::new(0);
/// The names of the threads on which stores were dropped.
pub(crate) static STORES_DROPPED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// How long `block` blocks its thread: longer than a shutdown takes.
pub(crate) const BLOCKED: Duration = Duration::from_secs(7);

pub(crate) struct Subject;

#[derive(Debug)]
struct Store(MemoryBackend);

struct Hanging {
    /// How long its end takes.
    lingers: Duration,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        thread::sleep(self.lingers);
        DROPPED.fetch_add(1, SeqCst);
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("as ordered");
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let name = thread::current().name().unwrap_or_default().to_owned();
        STORES_DROPPED.lock().unwrap().push(name);
    }
}

#[async_trait]
impl TypeDescriptor for Subject {
    fn name(&self) -> &str {
        "subject"
    }

    fn version(&self) -> semver::Version {
        semver::Version::new(1, 2, 3)
    }

    fn summary(&self) -> &str {
        "Does what it is ordered to do"
    }

    fn schemes(&self) -> &[&str] {
        &["subject"]
    }

    fn capabilities(&self) -> Capabilities {
        MemoryBackend::new().info().capabilities.clone()
    }

    fn config_schema(&self) -> Tree {
        json!({"type": "object", "properties": {}, "additionalProperties": false})
    }

    fn config_from_url(&self, url: &str) -> Result<Tree> {
        assert_ne!(url, "subject:panic");
        Ok(json!({}))
    }

    fn validate(&self, config: &Tree) -> Result<()> {
        assert_ne!(config, "panic");
        if config.is_object() { Ok(()) } else { Err(Error::invalid("no object")) }
    }

    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>> {
        self.validate(&config)?;
        Ok(Arc::new(Store(MemoryBackend::new())))
    }
}

async fn obey(order: &str) {
    match order {
        "work" => {}
        "work-later" => tokio::task::yield_now().await,
        // Needs the runtime's timers, and the waker of the last poll.
        "sleep" => tokio::time::sleep(Duration::from_millis(5)).await,
        "panic" => panic!("as ordered"),
        "panic-later" => {
            tokio::task::yield_now().await;
            panic!("as ordered");
        }
        "panic-number" => panic_any(7),
        "panic-bomb" => panic_any(Bomb),
        "panic-on-drop" => drop(Bomb),
        // As "hang", but not counted.
        "wait" => pending().await,
        "hang" | "hang-and-linger" => {
            HUNG.fetch_add(1, SeqCst);
            let lingers = if order == "hang" { Duration::ZERO } else { Duration::from_millis(100) };
            let _hanging = Hanging { lingers };
            pending().await
        }
        "block" => {
            // Only once it is on a thread of the plugin.
            tokio::task::yield_now().await;
            HUNG.fetch_add(1, SeqCst);
            thread::sleep(BLOCKED);
        }
        "log" => log().await,
        other => panic!("the unknown order {other}"),
    }
}

/// Logs in spans, waiting in between.
#[tracing::instrument]
async fn log() {
    tracing::info!(n = 7, text = "seven", "told {}", "so");
    tokio::task::yield_now().await;
    tracing::debug_span!("inner").in_scope(|| tracing::warn!("in both"));
    tracing::trace!("last");
}

#[async_trait]
impl Backend for Store {
    fn info(&self) -> &BackendInfo {
        self.0.info()
    }

    fn get<'a, 'b, 'f>(
        &'a self,
        keys: &'b [Address],
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Option<Record>>>> + Send + 'f>>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        let order = keys[0].key.as_str();
        assert!(order != "panic-at-once", "as ordered");
        Box::pin(async move {
            obey(order).await;
            Ok(vec![None])
        })
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        self.0.write(batch).await
    }
    async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.0.scan(scan).await
    }
    async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.0.keys(scan).await
    }
    async fn query(&self, query: &Query) -> Result<Page<Record>> {
        self.0.query(query).await
    }
    async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        self.0.list_range(range).await
    }
    async fn count(&self, count: &Count) -> Result<u64> {
        self.0.count(count).await
    }
    async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.0.collections().await
    }
    async fn clear(&self, collection: &CollectionName) -> Result<u64> {
        self.0.clear(collection).await
    }
    async fn ensure_index(&self, index: &IndexSpec) -> Result<bool> {
        self.0.ensure_index(index).await
    }
    async fn list_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        self.0.list_indexes(collection).await
    }
    async fn drop_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        self.0.drop_index(collection, path).await
    }
    async fn changes(&self, changes: &Changes) -> Result<Page<ChangeEvent>> {
        self.0.changes(changes).await
    }
    async fn health(&self) -> Result<Health> {
        self.0.health().await
    }
    async fn stats(&self) -> Result<Stats> {
        self.0.stats().await
    }
    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        self.0.maintain(task).await
    }
    async fn close(&self) -> Result<()> {
        CLOSED.fetch_add(1, SeqCst);
        self.0.close().await
    }
}
