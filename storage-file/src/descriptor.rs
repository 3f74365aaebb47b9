//! The storage type `file`.

use std::sync::Arc;

use async_trait::async_trait;
use semver::Version as Semver;
use serde_json::Value as Tree;
use storage_core::{Backend, Capabilities, Result, TypeDescriptor};

use crate::backend::FileBackend;
use crate::config::FileConfig;

/// The storage type `file`: opened as `file:./dir` or `file:///abs/dir`, with the configuration's keys as
/// query parameters, such as `file:./dir?durability=eventual`.
#[derive(Debug)]
pub struct FileType;

/// The one [`FileType`].
pub static FILE: FileType = FileType;

storage_plugin::export_backend!(FILE, name = "file", version = "1.0.0");

impl FileType {
    pub(crate) const NAME: &str = "file";

    pub(crate) fn type_version() -> Semver {
        Semver::new(1, 0, 0)
    }
}

#[async_trait]
impl TypeDescriptor for FileType {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> Semver {
        Self::type_version()
    }

    fn summary(&self) -> &str {
        "A directory on this machine: crash-safe, one process at a time, no server"
    }

    fn schemes(&self) -> &[&str] {
        &["file"]
    }

    fn capabilities(&self) -> Capabilities {
        FileBackend::capabilities()
    }

    fn config_schema(&self) -> Tree {
        FileConfig::schema()
    }

    fn config_from_url(&self, url: &str) -> Result<Tree> {
        FileConfig::from_url(url)
    }

    fn validate(&self, config: &Tree) -> Result<()> {
        FileConfig::decode(config).map(drop)
    }

    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(FileBackend::open(FileConfig::decode(&config)?).await?))
    }
}
