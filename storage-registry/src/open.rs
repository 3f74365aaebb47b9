//! From a URL or a configuration to an open store, in three steps that never mix: the text is parsed and
//! checked, the result is a plan, and only the plan does I/O.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value as Tree};
use storage_core::layer::Layers;
use storage_core::{Backend, Error, ErrorKind, Result, Store, StoreUrl, nearest};

use crate::entry::shown;
use crate::redact::Secrets;
use crate::resolve::{TypeRef, by_reference, by_scheme};
use crate::{Registry, StoreConfig, TypeEntry};

/// What will be opened: a type and a checked configuration. `Debug` shows the keys, never the values.
#[derive(Clone)]
pub struct OpenPlan {
    entry: Arc<TypeEntry>,
    config: Tree,
    layers: Option<Layers>,
    secrets: Arc<Secrets>,
}

impl OpenPlan {
    /// The type.
    pub fn entry(&self) -> &Arc<TypeEntry> {
        &self.entry
    }

    /// The checked configuration. It may hold secrets.
    pub fn config(&self) -> &Tree {
        &self.config
    }

    /// The layers that the configuration names; `None` stands for the default ones.
    pub fn layers(&self) -> Option<&Layers> {
        self.layers.as_ref()
    }

    /// Opens the store, with its layers on top.
    ///
    /// # Errors
    /// Whatever opening meets, and [`Unsupported`](ErrorKind::Unsupported) for a layer that needs what the backend
    /// does not offer.
    pub async fn open(&self) -> Result<Store> {
        let backend = self.open_backend().await?;
        let Some(layers) = &self.layers else { return Ok(Store::new(backend)) };
        let offered = &backend.info().capabilities;
        layers.check(offered).map_err(|error| error.operation("open").backend(self.entry.name.as_str()))?;
        Ok(Store::with_layers(backend, layers.clone()))
    }

    /// Opens the bare backend, for those who put their own layers on top.
    ///
    /// # Errors
    /// Whatever opening meets.
    pub async fn open_backend(&self) -> Result<Arc<dyn Backend>> {
        let opened = self.entry.descriptor().open(self.config.clone()).await;
        opened.map_err(|error| self.secrets.scrub(error.operation("open").backend(self.entry.name.as_str())))
    }
}

impl fmt::Debug for OpenPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.config.as_object().into_iter().flat_map(Map::keys).collect();
        f.debug_struct("OpenPlan")
            .field("type", &self.entry.to_string())
            .field("keys", &keys)
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

/// Opens a store by URL with the [global registry](Registry::global).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = storage_registry::open("memory:").await?;
/// assert_eq!(store.backend().info().name, "memory");
/// # Ok::<(), storage_registry::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// As [`Registry::open`].
pub async fn open(url: &str) -> Result<Store> {
    Registry::global().open(url).await
}

/// Opens the bare backend of a URL with the [global registry](Registry::global), for those who put their own
/// layers on top.
///
/// # Errors
/// As [`Registry::open`].
pub async fn open_backend(url: &str) -> Result<Arc<dyn Backend>> {
    Registry::global().open_backend(url).await
}

impl Registry {
    /// Finds the type for a URL and checks the configuration that it stands for. Pure: no I/O.
    ///
    /// The scheme picks the type. If several types claim the scheme, it is the one with the scheme's name, else
    /// a linked-in one before a plugin, else the first by name; disabled types do not count. Its version is then
    /// chosen as [`resolve`](Self::resolve) does. Other statuses do not move a URL to another type: a quarantined
    /// type is an error rather than data in another place.
    ///
    /// ```
    /// use storage_registry::{ErrorKind, Registry};
    ///
    /// let registry = Registry::linked();
    /// assert_eq!(registry.plan("memory:")?.entry().name, "memory");
    ///
    /// let error = registry.plan("memroy:").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotFound);
    /// assert!(error.to_string().contains("did you mean \"memory\"?"));
    /// # Ok::<(), storage_registry::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is no URL, and for what the type
    ///   refuses: the message names the part or the configuration key.
    /// - [`NotFound`](crate::ErrorKind::NotFound) for an unknown scheme; the message lists the known ones and
    ///   the nearest.
    /// - [`Unavailable`](crate::ErrorKind::Unavailable), not to be retried, for a type that is disabled or
    ///   quarantined.
    pub fn plan(&self, url: &str) -> Result<OpenPlan> {
        self.plan_parts(None, Some(url), &Map::new(), None)
    }

    /// Finds the type for a configuration and checks the configuration. Pure: no I/O.
    ///
    /// # Errors
    /// As [`plan`](Self::plan) and [`resolve`](Self::resolve), and
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a configuration with neither type nor URL, and for a
    /// key that the URL gives as well.
    pub fn plan_config(&self, config: &StoreConfig) -> Result<OpenPlan> {
        self.plan_parts(
            config.r#type.as_deref(),
            config.url.as_deref(),
            &config.options,
            config.layers.as_ref(),
        )
    }

