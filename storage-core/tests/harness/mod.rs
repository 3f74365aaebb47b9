//! Memory stores.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{Backend, MEMORY, MemoryBackend, Result, TypeDescriptor};
use storage_testkit::{Fixture, Harness};

pub(crate) struct Memory;

#[async_trait]
impl Harness for Memory {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        Ok(Box::new(Memory))
    }
}

#[async_trait]
impl Fixture for Memory {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(MemoryBackend::new()))
    }

    fn persistent(&self) -> bool {
        false
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        MEMORY.open(MEMORY.config_from_url("memory://nowhere")?).await
    }
}
