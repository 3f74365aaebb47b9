//! The feed of changes: change streams of the database, whose resume tokens are the cursors.
//!
//! A page takes a change stream of its own, so that nothing is open between the pages of a reader.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, DateTime, Document, RawDocument, RawDocumentBuf, Timestamp as ClusterTime, doc};
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use serde::Deserialize;
use storage_core::{
    Address, ChangeEvent, Changes, CollectionName, Cursor, Error, ErrorKind, Feature, Key, Page, Result,
    Timestamp,
};

use crate::client::Client;
use crate::convert::{damaged, record};
use crate::error::code;
use crate::layout::field;
use crate::read::PAGE_BYTES;

/// Longest time for which the server is asked to wait at once.
const LOOK: Duration = Duration::from_secs(1);

/// What the server tells when it no longer has what came after a resume token.
const HISTORY_LOST: [i32; 2] = [136, 286];

/// What the server tells of a resume token that it does not know.
const TOKEN_UNKNOWN: [i32; 2] = [260, 280];

/// A change as the server tells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "_id")]
    token: Document,
    ns: Namespace,
    document_key: DocumentKey,
    cluster_time: Option<ClusterTime>,
    /// Told by MongoDB 6.0 and later.
    wall_time: Option<DateTime>,
    full_document: Option<RawDocumentBuf>,
}

#[derive(Deserialize)]
struct Namespace {
    coll: String,
}

#[derive(Deserialize)]
struct DocumentKey {
    #[serde(rename = "_id")]
    id: String,
}

impl Client {
    /// A page of the feed.
    pub(crate) async fn changes(&self, changes: &Changes) -> Result<Page<ChangeEvent>> {
        self.check_open()?;
        if !self.topology.transactions {
            return Err(Error::unsupported(Feature::Changes));
        }
        let identity = ("changes", changes.collection.as_ref().map(CollectionName::as_str));
        let after: Option<Document> =
            changes.after.as_ref().map(|cursor| cursor.open(&identity)).transpose()?;
        let wait = if after.is_some() { changes.wait } else { Duration::ZERO };
        // A wait of years is one of many requests.
        let until = Instant::now().checked_add(wait);
        let mut stream = self.watch(changes, after.as_ref(), wait).await?;
        let mut position = after;
        loop {
            let batch = self.within(stream.try_next()).await.map_err(explain)?;
            let Some(batch) = batch else {
                return Err(Error::new(ErrorKind::Unavailable, "the server ended the feed: ask again"));
            };
            let (items, reached) = self.read_batch(&batch, changes.limit)?;
            position = reached.or(position);
            if !items.is_empty() || until.is_some_and(|until| until <= Instant::now()) {
                let position = position.ok_or_else(|| damaged("a change stream without a resume token"))?;
                return Ok(Page { items, next: Some(Cursor::seal(&identity, &position)?) });
            }
            self.check_open()?;
        }
    }

    async fn watch(
        &self,
        changes: &Changes,
        after: Option<&Document>,
        wait: Duration,
    ) -> Result<RawBatchCursor> {
        let aggregate = self.database.aggregate(self.pipeline(changes.collection.as_ref(), after));
        // Parts of the same length, so that the last one ends when the wait does.
        let parts = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let part = (wait / parts).min(LOOK).min(self.timeout / 2).max(Duration::from_millis(1));
        let aggregate = aggregate.batch_size(changes.limit).max_await_time(part);
        self.within(aggregate.batch()).await.map_err(explain)
    }

    /// Changes of the store's records, or of those of one collection, after a resume token, or else from now on.
    fn pipeline(&self, collection: Option<&CollectionName>, after: Option<&Document>) -> [Document; 3] {
        let mut stream = doc! {"fullDocument": "updateLookup"};
        stream.extend(after.map(|token| ("startAfter".to_owned(), token.clone().into())));
        let name: Bson = match collection {
            Some(collection) => self.layout.records(collection).into(),
            // Those of the items of long lists have a colon.
            None => {
                let prefix = self.layout.prefix().replace('.', "\\.");
                doc! {"$regex": format!("^{prefix}[A-Za-z0-9_.-]+$")}.into()
            }
        };
        let whole = format!("fullDocument.{}", field::VERSION);
        let updated = format!("updateDescription.updatedFields.{}", field::VERSION);
        let of_records = doc! {
            "ns.coll": name,
            "documentKey._id": {"$type": "string"},
            // What leaves the version as it is changes no record: it moves items of a list, or locks.
            "$or": [
                {"operationType": "delete"},
                {"operationType": "update", updated: {"$exists": true}},
                {"operationType": {"$in": ["insert", "replace"]}, whole: {"$exists": true}},
            ],
        };
        // Without what would make an event larger than the record that it is of.
        let slim = doc! {"updateDescription": 0, "fullDocument.list.tail": 0};
        [doc! {"$changeStream": stream}, doc! {"$match": of_records}, doc! {"$project": slim}]
    }

    /// The changes of a batch, as many as a page takes, and the resume token after them.
    fn read_batch(&self, batch: &RawBatch, limit: u32) -> Result<(Vec<ChangeEvent>, Option<Document>)> {
        let (now, mut items, mut bytes, mut reached) = (Timestamp::now(), Vec::new(), 0, None);
        for event in batch.doc_slices().map_err(damaged)? {
            if items.len() == limit as usize || bytes > PAGE_BYTES {
                return Ok((items, reached));
            }
            let event =
                event.map_err(damaged)?.as_document().ok_or_else(|| damaged("a change is no document"))?;
            bytes += event.as_bytes().len();
            let event: Event = mongodb::bson::deserialize_from_slice(event.as_bytes()).map_err(damaged)?;
            reached = Some(event.token.clone());
            items.extend(self.change(event, now)?);
        }
        // Beyond the last change if nothing that came after it is for this reader.
        Ok((items, position(batch.as_raw_document())?.or(reached)))
    }

    fn change(&self, event: Event, now: Timestamp) -> Result<Option<ChangeEvent>> {
        let Some(collection) = self.layout.collection_of(&event.ns.coll) else { return Ok(None) };
        let record = event.full_document.map(|document| record(&collection, &document)).transpose()?;
        let seconds = event.cluster_time.map_or(0, |time| i64::from(time.time));
        let at = event.wall_time.map_or(seconds.saturating_mul(1000), DateTime::timestamp_millis);
        Ok(Some(ChangeEvent {
            address: Address { collection, key: Key::new(event.document_key.id)? },
            at: Timestamp::from_millis(at),
            record: record.filter(|record| !record.is_expired(now)),
        }))
    }
}

/// The resume token after a batch.
fn position(reply: &RawDocument) -> Result<Option<Document>> {
    let cursor = reply.get_document("cursor").map_err(damaged)?;
    match cursor.get_document("postBatchResumeToken") {
        Ok(token) => token.try_into().map(Some).map_err(damaged),
        Err(_) => Ok(None),
    }
}

/// Says what to do about a cursor that the server does not take.
fn explain(error: Error) -> Error {
    let told = match code(&error) {
        Some(code) if HISTORY_LOST.contains(&code) => {
            "what came after the cursor is removed from the server's oplog: start again without one"
        }
        Some(code) if TOKEN_UNKNOWN.contains(&code) => {
            "the cursor is of another database, or of this one before it was restored: start again without one"
        }
        _ => return error,
    };
    Error::invalid(format!("{told}: {}", error.message())).with_source(error)
}
