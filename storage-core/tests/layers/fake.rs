//! A backend that fails, waits, counts and panics as it is told.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use storage_core::{
    Address, Backend, BackendInfo, Batch, Capabilities, Change, ChangeEvent, Changes, Coalescing,
    CollectionName, Count, Effect, Error, ErrorKind, Feature, Health, HealthStatus, IndexSpec, Key,
    ListItems, ListRange, Maintenance, MaintenanceReport, Mutation, Page, Path, Query, Record, Result, Retry,
    Scan, Stats, Timestamp, Value, Version, Written,
};

#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) info: BackendInfo,
    pub(crate) delay: Duration,
    /// Every other call takes a tenth of the delay.
    pub(crate) uneven: bool,
    /// One call at a time: the others wait.
    pub(crate) lock: Option<tokio::sync::Mutex<()>>,
    /// The errors of the next calls, then success.
    pub(crate) faults: Mutex<VecDeque<Error>>,
    /// The operations called.
    pub(crate) calls: Mutex<Vec<&'static str>>,
    /// The keys of each get and write that was begun.
    pub(crate) batches: Mutex<Vec<Vec<String>>>,
    /// The mutations that were applied, in order.
    pub(crate) applied: Mutex<Vec<Mutation>>,
    pub(crate) counters: Mutex<HashMap<Address, i64>>,
    pub(crate) closed: AtomicBool,
    pub(crate) flying: AtomicUsize,
    pub(crate) most_flying: AtomicUsize,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let mut capabilities = Capabilities::none().native(Feature::ALL);
        capabilities.coalesce_reads = Coalescing::Pays;
        capabilities.coalesce_writes = Coalescing::Pays;
        Self::with(capabilities)
    }

    pub(crate) fn with(capabilities: Capabilities) -> Self {
        let info = BackendInfo {
            name: "fake".into(),
            version: "1.0.0".parse().unwrap(),
            location: "fake:".into(),
            capabilities,
        };
        Self {
            info,
            delay: Duration::ZERO,
            uneven: false,
            lock: None,
            faults: Mutex::default(),
            calls: Mutex::default(),
            batches: Mutex::default(),
            applied: Mutex::default(),
            counters: Mutex::default(),
            closed: AtomicBool::new(false),
            flying: AtomicUsize::new(0),
            most_flying: AtomicUsize::new(0),
        }
    }

    pub(crate) fn slow(delay: Duration) -> Arc<Self> {
        Arc::new(Self { delay, ..Self::new() })
    }

    /// Fails so many times in this way.
    pub(crate) fn failing(times: usize, kind: ErrorKind, retry: Retry) -> Arc<Self> {
        let fake = Self::new();
        let error = Error::new(kind, "told to").with_retry(retry);
        fake.faults.lock().unwrap().extend(std::iter::repeat_n(error, times));
        Arc::new(fake)
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    pub(crate) fn batch_lens(&self) -> Vec<usize> {
        self.batches.lock().unwrap().iter().map(Vec::len).collect()
    }

    async fn step(&self, operation: &'static str) -> Result<()> {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(operation);
            calls.len()
        };
        let flying = self.flying.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_flying.fetch_max(flying, Ordering::SeqCst);
        let _landed = Landed(&self.flying);
        let _locked = match &self.lock {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        if self.delay > Duration::ZERO {
            let part = if self.uneven && number % 2 == 0 { 10 } else { 1 };
            tokio::time::sleep(self.delay / part).await;
        }
        if self.closed.load(Ordering::SeqCst) && operation != "close" {
            return Err(Error::new(ErrorKind::Closed, "closed"));
        }
        match self.faults.lock().unwrap().pop_front() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn saw<'a>(&self, keys: impl Iterator<Item = &'a Address>) -> Result<()> {
        let keys: Vec<String> = keys.map(|address| address.key.to_string()).collect();
        let bad = keys.iter().any(|key| key.starts_with("bad"));
        let damaged = keys.iter().any(|key| key.starts_with("damaged"));
        let panics = keys.iter().any(|key| key.starts_with("panic"));
        self.batches.lock().unwrap().push(keys);
        assert!(!panics, "told to panic");
        if damaged {
            return Err(Error::new(ErrorKind::Corrupt, "a damaged record"));
        }
        if bad { Err(Error::invalid("a bad key")) } else { Ok(()) }
    }

    fn apply(&self, mutation: &Mutation) -> Result<Written> {
        if mutation.address.key.as_str().starts_with("fail") {
            return Err(Error::new(ErrorKind::Conflict, "told to"));
        }
        self.applied.lock().unwrap().push(mutation.clone());
        let effect = match &mutation.change {
            Change::Increment { fields, .. } => {
                let mut counters = self.counters.lock().unwrap();
                let sum = counters.entry(mutation.address.clone()).or_default();
                *sum += fields.values().sum::<i64>();
                Effect::Counters([("n".into(), *sum)].into())
            }
            _ => Effect::Done,
        };
        Ok(Written { version: Some(Version::from_sequence(1)), effect })
    }
}

