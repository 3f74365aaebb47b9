//! The lines of an export: what each record becomes, and how it is read back.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize};
use smol_str::SmolStr;
use storage_core::{Address, Blob, Json, Timestamp, Value, ValueKind};

use crate::exit::Failure;
use crate::input;

/// One line. Of `json`, `bytes`, `counters` and `items` there is the one that `kind` says.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) collection: SmolStr,
    pub(crate) key: SmolStr,
    pub(crate) kind: Option<ValueKind>,
    /// Also `null` is a value here.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(crate) json: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<SmolStr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) counters: Option<BTreeMap<SmolStr, i64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<Vec<Json>>,
    /// The position of the first item; a long list goes over several lines, one after the other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) start: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

fn is_zero(start: &u64) -> bool {
    *start == 0
}

/// What a line says.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) address: Address,
    pub(crate) part: Part,
    pub(crate) expires_at: Option<Timestamp>,
}

/// A whole value, or items of a list.
#[derive(Debug)]
pub(crate) enum Part {
    Whole(Value),
    Items { items: Vec<Json>, start: u64 },
}

impl Line {
    pub(crate) fn parse(text: &[u8]) -> Result<Content, Failure> {
        let line: Self = serde_json::from_slice(text).map_err(|error| {
            Failure::invalid("input", format!("not a line that `storage export` wrote: {error}"))
        })?;
        line.content()
    }

    fn content(self) -> Result<Content, Failure> {
        let address = Address::new(&self.collection, &self.key)?;
        let expires_at = self.expires_at.as_deref().map(input::time).transpose()?;
        let parts =
            [self.json.is_some(), self.bytes.is_some(), self.counters.is_some(), self.items.is_some()];
        let one = parts.iter().filter(|there| **there).count() == 1;
        let part = match (self.kind, self.json, self.bytes, self.counters, self.items) {
            (Some(ValueKind::Json), Some(json), ..) if one => Part::Whole(Value::Json(json)),
            (Some(ValueKind::Bytes), _, Some(text), ..) if one => {
                let data = BASE64.decode(text).map_err(|error| {
                    Failure::invalid("input", format!("bytes of {address} are not base64: {error}"))
                })?;
                let media_type = self.media_type.unwrap_or(SmolStr::new_static(Blob::OCTET_STREAM));
                Part::Whole(Value::Bytes(Blob::new(data).with_media_type(media_type)))
            }
            (Some(ValueKind::Counters), _, _, Some(counters), _) if one => {
                Part::Whole(Value::Counters(counters))
            }
            (Some(ValueKind::List), _, _, _, Some(items)) if one => Part::Items { items, start: self.start },
            _ => {
                return Err(Failure::invalid(
                    "input",
                    format!(
                        "the line of {address} needs a kind (json, bytes, counters or list) and the one of json, \
                         bytes, counters or items that belongs to it"
                    ),
                ));
            }
        };
        Ok(Content { address, part, expires_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_a_value() {
        let line = br#"{"collection":"c","key":"k","kind":"json","json":null}"#;
        let content = Line::parse(line).unwrap();
        assert!(matches!(content.part, Part::Whole(Value::Json(json)) if json.as_str() == "null"));
    }

    #[test]
    fn odd_lines_are_refused() {
        for line in [
            r#"{"collection":"c","key":"k"}"#,
            r#"{"collection":"c","key":"k","kind":"json"}"#,
            r#"{"collection":"c","key":"k","kind":"json","bytes":""}"#,
            r#"{"collection":"c","key":"k","kind":"json","json":1,"bytes":""}"#,
            r#"{"collection":"c","key":"k","kind":"bytes","bytes":"%"}"#,
            r#"{"collection":"c","key":"","kind":"json","json":1}"#,
            r#"{"collection":"c","key":"k","kind":"json","json":1,"expires_at":"soon"}"#,
            r#"{"collection":"c","key":"k","kind":"json","json":1,"more":1}"#,
            r#"{"collection":"c","key":"k","kind":"counters","counters":{"n":9223372036854775808}}"#,
        ] {
            assert!(Line::parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
