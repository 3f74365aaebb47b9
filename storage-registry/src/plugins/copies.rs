//! Private copies of libraries: what is loaded, whatever happens to the file that was installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use semver::Version as Semver;
use storage_core::{Error, ErrorKind, Result};

use super::directory::{State, remove_file};
use super::files::{self, Opened};
use super::{Digest, Package};

/// A private, read-only copy of a library, named by its content: a file under such a name never changes, so that
/// one that is loaded is never written to, and another version never comes under its path.
///
/// As long as this value lives, the copy is not removed.
#[derive(Debug)]
pub(super) struct PrivateCopy {
    path: PathBuf,
    _in_use: File,
}

impl PrivateCopy {
    /// Writes the verified bytes, unless they are there already.
    pub(super) fn make(state: &State, package: &Package, name: &str, version: &Semver) -> Result<Self> {
        let file = file_name(name, version, &package.sha256());
        let path = state.dir(State::COPIES).join(&file);
        if !is_whole(&path, package.library()) {
            files::replace(&state.made_dir(State::COPIES)?.join(&file), package.library(), 0o400)?;
        }
        Self::lock(path)
    }

    /// Writes the verified bytes into a directory that goes away; once the library is loaded, the file need not stay.
    pub(super) fn make_in(dir: &Path, package: &Package, name: &str, version: &Semver) -> Result<Self> {
        let path = dir.join(file_name(name, version, &package.sha256()));
        files::replace(&path, package.library(), 0o400)?;
        Self::lock(path)
    }

    fn lock(path: PathBuf) -> Result<Self> {
        let opened = File::open(&path).and_then(|file| file.lock_shared().map(|()| file));
        match opened {
            Ok(file) => Ok(Self { path, _in_use: file }),
            Err(error) => Err(Error::new(
                ErrorKind::PermissionDenied,
                format!("the private copy {} cannot be opened: {error}", path.display()),
            )
            .with_source(error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether the private copy of a library, if there is one, is what it should be.
pub(super) fn is_intact(state: &State, name: &str, version: &Semver, sha256: &Digest) -> bool {
    let path = state.dir(State::COPIES).join(file_name(name, version, sha256));
    !path.exists() || read(&path).is_some_and(|bytes| Digest::of(&bytes) == *sha256)
}

/// Removes the private copy of a library, unless a process has it loaded.
pub(super) fn remove_unused(state: &State, name: &str, version: &Semver, sha256: &Digest) -> Result<()> {
    let path = state.dir(State::COPIES).join(file_name(name, version, sha256));
    match File::open(&path) {
        Ok(file) if file.try_lock().is_err() => Ok(()),
        _ => remove_file(&path),
    }
}

fn is_whole(path: &Path, library: &[u8]) -> bool {
    // The size first, so that a file that was put there is not read for nothing.
    fs::metadata(path).is_ok_and(|found| found.len() == library.len() as u64)
        && read(path).is_some_and(|bytes| bytes == library)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    Opened::follow(path).and_then(|file| file.read(super::package::MAX_LIBRARY)).ok()
}

fn file_name(name: &str, version: &Semver, sha256: &Digest) -> String {
    format!("{name}-{version}-{sha256}.so")
}
