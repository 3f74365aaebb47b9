//! A store as configurations write it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Tree};
use storage_core::StoreUrl;
use storage_core::layer::Layers;

use crate::TypeRef;

/// How to open a store: its type or URL, and the keys that the type takes.
///
/// In YAML, `{type: "file@^1", path: ./data}` or `{url: "file:./data"}`. With both, the type opens the URL,
/// whatever its scheme. Keys that the type does not know are refused when the configuration is
/// [planned](crate::Registry::plan_config). `Debug` shows no values: they may be secrets.
///
/// ```
/// use storage_registry::{Registry, StoreConfig};
///
/// let config: StoreConfig = serde_json::from_str(r#"{"type": "memory", "pth": "./data"}"#).unwrap();
/// let error = Registry::linked().plan_config(&config).unwrap_err();
/// assert!(error.to_string().contains("unknown configuration key \"pth\""), "{error}");
/// ```
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreConfig {
    /// The type, such as `file` or `file@^1`; see [`TypeRef`](crate::TypeRef). Without one the URL's scheme
    /// decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// The URL, for what it says; the other keys add to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The layers on top, from the outside in; without them the [default ones](Layers::default_for).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Layers>,
    /// All other keys: those of the type.
    #[serde(flatten)]
    pub options: Map<String, Tree>,
}

impl StoreConfig {
    /// The configuration of a URL.
    pub fn from_url(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::default() }
    }

    /// The configuration of a type, such as `file@^1`, without keys.
    pub fn from_type(reference: impl Into<String>) -> Self {
        Self { r#type: Some(reference.into()), ..Self::default() }
    }

    /// Sets a key of the type.
    #[must_use]
    pub fn option(mut self, key: impl Into<String>, value: impl Into<Tree>) -> Self {
        self.options.insert(key.into(), value.into());
        self
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Through their parsers, so that a URL in the wrong place is not shown.
        let reference = self.r#type.as_ref().map(|text| text.parse::<TypeRef>().map_err(drop));
        let scheme = self.url.as_deref().and_then(StoreUrl::split_scheme).map(|(scheme, _)| scheme);
        f.debug_struct("StoreConfig")
            .field("type", &reference)
            .field("scheme", &scheme)
            .field("layers", &self.layers)
            .field("keys", &self.options.keys().collect::<Vec<_>>())
            .finish()
    }
}
