//! Reading records by key and in the order of their keys.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::action::Find;
use mongodb::bson::{Document, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use mongodb::options::ReadConcern;
use storage_core::{
    Address, CollectionName, Cursor, Error, Key, Page, Record, Result, Scan, Timestamp, Value,
};

use crate::client::Client;
use crate::convert::{damaged, record};
use crate::layout::{field, live};

/// Soft limit of a page's size in bytes: a page ends once it is passed.
pub(crate) const PAGE_BYTES: usize = 4 << 20;

/// Requests that one call has under way at most.
pub(crate) const AT_ONCE: usize = 8;

impl Client {
    pub(crate) async fn get(&self, addresses: &[Address]) -> Result<Vec<Option<Record>>> {
        self.check_open()?;
        let records = self.read_many(addresses).await?;
        self.reads.fetch_add(addresses.len() as u64, Ordering::Relaxed);
        Ok(records)
    }

    async fn read_many(&self, addresses: &[Address]) -> Result<Vec<Option<Record>>> {
        let mut groups: HashMap<&CollectionName, Vec<&str>> = HashMap::new();
        for Address { collection, key } in addresses {
            groups.entry(collection).or_default().push(key.as_str());
        }
        let now = Timestamp::now();
        let reads = groups.into_iter().map(|(collection, keys)| self.read_keys(collection, keys));
        let mut found: HashMap<Address, Record> = HashMap::with_capacity(addresses.len());
        for record in try_join_all(reads).await?.into_iter().flatten() {
            if !record.is_expired(now) {
                found.insert(record.address.clone(), record);
            }
        }
        if found.len() == addresses.len() {
            return Ok(addresses.iter().map(|address| found.remove(address)).collect());
        }
        // A record that is asked for twice is there twice.
        Ok(addresses.iter().map(|address| found.get(address).cloned()).collect())
    }

    /// The records of a collection with these keys, expired or not, in any order.
    async fn read_keys(&self, collection: &CollectionName, keys: Vec<&str>) -> Result<Vec<Record>> {
        let filter = match keys.as_slice() {
            [key] => doc! {field::ID: *key},
            keys => doc! {field::ID: {"$in": keys}},
        };
        let documents = self.records(collection);
        let mut find = documents.find(filter);
        // For one record a projection is a good part of what the server does; so only the first list that is found in a
        // collection comes with those of its items that are in its document.
        let is_plain = keys.len() == 1 && !self.has_lists(collection);
        if !is_plain {
            find = find.projection(without_items());
        }
        if keys.len() > 1 {
            find = find.batch_size(u32::try_from(keys.len()).unwrap_or(u32::MAX));
            if self.topology.transactions {
                // Of several documents a plain read may see some before and some after a transaction.
                find = find.read_concern(ReadConcern::snapshot());
            }
        }
        let mut records = Vec::with_capacity(keys.len());
        let read = async {
            let mut cursor = find.await?;
            while cursor.advance().await? {
                records.push(record(collection, cursor.current()));
            }
            Ok(())
        };
        self.within(read).await?;
        let records: Vec<Record> = records.into_iter().collect::<Result<_>>()?;
        if is_plain && records.iter().any(|record| matches!(record.value, Value::List { .. })) {
            self.found_list(collection);
        }
        Ok(records)
    }

    pub(crate) async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.check_open()?;
        let documents = self.records(&scan.collection);
        let find = by_key(documents.find(range(scan)?), scan.limit).projection(without_items());
        let (items, more) = self.page(scan.limit, find, |found| record(&scan.collection, found)).await?;
        let last = items.last().filter(|_| more).map(|record| &record.address.key);
        let next = last.map(|key| Cursor::seal(&scan.identity(), key)).transpose()?;
        Ok(Page { items, next })
    }

    pub(crate) async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.check_open()?;
        let documents = self.records(&scan.collection);
        let find = by_key(documents.find(range(scan)?), scan.limit).projection(doc! {field::ID: 1});
        let (items, more) = self.page(scan.limit, find, key).await?;
        let next =
            items.last().filter(|_| more).map(|key| Cursor::seal(&scan.identity(), key)).transpose()?;
        Ok(Page { items, next })
    }

    /// Reads a page, and whether more follows: a document more than it has tells.
    pub(crate) async fn page<T>(
        &self,
        limit: u32,
        found: impl IntoFuture<Output = mongodb::error::Result<mongodb::Cursor<RawDocumentBuf>>>,
        read: impl Fn(&RawDocument) -> Result<T>,
    ) -> Result<(Vec<T>, bool)> {
        let (mut items, mut bytes, mut more) = (Vec::new(), 0, false);
        let reading = async {
            let mut cursor = found.await?;
            while cursor.advance().await? {
                if items.len() == limit as usize || bytes > PAGE_BYTES {
                    more = true;
                    break;
                }
                bytes += cursor.current().as_bytes().len();
                items.push(read(cursor.current()));
            }
            Ok(())
        };
        self.within(reading).await?;
        Ok((items.into_iter().collect::<Result<_>>()?, more))
    }

    pub(crate) async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.check_open()?;
        let mut names = self.own_collections().await?;
        names.sort_unstable();
        let holding = stream::iter(names)
            .map(|name| async {
                let documents = self.records(&name);
                let first = documents.find_one(doc! {}).projection(doc! {field::ID: 1});
                Ok::<_, Error>(self.within(first.into_future()).await?.map(|_| name))
            })
            .buffered(AT_ONCE);
        holding.try_filter_map(async |name| Ok(name)).try_collect().await
    }

    /// The collections of the store that the database has, with records or without.
    pub(crate) async fn own_collections(&self) -> Result<Vec<CollectionName>> {
        let names = self.within(self.database.list_collection_names().into_future()).await?;
        Ok(names.iter().filter_map(|name| self.layout.collection_of(name)).collect())
    }
}

/// The documents of a page in the order of their keys, and one more, in one reply.
pub(crate) fn by_key(find: Find<'_, RawDocumentBuf>, limit: u32) -> Find<'_, RawDocumentBuf> {
    let most = limit.saturating_add(1);
    find.sort(doc! {field::ID: 1}).limit(i64::from(most)).batch_size(most)
}

/// A projection to all but the items of a list, which is read by ranges.
pub(crate) fn without_items() -> Document {
    doc! {"list.tail": 0}
}

/// Which documents a scan asks for.
fn range(scan: &Scan) -> Result<Document> {
    let after: Option<Key> = scan.after.as_ref().map(|cursor| cursor.open(&scan.identity())).transpose()?;
    let mut keys = Document::new();
    match &after {
        Some(after) if after.as_str() >= scan.prefix.as_str() => keys.insert("$gt", after.as_str()),
        _ => keys.insert("$gte", scan.prefix.as_str()),
    };
    keys.extend(scan.end().map(|end| ("$lt".to_owned(), end.into())));
    Ok(doc! {field::ID: keys, field::EXPIRES_AT: live(Timestamp::now())})
}

fn key(document: &RawDocument) -> Result<Key> {
    match document.get(field::ID).map_err(damaged)? {
        Some(RawBsonRef::String(key)) => Key::new(key),
        _ => Err(damaged("its _id is no text")),
    }
}
