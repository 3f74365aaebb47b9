//! Records as strings of the database, and back.
//!
//! A string is a header of 66 ASCII characters and a payload. The header: the format (`1`), the kind, then created,
//! updated and expires (milliseconds since the Unix epoch, 16 hexadecimal digits each; no expiry is sixteen `~`, which
//! sorts after every digit), and the version.

use std::borrow::Cow;

use bytes::{Buf, Bytes};
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
        let head = raw.first_chunk::<HEADER>()?;
        let kind = head[1];
        let known = matches!(kind, JSON | MESSAGE_PACK | BYTES | COUNTERS | LIST);
        if head[0] != b'1' || !known {
            return None;
        }
        let time = |text: &[u8]| number(text).map(Timestamp::from_millis);
        let expires = if head[34..50] == *NEVER.as_bytes() { None } else { Some(time(&head[34..50])?) };
        let (created, updated) = (time(&head[2..18])?, time(&head[18..34])?);
        let version = Version::new(std::str::from_utf8(&head[50..]).ok()?).ok()?;
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
    let length = usize::try_from(number(payload.get(..4)?)?).ok()?;
    let media_type = Blob::read_media_type(std::str::from_utf8(payload.get(4..4 + length)?).ok()?);
    payload.advance(4 + length);
    Some(Blob { media_type, data: payload })
}

/// A number of up to 16 hexadecimal digits. Without a branch for each digit, unlike [`i64::from_str_radix`], which took
/// longer than all else that is done with the header of a record.
fn number(digits: &[u8]) -> Option<i64> {
    let legal = digits.iter().fold(true, |legal, digit| legal & matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    // Of a letter the low half counts from one.
    let value = |digit: &u8| u64::from((digit & 0xf) + 9 * (digit >> 6));
    let number = digits.iter().fold(0, |number, digit| number << 4 | value(digit));
    if legal { i64::try_from(number).ok() } else { None }
}

/// The error for a record whose parts do not fit together.
pub(crate) fn damaged(address: &Address, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the record {address} is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_hexadecimal() {
        for (digits, number) in [
            ("0000", 0),
            ("00ff", 255),
            ("0000019a9b8c7d6e", 0x019a_9b8c_7d6e),
            ("7fffffffffffffff", i64::MAX),
        ] {
            assert_eq!(super::number(digits.as_bytes()), Some(number));
        }
        for damaged in ["000g", "00FF", "+fff", "8000000000000000", "00 f", "00~~", "00\u{e9}"] {
            assert_eq!(super::number(damaged.as_bytes()), None, "{damaged}");
        }
    }
}