    /// Opens a store by URL, with the default layers on top.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), and whatever opening meets.
    pub async fn open(&self, url: &str) -> Result<Store> {
        self.plan(url)?.open().await
    }

    /// Opens a store by configuration, with the layers that the configuration names.
    ///
    /// # Errors
    /// As [`plan_config`](Self::plan_config), and whatever opening meets.
    pub async fn open_config(&self, config: &StoreConfig) -> Result<Store> {
        self.plan_config(config)?.open().await
    }

    /// Opens the bare backend of a URL, for those who put their own layers on top.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), and whatever opening meets.
    pub async fn open_backend(&self, url: &str) -> Result<Arc<dyn Backend>> {
        self.plan(url)?.open_backend().await
    }

    fn plan_parts(
        &self,
        reference: Option<&str>,
        url: Option<&str>,
        options: &Map<String, Tree>,
        layers: Option<&Layers>,
    ) -> Result<OpenPlan> {
        let types = self.list();
        // Schemes have no case; types see them in lower case.
        let url = url.map(|url| in_lower_case(url, &types)).transpose()?;
        let url = url.as_deref();
        let entry = match (reference, url) {
            (Some(reference), _) => by_reference(&types, &reference.parse::<TypeRef>()?)?,
            (None, Some(url)) => by_scheme(&types, url.split(':').next().unwrap_or_default())?,
            (None, None) => {
                return Err(Error::invalid(
                    "the store has neither a type nor a URL: write `type: file` and its keys, or `url: file:./data`",
                ));
            }
        };
        let mut config = match url {
            Some(url) => {
                let secrets = Secrets::of(Some(url), None);
                let read = entry.descriptor().config_from_url(url);
                read.map_err(|error| secrets.scrub(error.backend(entry.name.as_str())))?
            }
            None => Tree::Object(Map::new()),
        };
        merge(&entry, &mut config, options)?;
        let secrets = Secrets::of(url, Some(&config));
        check_keys(&entry, &config)
            .and_then(|()| entry.descriptor().validate(&config))
            .map_err(|error| secrets.scrub(error.backend(entry.name.as_str())))?;
        Ok(OpenPlan { entry, config, layers: layers.cloned(), secrets: Arc::new(secrets) })
    }
}

/// A URL with its scheme in lower case. Errors repeat nothing of the text: it may hold a password.
fn in_lower_case(url: &str, types: &[Arc<TypeEntry>]) -> Result<String> {
    if let Some((scheme, rest)) = StoreUrl::split_scheme(url) {
        return Ok(format!("{}:{rest}", scheme.to_ascii_lowercase()));
    }
    let schemes = types.iter().flat_map(|entry| &entry.schemes).map(smol_str::SmolStr::as_str);
    let hint = match nearest(url, schemes) {
        Some(near) => format!("did you mean \"{near}:\"?"),
        None => "write such as \"file:./data\" for a path, or \"memory:\"".to_owned(),
    };
    Err(Error::invalid(format!("the store's URL has no scheme: {hint}")))
}

fn merge(entry: &TypeEntry, config: &mut Tree, options: &Map<String, Tree>) -> Result<()> {
    let Tree::Object(fields) = config else {
        return Err(Error::new(
            ErrorKind::Internal,
            format!("storage type {entry} made a configuration of its URL that is no object"),
        ));
    };
    for (key, value) in options {
        if fields.insert(key.clone(), value.clone()).is_some() {
            return Err(Error::invalid(format!(
                "configuration key {} is given twice: in the URL and beside it",
                shown(key)
            )));
        }
    }
    Ok(())
}

/// Refuses keys that the type's schema does not list. Every type gets the same message this way, and a
/// misspelt key of [`StoreConfig`] itself is told from one of the type.
fn check_keys(entry: &TypeEntry, config: &Tree) -> Result<()> {
    let Some(known) = entry.config_schema.get("properties").and_then(Tree::as_object) else {
        return Ok(());
    };
    let Some(key) = config.as_object().into_iter().flat_map(Map::keys).find(|key| !known.contains_key(*key))
    else {
        return Ok(());
    };
    let own = ["type", "url", "layers"];
    let hint = nearest(key, known.keys().map(String::as_str).chain(own))
        .map_or_else(|| ".".to_owned(), |near| format!("; did you mean {near:?}?"));
    let known = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none" } else { &known };
    Err(Error::invalid(format!(
        "unknown configuration key {} of {}{hint} Known: {known}",
        shown(key),
        entry.name
    )))
}
