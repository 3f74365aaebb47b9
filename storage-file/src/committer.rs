//! The one thread that writes: it commits whatever has queued up as one transaction with one sync.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase};
use storage_core::{Batch, CollectionName, Error, ErrorKind, IndexSpec, MaintenanceReport, Path, Result, Retry, Written};

use crate::client::{Job, Reply, Shared};
use crate::config::{Durability, FileConfig};
use crate::disk::DiskState;
use crate::error::{contain, engine};
use crate::index::{Catalog, Index, StoredIndex};
use crate::open::{self, Opened};
use crate::schema::{self, INDEXES, META, META_INDEX};
use crate::snapshot::Snapshot;
use crate::writer::{Sequence, Writer};

/// Most mutations and bytes in one transaction; what is queued beyond them goes into the next.
const GROUP_LEN: usize = 16_384;
const GROUP_BYTES: usize = 64 << 20;
/// Records removed per transaction by sweeping and clearing, so that writers get in between.
const CHUNK: usize = 512;

type WriteJob = (Batch, Reply<Vec<Result<Written>>>);

pub(crate) struct Committer {
    config: FileConfig,
    shared: Arc<Shared>,
    /// None only while it is being opened anew.
    database: Option<Database>,
    disk: Arc<DiskState>,
    indexes: Arc<Catalog>,
    sequence: Sequence,
    /// Since when there are commits that are not on the disk.
    dirty: Option<Instant>,
    next_sweep: Option<Instant>,
    /// Why nothing more is written.
    fault: Option<Error>,
}

impl Committer {
    pub(crate) fn new(config: FileConfig, shared: Arc<Shared>, opened: Opened) -> Result<Self> {
        let Opened { database, disk, indexes, sequence } = opened;
        let next_sweep = (!config.sweep_interval.is_zero()).then(|| Instant::now() + config.sweep_interval);
        let mut committer = Self {
            config,
            shared,
            database: Some(database),
            disk,
            indexes: Arc::new(indexes),
            sequence,
            dirty: None,
            next_sweep,
            fault: None,
        };
        committer.publish()?;
        Ok(committer)
    }

    /// Works until the store is closed or every handle is gone.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        let mut closing = None;
        while closing.is_none() {
            let job = match self.until_due() {
                Some(wait) => jobs.recv_timeout(wait),
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match job {
                Ok(Job::Write(batch, reply)) => closing = self.gather((batch, reply), jobs),
                Ok(other) => closing = self.other(other),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.chores();
        }
        let finished = self.finish();
        if let Some(reply) = closing {
            let _ = reply.send(finished);
        }
    }

    /// Commits a write together with the writes queued behind it; hands on the first job that is none.
    fn gather(&mut self, first: WriteJob, jobs: &Receiver<Job>) -> Option<Reply<()>> {
        let mut size = (first.0.mutations.len(), first.0.size());
        let mut group = vec![first];
        let mut next = None;
        while size.0 < GROUP_LEN && size.1 < GROUP_BYTES {
            match jobs.try_recv() {
                Ok(Job::Write(batch, reply)) => {
                    size = (size.0 + batch.mutations.len(), size.1 + batch.size());
                    group.push((batch, reply));
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        self.commit(group);
        next.and_then(|job| self.other(job))
    }

    fn commit(&mut self, group: Vec<WriteJob>) {
        let (batches, replies): (Vec<Batch>, Vec<_>) = group.into_iter().unzip();
        let done = self.transact(|writer| batches.iter().map(|batch| writer.write(batch)).collect::<Result<Vec<_>>>());
        match done {
            Ok(results) => {
                for (reply, result) in replies.into_iter().zip(results) {
                    let written = result.iter().flatten().filter(|result| result.is_ok()).count();
                    self.shared.writes.fetch_add(written as u64, Ordering::Relaxed);
                    // A caller that stopped waiting has its write done all the same.
                    let _ = reply.send(result);
                }
            }
            Err(error) => replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone())))),
        }
    }

    /// Does a job other than a write. Returns where to report the end if it was the order to close.
    fn other(&mut self, job: Job) -> Option<Reply<()>> {
        match job {
            Job::Write(batch, reply) => self.commit(vec![(batch, reply)]),
            Job::Clear(collection, reply) => drop(reply.send(self.clear(&collection))),
            Job::EnsureIndex(spec, reply) => drop(reply.send(self.ensure_index(spec))),
            Job::DropIndex(collection, path, reply) => drop(reply.send(self.drop_index(&collection, &path))),
            Job::Sweep(reply) => drop(reply.send(self.transact(|writer| writer.sweep(CHUNK)))),
            Job::Compact(reply) => drop(reply.send(self.compact())),
            Job::Check(reply) => drop(reply.send(self.check())),
            Job::Close(reply) => return Some(reply),
        }
        None
    }

