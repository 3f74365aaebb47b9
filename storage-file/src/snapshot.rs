//! Reading: a committed state of the file, shared by all readers until the next commit.

use std::ops::Bound;
use std::sync::Arc;

use redb::{ReadOnlyTable, ReadTransaction};
use storage_core::{
    Address, CollectionName, Cursor, Error, ErrorKind, Key, ListItems, ListRange, Page, Record, Result, Scan,
    Timestamp, Value,
};

use crate::convert::{self, Stored};
use crate::error::engine;
use crate::index::Catalog;
use crate::schema::{self, Bytes, ITEMS, RECORDS};

/// Soft limit of a page's size in bytes: a page ends once it is passed.
const PAGE_BYTES: usize = 4 << 20;

/// A committed state. Keeping one keeps its pages in the file, so readers let go of it after each page.
pub(crate) struct Snapshot {
    pub(crate) transaction: ReadTransaction,
    pub(crate) records: ReadOnlyTable<Bytes, Bytes>,
    pub(crate) indexes: Arc<Catalog>,
}

impl Snapshot {
    pub(crate) fn new(transaction: ReadTransaction, indexes: Arc<Catalog>) -> Result<Self> {
        let records = transaction.open_table(RECORDS).map_err(engine)?;
        Ok(Self { transaction, records, indexes })
    }

    pub(crate) fn get(&self, address: &Address, now: Timestamp) -> Result<Option<Record>> {
        Ok(self.stored(address)?.map(|stored| stored.record).filter(|record| !record.is_expired(now)))
    }

    fn stored(&self, address: &Address) -> Result<Option<Stored>> {
        let key = schema::record_key(address);
        let bytes = self.records.get(key.as_slice()).map_err(engine)?;
        bytes.map(|bytes| convert::decode_at(address.clone(), &key, bytes.value())).transpose()
    }

    /// Calls `each` with the live records of a collection whose keys begin with `prefix` and come after
    /// `after`, in key order, until it says stop.
    pub(crate) fn walk(
        &self,
        collection: &CollectionName,
        prefix: &str,
        after: Option<&Key>,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let start = schema::scan_key(collection, prefix);
        let after = after.map(|key| schema::scan_key(collection, key.as_str()));
        let from = match &after {
            Some(after) if *after >= start => Bound::Excluded(after.as_slice()),
            _ => Bound::Included(start.as_slice()),
        };
        let now = Timestamp::now();
        let mut last: Vec<u8> = Vec::new();
        for entry in self.records.range::<&[u8]>((from, Bound::Unbounded)).map_err(engine)? {
            let (key, value) = entry.map_err(engine)?;
            let (key, value) = (key.value(), value.value());
            if !key.starts_with(&start) {
                break;
            }
            // Damaged pages can lead the engine in a circle; then paging would never end.
            if key <= last.as_slice() && !last.is_empty() {
                return Err(Error::new(ErrorKind::Corrupt, "the file is damaged: keys are out of order"));
            }
            last.clear();
            last.extend_from_slice(key);
            if convert::expires_at(value).is_some_and(|at| at <= now) {
                continue;
            }
            if !each(key, value)? {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.page(scan, |key, value| {
            let record = convert::decode(key, value)?.record;
            let size = record.size();
            Ok((record, size))
        })
    }

    pub(crate) fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.page(scan, |key, value| {
            let (_, name) = schema::split_key(key).ok_or_else(|| convert::damaged(key))?;
            // The checksum covers the key too: a damaged one is noticed without decoding the value.
            convert::check(key, value)?;
            Ok((Key::new(name).map_err(|_| convert::damaged(key))?, name.len()))
        })
    }

    fn page<T>(&self, scan: &Scan, read: impl Fn(&[u8], &[u8]) -> Result<(T, usize)>) -> Result<Page<T>> {
        let after: Option<Key> =
            scan.after.as_ref().map(|cursor| cursor.open(&scan.identity())).transpose()?;
        let (mut items, mut bytes, mut last, mut more) = (Vec::new(), 0, Vec::new(), false);
        self.walk(&scan.collection, &scan.prefix, after.as_ref(), |key, value| {
            more = items.len() == scan.limit as usize || bytes > PAGE_BYTES;
            if more {
                return Ok(false);
            }
            let (item, size) = read(key, value)?;
            items.push(item);
            bytes += size;
            last.clear();
            last.extend_from_slice(key);
            Ok(true)
        })?;
        let next = match schema::split_key(&last) {
            Some((_, key)) if more => Some(Cursor::seal(&scan.identity(), &key)?),
            _ => None,
        };
        Ok(Page { items, next })
    }

    pub(crate) fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        let now = Timestamp::now();
        let address = &range.address;
        let Some(stored) = self.stored(address)?.filter(|stored| !stored.record.is_expired(now)) else {
            return Ok(None);
        };
        let Value::List { length } = stored.record.value else {
            let message = format!("range of {address}: the record holds {}", stored.record.value.kind());
            return Err(Error::new(ErrorKind::TypeMismatch, message));
        };
        let end = range.start.saturating_add(range.limit.into()).min(length);
        if range.start >= end {
            return Ok(Some(ListItems { items: Vec::new(), length }));
        }
        let (from, to) = (schema::item_key(stored.list, range.start), schema::item_key(stored.list, end));
        let table = self.transaction.open_table(ITEMS).map_err(engine)?;
        let (mut items, mut bytes) = (Vec::new(), 0);
        for (entry, position) in
            table.range::<&[u8]>(from.as_slice()..to.as_slice()).map_err(engine)?.zip(range.start..)
        {
            let (key, value) = entry.map_err(engine)?;
            if key.value() != schema::item_key(stored.list, position) {
                break;
            }
            let item = convert::decode_item(address, key.value(), value.value())?;
            bytes += item.size();
            items.push(item);
            if bytes > PAGE_BYTES {
                return Ok(Some(ListItems { items, length }));
            }
        }
        if (items.len() as u64) < end - range.start {
            return Err(Error::new(ErrorKind::Corrupt, format!("{address}: items of the list are missing")));
        }
        Ok(Some(ListItems { items, length }))
    }

    /// The collections that hold a record, found by leaping from one to the next.
    pub(crate) fn collections(&self) -> Result<Vec<CollectionName>> {
        let mut names: Vec<CollectionName> = Vec::new();
        let mut from = Vec::new();
        loop {
            let mut range = self.records.range::<&[u8]>(from.as_slice()..).map_err(engine)?;
            let Some(entry) = range.next() else { return Ok(names) };
            let (key, _) = entry.map_err(engine)?;
            let (name, _) = schema::split_key(key.value()).ok_or_else(|| convert::damaged(key.value()))?;
            let name = CollectionName::new(name).map_err(|_| convert::damaged(key.value()))?;
            if names.last().is_some_and(|last| *last >= name) {
                return Err(Error::new(ErrorKind::Corrupt, "the file is damaged: keys are out of order"));
            }
            from = schema::collection_end(&name);
            names.push(name);
        }
    }
}
