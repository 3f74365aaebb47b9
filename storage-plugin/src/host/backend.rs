//! An open store of a plugin.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    Address, Backend, BackendInfo, Batch, ChangeEvent, Changes, CollectionName, Count, Health, IndexSpec,
    Key, ListItems, ListRange, Maintenance, MaintenanceReport, Page, Path, Query, Record, Request, Result,
    Scan, Stats, Written,
};

use super::asked::Asked;
use super::instance::Instance;
use super::store::StoreHandle;
use crate::wire::{self, Wire};

/// Passes each call on to the plugin.
pub(super) struct PluginBackend {
    instance: &'static Instance,
    store: Arc<StoreHandle>,
    info: BackendInfo,
}

impl PluginBackend {
    pub(super) fn new(instance: &'static Instance, store: StoreHandle, info: BackendInfo) -> Self {
        Self { instance, store: Arc::new(store), info }
    }

    fn ask<T: Wire>(&self, request: Request<'_>) -> Asked<'_, T> {
        let operation = request.operation();
        let enabled = self.instance.check_enabled().map_err(|error| self.instance.named(operation, error));
        match enabled {
            Ok(()) => self.ask_anyway(request),
            Err(error) => Asked::Answered(Some(Err(error))),
        }
    }

    fn ask_anyway<T: Wire>(&self, request: Request<'_>) -> Asked<'_, T> {
        let operation = request.operation();
        let started = self.instance.start(operation, self.store.number(), wire::request(&request));
        Asked::new(self.instance, operation, started, Some(&self.store))
    }
}

#[async_trait]
impl Backend for PluginBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        self.ask(Request::Get(keys)).await
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        self.ask(Request::Write(batch)).await
    }

    async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.ask(Request::Scan(scan)).await
    }

    async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.ask(Request::Keys(scan)).await
    }

    async fn query(&self, query: &Query) -> Result<Page<Record>> {
        self.ask(Request::Query(query)).await
    }

    async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        self.ask(Request::ListRange(range)).await
    }

    async fn count(&self, count: &Count) -> Result<u64> {
        self.ask(Request::Count(count)).await
    }

    async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.ask(Request::Collections).await
    }

    async fn clear(&self, collection: &CollectionName) -> Result<u64> {
        self.ask(Request::Clear(collection)).await
    }

    async fn ensure_index(&self, index: &IndexSpec) -> Result<bool> {
        self.ask(Request::EnsureIndex(index)).await
    }

    async fn list_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        self.ask(Request::ListIndexes(collection)).await
    }

    async fn drop_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        self.ask(Request::DropIndex(collection, path)).await
    }

    async fn changes(&self, changes: &Changes) -> Result<Page<ChangeEvent>> {
        self.ask(Request::Changes(changes)).await
    }

    async fn health(&self) -> Result<Health> {
        self.ask(Request::Health).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.ask(Request::Stats).await
    }

    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        self.ask(Request::Maintain(task)).await
    }

    /// Reaches a disabled plugin too: what it holds is to be let go.
    async fn close(&self) -> Result<()> {
        if self.instance.is_ending() {
            // The shutdown closes every store.
            return Ok(());
        }
        self.ask_anyway(Request::Close).await
    }
}

impl fmt::Debug for PluginBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PluginBackend({} at {})", self.instance, self.info.location)
    }
}