    /// Runs `work` in a transaction and commits it. An error says whether the outcome is known: everything
    /// before the commit leaves no trace.
    fn transact<T>(&mut self, work: impl FnOnce(&mut Writer<'_>) -> Result<T>) -> Result<T> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let durable = self.config.durability == Durability::Immediate;
        let mut committing = false;
        let done = contain(|| {
            let Some(database) = &self.database else { return Err(reopening()) };
            let mut transaction = database.begin_write().map_err(engine)?;
            let durability = if durable { redb::Durability::Immediate } else { redb::Durability::None };
            transaction.set_durability(durability).map_err(engine)?;
            let mut writer = Writer::new(&transaction, &self.indexes, &mut self.sequence)?;
            let value = work(&mut writer)?;
            writer.finish()?;
            committing = true;
            transaction.commit().map_err(engine)?;
            Ok(value)
        });
        if !durable && done.is_ok() {
            self.dirty.get_or_insert_with(Instant::now);
        }
        self.settle(done, committing)
    }

    /// After a transaction: shows readers the new state, or finds out what can go on after a failure.
    fn settle<T>(&mut self, done: Result<T>, committing: bool) -> Result<T> {
        if self.disk.sync_failed() {
            let message = "a sync of the file failed, and what was written since the last good one may be lost; \
                           the store can be read, and takes writes again once it has been closed and reopened";
            self.fault = Some(Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Never));
            return Err(unknown(message));
        }
        match done {
            Ok(value) => {
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                self.publish().map(|()| value)
            }
            Err(error) if self.is_own(&error) => Err(error),
            Err(error) => {
                self.recover(&error);
                Err(if committing { unknown(error.message()).with_source(error) } else { error })
            }
        }
    }

