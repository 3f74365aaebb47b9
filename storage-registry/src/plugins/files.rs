//! Reading files that others may have prepared, and writing ones that a crash leaves whole or absent.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use storage_core::{Error, Result};
use tempfile::NamedTempFile;

use super::{Problem, ProblemKind};

/// What the names of files and directories begin with that are not complete yet.
pub(super) const NEW: &str = ".new-";
/// What the names of directories begin with that are being removed.
pub(super) const OLD: &str = ".old-";

/// A file or directory, opened once: what is checked is what is read, whatever happens to the path.
pub(super) struct Opened {
    file: OwnedFd,
    stat: Stat,
    path: PathBuf,
}

impl Opened {
    /// Opens what a person named; a symbolic link is followed.
    pub(super) fn follow(path: &Path) -> Result<Self, Problem> {
        Self::open(CWD, path, path.to_owned(), OFlags::empty())
    }

    /// Opens an entry of a directory; a symbolic link is refused.
    pub(super) fn entry(dir: impl AsFd, dir_path: &Path, name: &str) -> Result<Self, Problem> {
        let path = dir_path.join(name);
        if !is_file_name(name) {
            return Err(Problem::new(ProblemKind::Unreadable, format!("{name:?} is not the name of a file")));
        }
        Self::open(dir, Path::new(name), path, OFlags::NOFOLLOW)
    }

    fn open(dir: impl AsFd, name: &Path, path: PathBuf, links: OFlags) -> Result<Self, Problem> {
        // Not blocking, because opening a named pipe waits for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | links;
        let opened = rustix::fs::openat(dir, name, flags, Mode::empty());
        let opened = opened.and_then(|file| rustix::fs::fstat(&file).map(|stat| (file, stat)));
        match opened {
            Ok((file, stat)) => Ok(Self { file, stat, path }),
            Err(Errno::LOOP) => Err(Problem::new(
                ProblemKind::Unreadable,
                format!(
                    "{} is a symbolic link, and none is followed here: put the file itself there",
                    path.display()
                ),
            )),
            Err(Errno::NOENT) => {
                Err(Problem::new(ProblemKind::Missing, format!("there is no {}", path.display())))
            }
            Err(error) => Err(unreadable(&path, error.into())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode).is_dir()
    }

    /// Opens an entry of this directory.
    pub(super) fn inner(&self, name: &str) -> Result<Self, Problem> {
        Self::entry(&self.file, &self.path, name)
    }

    /// Refuses a file that others than its owner could have written (`forbidden` is `0o022`) or read (`0o077`), or
    /// that belongs to somebody else than this user and root.
    pub(super) fn check_owner(&self, forbidden: u32) -> Result<(), Problem> {
        let path = self.path.display();
        let mode = self.stat.st_mode & 0o777;
        if mode & forbidden != 0 {
            return Err(Problem::new(
                ProblemKind::Unreadable,
                format!(
                    "{path} has mode {mode:03o}, so that others can {} it: run chmod {:03o} {path}",
                    if mode & forbidden & 0o022 == 0 { "read" } else { "change" },
                    mode & !forbidden
                ),
            ));
        }
        if self.stat.st_uid != 0 && self.stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(Problem::new(
                ProblemKind::Unreadable,
                format!("{path} belongs to user {}: it has to be yours or root's", self.stat.st_uid),
            ));
        }
        Ok(())
    }

    /// The bytes of a regular file of at most `limit` bytes.
    pub(super) fn read(self, limit: u64) -> Result<Vec<u8>, Problem> {
        let Self { file, stat, path } = self;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !kind.is_file() {
            let what = if kind.is_dir() { "a directory" } else { "not a regular file" };
            return Err(Problem::new(ProblemKind::Unreadable, format!("{} is {what}", path.display())));
        }
        let mut bytes = Vec::new();
        let expected = u64::try_from(stat.st_size).unwrap_or(0).min(limit);
        let reserved = usize::try_from(expected).ok().and_then(|size| bytes.try_reserve_exact(size + 1).ok());
        if reserved.is_none() {
            return Err(unreadable(&path, ErrorKind::OutOfMemory.into()));
        }
        let read = File::from(file).take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| unreadable(&path, error))?;
        if bytes.len() as u64 > limit {
            return Err(Problem::new(
                ProblemKind::Unreadable,
                format!("{} is larger than the {limit} bytes that are allowed", path.display()),
            ));
        }
        Ok(bytes)
    }

    /// As [`read`](Self::read), for text.
    pub(super) fn read_text(self, limit: u64) -> Result<String, Problem> {
        let path = self.path.clone();
        String::from_utf8(self.read(limit)?).map_err(|_| {
            Problem::new(ProblemKind::Unreadable, format!("{} is not UTF-8 text", path.display()))
        })
    }
}

fn unreadable(path: &Path, error: io::Error) -> Problem {
    Problem::new(ProblemKind::Unreadable, format!("{} cannot be read: {error}", path.display()))
}

/// Whether `name` names something in a directory: one component, not hidden, nothing that needs quoting.
pub(super) fn is_file_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    !name.is_empty() && name.len() <= 255 && !name.starts_with(['.', '-']) && name.bytes().all(allowed)
}

/// Replaces a file at one instant; after a crash there is the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = prepare(path, bytes, mode)?;
    file.persist(path).map_err(|error| unwritable(path, error.error))?;
    sync_parent(path)
}

/// Writes a file that must not be there yet.
pub(super) fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = prepare(path, bytes, mode)?;
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => unwritable(path, error.error),
    })?;
    sync_parent(path)
}

/// Makes a directory of files at one instant; it must not be there yet.
pub(super) fn create_dir(path: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    let parent = parent(path);
    fs::create_dir_all(parent).map_err(|error| unwritable(parent, error))?;
    // Hidden, so that a crash leaves nothing that looks like a package.
    let dir = tempfile::Builder::new().prefix(NEW).tempdir_in(parent);
    let dir = dir.map_err(|error| unwritable(parent, error))?;
    for (name, bytes) in files {
        create(&dir.path().join(name), bytes, 0o644)?;
    }
    let written = fs::set_permissions(dir.path(), Permissions::from_mode(0o755));
    written.map_err(|error| unwritable(path, error))?;
    // Unlike `rename`, which replaces an empty directory.
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    rustix::fs::renameat_with(CWD, dir.path(), CWD, path, flags).map_err(|error| match error {
        Errno::EXIST => exists(path),
        error => unwritable(path, error.into()),
    })?;
    sync_parent(path)
}

fn prepare(path: &Path, bytes: &[u8], mode: u32) -> Result<NamedTempFile> {
    let write = || {
        let mut file = tempfile::Builder::new().prefix(NEW).tempfile_in(parent(path))?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    write().map_err(|error| unwritable(path, error))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_parent(path: &Path) -> Result<()> {
    let synced = File::open(parent(path)).and_then(|dir| dir.sync_all());
    synced.map_err(|error| unwritable(path, error))
}

fn exists(path: &Path) -> Error {
    Error::invalid(format!("{} exists already and is not overwritten: move it away first", path.display()))
}

pub(super) fn unwritable(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            storage_core::ErrorKind::PermissionDenied
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => storage_core::ErrorKind::StorageFull,
        ErrorKind::NotFound => storage_core::ErrorKind::NotFound,
        _ => storage_core::ErrorKind::Internal,
    };
    Error::new(kind, format!("{} cannot be written: {error}", path.display())).with_source(error)
}
