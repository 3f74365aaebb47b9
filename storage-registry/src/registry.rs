//! The set of types.

use std::collections::BTreeMap;
use std::fmt;
#[cfg(feature = "plugins")]
use std::sync::Weak;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use semver::Version as Semver;
use smol_str::SmolStr;
use storage_core::{Error, ErrorKind, LinkedType, Result};
use tokio::sync::broadcast;

use crate::entry::{Descriptor, Origin, Status, TypeEntry, shown};
use crate::resolve::{self, TypeRef};
use crate::{RegistryEvent, backends};

/// How many events a subscriber may lag behind before it loses the oldest.
const EVENT_BUFFER: usize = 256;

type Types = BTreeMap<(SmolStr, Semver), Arc<TypeEntry>>;

/// The storage types that a program knows, by name and version. Versions live side by side.
///
/// Safe to share between threads. What it hands out are snapshots: a later change of status does not reach
/// them, nor the stores already open.
///
/// ```
/// use storage_registry::Registry;
///
/// let registry = Registry::linked();
/// let memory = registry.resolve("memory")?;
/// assert_eq!(memory.name, "memory");
/// assert!(memory.status.is_usable());
/// # Ok::<(), storage_registry::Error>(())
/// ```
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    types: RwLock<Types>,
    events: broadcast::Sender<RegistryEvent>,
}

/// A registry as it is known to those who are told of changes later: it does not keep it.
#[cfg(feature = "plugins")]
pub(crate) struct WeakRegistry(Weak<Shared>);

#[cfg(feature = "plugins")]
impl WeakRegistry {
    pub(crate) fn upgrade(&self) -> Option<Registry> {
        self.0.upgrade().map(|shared| Registry { shared })
    }
}

impl Registry {
    /// A registry without types.
    pub fn new() -> Self {
        let events = broadcast::Sender::new(EVENT_BUFFER);
        Self { shared: Arc::new(Shared { types: RwLock::default(), events }) }
    }

    /// A registry of all types linked into this program.
    ///
    /// A linked-in type that cannot be registered (its name is not valid, or two crates bring the same name
    /// and version) is left out with an error in the log.
    pub fn linked() -> Self {
        backends::keep();
        let registry = Self::new();
        for descriptor in LinkedType::all() {
            if let Err(error) = registry.register(descriptor, Origin::Linked) {
                tracing::error!(%error, "a linked-in storage type is left out");
            }
        }
        registry
    }

