//! Moving items of lists from the record's document to chunks, and removing them.

use mongodb::bson::{Array, Bson, Document, RawDocumentBuf, doc};
use mongodb::options::{ReadPreference, SelectionCriteria};
use storage_core::{Address, CollectionName, Result};

use super::{CHUNK_ITEMS, chunk_name, chunks_of};
use crate::client::Client;
use crate::convert::damaged;
use crate::layout::field;
use crate::write::header::ListHead;
use crate::write::send::{Reply, number};
use crate::write::statement::{Kind, Statement};

/// About how many bytes of items are in a chunk at most, unless one item is larger.
const CHUNK_BYTES: usize = 1 << 20;

/// How many lists are looked up at once.
const LISTS_AT_ONCE: usize = 10_000;

impl Client {
    /// Moves the items of the list `id` that are in its document to chunks. Does nothing if another list is there now, or if
    /// somebody else moves them.
    pub(crate) async fn spill(&self, address: &Address, id: &str) -> Result<()> {
        // Only what is replicated: or else a chunk could keep items that were never appended.
        let records = self.records(&address.collection);
        let found = records
            .find_one(doc! {field::ID: address.key.as_str(), "list.id": id})
            .projection(doc! {field::LIST: 1})
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        let Some(document) = self.within(found.into_future()).await? else { return Ok(()) };
        let mut document: Document = document.as_ref().try_into().map_err(damaged)?;
        let Some(Bson::Document(mut list)) = document.remove(field::LIST) else { return Ok(()) };
        let head = ListHead::of(&list)?;
        let tail = match list.remove("tail") {
            Some(Bson::Array(tail)) if !tail.is_empty() => tail,
            _ => return Ok(()),
        };
        let count = tail.len();
        self.write_chunks(&address.collection, &head, tail).await?;
        self.cut_tail(address, &head, count).await
    }

    async fn write_chunks(&self, collection: &CollectionName, list: &ListHead, tail: Array) -> Result<()> {
        let mut statements = self.chunks(collection, list, tail)?;
        while !statements.is_empty() {
            let rest = statements.split_off(self.fit(&statements, false));
            for reply in self.send(std::mem::replace(&mut statements, rest), None).await? {
                match reply {
                    // It is there already.
                    Reply::Refused(refusal) if refusal.is_of_key() => {}
                    Reply::Refused(refusal) => return Err(refusal.error),
                    Reply::Found | Reply::NotFound => {}
                }
            }
        }
        Ok(())
    }

    fn chunks(&self, collection: &CollectionName, list: &ListHead, tail: Array) -> Result<Vec<Statement>> {
        let namespace = self.layout.items(collection);
        let (mut statements, mut first) = (Vec::new(), list.spilled);
        let (mut items, mut bytes) = (Array::new(), 0);
        let mut finish = |items: &mut Array, bytes: &mut usize| {
            let count = items.len() as u64;
            let name = format!("{}-{count:x}", chunk_name(&list.id, first));
            first += count;
            let update = doc! {"$setOnInsert": {"items": std::mem::take(items)}};
            statements.push(Statement {
                namespace: namespace.clone(),
                filter: doc! {field::ID: name},
                kind: Kind::Update { update: Bson::Document(update), upsert: true },
                weight: std::mem::take(bytes) + 1_024,
            });
        };
        for item in tail {
            // With the longest name that an item has.
            let size = RawDocumentBuf::try_from(&doc! {"": &item}).map_err(damaged)?.as_bytes().len() + 3;
            if items.len() as u64 == CHUNK_ITEMS || !items.is_empty() && bytes + size > CHUNK_BYTES {
                finish(&mut items, &mut bytes);
            }
            bytes += size;
            items.push(item);
        }
        finish(&mut items, &mut bytes);
        Ok(statements)
    }

    /// Cuts items off that are in chunks now, if nobody else did. Items that were appended meanwhile stay.
    async fn cut_tail(&self, address: &Address, list: &ListHead, count: usize) -> Result<()> {
        let as_i64 = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let rest = doc! {"$slice": ["$list.tail", i32::try_from(count).unwrap_or(i32::MAX), i32::MAX]};
        let update = doc! {"$set": {
            "list.tail": rest,
            "list.spilled": as_i64(list.spilled + count as u64),
            "list.bytes": {"$subtract": ["$list.bytes", as_i64(list.bytes)]},
        }};
        let statement = Statement {
            namespace: self.layout.records(&address.collection),
            filter: doc! {
                field::ID: address.key.as_str(), "list.id": &list.id, "list.spilled": as_i64(list.spilled),
            },
            kind: Kind::Update { update: Bson::Array(vec![Bson::Document(update)]), upsert: false },
            weight: 0,
        };
        match self.send(vec![statement], None).await?.pop() {
            Some(Reply::Refused(refusal)) => Err(refusal.error),
            _ => Ok(()),
        }
    }

    /// Removes the chunks of a list that is gone. If that fails, a sweep does it.
    pub(crate) async fn remove_items(&self, collection: &CollectionName, id: &str) {
        if let Err(error) = self.remove_chunks(collection, id).await {
            tracing::debug!(%collection, %error, "chunks of a list that is gone are left to a sweep");
        }
    }

    async fn remove_chunks(&self, collection: &CollectionName, id: &str) -> Result<u64> {
        let command =
            doc! {"delete": self.layout.items(collection), "deletes": [{"q": chunks_of(id), "limit": 0}]};
        let reply = self.command(command, None).await?;
        Ok(u64::try_from(number(&reply, "n")).unwrap_or(0))
    }

    /// Removes chunks of lists that are gone; returns how many. For lists that expired, were cleared, or were replaced while
    /// somebody moved their items.
    pub(crate) async fn remove_lost_items(&self, collection: &CollectionName) -> Result<u64> {
        // The chunks first: a list is there before its chunks are.
        let pipeline = [
            doc! {"$project": {field::ID: {"$arrayElemAt": [{"$split": ["$_id", "/"]}, 0]}}},
            doc! {"$group": {field::ID: "$_id"}},
        ];
        let primary = || SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let items = self.items(collection);
        let mut lists: Vec<String> = Vec::new();
        let listing = async {
            let mut cursor = items.aggregate(pipeline).selection_criteria(primary()).await?;
            while cursor.advance().await? {
                lists.extend(cursor.current().get_str(field::ID).map(str::to_owned));
            }
            Ok(())
        };
        self.patiently(listing).await?;
        let mut removed = 0;
        for part in lists.chunks(LISTS_AT_ONCE) {
            let mut lost: std::collections::HashSet<&str> = part.iter().map(String::as_str).collect();
            let records = self.records(collection);
            let found = records.find(doc! {"list.id": {"$in": part}}).projection(doc! {"list.id": 1});
            let looking = async {
                let mut cursor = found.selection_criteria(primary()).await?;
                while cursor.advance().await? {
                    if let Ok(list) = cursor.current().get_document(field::LIST)
                        && let Ok(id) = list.get_str("id")
                    {
                        lost.remove(id);
                    }
                }
                Ok(())
            };
            self.patiently(looking).await?;
            for id in lost {
                removed += self.remove_chunks(collection, id).await?;
            }
        }
        Ok(removed)
    }
}
