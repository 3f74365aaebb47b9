//! What a store has open: the driver's client, its layout, and what it has done.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::options::{ClientOptions, WriteConcern};
use mongodb::{ClientSession, Collection, Database};
use storage_core::{CollectionName, Error, ErrorKind, KnownIndexes, Result, Retry, Version, VersionSource};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::config::MongoConfig;
use crate::error::{EXISTS, code, driver};
use crate::layout::{Layout, field};
use crate::monitor::Monitor;
use crate::topology::Topology;

/// How long work may take that builds indexes.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// How long after its expiry the server may remove a record by itself: clocks may differ by so much without a record going
/// before its time.
const GRACE: Duration = Duration::from_secs(60);

/// The connections to a server that the driver makes at most unless `maxPoolSize` says otherwise.
const MAX_POOL_SIZE: usize = 10;

/// An open database.
pub(crate) struct Client {
    pub(crate) client: mongodb::Client,
    pub(crate) database: Database,
    pub(crate) layout: Layout,
    pub(crate) topology: Topology,
    /// Whether the server has the command `bulkWrite`, as far as is known. MongoDB has it from 8.0 on.
    pub(crate) bulk_write: AtomicBool,
    pub(crate) monitor: Arc<Monitor>,
    /// The calls that the driver has at once, as many as it has connections; all others wait here. Its own queue does not
    /// forget calls that are given up: it gets to see one of them twice a second, so that after an outage that hundreds of
    /// calls did not wait for, nobody would get a connection for minutes.
    turns: Semaphore,
    versions: VersionSource,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    /// How long a call may take.
    pub(crate) timeout: Duration,
    write_concern: Bson,
    /// Collections of which this client knows that expired records go by themselves.
    expiring: std::sync::Mutex<HashSet<CollectionName>>,
    /// Collections of which this client knows that the database has them.
    made: std::sync::Mutex<HashSet<CollectionName>>,
    /// Collections in which a list was read.
    listed: std::sync::Mutex<HashSet<CollectionName>>,
    pub(crate) known_indexes: KnownIndexes,
    /// Collections and their index of expiries are made one at a time: calls that need the same one ask once.
    making: tokio::sync::Mutex<()>,
    closed: AtomicBool,
}

