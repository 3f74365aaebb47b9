//! A plugin as a storage type, also while it is not loaded.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use semver::Version as Semver;
use serde_json::Value as Tree;
use storage_core::{Backend, Capabilities, Error, ErrorKind, Result, Retry, TypeDescriptor};
use storage_plugin::host::Plugin;

use super::copies::PrivateCopy;
use super::directory::State;
use super::quarantine::{Marker, Suspect};
use super::{Description, Digest};

/// A plugin as a storage type: its description, and what it does once it is loaded. One that is disabled or
/// quarantined is registered as well, so that whoever asks for it is told why it cannot be had.
pub(super) struct PluginType {
    description: Description,
    schemes: Vec<&'static str>,
    sha256: Digest,
    /// Where markers go; none for a plugin that is not in a plugin directory.
    state: Option<State>,
    loaded: OnceLock<Result<Loaded>>,
}

struct Loaded {
    plugin: Arc<Plugin>,
    /// Not to be removed while it is loaded.
    _copy: PrivateCopy,
}

/// The plugins of this process by the digest of their library, which can be loaded only once.
pub(super) type PluginTypes = HashMap<Digest, Arc<PluginType>>;

/// The plugins of this process, for one loader at a time.
pub(super) fn all() -> MutexGuard<'static, PluginTypes> {
    static ALL: OnceLock<Mutex<PluginTypes>> = OnceLock::new();
    ALL.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl PluginType {
    pub(super) fn new(description: Description, sha256: Digest, state: Option<State>) -> Self {
        let schemes = description.schemes.iter().map(|scheme| interned(scheme)).collect();
        Self { description, schemes, sha256, state, loaded: OnceLock::new() }
    }

    pub(super) fn suspect(&self) -> Suspect {
        let Description { name, version, .. } = &self.description;
        Suspect { name: name.clone(), version: version.clone(), sha256: self.sha256 }
    }

    /// The plugin, which `load` loads if that has not been tried yet. What failed once fails again, because its code
    /// may be in the process already.
    pub(super) fn load_with(&self, load: impl FnOnce() -> Result<(Arc<Plugin>, PrivateCopy)>) -> Result<()> {
        let loaded = self.loaded.get_or_init(|| load().map(|(plugin, copy)| Loaded { plugin, _copy: copy }));
        loaded.as_ref().map(drop).map_err(Error::clone)
    }

    /// Whether it was loaded, or could not be.
    pub(super) fn was_loaded(&self) -> bool {
        self.loaded.get().is_some()
    }

    /// The loaded plugin.
    pub(super) fn plugin(&self) -> Result<&Arc<Plugin>> {
        match self.loaded.get() {
            Some(Ok(loaded)) => Ok(&loaded.plugin),
            Some(Err(error)) => Err(error.clone()),
            None => {
                let Description { name, version, .. } = &self.description;
                let message =
                    format!("the plugin {name}@{version} is not loaded: `storage plugin list` tells why");
                Err(Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Never))
            }
        }
    }
}

#[async_trait]
impl TypeDescriptor for PluginType {
    fn name(&self) -> &str {
        &self.description.name
    }

    fn version(&self) -> Semver {
        self.description.version.clone()
    }

    fn summary(&self) -> &str {
        &self.description.summary
    }

    fn schemes(&self) -> &[&str] {
        &self.schemes
    }

    fn capabilities(&self) -> Capabilities {
        self.description.capabilities.clone()
    }

    fn config_schema(&self) -> Tree {
        self.description.config_schema.clone()
    }

    fn config_from_url(&self, url: &str) -> Result<Tree> {
        self.plugin()?.config_from_url(url)
    }

    fn validate(&self, config: &Tree) -> Result<()> {
        self.plugin()?.validate(config)
    }

    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>> {
        let plugin = self.plugin()?;
        let _marker = self.state.as_ref().map(|state| Marker::set_opening(state, &self.suspect()));
        plugin.open(config).await
    }
}

impl fmt::Debug for PluginType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PluginType({}@{})", self.description.name, self.description.version)
    }
}

/// The trait hands out slices of borrowed text; each scheme is kept once, for as long as the process lives.
fn interned(text: &str) -> &'static str {
    static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = texts.get(text) {
        return text;
    }
    let text: &'static str = String::from(text).leak();
    texts.insert(text);
    text
}
