//! An open store of a plugin.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{
    Address, Backend, BackendInfo, Batch, ChangeEvent, Changes, CollectionName, Count, Health, IndexSpec,
    Key, ListItems, ListRange, Maintenance, MaintenanceReport, Page, Path, Query, Record, Request, Result,
    Scan, Stats, Written,
};

use super::asked::{Asked, answer};
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

    fn ask<'a, T: Wire>(&'a self, request: Request<'a>) -> Asked<'a, T> {
        let operation = request.operation();
        let enabled = self.instance.check_enabled().map_err(|error| self.instance.named(operation, error));
        match enabled {
            Ok(()) => self.ask_anyway(request),
            Err(error) => Asked::Answered(Err(error)),
        }
    }

    fn ask_anyway<'a, T: Wire>(&'a self, request: Request<'a>) -> Asked<'a, T> {
        let operation = request.operation();
        let addresses = if let Request::Get(keys) = request { keys } else { &[] };
        let started = self.instance.start(operation, self.store.number(), wire::request(&request));
        Asked::new(self.instance, operation, addresses, started, Some(&self.store))
    }
}

#[async_trait]
impl Backend for PluginBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        answer!(self.ask(Request::Get(keys)))
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        answer!(self.ask(Request::Write(batch)))
    }

    async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        answer!(self.ask(Request::Scan(scan)))
    }

    async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        answer!(self.ask(Request::Keys(scan)))
    }

    async fn query(&self, query: &Query) -> Result<Page<Record>> {
        answer!(self.ask(Request::Query(query)))
    }

    async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        answer!(self.ask(Request::ListRange(range)))
    }

    async fn count(&self, count: &Count) -> Result<u64> {
        answer!(self.ask(Request::Count(count)))
    }

    async fn collections(&self) -> Result<Vec<CollectionName>> {
        answer!(self.ask(Request::Collections))
    }

    async fn clear(&self, collection: &CollectionName) -> Result<u64> {
        answer!(self.ask(Request::Clear(collection)))
    }

    async fn ensure_index(&self, index: &IndexSpec) -> Result<bool> {
        answer!(self.ask(Request::EnsureIndex(index)))
    }

    async fn list_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        answer!(self.ask(Request::ListIndexes(collection)))
    }

    async fn drop_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        answer!(self.ask(Request::DropIndex(collection, path)))
    }

    async fn changes(&self, changes: &Changes) -> Result<Page<ChangeEvent>> {
        answer!(self.ask(Request::Changes(changes)))
    }

    async fn health(&self) -> Result<Health> {
        answer!(self.ask(Request::Health))
    }

    async fn stats(&self) -> Result<Stats> {
        answer!(self.ask(Request::Stats))
    }

    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport> {
        answer!(self.ask(Request::Maintain(task)))
    }

    /// Reaches a disabled plugin too: what it holds is to be let go.
    async fn close(&self) -> Result<()> {
        if self.instance.is_ending() {
            // The shutdown closes every store.
            return Ok(());
        }
        answer!(self.ask_anyway(Request::Close))
    }
}

impl fmt::Debug for PluginBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PluginBackend({} at {})", self.instance, self.info.location)
    }
}
