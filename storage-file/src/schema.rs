//! The tables of the file and the form of their keys.
//!
//! | table | key | value |
//! |---|---|---|
//! | `records` | collection, NUL, key | a record, see `convert` |
//! | `items` | list id, position (both u64, big-endian) | an item's JSON text, checksum |
//! | `expiry` | time (i64, order-preserving), record key | – |
//! | `indexes` | collection, NUL, path | id and uniqueness, MessagePack |
//! | `entries` | index id (u32), scalar, record key without the collection | – |
//! | `meta` | name | number |
//!
//! Neither names of collections nor keys contain NUL, so no collection's records can be taken for another's.

use redb::TableDefinition;
use storage_core::{Address, CollectionName, Timestamp};

pub(crate) type Bytes = &'static [u8];

pub(crate) const RECORDS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("records");
pub(crate) const ITEMS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("items");
pub(crate) const EXPIRY: TableDefinition<'_, Bytes, ()> = TableDefinition::new("expiry");
pub(crate) const INDEXES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("indexes");
pub(crate) const ENTRIES: TableDefinition<'_, Bytes, ()> = TableDefinition::new("entries");
pub(crate) const META: TableDefinition<'_, &'static str, u64> = TableDefinition::new("meta");

/// The format of everything in the file, in `meta`; a file with another one is not opened.
pub(crate) const FORMAT: u64 = 1;
pub(crate) const META_FORMAT: &str = "format";
/// No version at or above this number was ever given out; see `Sequence`.
pub(crate) const META_SEQUENCE: &str = "sequence";
pub(crate) const META_INDEX: &str = "index";

/// The file within the store's directory.
pub(crate) const FILE_NAME: &str = "storage.redb";

const SEPARATOR: u8 = 0;

pub(crate) fn record_key(address: &Address) -> Vec<u8> {
    scan_key(&address.collection, address.key.as_str())
}

/// The key under which the records with this prefix begin.
pub(crate) fn scan_key(collection: &CollectionName, prefix: &str) -> Vec<u8> {
    let collection = collection.as_str().as_bytes();
    let mut key = Vec::with_capacity(collection.len() + 1 + prefix.len());
    key.extend_from_slice(collection);
    key.push(SEPARATOR);
    key.extend_from_slice(prefix.as_bytes());
    key
}

/// The end of a collection's keys: above all of them, and below every later collection.
pub(crate) fn collection_end(collection: &CollectionName) -> Vec<u8> {
    let mut key = collection.as_str().as_bytes().to_vec();
    key.push(SEPARATOR + 1);
    key
}

/// Collection and key of a record key.
pub(crate) fn split_key(key: &[u8]) -> Option<(&str, &str)> {
    let at = key.iter().position(|byte| *byte == SEPARATOR)?;
    Some((std::str::from_utf8(&key[..at]).ok()?, std::str::from_utf8(&key[at + 1..]).ok()?))
}

pub(crate) fn address(key: &[u8]) -> Option<Address> {
    let (collection, key) = split_key(key)?;
    Address::new(collection, key).ok()
}

pub(crate) fn item_key(list: u64, position: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&list.to_be_bytes());
    key[8..].copy_from_slice(&position.to_be_bytes());
    key
}

/// Flipping the sign bit makes big-endian bytes order as the signed numbers do.
pub(crate) fn expiry_key(at: Timestamp, record: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + record.len());
    key.extend_from_slice(&(at.as_millis() as u64 ^ 1 << 63).to_be_bytes());
    key.extend_from_slice(record);
    key
}

/// Time and record key of an expiry key.
pub(crate) fn split_expiry(key: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (time, record) = key.split_first_chunk::<8>()?;
    Some((Timestamp::from_millis((u64::from_be_bytes(*time) ^ 1 << 63) as i64), record))
}