impl Client {
    /// Connects, and asks what servers there are.
    pub(crate) async fn open(config: &MongoConfig) -> Result<Self> {
        let connecting = async {
            let mut options = config.driver_options().await?;
            let monitor = Monitor::of(&mut options);
            let concern = options.write_concern.clone().unwrap_or_else(WriteConcern::majority);
            let turns = Semaphore::new(connections(&options));
            let client = mongodb::Client::with_options(options).map_err(driver)?;
            let database = client.database(config.database());
            let topology = Topology::of(&database).await.map_err(driver)?;
            Ok((client, database, topology, monitor, turns, concern))
        };
        let (client, database, topology, monitor, turns, concern) =
            tokio::time::timeout(config.timeout, connecting)
                .await
                .unwrap_or_else(|_| Err(late(config.timeout).with_retry(Retry::Safe)))?;
        Ok(Self {
            client,
            database,
            layout: Layout::new(&config.prefix),
            topology,
            bulk_write: AtomicBool::new(true),
            monitor,
            turns,
            versions: VersionSource::new(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            timeout: config.timeout,
            write_concern: mongodb::bson::serialize_to_bson(&concern)
                .map_err(|error| Error::new(ErrorKind::Internal, format!("the write concern: {error}")))?,
            expiring: std::sync::Mutex::default(),
            made: std::sync::Mutex::default(),
            listed: std::sync::Mutex::default(),
            known_indexes: KnownIndexes::default(),
            making: tokio::sync::Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// A version that no record has had.
    pub(crate) fn new_version(&self) -> Version {
        Version::from_sequence(self.versions.next())
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the store has been closed"));
        }
        Ok(())
    }

    /// The collection with the records of a collection.
    pub(crate) fn records(&self, collection: &CollectionName) -> Collection<RawDocumentBuf> {
        self.database.collection(&self.layout.records(collection))
    }

    /// The collection with the items of its long lists.
    pub(crate) fn items(&self, collection: &CollectionName) -> Collection<RawDocumentBuf> {
        self.database.collection(&self.layout.items(collection))
    }

    /// The result of a request, unless the time of a call passes first: then nobody knows whether it was done.
    pub(crate) async fn within<T>(
        &self,
        request: impl Future<Output = mongodb::error::Result<T>>,
    ) -> Result<T> {
        self.limited(self.timeout, request).await
    }

    /// As [`within`](Self::within), for work that may take long, such as building an index.
    pub(crate) async fn patiently<T>(
        &self,
        request: impl Future<Output = mongodb::error::Result<T>>,
    ) -> Result<T> {
        self.limited(PATIENCE, request).await
    }

    async fn limited<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = mongodb::error::Result<T>>,
    ) -> Result<T> {
        let until = Instant::now() + limit;
        let turn = match self.turns.try_acquire() {
            Ok(turn) => Some(turn),
            Err(_) => {
                let _waiting = self.monitor.wait();
                let turn = timeout_at(until, self.turns.acquire()).await;
                // When others give up, so may this call: it is not to begin then.
                turn.ok().and_then(std::result::Result::ok).filter(|_| Instant::now() < until)
            }
        };
        let Some(_turn) = turn else {
            let message = format!(
                "no connection was free within {limit:?}: make fewer calls at once, or raise maxPoolSize"
            );
            return Err(Error::new(ErrorKind::Busy, message));
        };
        match timeout_at(until, request).await {
            Ok(result) => result.map_err(driver),
            Err(_) => Err(late(limit)),
        }
    }

    /// Sends a command that writes, once; the driver does not repeat it. Errors of single statements are in the reply
    /// (`writeErrors`), as is one of the write concern (`writeConcernError`).
    pub(crate) async fn command(
        &self,
        mut command: Document,
        session: Option<&mut ClientSession>,
    ) -> Result<Document> {
        // That one names the databases it writes to.
        let admin = command.contains_key("bulkWrite").then(|| self.client.database("admin"));
        let database = admin.as_ref().unwrap_or(&self.database);
        match session {
            // A transaction has the write concern of its commit.
            Some(session) => self.within(database.run_command(command).session(session).into_future()).await,
            None => {
                command.insert("writeConcern", self.write_concern.clone());
                // The server gives up first, so that the outcome is known.
                command.insert(
                    "maxTimeMS",
                    i64::try_from(self.timeout.as_millis() * 9 / 10).unwrap_or(i64::MAX).max(1),
                );
                self.within(database.run_command(command).into_future()).await
            }
        }
    }

    /// Sees to it that the server removes expired records of a collection by itself. To be called before a record with an
    /// expiry is written; asks the server once for each collection.
    pub(crate) async fn ensure_expiry(&self, collection: &CollectionName) -> Result<()> {
        if known(&self.expiring).contains(collection) {
            return Ok(());
        }
        let _making = self.making().await?;
        if known(&self.expiring).contains(collection) {
            return Ok(());
        }
        let index = doc! {
            "key": {field::EXPIRES_AT: 1}, "name": "storage_expires_at", "expireAfterSeconds": GRACE.as_secs() as i64,
        };
        let command = doc! {"createIndexes": self.layout.records(collection), "indexes": [index]};
        self.patiently(self.database.run_command(command).into_future()).await?;
        known(&self.expiring).insert(collection.clone());
        Ok(())
    }

    /// Whether a list was read in a collection, so that there may be more.
    pub(crate) fn has_lists(&self, collection: &CollectionName) -> bool {
        known(&self.listed).contains(collection)
    }

    /// Notes that there is a list in a collection.
    pub(crate) fn found_list(&self, collection: &CollectionName) {
        known(&self.listed).insert(collection.clone());
    }

    /// Makes a collection of the database if it is not there, so that a transaction does not have to: not all servers take
    /// that. Asks the server once for each collection.
    pub(crate) async fn ensure_collection(&self, collection: &CollectionName) -> Result<()> {
        if known(&self.made).contains(collection) {
            return Ok(());
        }
        let _making = self.making().await?;
        if known(&self.made).contains(collection) {
            return Ok(());
        }
        let create = self.database.run_command(doc! {"create": self.layout.records(collection)});
        match self.within(create.into_future()).await {
            Err(error) if code(&error) != Some(EXISTS) => return Err(error),
            _ => {}
        }
        known(&self.made).insert(collection.clone());
        Ok(())
    }

    /// The turn to make a collection or its index, for which no call waits longer than it may.
    async fn making(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let turn = tokio::time::timeout(self.timeout, self.making.lock()).await;
        turn.map_err(|_| late(self.timeout).with_retry(Retry::Safe))
    }

    /// Ends the calls under way, and the connections.
    pub(crate) async fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            // Connections that do not end in time are dropped.
            let _ = tokio::time::timeout(self.timeout, self.client.clone().shutdown().into_future()).await;
        }
    }
}

/// How many connections the driver makes at most.
fn connections(options: &ClientOptions) -> usize {
    let of_each = match options.max_pool_size {
        Some(0) => return Semaphore::MAX_PERMITS,
        Some(size) => usize::try_from(size).unwrap_or(usize::MAX),
        None => MAX_POOL_SIZE,
    };
    of_each.saturating_mul(options.hosts.len().max(1)).min(Semaphore::MAX_PERMITS)
}

/// Locks a set. Each change of it is whole, also one that panics.
fn known(
    set: &std::sync::Mutex<HashSet<CollectionName>>,
) -> std::sync::MutexGuard<'_, HashSet<CollectionName>> {
    set.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn late(timeout: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no answer within {timeout:?}"))
}
