//! The backend over [`Data`]: one lock, no I/O.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use async_trait::async_trait;
use semver::Version as Semver;

use super::data::Data;
use crate::query::{Counting, Selection};
use crate::{
    Address, AtomicScope, Backend, BackendInfo, Batch, Capabilities, ChangeEvent, Changes, CollectionName,
    Count, Cursor, Error, ErrorKind, Feature, Health, HealthStatus, IndexSpec, Key, ListItems, ListRange,
    Maintenance, MaintenanceReport, Page, Path, Query, Record, Result, Scan, Stats, Timestamp, Value,
    Written,
};

/// Soft limit of a page's size in bytes: a page ends once it is passed.
const PAGE_BYTES: usize = 4 << 20;

/// A store in this process's memory. What it holds is gone when it is dropped or closed.
///
/// ```
/// use storage_core::{Address, Backend, Batch, Json, MemoryBackend, Mutation};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// let memory = MemoryBackend::new();
/// let address = Address::new("users", "ada")?;
/// memory.write(&Batch::independent(vec![Mutation::put(address.clone(), Json::parse("{}")?)])).await?;
/// assert!(memory.get(&[address]).await?[0].is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryBackend {
    info: BackendInfo,
    data: RwLock<Data>,
    closed: AtomicBool,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl MemoryBackend {
    /// The type's name.
    pub const NAME: &str = "memory";

    /// An empty store.
    #[allow(clippy::new_without_default, reason = "a store is opened, not defaulted into being")]
    pub fn new() -> Self {
        let info = BackendInfo {
            name: Self::NAME.into(),
            version: Self::type_version(),
            location: "memory:".into(),
            capabilities: Self::capabilities(),
        };
        let (reads, writes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { info, data: RwLock::default(), closed: AtomicBool::new(false), reads, writes }
    }

    pub(super) fn type_version() -> Semver {
        Semver::new(1, 0, 0)
    }

    pub(super) fn capabilities() -> Capabilities {
        let native = Feature::ALL.into_iter().filter(|feature| {
            !matches!(feature, Feature::Changes | Feature::Analyse | Feature::Compact | Feature::Indexes)
        });
        let mut capabilities = Capabilities::none()
            .native(native)
            .emulated(Feature::Indexes, "kept, but queries read every record");
        capabilities.atomic_scope = AtomicScope::Store;
        capabilities
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, Data>> {
        self.check_open()?;
        // A panic elsewhere cannot leave the data half changed: batches restore what they touched.
        Ok(self.data.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn edit(&self) -> Result<RwLockWriteGuard<'_, Data>> {
        self.check_open()?;
        Ok(self.data.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the store has been closed"));
        }
        Ok(())
    }

    /// One page of what `each` makes of the records of a scan.
    fn page<T>(&self, scan: &Scan, each: impl Fn(&Record) -> (T, usize)) -> Result<Page<T>> {
        let data = self.read()?;
        let after: Option<Key> =
            scan.after.as_ref().map(|cursor| cursor.open(&scan.identity())).transpose()?;
        let (mut items, mut bytes, mut last) = (Vec::new(), 0, None);
        for record in data.records(&scan.collection, &scan.prefix, after.as_ref(), Timestamp::now()) {
            if items.len() == scan.limit as usize || bytes > PAGE_BYTES {
                let next = last.map(|key: &Key| Cursor::seal(&scan.identity(), key)).transpose()?;
                return Ok(Page { items, next });
            }
            let (item, size) = each(record);
            items.push(item);
            bytes += size;
            last = Some(&record.address.key);
        }
        Ok(Page::last(items))
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        let data = self.read()?;
        let now = Timestamp::now();
        self.reads.fetch_add(keys.len() as u64, Ordering::Relaxed);
        Ok(keys.iter().map(|address| data.get(address, now)).collect())
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        let results = self.edit()?.write(batch, Timestamp::now())?;
        let applied = results.iter().filter(|result| result.is_ok()).count();
        self.writes.fetch_add(applied as u64, Ordering::Relaxed);
        Ok(results)
    }

    async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.page(scan, |record| (record.clone(), record.size()))
    }

    async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.page(scan, |record| (record.address.key.clone(), 0))
    }

    async fn query(&self, query: &Query) -> Result<Page<Record>> {
        let mut selection = Selection::new(query)?;
        let after = selection.resume_after().cloned();
        let data = self.read()?;
        for record in data.records(&query.collection, "", after.as_ref(), Timestamp::now()) {
            if !selection.offer(record.clone())? {
                break;
            }
        }
        selection.finish()
    }

    async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        let data = self.read()?;
        let Some(record) = data.get(&range.address, Timestamp::now()) else { return Ok(None) };
        let Value::List { length } = record.value else {
            let kind = record.value.kind();
            let message = format!("range of {}: the record holds {kind}", range.address);
            return Err(Error::new(ErrorKind::TypeMismatch, message));
        };
        let start = usize::try_from(range.start).unwrap_or(usize::MAX);
        let items = data.items(&range.address).iter().skip(start).take(range.limit as usize);
        Ok(Some(ListItems { items: items.cloned().collect(), length }))
    }

    async fn count(&self, count: &Count) -> Result<u64> {
        let mut counting = Counting::new(count.filter.as_ref());
        let data = self.read()?;
        for record in data.records(&count.collection, "", None, Timestamp::now()) {
            counting.offer(record)?;
        }
        Ok(counting.total())
    }

    async fn collections(&self) -> Result<Vec<CollectionName>> {
        Ok(self.read()?.collections())
    }

    async fn clear(&self, collection: &CollectionName) -> Result<u64> {
        Ok(self.edit()?.clear(collection, Timestamp::now()))
    }

    async fn ensure_index(&self, index: &IndexSpec) -> Result<bool> {
        self.edit()?.ensure_index(index, Timestamp::now())
    }

    async fn list_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        Ok(self.read()?.indexes(collection))
    }

    async fn drop_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        Ok(self.edit()?.drop_index(collection, path))
    }

    async fn changes(&self, _: &Changes) -> Result<Page<ChangeEvent>> {
        self.check_open()?;
        Err(Error::unsupported(Feature::Changes))
    }

    async fn health(&self) -> Result<Health> {
        let started = Instant::now();
        drop(self.read()?);
        Ok(Health { status: HealthStatus::Up, latency: started.elapsed(), detail: "in memory".into() })
    }

    async fn stats(&self) -> Result<Stats> {
        let data = self.read()?;
        Ok(Stats {
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            records: Some(data.len() as u64),
            bytes: Some(data.size() as u64),
            details: [].into(),
        })
    }

    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        let mut data = self.edit()?;
        let examined = data.len() as u64;
        match task {
            Maintenance::Sweep => {
                let removed = data.sweep(Timestamp::now());
                Ok(MaintenanceReport { examined, removed, ..MaintenanceReport::default() })
            }
            Maintenance::Verify => Ok(MaintenanceReport { examined, ..MaintenanceReport::default() }),
            Maintenance::Analyse | Maintenance::Compact => Err(Error::unsupported(task.as_str())),
        }
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        *self.data.write().unwrap_or_else(PoisonError::into_inner) = Data::default();
        Ok(())
    }
}
