//! Records and list items as bytes, each with a checksum bound to its key.
//!
//! The engine verifies its pages only when it is asked to; the checksum makes every read notice a value
//! that was damaged, or that belongs to another key.
//!
//! A record: layout (1 byte), kind (1), version (u64), created, updated, expires (i64 milliseconds; the
//! greatest: never), payload, checksum (u64); numbers little-endian. Payloads: JSON text; length of media
//! type (u16), media type, data; counters as MessagePack; list id and length (u64 each).

use std::collections::BTreeMap;

use bytes::Bytes;
use smol_str::SmolStr;
use storage_core::{Address, Blob, Error, ErrorKind, Json, Record, Result, Timestamp, Value, Version};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::schema;

const LAYOUT: u8 = 1;
const HEADER: usize = 34;
const CHECKSUM: usize = 8;
const NEVER: i64 = i64::MAX;

const JSON: u8 = 0;
const BYTES: u8 = 1;
const COUNTERS: u8 = 2;
const LIST: u8 = 3;

/// A record as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    /// Under which id the items of a list are; 0 for other kinds.
    pub(crate) list: u64,
}

pub(crate) fn encode(key: &[u8], stored: &Stored) -> Result<Vec<u8>> {
    let Stored { record, list } = stored;
    let mut out = Vec::with_capacity(HEADER + record.value.size() + 32 + CHECKSUM);
    let kind = match &record.value {
        Value::Json(_) => JSON,
        Value::Bytes(_) => BYTES,
        Value::Counters(_) => COUNTERS,
        Value::List { .. } => LIST,
    };
    out.extend_from_slice(&[LAYOUT, kind]);
    out.extend_from_slice(&record.version.to_sequence().unwrap_or(0).to_le_bytes());
    let expires = record.expires_at.map_or(NEVER, Timestamp::as_millis);
    for time in [record.created_at.as_millis(), record.updated_at.as_millis(), expires] {
        out.extend_from_slice(&time.to_le_bytes());
    }
    match &record.value {
        Value::Json(json) => out.extend_from_slice(json.as_bytes()),
        Value::Bytes(blob) => {
            let length = u16::try_from(blob.media_type.len())
                .map_err(|_| Error::new(ErrorKind::TooLarge, "the media type is longer than 65,535 bytes"))?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(blob.media_type.as_bytes());
            out.extend_from_slice(&blob.data);
        }
        Value::Counters(fields) => rmp_serde::encode::write(&mut out, fields)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("counters: {error}")))?,
        Value::List { length } => {
            out.extend_from_slice(&list.to_le_bytes());
            out.extend_from_slice(&length.to_le_bytes());
        }
    }
    seal(key, &mut out);
    Ok(out)
}

pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Result<Stored> {
    let address = schema::address(key).ok_or_else(|| damaged(key))?;
    decode_at(address, key, bytes)
}

/// As [`decode`], for whoever knows the address of the key.
pub(crate) fn decode_at(address: Address, key: &[u8], bytes: &[u8]) -> Result<Stored> {
    let body = unseal(key, bytes).ok_or_else(|| damaged(key))?;
    parse(address, body).ok_or_else(|| damaged(key))
}

/// All of a record but its value, in whose place is an empty one: for changes that do not look at it.
pub(crate) fn decode_head(address: Address, key: &[u8], bytes: &[u8]) -> Result<Stored> {
    let body = unseal(key, bytes).ok_or_else(|| damaged(key))?;
    match (body.get(1), body.get(..HEADER)) {
        // The head of a list says where its items are.
        (Some(&LIST), _) | (_, None) => parse(address, body),
        (_, Some(head)) => parse_head(address, head, Value::bytes(Bytes::new()), 0),
    }
    .ok_or_else(|| damaged(key))
}

/// Checks the checksum alone.
pub(crate) fn check(key: &[u8], bytes: &[u8]) -> Result<()> {
    unseal(key, bytes).map(drop).ok_or_else(|| damaged(key))
}

/// The expiry alone, without checksum and payload: for counting.
pub(crate) fn expires_at(bytes: &[u8]) -> Option<Timestamp> {
    let millis = i64::from_le_bytes(*bytes.get(26..)?.first_chunk()?);
    (millis != NEVER).then(|| Timestamp::from_millis(millis))
}

fn parse(address: Address, body: &[u8]) -> Option<Stored> {
    let (head, payload) = body.split_at_checked(HEADER)?;
    let mut list = 0;
    let value = match head[1] {
        JSON => Value::Json(Json::from_stored(Bytes::copy_from_slice(payload))),
        BYTES => {
            let (length, rest) = payload.split_first_chunk::<2>()?;
            let (media_type, data) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
            let media_type = Blob::read_media_type(std::str::from_utf8(media_type).ok()?);
            Value::Bytes(Blob { media_type, data: Bytes::copy_from_slice(data) })
        }
        COUNTERS => Value::Counters(rmp_serde::from_slice::<BTreeMap<SmolStr, i64>>(payload).ok()?),
        LIST => {
            let (id, length) = payload.split_first_chunk::<8>()?;
            list = u64::from_le_bytes(*id);
            Value::List { length: u64::from_le_bytes(*length.first_chunk()?) }
        }
        _ => return None,
    };
    parse_head(address, head, value, list)
}

fn parse_head(address: Address, head: &[u8], value: Value, list: u64) -> Option<Stored> {
    let number = |at: usize| head.get(at..)?.first_chunk().map(|bytes| i64::from_le_bytes(*bytes));
    if head.first() != Some(&LAYOUT) {
        return None;
    }
    let expires = number(26)?;
    let record = Record {
        address,
        value,
        version: Version::from_sequence(number(2)? as u64),
        created_at: Timestamp::from_millis(number(10)?),
        updated_at: Timestamp::from_millis(number(18)?),
        expires_at: (expires != NEVER).then(|| Timestamp::from_millis(expires)),
    };
    Some(Stored { record, list })
}

pub(crate) fn encode_item(key: &[u8], item: &Json) -> Vec<u8> {
    let mut out = Vec::with_capacity(item.size() + CHECKSUM);
    out.extend_from_slice(item.as_bytes());
    seal(key, &mut out);
    out
}

pub(crate) fn decode_item(address: &Address, key: &[u8], bytes: &[u8]) -> Result<Json> {
    let body = unseal(key, bytes).ok_or_else(|| damaged(&schema::record_key(address)))?;
    Ok(Json::from_stored(Bytes::copy_from_slice(body)))
}

fn seal(key: &[u8], out: &mut Vec<u8>) {
    let checksum = xxh3_64_with_seed(out, xxh3_64(key));
    out.extend_from_slice(&checksum.to_le_bytes());
}

fn unseal<'a>(key: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
    (xxh3_64_with_seed(body, xxh3_64(key)) == u64::from_le_bytes(*checksum)).then_some(body)
}

/// The record under this key cannot be what was written. The store's path is added further out.
pub(crate) fn damaged(key: &[u8]) -> Error {
    let name = match schema::split_key(key) {
        Some((collection, key)) => format!("{collection}/{key}"),
        None => "a record whose key is damaged".to_owned(),
    };
    Error::new(ErrorKind::Corrupt, format!("{name}: the stored bytes are damaged (checksum or layout)"))
}
