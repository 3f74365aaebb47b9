//! The adapter that makes a backend of a policy and a backend.
#![deny(clippy::missing_trait_methods)]

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Call, Policy};
use crate::{
    Address, Backend, BackendInfo, Batch, ChangeEvent, Changes, CollectionName, Count, Health, IndexSpec,
    Key, ListItems, ListRange, Maintenance, MaintenanceReport, Page, Path, Query, Record, Request, Result,
    Scan, Stats, Written,
};

/// A backend with a [`Policy`] around every call but `info`, which does no work.
pub struct Around<P> {
    policy: P,
    inner: Arc<dyn Backend>,
}

impl<P: Policy> Around<P> {
    /// Puts `policy` around the calls to `inner`.
    pub fn new(policy: P, inner: Arc<dyn Backend>) -> Self {
        Self { policy, inner }
    }

    fn call<'a>(&'a self, request: Request<'a>) -> Call<'a> {
        Call { request, backend: self.inner.info() }
    }
}

impl<P: Policy> fmt::Debug for Around<P> {
    /// The stack from the outside in, such as `retry > guard > FileBackend { … }`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {:?}", self.policy.names().join(" > "), self.inner)
    }
}

#[async_trait]
impl<P: Policy> Backend for Around<P> {
    fn info(&self) -> &BackendInfo {
        self.inner.info()
    }

    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        self.policy.around(self.call(Request::Get(keys)), || self.inner.get(keys)).await
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        self.policy.around(self.call(Request::Write(batch)), || self.inner.write(batch)).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.policy.around(self.call(Request::Scan(scan)), || self.inner.scan(scan)).await
    }

    async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.policy.around(self.call(Request::Keys(scan)), || self.inner.keys(scan)).await
    }

    async fn query(&self, query: &Query) -> Result<Page<Record>> {
        self.policy.around(self.call(Request::Query(query)), || self.inner.query(query)).await
    }

    async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        self.policy.around(self.call(Request::ListRange(range)), || self.inner.list_range(range)).await
    }

    async fn count(&self, count: &Count) -> Result<u64> {
        self.policy.around(self.call(Request::Count(count)), || self.inner.count(count)).await
    }

    async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.policy.around(self.call(Request::Collections), || self.inner.collections()).await
    }

    async fn clear(&self, collection: &CollectionName) -> Result<u64> {
        self.policy.around(self.call(Request::Clear(collection)), || self.inner.clear(collection)).await
    }

    async fn ensure_index(&self, index: &IndexSpec) -> Result<bool> {
        self.policy.around(self.call(Request::EnsureIndex(index)), || self.inner.ensure_index(index)).await
    }

    async fn list_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        self.policy
            .around(self.call(Request::ListIndexes(collection)), || self.inner.list_indexes(collection))
            .await
    }

    async fn drop_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        self.policy
            .around(self.call(Request::DropIndex(collection, path)), || {
                self.inner.drop_index(collection, path)
            })
            .await
    }

    async fn changes(&self, changes: &Changes) -> Result<Page<ChangeEvent>> {
        self.policy.around(self.call(Request::Changes(changes)), || self.inner.changes(changes)).await
    }

    async fn health(&self) -> Result<Health> {
        self.policy.around(self.call(Request::Health), || self.inner.health()).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.policy.around(self.call(Request::Stats), || self.inner.stats()).await
    }

    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        self.policy.around(self.call(Request::Maintain(task)), || self.inner.maintain(task)).await
    }

    async fn close(&self) -> Result<()> {
        self.policy.around(self.call(Request::Close), || self.inner.close()).await
    }
}
