//! The kinds of value a record can hold.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use crate::Json;

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Any JSON value.
    Json(Json),
    /// Opaque bytes with a media type.
    Bytes(Blob),
    /// Named signed 64-bit counters.
    Counters(BTreeMap<SmolStr, i64>),
    /// An ordered list, of which a record carries only the length: its items are read in pages by
    /// [`list_range`](crate::Backend::list_range) and written by [`Change::Append`](crate::Change::Append).
    List {
        /// The number of items.
        length: u64,
    },
}

impl Value {
    /// Opaque bytes of the general media type `application/octet-stream`.
    pub fn bytes(data: impl Into<Bytes>) -> Self {
        Self::Bytes(Blob::new(data))
    }

    /// The kind of this value.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Json(_) => ValueKind::Json,
            Self::Bytes(_) => ValueKind::Bytes,
            Self::Counters(_) => ValueKind::Counters,
            Self::List { .. } => ValueKind::List,
        }
    }

    /// The JSON, if this is a JSON value.
    pub fn as_json(&self) -> Option<&Json> {
        if let Self::Json(json) = self { Some(json) } else { None }
    }

    /// About how many bytes the value takes: text or data, names and numbers; not the items of a list.
    pub fn size(&self) -> usize {
        match self {
            Self::Json(json) => json.size(),
            Self::Bytes(blob) => blob.data.len() + blob.media_type.len(),
            Self::Counters(fields) => fields.keys().map(|name| name.len() + 8).sum(),
            Self::List { .. } => 8,
        }
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        Self::Json(json)
    }
}

/// The kind of a [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    /// [`Value::Json`].
    Json,
    /// [`Value::Bytes`].
    Bytes,
    /// [`Value::Counters`].
    Counters,
    /// [`Value::List`].
    List,
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Bytes => "bytes",
            Self::Counters => "counters",
            Self::List => "a list",
        })
    }
}

/// Opaque bytes with a media type. In human-readable formats the data is base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// The media type, such as `image/png`.
    pub media_type: SmolStr,
    /// The data.
    #[serde(serialize_with = "write_data", deserialize_with = "read_data")]
    pub data: Bytes,
}

impl Blob {
    /// The media type of bytes of which nothing more is known.
    pub const OCTET_STREAM: &str = "application/octet-stream";

    /// Bytes of the media type [`OCTET_STREAM`](Self::OCTET_STREAM).
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self { media_type: SmolStr::new_static(Self::OCTET_STREAM), data: data.into() }
    }

    /// A media type that was read: the usual one, which is too long to be kept in place, takes no allocation.
    pub fn read_media_type(text: &str) -> SmolStr {
        if text == Self::OCTET_STREAM { SmolStr::new_static(Self::OCTET_STREAM) } else { SmolStr::new(text) }
    }

    /// The same bytes with another media type.
    #[must_use]
    pub fn with_media_type(mut self, media_type: impl Into<SmolStr>) -> Self {
        self.media_type = media_type.into();
        self
    }
}

impl fmt::Debug for Blob {
    /// Only type and size: stored values may be secrets, and debug output ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({}, {} bytes)", self.media_type, self.data.len())
    }
}

fn write_data<S: Serializer>(data: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&BASE64.encode(data))
    } else {
        serializer.serialize_bytes(data)
    }
}

fn read_data<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    if deserializer.is_human_readable() {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map(Bytes::from).map_err(|error| D::Error::custom(format!("base64: {error}")))
    } else {
        Bytes::deserialize(deserializer)
    }
}
