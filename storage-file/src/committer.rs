//! The one thread that writes: it commits whatever has queued up as one transaction with one sync.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase, ReadableTable};
use storage_core::{
    Batch, CollectionName, Error, ErrorKind, IndexSpec, MaintenanceReport, Path, Result, Retry, Written,
};

use crate::client::{Job, Reply, Shared};
use crate::config::{Durability, FileConfig};
use crate::disk::{DiskState, Trouble};
use crate::error::{contain, engine, system};
use crate::index::{Catalog, Index, StoredIndex};
use crate::open::{self, Opened};
use crate::schema::{self, INDEXES, META, META_INDEX};
use crate::snapshot::Snapshot;
use crate::writer::{Attempt, Failure, Sequence, Writer, fatal};

/// Most mutations and bytes in one transaction; what is queued beyond them goes into the next.
const GROUP_LEN: usize = 16_384;
const GROUP_BYTES: usize = 64 << 20;
/// So many calls share a commit well enough: what it costs by itself (a sync, the pages at the top of the
/// tree) is less than what they cost. Further ones rather run while this commit waits for the disk.
const ENOUGH: usize = 32;
/// How long after the last arrival another one is waited for, and how long in all; see `expects_more`.
const ARRIVAL_GAP: Duration = Duration::from_micros(50);
const MOST_PATIENCE: Duration = Duration::from_millis(1);
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
    /// How many calls the last commit held, and how long it took.
    last_group: usize,
    last_commit: Duration,
    /// Since when there are commits that are not on the disk.
    dirty: Option<Instant>,
    next_sweep: Option<Instant>,
    fault: Option<Fault>,
}

