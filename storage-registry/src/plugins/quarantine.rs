//! Plugins that ended a process: found out at the next start, and not loaded again.
//!
//! Before a plugin's code runs, a marker is written, and removed afterwards. A marker is locked by its process, so
//! that one whose lock is free was left by a process that is gone.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use semver::Version as Semver;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use storage_core::{Error, ErrorKind, Result, Timestamp};

use super::directory::{State, remove_file};
use super::{Digest, files};

/// How long a plugin that is opening a store can be blamed for the end of its process. A slow connection that is
/// broken off by Ctrl-C takes longer than that.
const OPEN_LIMIT: Duration = Duration::from_secs(2);

/// What a plugin is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    Loading,
    Opening,
}

/// The plugin that is about to do something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Suspect {
    pub(super) name: SmolStr,
    pub(super) version: Semver,
    pub(super) sha256: Digest,
}

/// Why a library is not loaded any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    suspect: Suspect,
    step: Step,
    /// When it began to, in RFC 3339.
    at: String,
    /// The boot of the system in which that was.
    boot: String,
}

impl Record {
    pub(super) fn reason(&self) -> String {
        let step = match self.step {
            Step::Loading => "it was loaded",
            Step::Opening => "it opened a store",
        };
        format!(
            "the process ended while {step}, on {}; `storage plugin enable {}@{}` gives it another chance",
            self.at, self.suspect.name, self.suspect.version
        )
    }
}

/// Why a library is in quarantine; none if it is not.
pub(super) fn record(state: &State, sha256: &Digest) -> Option<Record> {
    state.read(State::QUARANTINE, &sha256.to_string())
}

/// Lets a library be loaded again.
pub(super) fn clear(state: &State, sha256: &Digest) -> Result<()> {
    state.remove(State::QUARANTINE, &sha256.to_string())
}

/// Quarantines the plugins whose markers were left by processes that ended.
pub(super) fn collect(state: &State) -> Result<()> {
    let dir = state.dir(State::LOADING);
    let Ok(entries) = fs::read_dir(&dir) else { return Ok(()) };
    let boot = boot();
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| !is_hidden(path)) {
        let Some(record) = left_behind(&path)? else { continue };
        // What happened when the system went down is nobody's fault.
        if record.boot == boot {
            tracing::error!(
                plugin = %record.suspect.name, version = %record.suspect.version, reason = record.reason(),
                "a plugin is quarantined"
            );
            state.write(State::QUARANTINE, &record.suspect.sha256.to_string(), &record)?;
        }
        remove_file(&path)?;
    }
    Ok(())
}

/// What a marker says if its process has ended without removing it.
fn left_behind(path: &Path) -> Result<Option<Record>> {
    // One that is gone by now was removed in order.
    let Ok(mut file) = File::open(path) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => {
            let message = format!("{} cannot be locked: {error}", path.display());
            return Err(Error::new(ErrorKind::Internal, message).with_source(error));
        }
    }
    // Its process may have removed and let go of it since it was opened here.
    if fstat(&file).is_ok_and(|stat| stat.st_nlink == 0) {
        return Ok(None);
    }
    match serde_json::from_reader(&mut file) {
        Ok(record) => Ok(Some(record)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a marker of a plugin is damaged, and is removed");
            remove_file(path)?;
            Ok(None)
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Says that a plugin is about to do something, until it is dropped.
#[derive(Debug)]
pub(super) struct Marker {
    /// None once it is removed.
    file: Mutex<Option<(PathBuf, File)>>,
}

impl Marker {
    /// Writes a marker. It need not survive a crash of the system, after which it would count for nothing, and so is
    /// not synced.
    ///
    /// That it cannot be written, such as on a full disk, is no reason not to go on: it is logged.
    pub(super) fn set(state: &State, suspect: &Suspect, step: Step) -> Self {
        let file = Self::write(state, suspect, step);
        let file = file.inspect_err(|error| {
            tracing::warn!(
                plugin = %suspect.name, %error, "no marker: a plugin that ends the process now will not be quarantined"
            );
        });
        Self { file: Mutex::new(file.ok()) }
    }

    /// As [`set`](Self::set), for a plugin that opens a store; the marker does not stay longer than 2 seconds.
    pub(super) fn set_opening(state: &State, suspect: &Suspect) -> Arc<Self> {
        let marker = Arc::new(Self::set(state, suspect, Step::Opening));
        remove_later(&marker);
        marker
    }

    fn write(state: &State, suspect: &Suspect, step: Step) -> Result<(PathBuf, File)> {
        let dir = state.made_dir(State::LOADING)?;
        let record =
            Record { suspect: suspect.clone(), step, at: Timestamp::now().to_string(), boot: boot() };
        let write = || {
            // Locked and complete before others see it.
            let mut file = tempfile::Builder::new().prefix(files::NEW).tempfile_in(&dir)?;
            file.as_file().lock()?;
            file.write_all(&serde_json::to_vec(&record)?)?;
            let hidden = file.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let path = dir.join(hidden.replace(files::NEW, &format!("{}-", suspect.name)));
            let file = file.persist_noclobber(&path).map_err(|error| error.error)?;
            Ok::<_, std::io::Error>((path, file))
        };
        write().map_err(|error| files::unwritable(&dir, error))
    }

    fn remove(&self) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Removed while it is locked.
        if let Some((path, _file)) = file
            && let Err(error) = remove_file(&path)
        {
            tracing::warn!(%error, "a marker stays behind: the plugin will be quarantined for nothing");
        }
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Has a marker removed after [`OPEN_LIMIT`], by a thread that is there for all of them.
fn remove_later(marker: &Arc<Marker>) {
    type Due = (Instant, Weak<Marker>);
    static REMOVER: OnceLock<Option<mpsc::Sender<Due>>> = OnceLock::new();
    let remover = REMOVER.get_or_init(|| {
        let (sender, due) = mpsc::channel::<Due>();
        let thread = thread::Builder::new().name("plugin-markers".to_owned()).spawn(move || {
            // All wait for as long, so that they are due in the order in which they come.
            for (at, marker) in due {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if let Some(marker) = marker.upgrade() {
                    marker.remove();
                }
            }
        });
        thread.is_ok().then_some(sender)
    });
    let due = (Instant::now() + OPEN_LIMIT, Arc::downgrade(marker));
    if remover.as_ref().is_none_or(|remover| remover.send(due).is_err()) {
        // Rather no blame than a false one.
        marker.remove();
    }
}

/// What tells this boot of the system from others; empty if the system does not say.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}
