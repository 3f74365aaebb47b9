//! `storage` as a program uses it: opened by URL, through `Store` and all its layers.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use storage_core::{Backend, Collection, Counters, Cursor, Raw, Store};

use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// A store with its default layers and configuration.
pub(crate) struct Storage {
    info: PeerInfo,
    store: Store,
    records: Collection<Bytes>,
    counters: Counters,
    /// Whether it has scans and counters.
    has_all: bool,
}

impl Storage {
    pub(crate) fn new(name: &'static str, backend: Arc<dyn Backend>, durability: Durability) -> Result<Self> {
        let store = Store::new(backend);
        let (package, how) = if let Some(package) = name.strip_suffix(".so") {
            (package, "the same from a shared library")
        } else if let Some(package) = name.strip_suffix("-plain") {
            (package, "the same with `format = raw`: plain values under plain keys")
        } else {
            (name, "through Store with the default layers and configuration")
        };
        let version = super::version_of(package);
        let info = PeerInfo { name, version, durability, how };
        let records = store.collection_with("bench", Raw)?;
        let counters = store.counters("counters")?;
        let has_all = !name.ends_with("-plain");
        Ok(Self { info, records, counters, store, has_all })
    }
}

#[async_trait]
impl Peer for Storage {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, _: Feature) -> bool {
        self.has_all
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.records.get(key).await?)
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.records.put(key, &value.into()).await?;
        Ok(())
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        Ok(self.records.get_many(keys).await?)
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        let records: Vec<_> = records.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect();
        for result in self.records.put_many(records.iter().map(|(key, value)| (key, value))).await? {
            result?;
        }
        Ok(())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        let after = after.map(Cursor::new).transpose()?;
        let page =
            self.records.scan().prefix(prefix).after(after).limit(u32::try_from(limit)?).page().await?;
        let items = page.items.into_iter().map(|entry| (entry.key.as_str().to_owned(), entry.value));
        Ok(Page { items: items.collect(), next: page.next.map(|cursor| cursor.as_str().to_owned()) })
    }

    async fn increment(&self, key: &str) -> Result<i64> {
        Ok(self.counters.increment(key, "n", 1).await?)
    }

    async fn commands(&self) -> Result<Option<u64>> {
        let stats = self.store.backend().stats().await?;
        Ok(stats.details.get("commands").and_then(serde_json::Value::as_u64))
    }
}
