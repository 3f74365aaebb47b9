//! Records as strings of the database, and back.
//!
//! A string is a header of 66 ASCII characters and a payload. The header: the format (`1`), the kind, then created,
//! updated and expires (milliseconds since the Unix epoch, 16 hexadecimal digits each; no expiry is sixteen `~`, which
//! sorts after every digit), and the version.

use std::borrow::Cow;

use bytes::{Buf, Bytes};
use smol_str::SmolStr;
use storage_core::{Address, Blob, Error, ErrorKind, Json, Record, Result, Timestamp, Value, Version};

use crate::config::Serializer;

/// The number of bytes before the payload.
pub(crate) const HEADER: usize = 66;
/// The expiry of a record that has none.
pub(crate) const NEVER: &str = "~~~~~~~~~~~~~~~~";

const JSON: u8 = b'j';
const MESSAGE_PACK: u8 = b'm';
const BYTES: u8 = b'b';
/// Named counters, kept in a hash beside the record.
pub(crate) const COUNTERS: u8 = b'c';
/// A list, kept beside the record.
pub(crate) const LIST: u8 = b'l';

/// A time as the header has it. Times before the epoch are not after any time that matters: they count as it.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{:016x}", at.as_millis().max(0))
}

/// An expiry as the header has it.
pub(crate) fn expiry(at: Option<Timestamp>) -> String {
    at.map_or_else(|| NEVER.to_owned(), time)
}

/// What follows the header of JSON or bytes, in two parts.
pub(crate) struct Payload<'a> {
    pub(crate) kind: u8,
    pub(crate) head: Cow<'a, [u8]>,
    pub(crate) body: &'a [u8],
}

impl Payload<'_> {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// The payload of JSON or bytes; `None` for kinds whose content is kept beside the record.
pub(crate) fn payload(value: &Value, serializer: Serializer) -> Result<Option<Payload<'_>>> {
    Ok(Some(match (value, serializer) {
        (Value::Json(json), Serializer::Json) => {
            Payload { kind: JSON, head: Cow::Borrowed(json.as_bytes()), body: &[] }
        }
        (Value::Json(json), Serializer::Msgpack) => {
            let packed = rmp_serde::to_vec(&json.tree()?)
                .map_err(|error| Error::new(ErrorKind::Internal, format!("MessagePack: {error}")))?;
            Payload { kind: MESSAGE_PACK, head: Cow::Owned(packed), body: &[] }
        }
        (Value::Bytes(blob), _) => {
            let length = u16::try_from(blob.media_type.len())
                .map_err(|_| Error::new(ErrorKind::TooLarge, "the media type is longer than 65,535 bytes"))?;
            let head = match length {
                0 => Cow::Borrowed(b"0000".as_slice()),
                _ => Cow::Owned(format!("{length:04x}{}", blob.media_type).into_bytes()),
            };
            Payload { kind: BYTES, head, body: &blob.data }
        }
        (Value::Counters(_) | Value::List { .. }, _) => return Ok(None),
    }))
}

/// A stored string in parts.
pub(crate) struct Stored {
    pub(crate) kind: u8,
    created: Timestamp,
    updated: Timestamp,
    expires: Option<Timestamp>,
    version: Version,
    payload: Bytes,
}

impl Stored {
    /// Takes a string apart.
    pub(crate) fn parse(address: &Address, raw: Vec<u8>) -> Result<Self> {
        let parsed = Self::parts(Bytes::from(raw));
        parsed.ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                format!("what is stored for {address} is no record of this layout: another program wrote it, or it is damaged"),
            )
        })
    }

    fn parts(mut raw: Bytes) -> Option<Self> {
        let head = raw.get(..HEADER).and_then(|head| std::str::from_utf8(head).ok())?;
        let kind = raw[1];
        let known = matches!(kind, JSON | MESSAGE_PACK | BYTES | COUNTERS | LIST);
        if raw[0] != b'1' || !known {
            return None;
        }
        let time = |from: usize| {
            i64::from_str_radix(head.get(from..from + 16)?, 16).ok().map(Timestamp::from_millis)
        };
        let expires = if head.get(34..50)? == NEVER { None } else { Some(time(34)?) };
        let (created, updated, version) = (time(2)?, time(18)?, Version::new(head.get(50..)?).ok()?);
        // A slice would be a second owner, which has to be made.
        raw.advance(HEADER);
        Some(Self { kind, created, updated, expires, version, payload: raw })
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// The kind, for messages.
    pub(crate) fn value_kind(&self) -> &'static str {
        kind_name(std::str::from_utf8(&[self.kind]).unwrap_or_default())
    }

    /// Whether the content stands beside the record.
    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self.kind, COUNTERS | LIST)
    }

    /// The record of a kind whose content is in the string.
    pub(crate) fn into_record(mut self, address: Address) -> Result<Record> {
        let value = match self.kind {
            MESSAGE_PACK => Value::Json(unpack(&address, &self.payload)?),
            BYTES => Value::Bytes(
                blob(std::mem::take(&mut self.payload)).ok_or_else(|| damaged(&address, "its media type"))?,
            ),
            _ => Value::Json(Json::from_stored(std::mem::take(&mut self.payload))),
        };
        Ok(self.with_value(address, value))
    }

    /// The record with content that was read beside it.
    pub(crate) fn with_value(self, address: Address, value: Value) -> Record {
        Record {
            address,
            value,
            version: self.version,
            created_at: self.created,
            updated_at: self.updated,
            expires_at: self.expires,
        }
    }
}

/// The kind of a record as messages name it.
pub(crate) fn kind_name(kind: &str) -> &'static str {
    match kind {
        "j" | "m" => "JSON",
        "b" => "bytes",
        "c" => "counters",
        "l" => "a list",
        _ => "something else",
    }
}

fn unpack(address: &Address, payload: &[u8]) -> Result<Json> {
    let tree: serde_json::Value =
        rmp_serde::from_slice(payload).map_err(|error| damaged(address, &error.to_string()))?;
    Ok(Json::from(tree))
}

fn blob(mut payload: Bytes) -> Option<Blob> {
    let length = std::str::from_utf8(payload.get(..4)?).ok()?;
    let length = usize::from(u16::from_str_radix(length, 16).ok()?);
    let media_type = SmolStr::new(std::str::from_utf8(payload.get(4..4 + length)?).ok()?);
    payload.advance(4 + length);
    Some(Blob::new(payload).with_media_type(media_type))
}

/// The error for a record whose parts do not fit together.
pub(crate) fn damaged(address: &Address, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the record {address} is damaged: {what}"))
}
