//! Merges concurrent calls into batches.
#![deny(clippy::missing_trait_methods)]

mod claim;
mod lane;
mod queue;
mod watch;
mod window;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use self::lane::{Kind, Lane};
use super::Call;
use crate::{
    Address, Atomicity, Backend, BackendInfo, Batch, ChangeEvent, Changes, Coalescing, CollectionName, Count,
    ErrorKind, Health, IndexSpec, Key, ListItems, ListRange, Maintenance, MaintenanceReport, Mutation, Page,
    Path, Query, Record, Request, Result, Scan, Stats, Written,
};

/// A get of so many keys goes straight: it fills a round trip by itself, and to be merged it is copied twice.
const LARGE_GET: usize = 64;

/// Merges concurrent gets, and concurrent independent writes, into batches: what a database does for a
/// hundred callers in one round trip or one transaction, it does almost as fast as for one.
///
/// - There is no timer: while fewer batches are in flight than may be, and none of several calls, a call goes at once, as it
///   is; beside merged batches, together with those that come in the same turn of the scheduler. What comes
///   while as many are in flight as may be waits, and goes together next.
/// - No batch takes more than its share, which is what is in flight and waits divided by the batches that may be in flight.
/// - A get of 64 keys or more is a batch already: it goes at once and as it is, whatever is in flight.
/// - How many may be in flight, from 1 to 32, follows from how long calls take: as few as do not make them take longer.
/// - Mutations of one record keep the order in which the calls came, whatever they go in; others may pass.
///   Atomic batches go straight and have no order with calls that run at the same time.
/// - A caller that is dropped takes nobody with it: its call is not sent if it waits, and is finished if it
///   is in a merged batch.
/// - If a merged batch fails, all its callers get the error; but if it may be the fault of one of them
///   ([`InvalidInput`](crate::ErrorKind::InvalidInput), [`TooLarge`](crate::ErrorKind::TooLarge),
///   [`Unsupported`](crate::ErrorKind::Unsupported); for gets also what one record can be to blame for, such as
///   [`Corrupt`](crate::ErrorKind::Corrupt)), each call is sent again for itself.
/// - If the backend panics in a merged batch, its callers get [`Internal`](crate::ErrorKind::Internal).
/// - Closing takes no more gets and writes and waits for those that wait.
///
/// Only what [pays](Coalescing::Pays) for a backend is merged; all else goes straight.
///
/// A call that goes straight moves only while its caller polls it. One that waits for another on the same
/// record, held by a task that does not poll it, waits as for any lock; one that waits only for its turn goes
/// after a second in any case.
pub struct Coalesce {
    inner: Arc<dyn Backend>,
    reads: Option<Lane<Gets>>,
    writes: Option<Lane<Writes>>,
}

impl Coalesce {
    /// Merges the calls to `inner` for which that pays.
    pub fn new(inner: Arc<dyn Backend>) -> Self {
        let capabilities = &inner.info().capabilities;
        let reads = capabilities.coalesce_reads == Coalescing::Pays;
        let writes = capabilities.coalesce_writes == Coalescing::Pays;
        Self {
            reads: reads.then(|| Lane::new(inner.clone())),
            writes: writes.then(|| Lane::new(inner.clone())),
            inner,
        }
    }

    /// The most batches of reads and of writes that may be in flight now; `None` if they are not merged.
    pub fn windows(&self) -> (Option<usize>, Option<usize>) {
        (self.reads.as_ref().map(Lane::window), self.writes.as_ref().map(Lane::window))
    }

    fn call<'a>(&'a self, request: Request<'a>) -> Call<'a> {
        Call { request, backend: self.inner.info() }
    }
}

impl fmt::Debug for Coalesce {
    /// The stack from here on, such as `coalesce > guard > RedisBackend { … }`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coalesce > {:?}", self.inner)
    }
}

struct Gets;

impl Kind for Gets {
    type Item = Address;
    type Reply = Option<Record>;

    fn ordered(_: &Address) -> Option<&Address> {
        None
    }

    fn size(key: &Address) -> usize {
        key.collection.as_str().len() + key.key.as_str().len()
    }

    fn may_be_of_one(kind: ErrorKind) -> bool {
        use ErrorKind::{Corrupt, Decode, PermissionDenied, TypeMismatch};

        Writes::may_be_of_one(kind) || matches!(kind, TypeMismatch | PermissionDenied | Corrupt | Decode)
    }

    async fn send(backend: &dyn Backend, keys: Vec<Address>) -> (Vec<Address>, Result<Vec<Option<Record>>>) {
        let result = backend.get(&keys).await;
        (keys, result)
    }
}

struct Writes;

impl Kind for Writes {
    type Item = Mutation;
    type Reply = Result<Written>;

    fn ordered(mutation: &Mutation) -> Option<&Address> {
        Some(&mutation.address)
    }

    fn size(mutation: &Mutation) -> usize {
        mutation.size()
    }

    fn may_be_of_one(kind: ErrorKind) -> bool {
        matches!(kind, ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::Unsupported)
    }

    async fn send(
        backend: &dyn Backend,
        mutations: Vec<Mutation>,
    ) -> (Vec<Mutation>, Result<Vec<Result<Written>>>) {
        let batch = Batch::independent(mutations);
        let result = backend.write(&batch).await;
        (batch.mutations, result)
    }
}

#[async_trait]
impl Backend for Coalesce {
    fn info(&self) -> &BackendInfo {
        self.inner.info()
    }

    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        match &self.reads {
            Some(lane) if keys.len() < LARGE_GET => {
                let result = lane.call(keys, || self.inner.get(keys)).await;
                result.map_err(|error| self.call(Request::Get(keys)).named(error))
            }
            _ => self.inner.get(keys).await,
        }
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        match &self.writes {
            Some(lane) if batch.atomicity == Atomicity::Independent => {
                let result = lane.call(&batch.mutations, || self.inner.write(batch)).await;
                result.map_err(|error| self.call(Request::Write(batch)).named(error))
            }
            _ => self.inner.write(batch).await,
        }
    }

    async fn close(&self) -> Result<()> {
        if let Some(lane) = &self.reads {
            lane.close().await;
        }
        if let Some(lane) = &self.writes {
            lane.close().await;
        }
        self.inner.close().await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.inner.scan(scan).await
    }

    async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.inner.keys(scan).await
    }

    async fn query(&self, query: &Query) -> Result<Page<Record>> {
        self.inner.query(query).await
    }

    async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        self.inner.list_range(range).await
    }

    async fn count(&self, count: &Count) -> Result<u64> {
        self.inner.count(count).await
    }

    async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.inner.collections().await
    }

    async fn clear(&self, collection: &CollectionName) -> Result<u64> {
        self.inner.clear(collection).await
    }

    async fn ensure_index(&self, index: &IndexSpec) -> Result<bool> {
        self.inner.ensure_index(index).await
    }

    async fn list_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        self.inner.list_indexes(collection).await
    }

    async fn drop_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        self.inner.drop_index(collection, path).await
    }

    async fn changes(&self, changes: &Changes) -> Result<Page<ChangeEvent>> {
        self.inner.changes(changes).await
    }

    async fn health(&self) -> Result<Health> {
        self.inner.health().await
    }

    async fn stats(&self) -> Result<Stats> {
        self.inner.stats().await
    }

    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        self.inner.maintain(task).await
    }
}
