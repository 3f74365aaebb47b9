//! Rows as records, and what PostgreSQL cannot hold as something that it can.
//!
//! - Times have whole milliseconds, which a `timestamptz` keeps exactly. Those outside its years (-4712 to 294275) are its
//!   infinities.
//! - Text in PostgreSQL has no NUL, and JSON may. In JSON strings and names the four lowest characters are written as
//!   three others: U+0001 and then two of U+0002 and U+0003. No other text reads like it, the order of texts and whether
//!   one is part of another stay as they are, and nearly no text has such characters.
//! - Numbers in JSON that compare here as others than their digits say are stored as those, and beside them, in the column
//!   `bytes`, stands the text as it was given.
//! - A version is a 64-bit number, shown as 16 hexadecimal digits.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use memchr::memmem;
use smol_str::SmolStr;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Row as _, Type};
use storage_core::{
    Address, Blob, CollectionName, Error, ErrorKind, Json, Key, Record, Result, Timestamp, Value, Version,
};

use crate::numbers;

/// What [`record`] reads, of the table with the alias `r`, as the first columns of a row.
pub(crate) const RECORD_COLUMNS: &str = "r.collection, r.key, r.kind, r.version, r.created_at, r.updated_at, \
     r.expires_at, coalesce(r.json, r.counters)::text, r.bytes, r.media_type, r.list_len";
/// How many columns that is: where others begin.
pub(crate) const RECORD_WIDTH: usize = 11;

/// The kinds of records, as the column `kind` has them.
pub(crate) mod kind {
    /// JSON, in the column `json`.
    pub(crate) const JSON: i8 = b'j' as i8;
    /// Bytes, in the columns `bytes` and `media_type`.
    pub(crate) const BYTES: i8 = b'b' as i8;
    /// Counters, in the column `counters`.
    pub(crate) const COUNTERS: i8 = b'c' as i8;
    /// A list: its length in `list_len`, its items in the table of items under its `list_id`.
    pub(crate) const LIST: i8 = b'l' as i8;
}

/// The kind of a record as messages name it.
pub(crate) fn kind_name(kind: i8) -> &'static str {
    match kind {
        kind::JSON => "JSON",
        kind::BYTES => "bytes",
        kind::COUNTERS => "counters",
        kind::LIST => "a list",
        _ => "something else",
    }
}

/// The record of a row that begins with [`RECORD_COLUMNS`].
pub(crate) fn record(row: &PgRow) -> Result<Record> {
    let collection: &str = row.try_get_unchecked(0).map_err(damaged)?;
    let collection = CollectionName::new(collection).map_err(|_| foreign("a collection's name"))?;
    let key: &str = row.try_get_unchecked(1).map_err(damaged)?;
    let address = Address { collection, key: Key::new(key).map_err(|_| foreign("a key"))? };
    record_at(address, row)
}

/// As [`record`], for a record whose address is known.
pub(crate) fn record_at(address: Address, row: &PgRow) -> Result<Record> {
    let value = match row.try_get_unchecked::<i8, _>(2).map_err(damaged)? {
        kind::JSON => {
            let exact = row.try_get_unchecked(8).map_err(damaged)?;
            Value::Json(read_json(row.try_get_unchecked(7).map_err(damaged)?, exact))
        }
        kind::BYTES => {
            let data: &[u8] = row.try_get_unchecked(8).map_err(damaged)?;
            let media_type: &str = row.try_get_unchecked(9).map_err(damaged)?;
            let media_type = Blob::read_media_type(&unescape(media_type));
            Value::Bytes(Blob { media_type, data: Bytes::copy_from_slice(data) })
        }
        kind::COUNTERS => Value::Counters(counters(row.try_get_unchecked(7).map_err(damaged)?)?),
        kind::LIST => {
            let length: i64 = row.try_get_unchecked(10).map_err(damaged)?;
            Value::List { length: u64::try_from(length).map_err(|_| foreign("the length of a list"))? }
        }
        _ => return Err(foreign("a kind")),
    };
    let Time(created_at) = row.try_get_unchecked(4).map_err(damaged)?;
    let Time(updated_at) = row.try_get_unchecked(5).map_err(damaged)?;
    let expires_at: Option<Time> = row.try_get_unchecked(6).map_err(damaged)?;
    Ok(Record {
        address,
        value,
        version: version(row.try_get_unchecked(3).map_err(damaged)?),
        created_at,
        updated_at,
        expires_at: expires_at.map(|Time(at)| at),
    })
}

