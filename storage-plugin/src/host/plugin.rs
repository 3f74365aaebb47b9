//! Loading a plugin, and the storage type that it brings.

#![expect(unsafe_code, reason = "loads foreign code, and reads the descriptor that it hands out")]

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use semver::Version as Semver;
use serde_json::Value as Tree;
use storage_core::{Backend, Capabilities, Error, ErrorKind, Result, Retry, TypeDescriptor};

use super::asked::{Asked, answer};
use super::backend::PluginBackend;
use super::descriptor::{self, Checked};
use super::instance::Instance;
use super::store::StoreHandle;
use super::{exit, library};
use crate::Incoming;
use crate::abi::Descriptor;
use crate::wire::{self, Description, Opened};

/// How much patience the host has with a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadLimits {
    /// How long `init` may take.
    pub init: Duration,
    /// How long a call may go on after it was cancelled, before that counts as misbehaviour.
    pub cancel: Duration,
    /// How many calls in a row may panic, or go on after they were cancelled, until the plugin is disabled; at
    /// least 1.
    pub misbehaviours: u32,
}

impl Default for LoadLimits {
    /// 10 seconds, 5 seconds, and 5 calls.
    fn default() -> Self {
        Self { init: Duration::from_secs(10), cancel: Duration::from_secs(5), misbehaviours: 5 }
    }
}

/// A loaded plugin: a storage type like one that is linked in.
///
/// Its library stays loaded, and its threads run, until the process ends, also when all handles are dropped.
///
/// A plugin that panics or hangs again and again is disabled: every call but `close` is
/// [`Unavailable`](ErrorKind::Unavailable) then, not to be retried, until the program is started again.
pub struct Plugin {
    instance: &'static Instance,
    build: String,
    abi: (u16, u16),
    summary: String,
    schemes: Vec<&'static str>,
    capabilities: Capabilities,
    config_schema: Tree,
}

impl Plugin {
    /// Loads a plugin and calls its `init`. Blocks meanwhile, at most as long as `limits` say, besides the time that
    /// the dynamic loader and the library's own constructors take.
    ///
    /// The file is code, and runs with all the rights of this process. Whoever calls this has made sure that it is
    /// the file that was meant (its digest and signature), that it is whole (loading a truncated library kills the
    /// process) and that nobody overwrites it as long as the process lives.
    ///
    /// # Errors
    /// Each names the file, and none is worth a retry.
    /// - [`InvalidInput`](ErrorKind::InvalidInput) if the dynamic loader refuses the file, it is no storage plugin, it
    ///   is for another ABI, its tables or names are not as they should be, or it is loaded already.
    /// - [`Timeout`](ErrorKind::Timeout) if `init` takes too long. The thread in it is left behind.
    /// - Any other kind, if `init` answers with that error.
    pub fn load(path: &Path, limits: LoadLimits) -> Result<Arc<Self>> {
        // SAFETY: loading foreign code cannot be made safe by checks. The caller has been told, above, to pass only
        // files that are trusted to keep to the ABI, as the registry does.
        let descriptor = unsafe { library::load(path) }?;
        // SAFETY: the library's entry symbol returned it, and the library stays loaded.
        unsafe { Self::from_descriptor(descriptor, path, &limits) }
    }

    /// As [`load`](Self::load), from the descriptor of a plugin that is in the process already; `path` is for
    /// messages.
    ///
    /// # Safety
    /// The pointer is null, or points to a descriptor that is constant and keeps to the ABI, as do its functions.
    #[doc(hidden)]
    pub unsafe fn from_descriptor(
        descriptor: *const Descriptor,
        path: &Path,
        limits: &LoadLimits,
    ) -> Result<Arc<Self>> {
        let refused = |why: String| Error::invalid(format!("plugin {}: {why}", path.display()));
        // SAFETY: the caller's promise.
        let checked = unsafe { descriptor::check(descriptor) }.map_err(refused)?;
        if !is_first(descriptor) {
            return Err(refused(
                "its library is in this process already: restart the program to load it again".to_owned(),
            ));
        }
        Self::start(checked, path, limits)
    }

