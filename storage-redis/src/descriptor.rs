//! The storage type `redis`.

use std::sync::Arc;

use async_trait::async_trait;
use semver::Version as Semver;
use serde_json::{Value as Tree, json};
use storage_core::{Backend, Capabilities, Result, TypeDescriptor};

use crate::backend::RedisBackend;
use crate::config::{Format, RedisConfig};
use crate::raw::RawBackend;

/// The storage type `redis`, opened by the URLs that the crate's documentation lists.
#[derive(Debug)]
pub struct RedisType;

/// The one [`RedisType`].
pub static REDIS: RedisType = RedisType;

storage_plugin::export_backend!(REDIS, name = "redis", version = "1.0.0");

impl RedisType {
    pub(crate) const NAME: &str = "redis";

    pub(crate) fn type_version() -> Semver {
        Semver::new(1, 0, 0)
    }
}

#[async_trait]
impl TypeDescriptor for RedisType {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> Semver {
        Self::type_version()
    }

    fn summary(&self) -> &str {
        "A Redis server, a Redis Cluster, or a master behind sentinels"
    }

    fn schemes(&self) -> &[&str] {
        &[
            "redis",
            "rediss",
            "redis+unix",
            "redis+cluster",
            "rediss+cluster",
            "redis+sentinel",
            "rediss+sentinel",
        ]
    }

    fn capabilities(&self) -> Capabilities {
        RedisConfig::decode(&json!({}))
            .map_or_else(|_| Capabilities::none(), |c| RedisBackend::capabilities(&c))
    }

    fn config_schema(&self) -> Tree {
        RedisConfig::schema()
    }

    fn config_from_url(&self, url: &str) -> Result<Tree> {
        RedisConfig::tree_from_url(url)
    }

    fn validate(&self, config: &Tree) -> Result<()> {
        RedisConfig::decode(config).map(drop)
    }

    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>> {
        let config = RedisConfig::decode(&config)?;
        Ok(match config.format {
            Format::Record => Arc::new(RedisBackend::open(config).await?),
            Format::Raw => Arc::new(RawBackend::open(config).await?),
        })
    }
}
