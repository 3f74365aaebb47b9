//! File stores in temporary directories.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{Backend, Result};
use storage_file::{FileBackend, FileConfig};
use storage_testkit::{Fixture, Harness};
use tempfile::TempDir;

pub(crate) struct Files;

#[async_trait]
impl Harness for Files {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        Ok(Box::new(Directory(tempfile::tempdir().expect("a temporary directory"))))
    }
}

struct Directory(TempDir);

#[async_trait]
impl Fixture for Directory {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(FileBackend::open(FileConfig::new(self.0.path().join("data"))).await?))
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
        Ok(Arc::new(FileBackend::open(FileConfig::new(file)).await?))
    }
}
