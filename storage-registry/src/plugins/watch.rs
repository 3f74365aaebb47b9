//! Taking in what is installed while the program runs.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use storage_core::{Error, ErrorKind, Result};

use super::PluginOptions;
use super::directory::Directory;
use crate::Registry;
use crate::registry::WeakRegistry;

/// How long nothing must have changed before it is looked at: copying a file is many changes.
const QUIET: Duration = Duration::from_millis(200);
/// How long changes may go on before they are looked at all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// Watches the plugin directory for as long as it lives; see [`Registry::watch_plugins`].
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub struct PluginWatch {
    /// Owns the channel, whose end is the end of the thread.
    _watcher: Arc<Mutex<RecommendedWatcher>>,
    directory: PathBuf,
}

impl PluginWatch {
    /// What is watched.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Registry {
    /// Watches the [plugin directory](PluginOptions::directory), which is made if it is not there, and calls
    /// [`load_plugins`](Self::load_plugins) whenever it changes. The first time it is called here, so that nothing is
    /// missed. What comes of it is told by [`subscribe`](Self::subscribe), and by the log.
    ///
    /// New opens use a higher version from then on, and stores that are open keep theirs. The watch ends when it is
    /// dropped, or when the registry is.
    ///
    /// # Errors
    /// As [`load_plugins`](Self::load_plugins); [`Unavailable`](ErrorKind::Unavailable) if the system does not let the
    /// directory be watched, such as when too many are.
    pub fn watch_plugins(&self, options: &PluginOptions) -> Result<PluginWatch> {
        let path = options.directory().ok_or_else(|| {
            let variable = PluginOptions::DIR_VARIABLE;
            Error::invalid(format!("there is no plugin directory to watch: name one in {variable}"))
        })?;
        let directory = Directory::create(&path)?;
        let unwatched = |error: notify::Error| {
            let message = format!("the plugin directory {} cannot be watched: {error}", path.display());
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        };
        let (sender, changes) = mpsc::sync_channel(1);
        let own = path.join(Directory::STATE);
        let handler = move |event: notify::Result<Event>| {
            if event.map_or(true, |event| is_change(&event, &own)) {
                // One that waits stands for all; and that nobody listens any more is fine.
                let _ = sender.try_send(());
            }
        };
        let mut watcher = notify::recommended_watcher(handler).map_err(unwatched)?;
        watcher.watch(directory.path(), RecursiveMode::NonRecursive).map_err(unwatched)?;
        watch_packages(&mut watcher, &directory);
        self.load_plugins(options)?;
        let watcher = Arc::new(Mutex::new(watcher));
        let follower = Follower {
            directory,
            watcher: Arc::downgrade(&watcher),
            registry: self.downgrade(),
            options: options.clone(),
        };
        let thread = thread::Builder::new().name("plugin-watch".to_owned());
        thread.spawn(move || follower.follow(&changes)).map_err(|error| {
            let message = format!("there is no thread to watch the plugin directory on: {error}");
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        })?;
        Ok(PluginWatch { _watcher: watcher, directory: path })
    }
}

/// Whether an event is of a change that may matter: reading is none, and our own records do not.
fn is_change(event: &Event, own: &Path) -> bool {
    let outside = event.paths.is_empty() || event.paths.iter().any(|path| !path.starts_with(own));
    outside && (event.need_rescan() || !matches!(event.kind, EventKind::Access(_)))
}

/// Watches the directories of packages, so that one that is copied file by file is seen when it is whole. What was
/// written before that is seen by the load that follows.
fn watch_packages(watcher: &mut RecommendedWatcher, directory: &Directory) {
    // Not all that is below: our own part may be another user's, and links may lead anywhere.
    for candidate in directory.candidates().unwrap_or_default() {
        let path = directory.path().join(candidate);
        if path.is_symlink() || !path.is_dir() {
            continue;
        }
        if let Err(error) = watcher.watch(&path, RecursiveMode::NonRecursive) {
            tracing::warn!(path = %path.display(), %error, "changes of a plugin's package will not be noticed");
        }
    }
}

/// Takes in what changes.
struct Follower {
    directory: Directory,
    watcher: Weak<Mutex<RecommendedWatcher>>,
    registry: WeakRegistry,
    options: PluginOptions,
}

impl Follower {
    /// Loads after each bout of changes, until there is no watch or no registry any more.
    fn follow(&self, changes: &Receiver<()>) {
        while changes.recv().is_ok() {
            let patience = Instant::now() + PATIENCE;
            let ended = loop {
                match changes.recv_timeout(QUIET) {
                    Ok(()) if Instant::now() < patience => {}
                    Ok(()) | Err(RecvTimeoutError::Timeout) => break false,
                    Err(RecvTimeoutError::Disconnected) => break true,
                }
            };
            let (false, Some(registry)) = (ended, self.registry.upgrade()) else { return };
            let Some(watcher) = self.watcher.upgrade() else { return };
            watch_packages(&mut watcher.lock().unwrap_or_else(PoisonError::into_inner), &self.directory);
            drop(watcher);
            if let Err(error) = registry.load_plugins(&self.options) {
                tracing::error!(%error, "the plugin directory has changed, but cannot be loaded");
            }
        }
    }
}
