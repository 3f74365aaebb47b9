//! Lists: their last items are in the record's document, all others in chunks.
//!
//! A chunk is a document of its own, named after its list, the position of its first item and how many it has. Items never
//! change and keep their positions, so what a chunk holds is true whoever wrote it and when: chunks that overlap agree, and
//! those of which no list is left can be removed at any time.

mod spill;

use mongodb::bson::{Document, RawArray, RawBsonRef, RawDocument, RawDocumentBuf, doc};
use storage_core::{Address, Error, ErrorKind, Json, ListItems, ListRange, Result, Timestamp};

use crate::client::Client;
use crate::convert::{damaged, item};
use crate::layout::{field, live};
use crate::read::PAGE_BYTES;
use crate::write::header::ListHead;

/// How many items, and how many bytes of them, are in a document when they are moved to chunks.
pub(crate) const TAIL_ITEMS: u64 = 512;
pub(crate) const TAIL_BYTES: u64 = 64 << 10;

/// Most items in a chunk.
const CHUNK_ITEMS: u64 = 512;

/// How often a list is read again that is replaced while its chunks are read.
const ATTEMPTS: usize = 5;

/// The items of a page while it is read.
struct Reading {
    items: Vec<Json>,
    /// The position of the next item.
    next: u64,
    /// The position after the last item.
    end: u64,
    bytes: usize,
}

impl Client {
    pub(crate) async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        self.check_open()?;
        for _ in 0..ATTEMPTS {
            let Some(document) = self.list_document(range).await? else { return Ok(None) };
            let list = match document.get(field::LIST).map_err(damaged)? {
                Some(RawBsonRef::Document(list)) => ListHead::of(&list.try_into().map_err(damaged)?)?,
                _ => return self.no_list(&range.address).await,
            };
            let end = range.start.saturating_add(u64::from(range.limit)).min(list.length);
            let mut reading = Reading { items: Vec::new(), next: range.start, end, bytes: 0 };
            if range.start < list.spilled && !self.read_chunks(&range.address, &list, &mut reading).await? {
                // The list was replaced, or a replica is behind.
                continue;
            }
            if reading.next >= list.spilled
                && let Some(RawBsonRef::Array(tail)) = document.get("tail").map_err(damaged)?
            {
                // A chunk of somebody who came too late to cut the tail reaches into it.
                reading.add(tail, reading.next - range.start.max(list.spilled))?;
            }
            return Ok(Some(ListItems { items: reading.items, length: list.length }));
        }
        let message = format!("items of {} are missing", range.address);
        Err(Error::new(ErrorKind::Corrupt, message))
    }

    /// The record of a list, with the items in its document that a range asks for as `tail`.
    async fn list_document(&self, range: &ListRange) -> Result<Option<RawDocumentBuf>> {
        // No list is that long, so a start beyond is one past its end.
        let start = i64::try_from(range.start).unwrap_or(i64::MAX);
        let skip = doc! {"$max": [0, {"$min": [i32::MAX, {"$subtract": [start, "$list.spilled"]}]}]};
        let limit = i32::try_from(range.limit).unwrap_or(i32::MAX);
        let pipeline = [
            doc! {"$match": {field::ID: range.address.key.as_str(), field::EXPIRES_AT: live(Timestamp::now())}},
            doc! {"$project": {
                "list.id": 1, "list.length": 1, "list.spilled": 1, "list.bytes": 1,
                "tail": {"$slice": ["$list.tail", skip, limit]},
            }},
        ];
        let records = self.records(&range.address.collection);
        let reading = async {
            let mut cursor = records.aggregate(pipeline).with_type::<RawDocumentBuf>().await?;
            Ok(if cursor.advance().await? { Some(cursor.current().to_owned()) } else { None })
        };
        self.within(reading).await
    }

    /// Reads items from chunks; returns whether none is missing.
    async fn read_chunks(&self, address: &Address, list: &ListHead, reading: &mut Reading) -> Result<bool> {
        let end = reading.end.min(list.spilled);
        let first = chunk_name(&list.id, reading.next.saturating_sub(CHUNK_ITEMS - 1));
        let filter = doc! {field::ID: {"$gte": first, "$lt": chunk_name(&list.id, end)}};
        let items = self.items(&address.collection);
        let mut whole = true;
        let mut damage = None;
        let read = async {
            let mut cursor = items.find(filter).sort(doc! {field::ID: 1}).await?;
            while reading.next < end && reading.bytes <= PAGE_BYTES && cursor.advance().await? {
                match reading.add_chunk(cursor.current()) {
                    Ok(true) => {}
                    Ok(false) => {
                        whole = false;
                        break;
                    }
                    Err(error) => {
                        damage = Some(error);
                        break;
                    }
                }
            }
            Ok(())
        };
        self.within(read).await?;
        match damage {
            Some(error) => Err(error),
            None => Ok(whole && (reading.next >= end || reading.bytes > PAGE_BYTES)),
        }
    }

    /// The error of a record that is no list, if it still is none.
    async fn no_list(&self, address: &Address) -> Result<Option<ListItems>> {
        let record = self.header(address).await?.map(|header| header.record);
        match record.filter(|record| !record.is_expired(Timestamp::now())) {
            Some(record) => {
                let message = format!("range of {address}: the record holds {}", record.value.kind());
                Err(Error::new(ErrorKind::TypeMismatch, message))
            }
            None => Ok(None),
        }
    }
}

impl Reading {
    /// Adds items, of which the first so many are known already, up to the end of the page.
    fn add(&mut self, items: &RawArray, known: u64) -> Result<()> {
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        for value in items.into_iter().skip(known) {
            if self.next >= self.end || self.bytes > PAGE_BYTES {
                break;
            }
            let json = item(value.map_err(damaged)?)?;
            self.bytes += json.size();
            self.items.push(json);
            self.next += 1;
        }
        Ok(())
    }

    /// Adds the items of a chunk; returns false if there is a gap before it.
    fn add_chunk(&mut self, chunk: &RawDocument) -> Result<bool> {
        let name = chunk.get_str(field::ID).map_err(damaged)?;
        let (first, count) = chunk_place(name).ok_or_else(|| damaged("a chunk has the name of none"))?;
        if first > self.next {
            return Ok(false);
        }
        if first + count > self.next {
            self.add(chunk.get_array("items").map_err(damaged)?, self.next - first)?;
        }
        Ok(true)
    }
}

/// What the names of the chunks of a list begin with whose first item has this position, or one after.
fn chunk_name(list: &str, first: u64) -> String {
    format!("{list}/{first:016x}")
}

/// The position of the first item of a chunk, and how many it has.
fn chunk_place(name: &str) -> Option<(u64, u64)> {
    let (first, count) = name.rsplit_once('/')?.1.split_once('-')?;
    Some((u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(count, 16).ok()?))
}

/// Which chunks are a list's.
fn chunks_of(list: &str) -> Document {
    // The character after the slash.
    doc! {field::ID: {"$gt": format!("{list}/"), "$lt": format!("{list}0")}}
}