/// The counters of a stored JSON object.
pub(crate) fn counters(text: &str) -> Result<BTreeMap<SmolStr, i64>> {
    serde_json::from_str(text).map_err(|_| foreign("counters"))
}

/// The stored form of counters.
pub(crate) fn counters_text(fields: &BTreeMap<SmolStr, i64>) -> String {
    // A map from text to numbers always has a JSON form.
    serde_json::to_string(fields).unwrap_or_default()
}

/// A version as the database has it.
pub(crate) fn version(number: i64) -> Version {
    Version::from_sequence(number.cast_unsigned())
}

/// The number of a version; `None` if no record of this backend has such a version.
pub(crate) fn version_number(version: &Version) -> Option<i64> {
    let number = version.to_sequence()?.cast_signed();
    // Spelled differently, it is a different version.
    (self::version(number) == *version).then_some(number)
}

/// The error for a row that does not decode.
pub(crate) fn damaged(error: sqlx::Error) -> Error {
    // The message names the column and the types, not what is stored.
    Error::new(ErrorKind::Corrupt, format!("a row does not fit the layout: {error}"))
}

fn foreign(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a row holds {what} that this program did not write"))
}

/// A point in time as a `timestamptz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Timestamp);

impl Time {
    /// Milliseconds from the Unix epoch to that of PostgreSQL, 2000-01-01.
    const EPOCH: i64 = 946_684_800_000;
    /// The first and the first no longer representable microsecond (`MIN_TIMESTAMP`, `END_TIMESTAMP`).
    const MICROS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

    fn micros(self) -> i64 {
        let micros = (i128::from(self.0.as_millis()) - i128::from(Self::EPOCH)) * 1_000;
        match i64::try_from(micros) {
            Ok(micros) if Self::MICROS.contains(&micros) => micros,
            _ if micros < 0 => i64::MIN,
            _ => i64::MAX,
        }
    }

    fn from_micros(micros: i64) -> Self {
        Self(Timestamp::from_millis(match micros {
            i64::MIN | i64::MAX => micros,
            // Others may write finer times: they are cut.
            micros => micros.div_euclid(1_000) + Self::EPOCH,
        }))
    }
}

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for Time {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.micros(), buffer)
    }

    fn size_hint(&self) -> usize {
        8
    }
}

impl<'r> Decode<'r, Postgres> for Time {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self::from_micros(Decode::<Postgres>::decode(value)?))
    }
}

/// How the four lowest characters are written.
const ESCAPES: [(&str, &str); 4] = [
    ("\u{0}", "\u{1}\u{2}\u{2}"),
    ("\u{1}", "\u{1}\u{2}\u{3}"),
    ("\u{2}", "\u{1}\u{3}\u{2}"),
    ("\u{3}", "\u{1}\u{3}\u{3}"),
];

/// A text, such as a name in JSON or what a filter looks for, as the database has it.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte < 4) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|c| match ESCAPES.get(c as usize) {
        Some((_, escape)) => Cow::Borrowed(*escape),
        None => Cow::Owned(c.to_string()),
    });
    Cow::Owned(escaped.collect())
}

