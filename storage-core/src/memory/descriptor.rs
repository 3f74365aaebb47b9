//! The storage type `memory`.

use std::sync::Arc;

use async_trait::async_trait;
use semver::Version as Semver;
use serde_json::{Value as Tree, json};

use super::MemoryBackend;
use crate::{Backend, Capabilities, Error, Result, TypeDescriptor, decode_config};

/// The storage type `memory`: opened as `memory:`, without any configuration.
#[derive(Debug)]
pub struct MemoryType;

/// The one [`MemoryType`].
pub static MEMORY: MemoryType = MemoryType;

crate::register_type!(MEMORY);

#[async_trait]
impl TypeDescriptor for MemoryType {
    fn name(&self) -> &str {
        MemoryBackend::NAME
    }

    fn version(&self) -> Semver {
        MemoryBackend::type_version()
    }

    fn summary(&self) -> &str {
        "This process's memory: nothing is kept; for tests, and the reference for what operations mean"
    }

    fn schemes(&self) -> &[&str] {
        &["memory"]
    }

    fn capabilities(&self) -> Capabilities {
        MemoryBackend::capabilities()
    }

    fn config_schema(&self) -> Tree {
        json!({"type": "object", "properties": {}, "additionalProperties": false})
    }

    fn config_from_url(&self, url: &str) -> Result<Tree> {
        match url {
            "memory:" | "memory://" => Ok(json!({})),
            _ => Err(Error::invalid("a memory store is opened as memory: with nothing after the colon")),
        }
    }

    fn validate(&self, config: &Tree) -> Result<()> {
        decode_config::<serde_json::Map<String, Tree>>(self.name(), config, &[]).map(drop)
    }

    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>> {
        self.validate(&config)?;
        Ok(Arc::new(MemoryBackend::new()))
    }
}