    /// The registry of this process: at first [`linked`](Self::linked), then what the program makes of it.
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<Registry> = OnceLock::new();
        GLOBAL.get_or_init(Self::linked)
    }

    /// Adds a type. A pre-release version begins as [`Experimental`](Status::Experimental), any other as
    /// [`Active`](Status::Active).
    ///
    /// ```
    /// use storage_registry::{MEMORY, Origin, Registry};
    ///
    /// let registry = Registry::new();
    /// registry.register(&MEMORY, Origin::Linked)?;
    /// let error = registry.register(&MEMORY, Origin::Linked).unwrap_err();
    /// assert!(error.message().contains("registered already"));
    /// # Ok::<(), storage_registry::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the name or a scheme is not valid, or if the name and
    /// version are registered already; the message then says where both came from.
    pub fn register(&self, descriptor: impl Into<Descriptor>, origin: Origin) -> Result<Arc<TypeEntry>> {
        // The descriptor's code runs before the lock is taken.
        let entry = Arc::new(TypeEntry::new(descriptor.into(), origin)?);
        let key = (entry.name.clone(), entry.version.clone());
        let mut types = self.write();
        if let Some(present) = types.get(&key) {
            return Err(Error::invalid(format!(
                "storage type {entry} is registered already: the {} one is kept, the {} one refused",
                present.origin, entry.origin
            )));
        }
        types.insert(key, Arc::clone(&entry));
        self.announce(RegistryEvent::Registered(Arc::clone(&entry)));
        Ok(entry)
    }

    /// Removes a type and returns what it was. Stores opened from it stay open.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such version.
    pub fn unregister(&self, name: &str, version: &Semver) -> Result<Arc<TypeEntry>> {
        let mut types = self.write();
        let key = (SmolStr::new(name), version.clone());
        let entry = types.remove(&key).ok_or_else(|| missing(name, version))?;
        let (name, version) = key;
        self.announce(RegistryEvent::Unregistered { name, version });
        Ok(entry)
    }

    /// Gives a type another status. Stores opened from it stay open. The same status again is no event.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such version.
    pub fn set_status(&self, name: &str, version: &Semver, status: Status) -> Result<Arc<TypeEntry>> {
        let mut types = self.write();
        let key = (SmolStr::new(name), version.clone());
        let entry = types.get_mut(&key).ok_or_else(|| missing(name, version))?;
        if entry.status != status {
            let from = entry.status.clone();
            *entry = Arc::new(entry.with_status(status.clone()));
            let (name, version) = (entry.name.clone(), entry.version.clone());
            self.announce(RegistryEvent::StatusChanged { name, version, from, to: status });
        }
        Ok(Arc::clone(entry))
    }

    /// The type of exactly this name and version, whatever its status.
    pub fn get(&self, name: &str, version: &Semver) -> Option<Arc<TypeEntry>> {
        self.read().get(&(SmolStr::new(name), version.clone())).cloned()
    }

    /// The type that a reference such as `redis@^1.2` stands for; see [`TypeRef`] for the notation.
    ///
    /// Of the versions that match, active ones go before deprecated ones (which are used with a warning in the
    /// log) and these before experimental ones; then releases before pre-releases, then the highest version,
    /// then linked-in before plugin. Disabled and quarantined versions are never used.
    ///
    /// # Errors
    /// - [`InvalidInput`](ErrorKind::InvalidInput) if the text is no reference.
    /// - [`NotFound`](ErrorKind::NotFound) if no type or version matches; the message lists what there is and
    ///   the nearest name.
    /// - [`Unavailable`](ErrorKind::Unavailable), not to be retried, if all that match are disabled or
    ///   quarantined; the message says why.
    pub fn resolve(&self, reference: &str) -> Result<Arc<TypeEntry>> {
        let wanted: TypeRef = reference.parse()?;
        resolve::by_reference(&self.list(), &wanted)
    }

    /// The type that opens URLs of a scheme, by the rule that stands at [`plan`](Self::plan).
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_scheme(&self, scheme: &str) -> Result<Arc<TypeEntry>> {
        resolve::by_scheme(&self.list(), scheme)
    }

    /// All types, by name and then by version.
    pub fn list(&self) -> Vec<Arc<TypeEntry>> {
        self.read().values().cloned().collect()
    }

    /// The changes from now on, in the order in which they happen. A receiver that falls more than 256 events
    /// behind is told so and goes on with the oldest kept; it then reads [`list`](Self::list) again.
    ///
    /// ```
    /// use storage_registry::{Registry, RegistryEvent, Status};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let registry = Registry::linked();
    /// let memory = registry.resolve("memory")?;
    /// let mut events = registry.subscribe();
    /// registry.set_status("memory", &memory.version, Status::Disabled)?;
    /// assert!(matches!(events.recv().await, Ok(RegistryEvent::StatusChanged { to: Status::Disabled, .. })));
    /// # Ok::<(), storage_registry::Error>(()) }).unwrap();
    /// ```
    pub fn subscribe(&self) -> broadcast::Receiver<RegistryEvent> {
        self.shared.events.subscribe()
    }

    #[cfg(feature = "plugins")]
    pub(crate) fn downgrade(&self) -> WeakRegistry {
        WeakRegistry(Arc::downgrade(&self.shared))
    }

    /// Called with the lock held, so that events come in the order of the changes. That nobody listens is fine.
    fn announce(&self, event: RegistryEvent) {
        tracing::debug!(%event, "storage types changed");
        let _ = self.shared.events.send(event);
    }

    // The map is whole between any two statements, so that a panic elsewhere does not spoil it.
    fn read(&self) -> RwLockReadGuard<'_, Types> {
        self.shared.types.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Types> {
        self.shared.types.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.read().values().map(|entry| format!("{entry} ({})", entry.status)))
            .finish()
    }
}

fn missing(name: &str, version: &Semver) -> Error {
    Error::new(ErrorKind::NotFound, format!("storage type {} has no version {version}", shown(name)))
}
