//! The storage type `directory`.

use std::sync::Arc;

use async_trait::async_trait;
use semver::Version as Semver;
use serde_json::Value as Tree;
use storage_core::{Backend, Capabilities, Result, TypeDescriptor};

use crate::backend::DirectoryBackend;
use crate::config::DirectoryConfig;

/// The storage type `directory`: opened as `directory:./dir` or `directory:///abs/dir`.
#[derive(Debug)]
pub struct DirectoryType;

/// The one [`DirectoryType`].
pub static DIRECTORY: DirectoryType = DirectoryType;

storage_plugin::export_backend!(DIRECTORY, name = "directory", version = "1.0.0");

impl DirectoryType {
    pub(crate) const NAME: &str = "directory";

    pub(crate) fn type_version() -> Semver {
        Semver::new(1, 0, 0)
    }
}

#[async_trait]
impl TypeDescriptor for DirectoryType {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> Semver {
        Self::type_version()
    }

    fn summary(&self) -> &str {
        "A plain file for each record: an example of a backend"
    }

    fn schemes(&self) -> &[&str] {
        &["directory"]
    }

    fn capabilities(&self) -> Capabilities {
        DirectoryBackend::capabilities()
    }

    fn config_schema(&self) -> Tree {
        DirectoryConfig::schema()
    }

    fn config_from_url(&self, url: &str) -> Result<Tree> {
        DirectoryConfig::from_url(url)
    }

    fn validate(&self, config: &Tree) -> Result<()> {
        DirectoryConfig::decode(config).map(drop)
    }

    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(DirectoryBackend::open(DirectoryConfig::decode(&config)?).await?))
    }
}