struct Landed<'a>(&'a AtomicUsize);

impl Drop for Landed<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The record that is at every key but those that begin with `no`: its value is its key.
pub(crate) fn record(address: &Address) -> Option<Record> {
    let at = Timestamp::from_millis(0);
    (!address.key.as_str().starts_with("no")).then(|| Record {
        address: address.clone(),
        value: Value::bytes(address.key.to_string()),
        version: Version::from_sequence(1),
        created_at: at,
        updated_at: at,
        expires_at: None,
    })
}

#[async_trait]
impl Backend for Fake {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        self.saw(keys.iter())?;
        self.step("get").await?;
        Ok(keys.iter().map(record).collect())
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        self.saw(batch.mutations.iter().map(|mutation| &mutation.address))?;
        self.step("write").await?;
        Ok(batch.mutations.iter().map(|mutation| self.apply(mutation)).collect())
    }

    async fn scan(&self, _: &Scan) -> Result<Page<Record>> {
        self.step("scan").await.map(|()| Page::last(Vec::new()))
    }

    async fn keys(&self, _: &Scan) -> Result<Page<Key>> {
        self.step("keys").await.map(|()| Page::last(Vec::new()))
    }

    async fn query(&self, _: &Query) -> Result<Page<Record>> {
        self.step("query").await.map(|()| Page::last(Vec::new()))
    }

    async fn list_range(&self, _: &ListRange) -> Result<Option<ListItems>> {
        self.step("list_range").await.map(|()| None)
    }

    async fn count(&self, _: &Count) -> Result<u64> {
        self.step("count").await.map(|()| 1)
    }

    async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.step("collections").await.map(|()| Vec::new())
    }

    async fn clear(&self, _: &CollectionName) -> Result<u64> {
        self.step("clear").await.map(|()| 2)
    }

    async fn ensure_index(&self, _: &IndexSpec) -> Result<bool> {
        self.step("ensure_index").await.map(|()| true)
    }

    async fn list_indexes(&self, _: &CollectionName) -> Result<Vec<IndexSpec>> {
        self.step("list_indexes").await.map(|()| Vec::new())
    }

    async fn drop_index(&self, _: &CollectionName, _: &Path) -> Result<bool> {
        self.step("drop_index").await.map(|()| true)
    }

    async fn changes(&self, _: &Changes) -> Result<Page<ChangeEvent>> {
        self.step("changes").await.map(|()| Page::last(Vec::new()))
    }

    async fn health(&self) -> Result<Health> {
        self.step("health").await?;
        Ok(Health { status: HealthStatus::Up, latency: Duration::ZERO, detail: String::new() })
    }

    async fn stats(&self) -> Result<Stats> {
        self.step("stats").await.map(|()| Stats::default())
    }

    async fn maintain(&self, _: Maintenance) -> Result<MaintenanceReport> {
        self.step("maintain").await.map(|()| MaintenanceReport::default())
    }

    async fn close(&self) -> Result<()> {
        self.step("close").await?;
        self.closed.store(true, Ordering::SeqCst);
        Ok(())
    }
}
