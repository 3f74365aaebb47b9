//! The `redis` crate with what waits merged by hand: callers of one record share `MGET` and `MSET`.

use anyhow::{Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;

use super::queue::Queue;
use super::redis::{Redis, key};
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// Two queues before one connection.
pub(crate) struct RedisGroup {
    info: PeerInfo,
    raw: Redis,
    gets: Queue<String, Option<Bytes>>,
    puts: Queue<(String, Vec<u8>), ()>,
}

impl RedisGroup {
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let info = PeerInfo {
            name: "redis-group",
            version: super::version_of("redis"),
            durability: Durability::NotSynced,
            how: "raw; what waits goes in one MGET or MSET, 3 of a kind in flight",
        };
        let raw = Redis::open(url).await?;
        let (readers, writers) = (raw.connection(), raw.connection());
        Ok(Self {
            info,
            raw,
            gets: Queue::start(move |keys| get(readers.clone(), keys)),
            puts: Queue::start(move |records| put(writers.clone(), records)),
        })
    }
}

async fn get(mut connection: MultiplexedConnection, keys: Vec<String>) -> Result<Vec<Option<Bytes>>> {
    let mut command = redis::cmd("MGET");
    for name in keys {
        command.arg(key(&name));
    }
    let found: Vec<Option<Vec<u8>>> = command.query_async(&mut connection).await?;
    Ok(found.into_iter().map(|value| value.map(Bytes::from)).collect())
}

async fn put(mut connection: MultiplexedConnection, records: Vec<(String, Vec<u8>)>) -> Result<Vec<()>> {
    let mut command = redis::cmd("MSET");
    for (name, value) in &records {
        command.arg(key(name)).arg(value);
    }
    let () = command.query_async(&mut connection).await?;
    Ok(vec![(); records.len()])
}

#[async_trait]
impl Peer for RedisGroup {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, feature: Feature) -> bool {
        feature == Feature::Increment
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.gets.call(key.to_owned()).await
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.puts.call((key, value)).await
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        self.raw.get_many(keys).await
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        self.raw.put_many(records).await
    }

    async fn scan(&self, _: &str, _: Option<&str>, _: usize) -> Result<Page> {
        bail!("the same as of redis-raw")
    }

    async fn increment(&self, key: &str) -> Result<i64> {
        self.raw.increment(key).await
    }
}
