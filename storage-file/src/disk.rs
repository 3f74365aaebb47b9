//! The file under the engine, with our say in syncing.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// What went wrong with the file.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A write failed, such as on a full disk. Once there is room the file can be opened anew.
    Write(io::Error),
    /// A sync failed. What was written since the last good one may or may not be on the disk, and trying
    /// again would not tell: the kernel drops the failed pages. See Rebello et al., "Can Applications Recover
    /// from fsync Failures?", USENIX ATC 2020.
    Sync(io::Error),
}

/// What the file tells the committer.
#[derive(Debug, Default)]
pub(crate) struct DiskState {
    /// Whether syncs are left out (`durability = "none"`).
    skip_sync: bool,
    trouble: OnceLock<Trouble>,
}

impl DiskState {
    pub(crate) fn new(skip_sync: bool) -> Arc<Self> {
        Arc::new(Self { skip_sync, trouble: OnceLock::new() })
    }

    pub(crate) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.get()
    }
}

/// The engine's file.
///
/// A failed write or sync is kept from the engine, which would refuse even reads from then on, and told to
/// the committer, which reports it. From that moment nothing more reaches the file: the commit under way
/// stays without its header, readers go on with the state before it, and the file is not marked as cleanly
/// closed, so that the next opening checks everything. What the engine still writes it can read back from
/// memory, until the committer stops at the end of the transaction.
pub(crate) struct Disk {
    file: FileBackend,
    state: Arc<DiskState>,
    withheld: Mutex<Withheld>,
}

/// What was written after there was trouble.
#[derive(Default)]
struct Withheld {
    /// The length the file would have.
    len: Option<u64>,
    /// In the order in which they were written.
    writes: Vec<(u64, Vec<u8>)>,
}

impl Disk {
    pub(crate) fn new(file: File, state: Arc<DiskState>) -> Result<Self, redb::DatabaseError> {
        Ok(Self { file: FileBackend::new(file)?, state, withheld: Mutex::default() })
    }

    fn withheld(&self) -> MutexGuard<'_, Withheld> {
        self.withheld.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a write or sync unless there was trouble before, and notes trouble. Returns whether it was done.
    fn attempt(&self, change: impl FnOnce() -> io::Result<()>, trouble: fn(io::Error) -> Trouble) -> bool {
        if self.state.trouble().is_some() {
            return false;
        }
        let Err(error) = change() else { return true };
        tracing::error!(%error, "writing or syncing the store's file failed");
        let _ = self.state.trouble.set(trouble(error));
        false
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
        match self.withheld().len {
            Some(len) => Ok(len),
            None => self.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.state.trouble().is_none() {
            return self.file.read(offset, out);
        }
        let on_disk = self.file.len()?.saturating_sub(offset).min(out.len() as u64) as usize;
        let (stored, beyond) = out.split_at_mut(on_disk);
        self.file.read(offset, stored)?;
        beyond.fill(0);
        for (at, data) in &self.withheld().writes {
            let (from, to) = (offset.max(*at), (offset + out.len() as u64).min(at + data.len() as u64));
            if from < to {
                let (target, source) =
                    ((from - offset) as usize..(to - offset) as usize, (from - at) as usize);
                let length = target.len();
                out[target].copy_from_slice(&data[source..source + length]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !self.attempt(|| self.file.set_len(len), Trouble::Write) {
            self.withheld().len = Some(len);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.state.skip_sync {
            self.attempt(|| self.file.sync_data(), Trouble::Sync);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if !self.attempt(|| self.file.write(offset, data), Trouble::Write) {
            self.withheld().writes.push((offset, data.to_vec()));
        }
        Ok(())
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
