//! The configuration of a file store.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Tree, json};
use storage_core::{Error, Result, StoreUrl, decode_config};

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// After it was synced to the disk: it survives `kill -9` and power loss.
    #[default]
    Immediate,
    /// After it was applied in memory. It is written and synced within the flush interval, together with
    /// what came before it: a crash, power loss or failing disk takes back at most that interval, and never part
    /// of a batch.
    Eventual,
    /// As `eventual`, but the disk is never waited for. A crash of the process takes back at most the flush
    /// interval; a power loss may damage the store. For data that can be made again.
    None,
}

/// Whether opening reads the whole file and checks it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOnOpen {
    /// If the file is under 64 MiB, or was not closed cleanly.
    #[default]
    Auto,
    /// Always; about a second for a million small records.
    Always,
    /// Only if the file was not closed cleanly.
    Never,
}

/// The configuration of a file store.
///
/// ```
/// use storage_file::{Durability, FileConfig};
///
/// let config = FileConfig::new("./data").with_durability(Durability::Eventual);
/// assert_eq!(config.flush_interval, std::time::Duration::from_millis(200));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileConfig {
    /// The directory that holds the store; made if it is missing.
    pub path: PathBuf,
    /// When a write is acknowledged; default: `immediate`.
    #[serde(default)]
    pub durability: Durability,
    /// How long `eventual` and `none` may keep writes in memory; default: 200 ms.
    #[serde(default = "default_flush", with = "storage_core::duration")]
    pub flush_interval: Duration,
    /// How often expired records are removed; zero: only when asked to. Default: one minute.
    #[serde(default = "default_sweep", with = "storage_core::duration")]
    pub sweep_interval: Duration,
    /// How much memory caches pages of the file, in bytes; default: 64 MiB.
    #[serde(default = "default_cache")]
    pub cache_bytes: usize,
    /// Whether opening checks the whole file; default: `auto`.
    #[serde(default)]
    pub check_on_open: CheckOnOpen,
}

fn default_flush() -> Duration {
    Duration::from_millis(200)
}

fn default_sweep() -> Duration {
    Duration::from_secs(60)
}

fn default_cache() -> usize {
    64 << 20
}

impl FileConfig {
    pub(crate) const KEYS: [&str; 6] =
        ["path", "durability", "flush_interval", "sweep_interval", "cache_bytes", "check_on_open"];

    /// The defaults, in this directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            durability: Durability::default(),
            flush_interval: default_flush(),
            sweep_interval: default_sweep(),
            cache_bytes: default_cache(),
            check_on_open: CheckOnOpen::default(),
        }
    }

    /// The same with another durability.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    pub(crate) fn from_url(url: &str) -> Result<Tree> {
        let url = StoreUrl::parse(url)?;
        if url.authority().is_some_and(|authority| !authority.is_empty()) {
            return Err(Error::invalid(
                "a file URL names no host: write file:./dir for a relative path or file:///dir for an absolute one",
            ));
        }
        if url.path().is_empty() {
            return Err(Error::invalid("the file URL names no directory: write file:./dir or file:///dir"));
        }
        let mut config = url.query_config(&Self::schema())?;
        if config.insert("path".to_owned(), url.path().into()).is_some() {
            return Err(Error::invalid("the file URL names its path twice: leave the parameter path out"));
        }
        Ok(Tree::Object(config))
    }

    pub(crate) fn decode(config: &Tree) -> Result<Self> {
        let decoded: Self = decode_config("file", config, &Self::KEYS)?;
        if decoded.path.as_os_str().is_empty() {
            return Err(Error::invalid("the configuration of file: path is empty: name a directory"));
        }
        if decoded.flush_interval.is_zero() {
            return Err(Error::invalid("the configuration of file: flush_interval is 0: it is at least 1ms"));
        }
        Ok(decoded)
    }

    pub(crate) fn schema() -> Tree {
        let duration =
            |default: &str, about: &str| json!({"type": "string", "default": default, "description": about});
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["path"],
            "additionalProperties": false,
            "properties": {
                "path": {"type": "string", "minLength": 1, "description": "directory that holds the store"},
                "durability": {
                    "enum": ["immediate", "eventual", "none"], "default": "immediate",
                    "description": "when a write is acknowledged: synced, applied, or applied and never synced",
                },
                "flush_interval": duration("200ms", "how long eventual and none keep writes in memory"),
                "sweep_interval": duration("1m", "how often expired records are removed; 0s: only when asked to"),
                "cache_bytes": {"type": "integer", "minimum": 0, "default": default_cache(),
                    "description": "memory for caching pages of the file"},
                "check_on_open": {"enum": ["auto", "always", "never"], "default": "auto",
                    "description": "whether opening checks the whole file"},
            },
        })
    }
}