/// The text that [`escape`] was given.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1}') {
        return Cow::Borrowed(text);
    }
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\u{1}') {
        plain.push_str(&rest[..at]);
        let found = ESCAPES.iter().find(|(_, escape)| rest[at..].starts_with(escape));
        // What somebody else wrote stays as it is.
        let (character, length) =
            found.map_or(("\u{1}", 1), |(character, escape)| (*character, escape.len()));
        plain.push_str(character);
        rest = &rest[at + length..];
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// JSON as it is stored.
pub(crate) struct StoredJson<'a> {
    /// Its text for a column `jsonb`: what the database cannot hold is written otherwise, and numbers as they compare.
    pub(crate) text: Cow<'a, str>,
    /// Where numbers are written otherwise, the text as it was given, for the column `bytes` beside it.
    pub(crate) exact: Option<&'a [u8]>,
}

impl<'a> StoredJson<'a> {
    pub(crate) fn new(json: &'a Json) -> Self {
        let written = write_json(json);
        match numbers::rewrite(&written) {
            Cow::Owned(text) => Self { text: Cow::Owned(text), exact: Some(json.as_bytes()) },
            Cow::Borrowed(_) => Self { text: written, exact: None },
        }
    }
}

/// JSON text as the database can hold it.
pub(crate) fn write_json(json: &Json) -> Cow<'_, str> {
    let text = json.as_str();
    // All control characters in JSON text are written as escapes.
    let Some(first) = memmem::find(text.as_bytes(), br"\u000") else { return Cow::Borrowed(text) };
    let (head, tail) = text.split_at(backslashes_before(text, first));
    let mut out = String::with_capacity(text.len() + 12);
    out.push_str(head);
    escapes(tail, &mut out, |escape, rest, out| {
        let low = ["0", "1", "2", "3"].iter().position(|digit| escape.strip_prefix("u000") == Some(digit));
        let _ = rest;
        let Some(low) = low else { return 0 };
        for c in ESCAPES[low].1.chars() {
            out.push_str(r"\u000");
            out.push(char::from(b'0' + c as u8));
        }
        5
    });
    Cow::Owned(out)
}

/// The JSON of a stored text, and of the exact text if there is one beside it.
pub(crate) fn read_json(text: &str, exact: Option<&[u8]>) -> Json {
    let stored = unescape_json(text);
    let Some(exact) = exact else { return stored };
    // Others may have changed the one and left the other: it has to be what this program makes of the exact text.
    match Json::parse(Bytes::copy_from_slice(exact)) {
        Ok(exact) if exact == stored && matches!(numbers::rewrite(text), Cow::Borrowed(_)) => exact,
        _ => stored,
    }
}

/// The JSON of a text that the database gives.
fn unescape_json(text: &str) -> Json {
    let Some(first) = memmem::find(text.as_bytes(), br"\u0001") else {
        return Json::from_stored(Bytes::copy_from_slice(text.as_bytes()));
    };
    let (head, tail) = text.split_at(backslashes_before(text, first));
    let mut out = String::with_capacity(text.len());
    out.push_str(head);
    escapes(tail, &mut out, |_, rest, out| {
        let three = [
            (r"u0001\u0002\u0002", r"\u0000"),
            (r"u0001\u0002\u0003", r"\u0001"),
            (r"u0001\u0003\u0002", r"\u0002"),
            (r"u0001\u0003\u0003", r"\u0003"),
        ];
        let Some((escape, plain)) = three.iter().find(|(escape, _)| rest.starts_with(escape)) else {
            return 0;
        };
        out.push_str(plain);
        escape.len()
    });
    Json::from_stored(Bytes::from(out))
}

/// Where the run of backslashes that ends before or at `at` begins: whether one escapes the next is only known from there.
fn backslashes_before(text: &str, at: usize) -> usize {
    at - text.as_bytes()[..at].iter().rev().take_while(|byte| **byte == b'\\').count()
}

