//! The plugin directory, and the part of it that is this software's own.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind as Io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use storage_core::{Error, ErrorKind, Result};

use super::files::{self, Opened};
use super::options::variable;
use super::{Digest, Keyring, ProblemKind};

/// How long a change waits for one that another process makes.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
/// No file takes that long to be written.
const WRITE_LIMIT: Duration = Duration::from_secs(60 * 60);
/// The largest record of our own; that of a trial holds a configuration schema.
const MAX_RECORD: u64 = 4 << 20;

/// A plugin directory that only its owner and root can change.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The name of the part that is this software's own.
    pub(super) const STATE: &'static str = ".state";

    /// None if it is not there.
    ///
    /// # Errors
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if others could put a plugin there; then the mode to set is
    /// in the message.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        let opened = match Opened::follow(path) {
            Err(problem) if problem.kind == ProblemKind::Missing => return Ok(None),
            opened => opened?,
        };
        if !opened.is_dir() {
            return Err(Error::invalid(format!(
                "the plugin directory {} is not a directory",
                path.display()
            )));
        }
        opened.check_owner(0o022).map_err(|problem| unsafe_owner("plugin directory", problem))?;
        Ok(Some(Self { path: path.to_owned() }))
    }

    /// As [`open`](Self::open), but made if it is not there.
    pub(super) fn create(path: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|error| files::unwritable(path, error))?;
        let opened = Self::open(path)?;
        opened.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no {}", path.display())))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keyring(&self) -> Result<Keyring> {
        Keyring::read(&self.path.join(Keyring::FILE))
    }

    /// The names of what is meant to be a plugin: of directories first, then of libraries, each in order.
    pub(super) fn candidates(&self) -> Result<Vec<String>> {
        let unreadable = |error: std::io::Error| {
            Error::new(
                ErrorKind::PermissionDenied,
                format!("{} cannot be read: {error}", self.path.display()),
            )
            .with_source(error)
        };
        let (mut packages, mut libraries) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            // A link that looks like a plugin is a candidate, so that somebody is told why it is not loaded.
            if name.ends_with(".so") {
                libraries.push(name);
            } else if entry.path().is_dir() {
                packages.push(name);
            }
        }
        packages.sort_unstable();
        libraries.sort_unstable();
        packages.append(&mut libraries);
        Ok(packages)
    }

    /// Removes what changes that were broken off have left behind. Whoever calls it holds the lock.
    pub(super) fn tidy(&self) -> Result<()> {
        let left_behind = |name: &OsStr| {
            let name = name.as_encoded_bytes();
            name.starts_with(files::NEW.as_bytes()) || name.starts_with(files::OLD.as_bytes())
        };
        let tidy = || {
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if left_behind(&entry.file_name()) {
                    let is_dir = entry.file_type()?.is_dir();
                    if is_dir { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
                }
            }
            Ok(())
        };
        tidy().map_err(|error| files::unwritable(&self.path, error))
    }

    /// The part of the directory that is this software's own; of a directory that this user cannot change, such as one
    /// of root, a directory in the user's cache instead.
    ///
    /// # Errors
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if others than its owner can read it, or if the user has no
    /// cache.
    pub(super) fn state(&self) -> Result<State> {
        let path = if self.is_writable() { self.path.join(Self::STATE) } else { self.state_in_cache()? };
        match Opened::follow(&path) {
            Err(problem) if problem.kind == ProblemKind::Missing => {}
            opened => opened?.check_owner(0o077).map_err(|problem| unsafe_owner("directory", problem))?,
        }
        Ok(State { path })
    }

    /// # Errors
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if this user cannot change the directory.
    pub(super) fn check_writable(&self) -> Result<()> {
        if self.is_writable() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::PermissionDenied,
            format!(
                "the plugin directory {} cannot be changed by this user: do that as its owner, or name another directory",
                self.path.display()
            ),
        ))
    }

    fn is_writable(&self) -> bool {
        use rustix::fs::{Access, AtFlags, CWD, accessat};

        let needed = Access::WRITE_OK | Access::EXEC_OK;
        accessat(CWD, &self.path, needed, AtFlags::EACCESS).is_ok()
    }

    fn state_in_cache(&self) -> Result<PathBuf> {
        let cache = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let cache = cache.or_else(|| Some(env::home_dir()?.join(".cache"))).ok_or_else(|| {
            Error::new(
                ErrorKind::PermissionDenied,
                format!(
                    "the plugin directory {} cannot be changed, and the user has no home for private copies of plugins: \
                     name a directory for them in XDG_CACHE_HOME",
                    self.path.display()
                ),
            )
        })?;
        // One path, whichever links lead to the directory.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let digest = Digest::of(path.as_os_str().as_encoded_bytes());
        Ok(cache.join("storage/plugins").join(digest.to_string()))
    }
}