    /// Whether an error is about the request alone, so that the engine is as well as before.
    fn is_own(&self, error: &Error) -> bool {
        matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Decode | ErrorKind::TooLarge)
    }

    /// The engine answers nothing more after an error of the disk: opens the file anew. A panic of the
    /// engine ends writing instead: its pages are damaged.
    fn recover(&mut self, error: &Error) {
        if error.kind() == ErrorKind::Corrupt {
            self.fault = Some(error.clone());
            return;
        }
        tracing::warn!(%error, "opening the store's file anew after an error");
        self.shared.snapshot.store(None);
        self.database = None;
        let path = open::file_path(&self.config);
        let opened = open::attach(&self.config, &path, Arc::clone(&self.disk));
        let opened = opened.and_then(|database| {
            self.database = Some(database);
            self.publish()
        });
        if let Err(error) = opened {
            tracing::error!(%error, "the store's file could not be opened anew");
            self.shared.fail(error.clone());
            self.fault = Some(error);
        }
    }

    fn publish(&mut self) -> Result<()> {
        let Some(database) = &self.database else { return Err(reopening()) };
        let read = contain(|| Snapshot::new(database.begin_read().map_err(engine)?, Arc::clone(&self.indexes)))?;
        if self.shared.snapshot.swap(Some(Arc::new(read))).is_none() {
            self.shared.available.send_replace(());
        }
        Ok(())
    }

    fn until_due(&self) -> Option<Duration> {
        let flush = self.dirty.map(|since| since + self.config.flush_interval);
        let due = [flush, self.next_sweep].into_iter().flatten().min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// What is due by the clock.
    fn chores(&mut self) {
        if self.dirty.is_some_and(|since| since.elapsed() >= self.config.flush_interval) {
            if let Err(error) = self.flush() {
                tracing::error!(%error, "flushing the store failed");
            }
        }
        if self.next_sweep.is_some_and(|at| at <= Instant::now()) {
            let swept = if self.fault.is_none() { self.transact(|writer| writer.sweep(CHUNK)) } else { Ok(0) };
            if let Err(error) = &swept {
                tracing::warn!(%error, "sweeping expired records failed");
            }
            // If there was a full chunk there may be more; writers get their turn first.
            let full = swept.is_ok_and(|removed| removed as usize == CHUNK);
            self.next_sweep = Some(Instant::now() + if full { Duration::ZERO } else { self.config.sweep_interval });
        }
    }

    /// Brings commits that were only in memory to the disk.
    fn flush(&mut self) -> Result<()> {
        if self.dirty.take().is_none() || self.fault.is_some() {
            return Ok(());
        }
        let done = contain(|| {
            let Some(database) = &self.database else { return Err(reopening()) };
            let mut transaction = database.begin_write().map_err(engine)?;
            transaction.set_durability(redb::Durability::Immediate).map_err(engine)?;
            transaction.commit().map_err(engine)
        });
        self.settle(done, true)
    }

    fn clear(&mut self, collection: &CollectionName) -> Result<u64> {
        let mut removed = 0;
        loop {
            let (live, done) = self.transact(|writer| writer.clear(collection, CHUNK))?;
            removed += live;
            if done {
                return Ok(removed);
            }
        }
    }

    fn ensure_index(&mut self, spec: IndexSpec) -> Result<bool> {
        if let Some(there) = self.indexes.find(&spec.collection, &spec.path) {
            if there.spec.unique == spec.unique {
                return Ok(false);
            }
            let kind = if there.spec.unique { "unique" } else { "not unique" };
            let message = format!("the index {} of {} is there and is {kind}: drop it first", spec.path, spec.collection);
            return Err(Error::new(ErrorKind::Conflict, message).with_retry(Retry::Never));
        }
        let key = schema::scan_key(&spec.collection, spec.path.as_str());
        let index = self.transact(|writer| {
            let mut meta = writer.transaction().open_table(META).map_err(engine)?;
            let id = meta.get_mut(META_INDEX).map_err(engine)?.map_or(0, |id| id.value()) + 1;
            meta.insert(META_INDEX, id).map_err(engine)?;
            let index = Index { spec, id: u32::try_from(id).map_err(|_| Error::new(ErrorKind::Internal, "index ids"))? };
            let stored = rmp_serde::to_vec(&StoredIndex { id: index.id, unique: index.spec.unique })
                .map_err(|error| Error::new(ErrorKind::Internal, format!("index: {error}")))?;
            let mut table = writer.transaction().open_table(INDEXES).map_err(engine)?;
            table.insert(key.as_slice(), stored.as_slice()).map_err(engine)?;
            drop((meta, table));
            writer.fill(&index)?;
            Ok(index)
        })?;
        let mut catalog = (*self.indexes).clone();
        catalog.0.push(index);
        catalog.0.sort_by(|a, b| a.spec.path.cmp(&b.spec.path));
        self.indexes = Arc::new(catalog);
        self.publish().map(|()| true)
    }

    fn drop_index(&mut self, collection: &CollectionName, path: &Path) -> Result<bool> {
        let Some(index) = self.indexes.find(collection, path).cloned() else { return Ok(false) };
        let key = schema::scan_key(collection, path.as_str());
        let mut catalog = (*self.indexes).clone();
        catalog.0.retain(|there| there.id != index.id);
        self.transact(|writer| {
            let mut table = writer.transaction().open_table(INDEXES).map_err(engine)?;
            table.remove(key.as_slice()).map_err(engine)?;
            drop(table);
            writer.empty(&index)
        })?;
        self.indexes = Arc::new(catalog);
        self.publish().map(|()| true)
    }

    /// Takes the file away from readers, who wait, until `work` is done with it.
    fn exclusively<T>(&mut self, work: impl FnOnce(&mut Database) -> Result<T>) -> Result<T> {
        self.flush()?;
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if let Some(snapshot) = self.shared.snapshot.swap(None) {
            // Readers hold a snapshot for a page or a query at most.
            let readers = Arc::downgrade(&snapshot);
            drop(snapshot);
            while readers.strong_count() > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let Some(database) = &mut self.database else { return Err(reopening()) };
        let done = contain(|| work(database));
        self.settle(done, false)
    }

    fn compact(&mut self) -> Result<MaintenanceReport> {
        let path = open::file_path(&self.config);
        let size = || std::fs::metadata(&path).map_or(0, |file| file.len());
        let before = size();
        self.exclusively(|database| {
            // Each pass moves what it can to the front; the engine says when nothing is left to move.
            while database.compact().map_err(engine)? {}
            Ok(())
        })?;
        Ok(MaintenanceReport { freed_bytes: before.saturating_sub(size()), ..MaintenanceReport::default() })
    }

    fn check(&mut self) -> Result<Vec<String>> {
        self.exclusively(|database| match open::check_pages(database) {
            Ok(()) => Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(vec![error.message().to_owned()]),
            Err(error) => Err(error),
        })
    }

    fn finish(mut self) -> Result<()> {
        self.shared.closed.store(true, Ordering::Release);
        let flushed = self.flush();
        self.shared.snapshot.store(None);
        self.shared.available.send_replace(());
        // Marks the file as cleanly closed and lets go of its lock.
        let closed = contain(|| {
            drop(self.database.take());
            Ok(())
        });
        flushed.and(closed)
    }
}

fn unknown(message: &str) -> Error {
    let message = format!("{message}; whether this write was done is unknown");
    Error::new(ErrorKind::Unavailable, message).with_retry(Retry::IfIdempotent)
}

fn reopening() -> Error {
    Error::new(ErrorKind::Unavailable, "the store's file is not open").with_retry(Retry::Never)
}