/// Why nothing is written.
struct Fault {
    error: Error,
    /// Whether opening the file anew may mend it.
    passing: bool,
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
            last_group: 0,
            last_commit: Duration::ZERO,
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
        let started = Instant::now();
        let mut size = (first.0.mutations.len(), first.0.size());
        let mut group = vec![first];
        let mut next = None;
        let mut last_arrival = started;
        while size.0 < GROUP_LEN && size.1 < GROUP_BYTES {
            match jobs.try_recv() {
                Ok(Job::Write(batch, reply)) => {
                    size = (size.0 + batch.mutations.len(), size.1 + batch.size());
                    group.push((batch, reply));
                    last_arrival = Instant::now();
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) if self.expects_more(group.len(), started, last_arrival) => std::thread::yield_now(),
                Err(_) => break,
            }
        }
        self.last_group = group.len();
        let begun = Instant::now();
        self.commit(group);
        self.last_commit = begun.elapsed();
        next.and_then(|job| self.other(job))
    }

    /// Whether other writers are likely to queue up in a moment. After a commit all its writers are woken at
    /// once; without a little patience the first of them would get a commit of its own, and the others would
    /// wait for it. A lone writer is never kept waiting. PostgreSQL's `commit_delay` and `commit_siblings`
    /// serve the same end.
    fn expects_more(&self, arrived: usize, started: Instant, last_arrival: Instant) -> bool {
        (arrived > 1 || self.last_group > 1)
            && arrived < ENOUGH
            && last_arrival.elapsed() < ARRIVAL_GAP
            && started.elapsed() < (self.last_commit / 4).min(MOST_PATIENCE)
    }

    fn commit(&mut self, group: Vec<WriteJob>) {
        let (batches, replies): (Vec<Batch>, Vec<_>) = group.into_iter().unzip();
        let done = self
            .transact(|writer| batches.iter().map(|batch| writer.write(batch)).collect::<Attempt<Vec<_>>>());
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
            Job::Clear(collection, reply) => {
                drop(reply.send(self.transact(|writer| writer.clear(&collection, CHUNK))));
            }
            Job::EnsureIndex(spec, reply) => drop(reply.send(self.ensure_index(spec))),
            Job::DropIndex(collection, path, reply) => drop(reply.send(self.drop_index(&collection, &path))),
            Job::Sweep(reply) => drop(reply.send(self.transact(|writer| writer.sweep(CHUNK)))),
            Job::Compact(reply) => drop(reply.send(self.compact())),
            Job::Revive => self.revive_reading(),
            Job::Check(reply) => drop(reply.send(self.check())),
            Job::Close(reply) => return Some(reply),
        }
        None
    }

    /// Runs `work` in a transaction and commits it. An error says whether the outcome is known: everything
    /// before the commit leaves no trace.
    fn transact<T>(&mut self, work: impl FnOnce(&mut Writer<'_>) -> Attempt<T>) -> Result<T> {
        self.revive()?;
        let immediate = self.config.durability == Durability::Immediate || self.sequence.is_short();
        let mut committing = false;
        let done = contain(|| {
            let database = self.database.as_ref().ok_or_else(|| Failure::Own(reopening()))?;
            let mut transaction = database.begin_write().map_err(fatal)?;
            let durability = if immediate { redb::Durability::Immediate } else { redb::Durability::None };
            transaction.set_durability(durability).map_err(fatal)?;
            let mut writer = Writer::new(&transaction, &self.indexes, &mut self.sequence)?;
            let value = work(&mut writer)?;
            let sequence = writer.finish()?;
            if self.disk.trouble().is_some() {
                return Err(Failure::Own(reopening()));
            }
            committing = true;
            transaction.commit().map_err(fatal)?;
            Ok((value, sequence))
        });
        let done = done.unwrap_or_else(|panic| Err(Failure::Engine(panic)));
        let (value, sequence) = self.settle(done, committing)?;
        self.sequence = sequence;
        match self.dirty {
            // A durable commit brings those before it along.
            _ if immediate => self.dirty = None,
            None => self.dirty = Some(Instant::now()),
            Some(_) => {}
        }
        Ok(value)
    }

    /// After a transaction: shows readers the new state, or finds out what can go on after a failure.
    fn settle<T>(&mut self, done: Attempt<T>, committing: bool) -> Result<T> {
        let failed = match (self.disk.trouble(), done) {
            (Some(trouble), _) => self.troubled(trouble),
            (None, Ok(value)) => {
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                return self.publish().map(|()| value).map_err(|error| unknown(&error));
            }
            (None, Err(Failure::Own(error))) => return Err(error),
            // Damaged pages: opening anew would not mend them.
            (None, Err(Failure::Engine(error))) if error.kind() == ErrorKind::Corrupt => {
                Fault { error, passing: false }
            }
            // The engine answers nothing more after an error of the disk.
            (None, Err(Failure::Engine(error))) => Fault { error, passing: true },
        };
        let error = failed.error.clone();
        self.fault = Some(failed);
        Err(if committing { unknown(&error) } else { error })
    }

    fn troubled(&self, trouble: &Trouble) -> Fault {
        match trouble {
            Trouble::Write(error) => Fault { error: system(error, "writing the file"), passing: true },
            Trouble::Sync(error) => {
                let message = format!(
                    "a sync of the file failed ({error}), and what was written since the last good one may be lost; \
                     the store can be read, and takes writes again once it has been closed and reopened"
                );
                let error = Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Never);
                Fault { error, passing: false }
            }
        }
    }

    /// Makes writing possible again after a passing fault, if it can be.
    fn revive(&mut self) -> Result<()> {
        let Some(fault) = &self.fault else { return Ok(()) };
        // What the readers have is worth more than a try that is bound to fail.
        if !fault.passing || open::probe(&self.config).is_err() {
            return Err(fault.error.clone());
        }
        self.reopen()
    }

    /// Makes reading possible again after an error of the disk, which the engine remembers.
    fn revive_reading(&mut self) {
        let works = self
            .shared
            .snapshot
            .load_full()
            .is_some_and(|snapshot| contain(|| snapshot.collections()).flatten().is_ok());
        let mendable = self.disk.trouble().is_none() && self.fault.as_ref().is_none_or(|fault| fault.passing);
        if !works && mendable {
            let _ = self.reopen();
        }
    }

    fn reopen(&mut self) -> Result<()> {
        tracing::warn!("opening the store's file anew after an error");
        self.shared.snapshot.store(None);
        let _ = contain(|| drop(self.database.take()));
        self.disk = DiskState::new(self.config.durability == Durability::None);
        let path = open::file_path(&self.config);
        let opened = open::attach(&self.config, &path, Arc::clone(&self.disk)).and_then(|database| {
            self.database = Some(database);
            self.publish()
        });
        match opened {
            Ok(()) => {
                self.fault = None;
                self.dirty = None;
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the store's file could not be opened anew");
                self.shared.fail(error.clone());
                self.fault = Some(Fault { error: error.clone(), passing: true });
                Err(error)
            }
        }
    }

    fn publish(&mut self) -> Result<()> {
        let Some(database) = &self.database else { return Err(reopening()) };
        let read =
            contain(|| Snapshot::new(database.begin_read().map_err(engine)?, Arc::clone(&self.indexes)))
                .flatten()?;
        self.shared.publish(read);
        Ok(())
    }

    fn until_due(&self) -> Option<Duration> {
        let flush = self.dirty.map(|since| since + self.config.flush_interval);
        let due = [flush, self.next_sweep].into_iter().flatten().min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// What is due by the clock.
    fn chores(&mut self) {
        if self.dirty.is_some_and(|since| since.elapsed() >= self.config.flush_interval)
            && let Err(error) = self.flush()
        {
            tracing::error!(%error, "flushing the store failed");
        }
        if self.next_sweep.is_some_and(|at| at <= Instant::now()) {
            let swept =
                if self.fault.is_none() { self.transact(|writer| writer.sweep(CHUNK)) } else { Ok(0) };
            if let Err(error) = &swept {
                tracing::warn!(%error, "sweeping expired records failed");
            }
            // If there was a full chunk there may be more; writers get their turn first.
            let full = swept.is_ok_and(|removed| removed as usize == CHUNK);
            self.next_sweep =
                Some(Instant::now() + if full { Duration::ZERO } else { self.config.sweep_interval });
        }
    }

    /// Brings commits that were only in memory to the disk.
    fn flush(&mut self) -> Result<()> {
        if self.dirty.take().is_none() || self.fault.is_some() {
            return Ok(());
        }
        let done = contain(|| {
            let database = self.database.as_ref().ok_or_else(|| Failure::Own(reopening()))?;
            let mut transaction = database.begin_write().map_err(fatal)?;
            transaction.set_durability(redb::Durability::Immediate).map_err(fatal)?;
            transaction.commit().map_err(fatal)
        });
        let done = done.unwrap_or_else(|panic| Err(Failure::Engine(panic)));
        self.settle(done, true)
    }

    fn ensure_index(&mut self, spec: IndexSpec) -> Result<bool> {
        if let Some(there) = self.indexes.find(&spec.collection, &spec.path) {
            if there.spec.unique == spec.unique {
                return Ok(false);
            }
            let kind = if there.spec.unique { "unique" } else { "not unique" };
            let message = format!(
                "the index {} of {} is there and is {kind}: drop it first",
                spec.path, spec.collection
            );
            return Err(Error::new(ErrorKind::Conflict, message).with_retry(Retry::Never));
        }
        let key = schema::scan_key(&spec.collection, spec.path.as_str());
        let index = self.transact(|writer| {
            let mut meta = writer.transaction().open_table(META).map_err(fatal)?;
            let id = meta.get(META_INDEX).map_err(fatal)?.map_or(0, |id| id.value()) + 1;
            meta.insert(META_INDEX, id).map_err(fatal)?;
            drop(meta);
            let internal = |text: String| Failure::Own(Error::new(ErrorKind::Internal, text));
            let id =
                u32::try_from(id).map_err(|_| internal("the store has run out of index numbers".into()))?;
            let stored = rmp_serde::to_vec(&StoredIndex { id, unique: spec.unique });
            let stored = stored.map_err(|error| internal(format!("index: {error}")))?;
            let index = Index { spec, id };
            let mut table = writer.transaction().open_table(INDEXES).map_err(fatal)?;
            table.insert(key.as_slice(), stored.as_slice()).map_err(fatal)?;
            drop(table);
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
            let mut table = writer.transaction().open_table(INDEXES).map_err(fatal)?;
            table.remove(key.as_slice()).map_err(fatal)?;
            drop(table);
            writer.empty(&index)
        })?;
        self.indexes = Arc::new(catalog);
        self.publish().map(|()| true)
    }

    /// Takes the file away from readers, who wait, until `work` is done with it.
    fn exclusively<T>(&mut self, work: impl FnOnce(&mut Database) -> Result<T>) -> Result<T> {
        self.revive()?;
        self.flush()?;
        if let Some(snapshot) = self.shared.snapshot.swap(None) {
            // Readers hold a snapshot for a page or a query at most.
            let readers = Arc::downgrade(&snapshot);
            drop(snapshot);
            while readers.strong_count() > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let Some(database) = &mut self.database else { return Err(reopening()) };
        // The engine's own errors end in `PreviousIo`; what `work` finds wrong with the data does not.
        let done = contain(|| work(database)).flatten().map_err(|error| match error.kind() {
            ErrorKind::Corrupt => Failure::Own(error),
            _ => Failure::Engine(error),
        });
        let done = self.settle(done, false);
        // After trouble with the disk too, readers get back what they had.
        if self.shared.snapshot.load().is_none()
            && let Err(error) = self.publish()
        {
            self.shared.fail(error);
        }
        done
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
        let closed = contain(|| drop(self.database.take()));
        flushed.and(closed)
    }
}

fn unknown(error: &Error) -> Error {
    let message = format!("{}; whether this write was done is unknown", error.message());
    Error::new(error.kind(), message).with_retry(Retry::IfIdempotent).with_source(error.clone())
}

fn reopening() -> Error {
    Error::new(ErrorKind::Unavailable, "the store's file is not open").with_retry(Retry::Never)
}