/// Copies JSON text to `out`. At each backslash `replace` sees the next five bytes, and all that follows; it writes what
/// stands for them instead and says how many bytes after the backslash that were, or 0 to leave them.
fn escapes(text: &str, out: &mut String, replace: impl Fn(&str, &str, &mut String) -> usize) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let length = replace(after.get(..5).unwrap_or_default(), after, out);
        if length == 0 {
            // The backslash and what it escapes, which may be another.
            let next = after.chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[at..at + 1 + next]);
            rest = &after[next..];
        } else {
            rest = &after[length..];
        }
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_characters_survive_and_keep_their_order() {
        let texts = [
            "", "\0", "\0\0", "\0\u{1}", "\0\u{2}", "\u{1}", "\u{1}\0", "\u{2}", "\u{3}", "\u{3}a", "\u{4}",
            "a", "a\0", "a\0b", "a\u{1}", "ab",
        ];
        for (a, b) in texts.iter().flat_map(|a| texts.iter().map(move |b| (a, b))) {
            assert_eq!(unescape(&escape(a)), *a);
            assert!(!escape(a).contains('\0'));
            assert_eq!(escape(a).cmp(&escape(b)), a.cmp(b), "{a:?} and {b:?}");
            assert_eq!(escape(a).contains(&*escape(b)), a.contains(b), "{a:?} in {b:?}");
            assert_eq!(escape(a).starts_with(&*escape(b)), a.starts_with(b), "{a:?} before {b:?}");
        }
    }

    fn has_nul(tree: &serde_json::Value) -> bool {
        match tree {
            serde_json::Value::String(text) => text.contains('\0'),
            serde_json::Value::Array(items) => items.iter().any(has_nul),
            serde_json::Value::Object(fields) => {
                fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value))
            }
            _ => false,
        }
    }

    #[test]
    fn json_text_is_escaped_where_it_has_to_be() {
        for text in [
            r#""plain""#,
            r#"["\\u0000", "\\\u0000", "a\u0000\u0001b", "\u0003", "\u0004", "\"\\"]"#,
            r#"{"\u0000": "\u0001\u0002\u0002"}"#,
        ] {
            let json = Json::parse(text).unwrap();
            let written = Json::parse(write_json(&json).into_owned()).unwrap();
            assert!(!has_nul(&written.tree().unwrap()), "{text}");
            assert_eq!(unescape_json(written.as_str()), json, "{text}");
        }
        let tree =
            Json::parse(write_json(&Json::parse(r#""a\u0000""#).unwrap()).into_owned()).unwrap().tree();
        assert_eq!(tree.unwrap().as_str().unwrap(), escape("a\0"), "both ways to write agree");
    }

    #[test]
    fn exact_texts_count_as_long_as_they_belong_to_what_is_stored() {
        let exact = r#"{"n": 123456789012345678901234567890, "t": "\u0000"}"#;
        let json = Json::parse(exact).unwrap();
        let stored = StoredJson::new(&json);
        assert_eq!(stored.exact, Some(exact.as_bytes()));
        let read = |text: &str| read_json(text, stored.exact).as_str().to_owned();
        assert_eq!(read(&stored.text), exact);
        // Others wrote one field more, another number, and more digits of a number that is the same otherwise.
        let more = stored.text.replacen('{', r#"{"m": 1, "#, 1);
        assert_ne!(read(&more), exact);
        assert!(read(&more).contains(r#""m": 1"#));
        for other in ["7", "123456789012345678901234567891"] {
            let text = format!(r#"{{"n": {other}, "t": "\u0001\u0002\u0002"}}"#);
            assert_eq!(read(&text), text.replace(r"\u0001\u0002\u0002", r"\u0000"));
        }
        assert!(StoredJson::new(&Json::parse("[1.50, 1e3]").unwrap()).exact.is_none());
    }

    #[test]
    fn times_are_exact_to_the_millisecond() {
        for millis in [0, 1, -1, 951_782_400_001, 253_402_300_799_999, i64::MAX, i64::MIN] {
            let time = Time(Timestamp::from_millis(millis));
            assert_eq!(Time::from_micros(time.micros()), time, "{millis}");
        }
    }

    #[test]
    fn versions_are_numbers_with_one_spelling() {
        assert_eq!(version_number(&version(-2)), Some(-2));
        for other in ["FFFFFFFFFFFFFFFE", "1", "x", "+00000000000000a"] {
            assert_eq!(version_number(&Version::new(other).unwrap()), None, "{other}");
        }
    }
}