    fn start(checked: Checked, path: &Path, limits: &LoadLimits) -> Result<Arc<Self>> {
        let Checked { name, version, build, abi, functions } = checked;
        let instance = Instance::leak(name, version, functions, limits)?;
        let description = describe(instance, limits.init).map_err(|error| {
            let message = format!("plugin {}: `init` failed: {}", path.display(), error.message());
            Error::new(error.kind(), message)
                .with_retry(Retry::Never)
                .backend(instance.name().clone())
                .with_source(error)
        })?;
        // Also if it is refused below: it has been initialised, and is to be shut down.
        instance.set_live();
        exit::register();
        let Description { name, version, summary, schemes, capabilities, config_schema } = description;
        if name != *instance.name() || version != *instance.version() {
            return Err(Error::invalid(format!(
                "plugin {}: its descriptor is that of {instance}, but `init` describes {}@{version}",
                path.display(),
                name.escape_debug()
            )));
        }
        // The trait hands out slices of borrowed text. They are few, and live as long as the library.
        let schemes = schemes.into_iter().map(|scheme| &*scheme.leak()).collect();
        Ok(Arc::new(Self { instance, build, abi, summary, schemes, capabilities, config_schema }))
    }

    /// What made the library, such as `storage-file 1.0.0`; for people.
    pub fn build(&self) -> &str {
        &self.build
    }

    /// The ABI that the library was built for, major and minor.
    pub fn abi(&self) -> (u16, u16) {
        self.abi
    }

    /// Why the plugin was disabled, if it was.
    pub fn disabled(&self) -> Option<String> {
        self.instance.conduct().reason()
    }

    /// Has `callback` called with the reason when the plugin is disabled: at once, if it is already, else on the
    /// thread on which that happens. It should return soon.
    pub fn on_disabled(&self, callback: impl FnOnce(&str) + Send + 'static) {
        self.instance.conduct().on_disabled(Box::new(callback));
    }

    /// How often the plugin broke the ABI in a way that the host could catch, such as completing a call twice. Each is
    /// a defect of the plugin.
    pub fn violations(&self) -> u64 {
        self.instance.conduct().violations()
    }
}

#[async_trait]
impl TypeDescriptor for Plugin {
    fn name(&self) -> &str {
        self.instance.name()
    }

    fn version(&self) -> Semver {
        self.instance.version().clone()
    }

    fn summary(&self) -> &str {
        &self.summary
    }

    fn schemes(&self) -> &[&str] {
        &self.schemes
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn config_schema(&self) -> Tree {
        self.config_schema.clone()
    }

    fn config_from_url(&self, url: &str) -> Result<Tree> {
        const OPERATION: &str = "config_from_url";
        self.instance.check_enabled()?;
        let reply = self.instance.call_now(OPERATION, wire::config_from_url(url))?;
        self.instance.read_preliminary(OPERATION, reply)
    }

    fn validate(&self, config: &Tree) -> Result<()> {
        const OPERATION: &str = "validate";
        self.instance.check_enabled()?;
        let reply = self.instance.call_now(OPERATION, wire::validate(config))?;
        self.instance.read_preliminary(OPERATION, reply)
    }

    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>> {
        const OPERATION: &str = "open";
        let instance = self.instance;
        instance.check_enabled()?;
        let started = instance.start(OPERATION, 0, wire::open(&config));
        let opened: Opened = answer!(Asked::new(instance, OPERATION, &[], started, None))?;
        Ok(Arc::new(PluginBackend::new(instance, StoreHandle::new(instance, opened.store), opened.info)))
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({})", self.instance)
    }
}

/// Whether a descriptor is seen for the first time. A library that is loaded twice hands out the same one, and its
/// `init` must not be called again.
fn is_first(descriptor: *const Descriptor) -> bool {
    static SEEN: Mutex<Option<HashSet<usize>>> = Mutex::new(None);
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.get_or_insert_default().insert(descriptor.addr())
}

/// Calls `init` on a thread of its own, as it may hang.
fn describe(instance: &'static Instance, limit: Duration) -> Result<Description> {
    let internal = |message: String| Error::new(ErrorKind::Internal, message);
    let (sender, receiver) = mpsc::sync_channel::<Result<Incoming, i32>>(1);
    let thread = thread::Builder::new().name("plugin-init".to_owned());
    // If nobody waits any more, the reply is released unread.
    let spawned = thread.spawn(move || drop(sender.send(instance.init())));
    spawned.map_err(|error| {
        let message = format!("there is no thread to run it on ({error})");
        Error::new(ErrorKind::Unavailable, message).with_source(error)
    })?;
    match receiver.recv_timeout(limit) {
        Ok(Ok(reply)) => wire::reply(reply).map_err(|failure| failure.error),
        Ok(Err(code)) => Err(internal(format!("it returned the code {code} instead of an answer"))),
        Err(RecvTimeoutError::Timeout) => {
            Err(Error::new(ErrorKind::Timeout, format!("it did not return within {limit:?}")))
        }
        Err(RecvTimeoutError::Disconnected) => Err(internal("its thread ended".to_owned())),
    }
}