/// That of a directory is no fault of a file, but of who may do what.
fn unsafe_owner(what: &str, problem: super::Problem) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("the {what} {}", problem.message)).with_source(problem)
}

/// Private copies of libraries, markers, and records of trials and quarantine. It is made when there is something to
/// write.
#[derive(Clone, Debug)]
pub(super) struct State {
    path: PathBuf,
}

/// The right to change the plugin directory, until it is dropped.
pub(super) struct WriterLock(#[expect(dead_code, reason = "holds the lock")] File);

impl State {
    pub(super) const COPIES: &'static str = "copies";
    pub(super) const LOADING: &'static str = "loading";
    pub(super) const QUARANTINE: &'static str = "quarantine";
    pub(super) const TRIALS: &'static str = "trials";
    const KINDS: [&'static str; 4] = [Self::COPIES, Self::LOADING, Self::QUARANTINE, Self::TRIALS];

    /// The directory of one kind of records, which may not be there.
    pub(super) fn dir(&self, kind: &str) -> PathBuf {
        self.path.join(kind)
    }

    /// As [`dir`](Self::dir), but made if it is not there.
    pub(super) fn made_dir(&self, kind: &str) -> Result<PathBuf> {
        let dir = self.dir(kind);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| files::unwritable(&dir, error))?;
        Ok(dir)
    }

    /// A record; none if it is not there. One that is damaged is as good as none.
    pub(super) fn read<T: DeserializeOwned>(&self, kind: &str, name: &str) -> Option<T> {
        let path = self.dir(kind).join(name);
        let bytes = match Opened::follow(&path).and_then(|file| file.read(MAX_RECORD)) {
            Ok(bytes) => bytes,
            Err(problem) if problem.kind == ProblemKind::Missing => return None,
            Err(problem) => {
                tracing::warn!(%problem, "a record about a plugin cannot be read");
                return None;
            }
        };
        let decoded = serde_json::from_slice(&bytes);
        decoded
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a record is damaged"))
            .ok()
    }

    pub(super) fn write<T: Serialize>(&self, kind: &str, name: &str, record: &T) -> Result<()> {
        let path = self.made_dir(kind)?.join(name);
        let bytes = serde_json::to_vec_pretty(record).map_err(|error| {
            Error::new(ErrorKind::Internal, format!("{} cannot be encoded: {error}", path.display()))
        })?;
        files::replace(&path, &bytes, 0o600)
    }

    /// Removes a record; one that is not there is fine.
    pub(super) fn remove(&self, kind: &str, name: &str) -> Result<()> {
        remove_file(&self.dir(kind).join(name))
    }

    /// Removes what processes that ended in the middle of writing have left behind. Programs write here without the
    /// lock when they load plugins, so that only what is old can have been left.
    pub(super) fn tidy(&self) -> Result<()> {
        for dir in Self::KINDS.map(|kind| self.dir(kind)) {
            // One that is not there has nothing in it.
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let is_new = entry.file_name().as_encoded_bytes().starts_with(files::NEW.as_bytes());
                let written = entry.metadata().and_then(|found| found.modified()).ok();
                let age = written.and_then(|written| written.elapsed().ok());
                if is_new && age.is_some_and(|age| age > WRITE_LIMIT) {
                    remove_file(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Waits at most 10 seconds for those who change the directory.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) after that.
    pub(super) fn lock(&self) -> Result<WriterLock> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(|error| files::unwritable(&self.path, error))?;
        let path = self.path.join("lock");
        let opened = File::options().create(true).append(true).open(&path);
        let file = opened.map_err(|error| files::unwritable(&path, error))?;
        let deadline = Instant::now() + LOCK_LIMIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(WriterLock(file)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(
                        ErrorKind::Busy,
                        format!(
                            "another process has been changing the plugins for {LOCK_LIMIT:?}, and holds {}",
                            path.display()
                        ),
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(files::unwritable(&path, error)),
            }
        }
    }
}

/// Removes a file; one that is not there is fine.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != Io::NotFound => Err(files::unwritable(path, error)),
        _ => Ok(()),
    }
}
