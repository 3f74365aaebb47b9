//! The engine fjall with a group commit around it. It has to be told to sync: by itself it acknowledges before.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::group::{Change, Commit, GroupCommit};
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// fjall, committing with the given [`PersistMode`].
pub(crate) struct Fjall {
    info: PeerInfo,
    records: Keyspace,
    group: GroupCommit,
}

impl Fjall {
    pub(crate) fn open(directory: &Path, mode: PersistMode) -> Result<Self> {
        let database = Database::builder(directory.join("fjall")).open()?;
        let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
        let counters = database.keyspace("counters", KeyspaceCreateOptions::default)?;
        let engine = Engine { database, records: records.clone(), counters, mode };
        let (name, how) = match mode {
            PersistMode::SyncData => ("fjall-group", "raw; group commit by hand, each synced with fdatasync"),
            _ => ("fjall-group-all", "raw; group commit by hand, each synced with fsync"),
        };
        let info =
            PeerInfo { name, version: super::version_of("fjall"), durability: Durability::Synced, how };
        Ok(Self { info, records, group: GroupCommit::start(engine)? })
    }
}

struct Engine {
    database: Database,
    records: Keyspace,
    counters: Keyspace,
    mode: PersistMode,
}

impl Commit for Engine {
    fn commit(&mut self, changes: &[Change]) -> Result<Vec<i64>> {
        let mut batch = self.database.batch().durability(Some(self.mode));
        let mut values = Vec::with_capacity(changes.len());
        // A batch cannot be read before it is committed, so increments of one key meet here.
        let mut counted: HashMap<&str, i64> = HashMap::new();
        for change in changes {
            match change {
                Change::Put(key, value) => {
                    batch.insert(&self.records, key.as_str(), value.as_slice());
                    values.push(0);
                }
                Change::Increment(key) => {
                    let before = match counted.get(key.as_str()) {
                        Some(value) => *value,
                        None => match self.counters.get(key)? {
                            Some(bytes) => {
                                i64::from_le_bytes(bytes.as_ref().try_into().context("a counter's bytes")?)
                            }
                            None => 0,
                        },
                    };
                    counted.insert(key, before + 1);
                    values.push(before + 1);
                }
            }
        }
        for (key, value) in counted {
            batch.insert(&self.counters, key, value.to_le_bytes());
        }
        batch.commit()?;
        Ok(values)
    }
}

#[async_trait]
impl Peer for Fjall {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, _: Feature) -> bool {
        true
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.records.get(key)?.map(|value| Bytes::copy_from_slice(&value)))
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.group.write(vec![Change::Put(key, value)]).await.map(drop)
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        let one = |key: &String| Ok(self.records.get(key)?.map(|value| Bytes::copy_from_slice(&value)));
        keys.iter().map(one).collect()
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        self.group.put_many(records).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        let mut items = Vec::with_capacity(limit);
        let mut more = false;
        for entry in self.records.range(after.unwrap_or(prefix)..) {
            let (key, value) = entry.into_inner()?;
            if after.is_some_and(|after| after.as_bytes() == key.as_ref()) {
                continue;
            }
            if !key.starts_with(prefix.as_bytes()) {
                break;
            }
            if items.len() == limit {
                more = true;
                break;
            }
            items.push((String::from_utf8(key.to_vec())?, Bytes::copy_from_slice(&value)));
        }
        let next = items.last().filter(|_| more).map(|(key, _)| key.clone());
        Ok(Page { items, next })
    }

    async fn increment(&self, key: &str) -> Result<i64> {
        self.group.increment(key).await
    }
}
