//! The `redis` crate as an expert would use it: one multiplexed connection, `MGET`, and pipelines.

use anyhow::{Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;

use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// Plain values under plain keys.
pub(crate) struct Redis {
    info: PeerInfo,
    connection: MultiplexedConnection,
}

impl Redis {
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let info = PeerInfo {
            name: "redis-raw",
            version: super::version_of("redis"),
            durability: Durability::NotSynced,
            how: "one multiplexed connection; GET and SET for one record, MGET and a pipeline of SET for many",
        };
        Ok(Self { info, connection: redis::Client::open(url)?.get_multiplexed_async_connection().await? })
    }

    /// The one connection.
    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }
}

pub(super) fn key(key: &str) -> String {
    format!("raw:{key}")
}

#[async_trait]
impl Peer for Redis {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, feature: Feature) -> bool {
        feature == Feature::Increment
    }

    async fn get(&self, wanted: &str) -> Result<Option<Bytes>> {
        let found: Option<Vec<u8>> =
            redis::cmd("GET").arg(key(wanted)).query_async(&mut self.connection.clone()).await?;
        Ok(found.map(Bytes::from))
    }

    async fn put(&self, name: String, value: Vec<u8>) -> Result<()> {
        let mut connection = self.connection.clone();
        Ok(redis::cmd("SET").arg(key(&name)).arg(value).query_async(&mut connection).await?)
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<_> = keys.iter().map(|name| key(name)).collect();
        let found: Vec<Option<Vec<u8>>> =
            redis::cmd("MGET").arg(keys).query_async(&mut self.connection.clone()).await?;
        Ok(found.into_iter().map(|value| value.map(Bytes::from)).collect())
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        let mut pipeline = redis::pipe();
        for (name, value) in records {
            pipeline.cmd("SET").arg(key(&name)).arg(value).ignore();
        }
        Ok(pipeline.query_async(&mut self.connection.clone()).await?)
    }

    async fn scan(&self, _: &str, _: Option<&str>, _: usize) -> Result<Page> {
        bail!("SCAN has neither order nor values")
    }

    async fn increment(&self, name: &str) -> Result<i64> {
        Ok(redis::cmd("INCR").arg(key(name)).query_async(&mut self.connection.clone()).await?)
    }
}
