//! `storage-file` as a program uses it: opened by URL, through `Store` and all its layers.

use std::path::Path;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use storage_core::{
    Address, Batch, CollectionName, Cursor, Effect, Mutation, Record, Scan, Store, Value, Written,
};

use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

const COLLECTION: &str = "bench";
const COUNTERS: &str = "counters";

/// A file store with its default configuration.
pub(crate) struct Storage {
    info: PeerInfo,
    store: Store,
    collection: CollectionName,
}

impl Storage {
    pub(crate) async fn open(directory: &Path) -> Result<Self> {
        let store = storage_registry::open(&format!("file:{}", directory.display())).await?;
        let info = PeerInfo {
            name: "storage-file",
            version: super::version_of("storage-file"),
            durability: Durability::Synced,
            how: "through Store with the default layers and configuration",
        };
        Ok(Self { info, store, collection: CollectionName::new(COLLECTION)? })
    }

    fn address(&self, key: &str) -> Result<Address> {
        Ok(Address { collection: self.collection.clone(), key: key.parse()? })
    }

    async fn write(&self, mutations: Vec<Mutation>) -> Result<Vec<Written>> {
        let results = self.store.backend().write(&Batch::independent(mutations)).await?;
        Ok(results.into_iter().collect::<Result<_, _>>()?)
    }
}

fn bytes(record: Record) -> Result<Bytes> {
    match record.value {
        Value::Bytes(blob) => Ok(blob.data),
        other => bail!("{} holds {} instead of bytes", record.address, other.kind()),
    }
}

#[async_trait]
impl Peer for Storage {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, _: Feature) -> bool {
        true
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let found = self.store.backend().get(&[self.address(key)?]).await?;
        found.into_iter().next().flatten().map(bytes).transpose()
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.write(vec![Mutation::put(self.address(&key)?, Value::bytes(value))]).await.map(drop)
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        let addresses = keys.iter().map(|key| self.address(key)).collect::<Result<Vec<_>>>()?;
        let found = self.store.backend().get(&addresses).await?;
        found.into_iter().map(|record| record.map(bytes).transpose()).collect()
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        let puts = records
            .into_iter()
            .map(|(key, value)| Ok(Mutation::put(self.address(&key)?, Value::bytes(value))))
            .collect::<Result<_>>()?;
        self.write(puts).await.map(drop)
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        let scan = Scan {
            collection: self.collection.clone(),
            prefix: prefix.to_owned(),
            after: after.map(Cursor::new).transpose()?,
            limit: u32::try_from(limit)?,
        };
        let page = self.store.backend().scan(&scan).await?;
        let next = page.next.map(|cursor| cursor.as_str().to_owned());
        let items = page
            .items
            .into_iter()
            .map(|record| Ok((record.address.key.as_str().to_owned(), bytes(record)?)))
            .collect::<Result<_>>()?;
        Ok(Page { items, next })
    }

    async fn increment(&self, key: &str) -> Result<i64> {
        let mutation = Mutation::increment(Address::new(COUNTERS, key)?, "n", 1);
        let written = self.write(vec![mutation]).await?.into_iter().next().context("no reply")?;
        match written.effect {
            Effect::Counters(fields) => fields.get("n").copied().context("no value of the counter"),
            _ => bail!("an increment was answered without the new value"),
        }
    }
}
