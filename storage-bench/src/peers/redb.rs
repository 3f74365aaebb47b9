//! The engine redb, as it comes and with a group commit around it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::group::{Change, Commit, GroupCommit};
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
const COUNTERS: TableDefinition<'_, &str, i64> = TableDefinition::new("counters");

/// redb with [`Durability::Immediate`](redb::Durability::Immediate), its default.
pub(crate) struct Redb {
    info: PeerInfo,
    database: Arc<Database>,
    group: Option<GroupCommit>,
}

impl Redb {
    pub(crate) fn open(directory: &Path, grouped: bool) -> Result<Self> {
        let database = Arc::new(Database::create(directory.join("data.redb"))?);
        let create = database.begin_write()?;
        create.open_table(RECORDS)?;
        create.open_table(COUNTERS)?;
        create.commit()?;
        let group = if grouped { Some(GroupCommit::start(Engine(database.clone()))?) } else { None };
        let info = PeerInfo {
            name: if grouped { "redb-group" } else { "redb" },
            version: super::version_of("redb"),
            durability: Durability::Synced,
            how: if grouped {
                "raw; writes through a thread that commits all that waits in one transaction"
            } else {
                "raw; one transaction for each call, on the caller's thread"
            },
        };
        Ok(Self { info, database, group })
    }

    async fn write(&self, changes: Vec<Change>) -> Result<Vec<i64>> {
        match &self.group {
            Some(group) => group.write(changes).await,
            None => commit(&self.database, &changes),
        }
    }
}

struct Engine(Arc<Database>);

impl Commit for Engine {
    fn commit(&mut self, changes: &[Change]) -> Result<Vec<i64>> {
        commit(&self.0, changes)
    }
}

fn commit(database: &Database, changes: &[Change]) -> Result<Vec<i64>> {
    let transaction = database.begin_write()?;
    let mut values = Vec::with_capacity(changes.len());
    {
        let mut records = transaction.open_table(RECORDS)?;
        let mut counters = None;
        for change in changes {
            match change {
                Change::Put(key, value) => {
                    records.insert(key.as_str(), value.as_slice())?;
                    values.push(0);
                }
                Change::Increment(key) => {
                    let counters = match &mut counters {
                        Some(open) => open,
                        None => counters.insert(transaction.open_table(COUNTERS)?),
                    };
                    let value = counters.get(key.as_str())?.map_or(0, |value| value.value()) + 1;
                    counters.insert(key.as_str(), value)?;
                    values.push(value);
                }
            }
        }
    }
    transaction.commit()?;
    Ok(values)
}

#[async_trait]
impl Peer for Redb {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, _: Feature) -> bool {
        true
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let records = self.database.begin_read()?.open_table(RECORDS)?;
        Ok(records.get(key)?.map(|value| Bytes::copy_from_slice(value.value())))
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.write(vec![Change::Put(key, value)]).await.map(drop)
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        let records = self.database.begin_read()?.open_table(RECORDS)?;
        let one =
            |key: &String| Ok(records.get(key.as_str())?.map(|value| Bytes::copy_from_slice(value.value())));
        keys.iter().map(one).collect()
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        let puts = records.into_iter().map(|(key, value)| Change::Put(key, value)).collect();
        self.write(puts).await.map(drop)
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        let records = self.database.begin_read()?.open_table(RECORDS)?;
        let mut items = Vec::with_capacity(limit);
        let mut more = false;
        for entry in records.range(after.unwrap_or(prefix)..)? {
            let (key, value) = entry?;
            let key = key.value();
            if after == Some(key) {
                continue;
            }
            if !key.starts_with(prefix) {
                break;
            }
            if items.len() == limit {
                more = true;
                break;
            }
            items.push((key.to_owned(), Bytes::copy_from_slice(value.value())));
        }
        let next = items.last().filter(|_| more).map(|(key, _)| key.clone());
        Ok(Page { items, next })
    }

    async fn increment(&self, key: &str) -> Result<i64> {
        let values = self.write(vec![Change::Increment(key.to_owned())]).await?;
        Ok(values.first().copied().unwrap_or_default())
    }
}
