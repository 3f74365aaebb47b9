//! The open file: what readers and the committer share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use storage_core::{
    Batch, CollectionName, Error, ErrorKind, IndexSpec, MaintenanceReport, Path, Result, Written,
};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::error::contain;
use crate::snapshot::Snapshot;

/// Calls that may wait for the committer at once; more wait before they are queued.
const QUEUE: usize = 4096;

pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// Work for the committer.
pub(crate) enum Job {
    Write(Batch, Reply<Vec<Result<Written>>>),
    /// Removes some records; replies with how many were live, and whether that was all.
    Clear(CollectionName, Reply<(u64, bool)>),
    EnsureIndex(IndexSpec, Reply<bool>),
    DropIndex(CollectionName, Path, Reply<bool>),
    /// Removes some expired records; replies with how many.
    Sweep(Reply<u64>),
    Compact(Reply<MaintenanceReport>),
    /// Opens the file anew if the engine answers nothing more.
    Revive,
    /// Checks every page of the file; replies with what is wrong.
    Check(Reply<Vec<String>>),
    Close(Reply<()>),
}

/// What readers see of the store.
pub(crate) struct Shared {
    /// The last committed state; none while the committer needs the file for itself.
    pub(crate) snapshot: ArcSwapOption<Snapshot>,
    /// Bumped whenever `snapshot` changes from none to some.
    pub(crate) available: watch::Sender<()>,
    pub(crate) closed: AtomicBool,
    /// Why there is no snapshot, if the file could not be opened anew.
    broken: ArcSwapOption<Error>,
    pub(crate) file: PathBuf,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) commits: AtomicU64,
}

impl Shared {
    pub(crate) fn new(file: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            snapshot: ArcSwapOption::empty(),
            available: watch::channel(()).0,
            closed: AtomicBool::new(false),
            broken: ArcSwapOption::empty(),
            file,
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            commits: AtomicU64::new(0),
        })
    }

    /// Shows readers a new state.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        if self.snapshot.swap(Some(Arc::new(snapshot))).is_none() {
            self.broken.store(None);
            self.available.send_replace(());
        }
    }

    /// Tells readers that the file could not be opened anew.
    pub(crate) fn fail(&self, error: Error) {
        self.broken.store(Some(Arc::new(error)));
        self.available.send_replace(());
    }

    /// Adds the path of the file to errors that are about it.
    pub(crate) fn named(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Corrupt
            | ErrorKind::StorageFull
            | ErrorKind::Unavailable
            | ErrorKind::PermissionDenied => {
                let message = format!("{}: {}", self.file.display(), error.message());
                let named = Error::new(error.kind(), message).with_retry(error.retry());
                match error.failed_mutation() {
                    Some(position) => named.mutation(position),
                    None => named,
                }
            }
            _ => error,
        }
    }
}

/// A handle for the backend's methods.
pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    jobs: std::sync::mpsc::Sender<Job>,
    room: Semaphore,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, jobs: std::sync::mpsc::Sender<Job>) -> Self {
        Self { shared, jobs, room: Semaphore::new(QUEUE) }
    }

    /// Reads from the last committed state, on the caller's own thread.
    pub(crate) async fn read<T>(&self, read: impl FnOnce(&Snapshot) -> Result<T>) -> Result<T> {
        let snapshot = self.snapshot().await?;
        contain(|| read(&snapshot)).flatten().map_err(|error| self.failed(error))
    }

    /// Reads what may take long, on a thread where waiting harms nobody.
    pub(crate) async fn read_long<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Snapshot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let snapshot = self.snapshot().await?;
        let work = tokio::task::spawn_blocking(move || contain(|| read(&snapshot)).flatten());
        let done =
            work.await.map_err(|error| Error::new(ErrorKind::Internal, format!("reading: {error}")))?;
        done.map_err(|error| self.failed(error))
    }

    /// After a failed read: has the file opened anew if the engine answers nothing more.
    fn failed(&self, error: Error) -> Error {
        if error.kind() == ErrorKind::Unavailable {
            let _ = self.jobs.send(Job::Revive);
        }
        self.shared.named(error)
    }

    async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        if let Some(snapshot) = self.shared.snapshot.load_full() {
            return Ok(snapshot);
        }
        let mut available = self.shared.available.subscribe();
        loop {
            if self.shared.closed.load(Ordering::Acquire) {
                return Err(closed());
            }
            if let Some(snapshot) = self.shared.snapshot.load_full() {
                return Ok(snapshot);
            }
            if let Some(error) = self.shared.broken.load_full() {
                return Err((*error).clone());
            }
            if available.changed().await.is_err() {
                return Err(closed());
            }
        }
    }

    /// Has the committer do a job. It is done even if the caller stops waiting.
    pub(crate) async fn submit<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T> {
        let _room = self.room.acquire().await.map_err(|_| closed())?;
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?.map_err(|error| self.shared.named(error))
    }

    pub(crate) async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        // The first to close waits for the committer to end; later ones find it gone.
        if self.shared.closed.swap(true, Ordering::AcqRel) || self.jobs.send(Job::Close(reply)).is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(())).map_err(|error| self.shared.named(error))
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store has been closed")
}
