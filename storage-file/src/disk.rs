//! The file under the engine, with our say in syncing.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// What the committer and the file tell each other.
#[derive(Debug, Default)]
pub(crate) struct DiskState {
    /// Whether syncs are left out (`durability = "none"`).
    skip_sync: bool,
    /// Whether a sync has failed. What was written since the last good one may or may not be on the disk,
    /// and trying again would not tell: the kernel drops the failed pages. See Rebello et al., "Can
    /// Applications Recover from fsync Failures?", USENIX ATC 2020.
    sync_failed: AtomicBool,
}

impl DiskState {
    pub(crate) fn new(skip_sync: bool) -> Arc<Self> {
        Arc::new(Self { skip_sync, sync_failed: AtomicBool::new(false) })
    }

    pub(crate) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }
}

/// The engine's file.
///
/// A failed sync is kept from the engine, which would refuse even reads from then on, and told to the
/// committer, which reports it and stops writing. From that moment every write fails, so that the engine
/// cannot mark the file as cleanly closed: the next opening checks everything.
pub(crate) struct Disk {
    file: FileBackend,
    state: Arc<DiskState>,
}

impl Disk {
    pub(crate) fn new(file: File, state: Arc<DiskState>) -> Result<Self, redb::DatabaseError> {
        Ok(Self { file: FileBackend::new(file)?, state })
    }

    fn check(&self) -> io::Result<()> {
        if self.state.sync_failed() {
            return Err(io::Error::other("an earlier sync of the file failed"));
        }
        Ok(())
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("state", &self.state).finish_non_exhaustive()
    }
}

type Locked<T> = Result<T, BackendError>;

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.state.skip_sync || self.state.sync_failed() {
            return Ok(());
        }
        if let Err(error) = self.file.sync_data() {
            tracing::error!(%error, "syncing the store's file failed; it takes no more writes until reopened");
            self.state.sync_failed.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.file.query_lock_range(start, end)
    }
}
