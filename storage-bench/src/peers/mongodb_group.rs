//! `mongodb` with what waits coalesced by hand: callers of one record share commands of many.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;

use super::mongodb::Driver;
use super::queue::Queue;
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// Three queues before one client.
pub(crate) struct MongodbGroup {
    info: PeerInfo,
    driver: Driver,
    gets: Queue<String, Option<Bytes>>,
    puts: Queue<(String, Vec<u8>), ()>,
    increments: Queue<String, i64>,
}

impl MongodbGroup {
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let info = PeerInfo {
            name: "mongodb-group",
            version: super::version_of("mongodb"),
            durability: Durability::NotSynced,
            how: "raw; what waits goes in one command, $in or an update of many, 3 of a kind in flight",
        };
        let driver = Driver::open(url, "grouped").await?;
        let (readers, writers, counters) = (driver.clone(), driver.clone(), driver.clone());
        Ok(Self {
            info,
            driver,
            gets: Queue::start(move |keys| {
                let driver = readers.clone();
                async move { driver.get_many(&keys).await }
            }),
            puts: Queue::start(move |records| {
                let driver = writers.clone();
                async move {
                    let replies = vec![(); records.len()];
                    driver.put_many(records).await.map(|()| replies)
                }
            }),
            increments: Queue::start(move |keys| {
                let driver = counters.clone();
                async move { increment(&driver, keys).await }
            }),
        })
    }
}

async fn increment(driver: &Driver, keys: Vec<String>) -> Result<Vec<i64>> {
    let mut calls: BTreeMap<&str, i64> = BTreeMap::new();
    for key in &keys {
        *calls.entry(key).or_default() += 1;
    }
    // Each caller has the value that it would have had alone.
    let mut values: HashMap<&str, i64> = HashMap::with_capacity(calls.len());
    for (key, count) in calls {
        values.insert(key, driver.increment(key, count).await? - count);
    }
    let next = |key: &String| {
        let value = values.get_mut(key.as_str()).context("no reply to an increment")?;
        *value += 1;
        Ok(*value)
    };
    keys.iter().map(next).collect()
}

#[async_trait]
impl Peer for MongodbGroup {
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
        self.driver.get_many(keys).await
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        self.driver.put_many(records).await
    }

    async fn scan(&self, _: &str, _: Option<&str>, _: usize) -> Result<Page> {
        bail!("the same as of mongodb-raw")
    }

    async fn increment(&self, key: &str) -> Result<i64> {
        self.increments.call(key.to_owned()).await
    }

    async fn commands(&self) -> Result<Option<u64>> {
        Ok(Some(self.driver.commands()))
    }
}
