//! The `mongodb` crate as an expert would use it: one client, `$in` and one `update` command for many.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, RawDocument, RawDocumentBuf, doc};
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::{ClientOptions, ReturnDocument, WriteConcern};
use mongodb::{Client, Collection, Database};

use super::postgres::end_of;
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// A database with documents `{_id, value}` and counters `{_id, n}`.
#[derive(Clone)]
pub(super) struct Driver {
    database: Database,
    records: Collection<RawDocumentBuf>,
    counters: Collection<Document>,
    commands: Arc<AtomicU64>,
}

impl Driver {
    pub(super) async fn open(url: &str, database: &str) -> Result<Self> {
        let mut options = ClientOptions::parse(url).await?;
        options.write_concern = Some(WriteConcern::majority());
        let commands = Arc::new(AtomicU64::new(0));
        let sent = commands.clone();
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(_) = event {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let database = Client::with_options(options)?.database(database);
        let (records, counters) = (database.collection("records"), database.collection("counters"));
        Ok(Self { database, records, counters, commands })
    }

    /// How many commands were sent.
    pub(super) fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let found = self.records.find_one(doc! {"_id": key}).await?;
        found.map(|document| value(&document)).transpose()
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.records
            .update_one(doc! {"_id": key}, doc! {"$set": {"value": binary(value)}})
            .upsert(true)
            .await?;
        Ok(())
    }

    pub(super) async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        let most = u32::try_from(keys.len())?;
        let mut cursor = self.records.find(doc! {"_id": {"$in": keys}}).batch_size(most).await?;
        let mut found: HashMap<String, Bytes> = HashMap::with_capacity(keys.len());
        while cursor.advance().await? {
            found.insert(cursor.current().get_str("_id")?.to_owned(), value(cursor.current())?);
        }
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    pub(super) async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        // Each key once: the last wins.
        let records: BTreeMap<_, _> = records.into_iter().collect();
        let updates = records.into_iter().map(|(key, value)| {
            Bson::from(doc! {"q": {"_id": key}, "u": {"$set": {"value": binary(value)}}, "upsert": true})
        });
        let command = doc! {
            "update": "records", "updates": updates.collect::<Vec<_>>(), "ordered": false,
            "writeConcern": {"w": "majority"},
        };
        let reply = self.database.run_command(command).await?;
        anyhow::ensure!(!reply.contains_key("writeErrors"), "{reply}");
        Ok(())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        let range = doc! {"_id": {"$gt": after.unwrap_or(prefix), "$lt": end_of(prefix)}};
        let find = self.records.find(range).sort(doc! {"_id": 1});
        let mut cursor = find.limit(i64::try_from(limit)?).batch_size(u32::try_from(limit)?).await?;
        let mut items: Vec<(String, Bytes)> = Vec::with_capacity(limit);
        while cursor.advance().await? {
            items.push((cursor.current().get_str("_id")?.to_owned(), value(cursor.current())?));
        }
        let next = items.last().filter(|_| items.len() == limit).map(|(key, _)| key.clone());
        Ok(Page { items, next })
    }

    /// Adds to a counter and returns its new value.
    pub(super) async fn increment(&self, key: &str, by: i64) -> Result<i64> {
        let counted = self
            .counters
            .find_one_and_update(doc! {"_id": key}, doc! {"$inc": {"n": by}})
            .upsert(true)
            .return_document(ReturnDocument::After);
        Ok(counted.await?.context("no reply to an increment")?.get_i64("n")?)
    }
}

fn binary(bytes: Vec<u8>) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes }
}

fn value(document: &RawDocument) -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(document.get_binary("value")?.bytes))
}

/// A command for each call.
pub(crate) struct Mongodb {
    info: PeerInfo,
    driver: Driver,
}

impl Mongodb {
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let info = PeerInfo {
            name: "mongodb-raw",
            version: super::version_of("mongodb"),
            durability: Durability::NotSynced,
            how: "one client with its pool; a command for each call, $in and one update command for many; w: majority",
        };
        Ok(Self { info, driver: Driver::open(url, "raw").await? })
    }
}

#[async_trait]
impl Peer for Mongodb {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, _: Feature) -> bool {
        true
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.driver.get(key).await
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.driver.put(key, value).await
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        self.driver.get_many(keys).await
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        self.driver.put_many(records).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        self.driver.scan(prefix, after, limit).await
    }

    async fn increment(&self, key: &str) -> Result<i64> {
        self.driver.increment(key, 1).await
    }

    async fn commands(&self) -> Result<Option<u64>> {
        Ok(Some(self.driver.commands()))
    }
}
