//! Gives records an expiry, and moves it when they are read.
#![deny(clippy::missing_trait_methods)]

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Strategy, TimeToLive};
use crate::layer::Call;
use crate::{
    Address, Backend, BackendInfo, Batch, Change, ChangeEvent, Changes, CollectionName, Count, Error, Health,
    IndexSpec, Key, ListItems, ListRange, Maintenance, MaintenanceReport, Mutation, Page, Path, Precondition,
    Query, Record, Request, Result, Scan, Stats, Timestamp, Version, Written,
};

/// The longest that a read waits for the extension of what it read.
const PATIENCE: Duration = Duration::from_millis(250);

/// A backend whose records live as long as [`TimeToLive`] says.
///
/// - A put without an expiry gets one, and so does a record that an increment or append makes. To keep a record for
///   good nevertheless, touch it with none after the put.
/// - In a sliding collection, a get or list range by key extends what it found: at most once in a tenth of the time
///   to live, so that most reads stay reads, and only to a later time. So a record lives at least nine tenths of its
///   lifetime after a read. Scans, queries and counts extend nothing, and neither do increments and appends of a
///   record that is there.
/// - An explicit expiry is extended like any other, if that makes it later: records that have to end at a set time
///   belong into a collection with another strategy. A record that never expires stays so.
/// - The extension is a touch on the version that was read, so a concurrent write wins, and what was deleted stays
///   deleted. A read never fails for it: if the touch does, or has no answer within 250 ms, the record is returned
///   as it was read, and a later read tries again.
/// - The touch changes the version. It is made before the read returns, one batch for all the records of the read,
///   so that the record returned has the new version, and a write on that version goes through. Another reader that
///   still holds the old one gets [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed), as after any write; it
///   reads anew, at most once in a tenth of the time to live. Done in the background, it would fail the reader's own
///   next write. `updated_at` is as it was before the touch.
/// - A list range has no version: in a sliding collection a get of the record runs beside it.
///
/// A backend without [`Expiry`](crate::Feature::Expiry), or for sliding without
/// [`Preconditions`](crate::Feature::Preconditions), cannot do it. [`Layers::check`](crate::layer::Layers::check) says so
/// beforehand; here every get, write and list range of such a collection is
/// [`Unsupported`](crate::ErrorKind::Unsupported).
pub struct Expire {
    inner: Arc<dyn Backend>,
    config: TimeToLive,
    /// What the backend lacks.
    refused: Option<Error>,
}

impl Expire {
    /// Puts the strategies around `inner`.
    pub fn new(config: TimeToLive, inner: Arc<dyn Backend>) -> Self {
        let refused = config.check(&inner.info().capabilities).err();
        Self { inner, config, refused }
    }

    fn check<'a>(
        &self,
        request: Request<'_>,
        mut collections: impl Iterator<Item = &'a CollectionName>,
    ) -> Result<()> {
        match &self.refused {
            Some(error) if collections.any(|name| *self.config.of(name) != Strategy::None) => {
                Err(Call { request, backend: self.inner.info() }.named(error.clone()))
            }
            _ => Ok(()),
        }
    }

    /// When a mutation that says nothing of expiry lets its record expire.
    fn given(&self, mutation: &Mutation, now: Timestamp) -> Option<Timestamp> {
        let (Change::Put { expires_at: None, .. }
        | Change::Increment { expires_at: None, .. }
        | Change::Append { expires_at: None, .. }) = &mutation.change
        else {
            return None;
        };
        let lifetime = self.config.of(&mutation.address.collection).lifetime()?;
        Some(lifetime.expiry(&mutation.address, now))
    }

    /// The batch with an expiry wherever one is missing.
    fn expiring<'a>(&self, batch: &'a Batch) -> Cow<'a, Batch> {
        let now = Timestamp::now();
        let mut expiring = Cow::Borrowed(batch);
        for (position, mutation) in batch.mutations.iter().enumerate() {
            if let Some(at) = self.given(mutation, now) {
                let mutation = &mut expiring.to_mut().mutations[position];
                *mutation = mutation.clone().expiring(Some(at));
            }
        }
        expiring
    }

    fn slides(&self, collection: &CollectionName) -> bool {
        matches!(self.config.of(collection), Strategy::Sliding(_))
    }

    /// Extends those of the records read whose time has come.
    async fn extend(&self, records: &mut [Option<Record>]) {
        let now = Timestamp::now();
        let mut due: HashMap<&Address, (&Version, Timestamp)> = HashMap::new();
        for record in records.iter().flatten() {
            if let Strategy::Sliding(lifetime) = self.config.of(&record.address.collection)
                && let Some(at) = lifetime.extension(record, now)
            {
                due.insert(&record.address, (&record.version, at));
            }
        }
        if due.is_empty() {
            return;
        }
        let touches: Vec<Mutation> = due
            .into_iter()
            .map(|(address, (version, at))| {
                Mutation::touch(address.clone(), Some(at)).on(Precondition::Version(version.clone()))
            })
            .collect();
        let batch = Batch::independent(touches);
        let results = match tokio::time::timeout(PATIENCE, self.inner.write(&batch)).await {
            Ok(Ok(results)) => results,
            Ok(Err(error)) => return not_extended(&error),
            Err(_) => {
                tracing::debug!(target: "storage", "extending what was read takes too long and is given up");
                return;
            }
        };
        let mut extended: HashMap<&Address, (Version, Timestamp)> = HashMap::new();
        for (mutation, result) in batch.mutations.iter().zip(results) {
            match (result, &mutation.change) {
                (Ok(Written { version: Some(version), .. }), Change::Touch { expires_at: Some(at) }) => {
                    extended.insert(&mutation.address, (version, *at));
                }
                (Ok(_), _) => {}
                (Err(error), _) => not_extended(&error),
            }
        }
        for record in records.iter_mut().flatten() {
            if let Some((version, at)) = extended.get(&record.address) {
                record.version = version.clone();
                record.expires_at = Some(*at);
            }
        }
    }

    /// Extends a record of which only items are read.
    async fn extend_unread(&self, address: &Address) {
        match self.inner.get(std::slice::from_ref(address)).await {
            Ok(mut records) => self.extend(&mut records).await,
            Err(error) => not_extended(&error),
        }
    }
}

fn not_extended(error: &Error) {
    tracing::debug!(target: "storage", %error, "what was read could not be extended");
}

impl fmt::Debug for Expire {
    /// The stack from here on, such as `time_to_live > guard > FileBackend { … }`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "time_to_live > {:?}", self.inner)
    }
}

#[async_trait]
impl Backend for Expire {
    fn info(&self) -> &BackendInfo {
        self.inner.info()
    }

    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        self.check(Request::Get(keys), keys.iter().map(|address| &address.collection))?;
        let mut records = self.inner.get(keys).await?;
        self.extend(&mut records).await;
        Ok(records)
    }

    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        let collections = batch.mutations.iter().map(|mutation| &mutation.address.collection);
        self.check(Request::Write(batch), collections)?;
        self.inner.write(&self.expiring(batch)).await
    }

    async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        let collection = &range.address.collection;
        self.check(Request::ListRange(range), std::iter::once(collection))?;
        if !self.slides(collection) {
            return self.inner.list_range(range).await;
        }
        let extended = self.extend_unread(&range.address);
        futures_util::future::join(self.inner.list_range(range), extended).await.0
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

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
