//! The directory backend against the conformance suite and the in-memory reference.

use std::sync::Arc;

use async_trait::async_trait;
use example_directory::{DirectoryBackend, DirectoryConfig};
use storage_core::{Backend, Result};
use storage_testkit::{Fixture, Harness};
use tempfile::TempDir;

storage_testkit::conformance!(Directories);
storage_testkit::differential!(Directories);

struct Directories;

#[async_trait]
impl Harness for Directories {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        Ok(Box::new(Directory(tempfile::tempdir().expect("a temporary directory"))))
    }
}

struct Directory(TempDir);

#[async_trait]
impl Fixture for Directory {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(DirectoryBackend::open(DirectoryConfig::new(self.0.path().join("data"))).await?))
    }

    fn persistent(&self) -> bool {
        true
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        let file = self.0.path().join("plain-file");
        std::fs::write(&file, "not a directory").expect("a plain file");
        Ok(Arc::new(DirectoryBackend::open(DirectoryConfig::new(file)).await?))
    }
}
