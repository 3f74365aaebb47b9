//! Values and records as documents, and back.

use bytes::Bytes;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, RawArray, RawBsonRef, RawDocument, doc, serialize_to_vec};
use serde_json::Value as Tree;
use smol_str::SmolStr;
use storage_core::{
    Address, Blob, CollectionName, Error, ErrorKind, Json, Key, Record, Result, Timestamp, Value, Version,
};

use crate::layout::field;
use crate::names::{field_key, field_name};
use crate::numbers;

/// The largest document that the database takes, less what a record has beside its value.
pub(crate) const MAX_VALUE_BYTES: usize = (16 << 20) - (16 << 10);

/// A text of at most so many bytes is never too large as BSON, which takes at most seven times as much.
const NEVER_TOO_LARGE: usize = 2 << 20;

/// What an item of a list is in that has digits which BSON has not: its text. No field of a JSON object is named so.
const ITEM_TEXT: &str = "%text";

/// A JSON value as it is stored, and its text if that has digits which BSON has not.
pub(crate) fn json_value(json: &Json) -> Result<(Bson, Option<String>)> {
    let text = (!numbers::are_stored_exactly(json.as_str())).then(|| json.as_str().to_owned());
    Ok((tree_value(&json.tree()?), text))
}

/// A JSON value as it is stored. The fields of objects are in the order of their names: the database takes objects for equal
/// only if their fields are in the same order.
pub(crate) fn tree_value(tree: &Tree) -> Bson {
    match tree {
        Tree::Null => Bson::Null,
        Tree::Bool(value) => Bson::Boolean(*value),
        Tree::Number(number) => numbers::stored(number),
        Tree::String(text) => Bson::String(text.clone()),
        Tree::Array(items) => Bson::Array(items.iter().map(tree_value).collect()),
        Tree::Object(fields) => {
            let mut fields: Vec<_> =
                fields.iter().map(|(key, value)| (field_name(key).into_owned(), value)).collect();
            fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            Bson::Document(fields.into_iter().map(|(name, value)| (name, tree_value(value))).collect())
        }
    }
}

/// The fields that hold a value.
///
/// # Errors
/// [`TooLarge`](ErrorKind::TooLarge) for what does not fit a document.
pub(crate) fn value_fields(value: &Value) -> Result<Document> {
    let fields = match value {
        Value::Json(json) => {
            let (value, text) = json_value(json)?;
            let mut fields = Document::new();
            fields.insert(field::JSON, value);
            fields.extend(text.map(|text| (field::TEXT.to_owned(), Bson::String(text))));
            fields
        }
        Value::Bytes(blob) => doc! {
            field::BYTES: Binary { subtype: BinarySubtype::Generic, bytes: blob.data.to_vec() },
            field::MEDIA_TYPE: blob.media_type.as_str(),
        },
        Value::Counters(counters) => {
            let fields =
                counters.iter().map(|(name, value)| (field_name(name).into_owned(), Bson::Int64(*value)));
            doc! {field::COUNTERS: fields.collect::<Document>()}
        }
        Value::List { .. } => return Err(Error::invalid("a list cannot be put: append its items")),
    };
    if value.size() > NEVER_TOO_LARGE {
        fits(&fields)?;
    }
    Ok(fields)
}

fn fits(fields: &Document) -> Result<()> {
    let size = serialize_to_vec(fields).map(|bytes| bytes.len()).unwrap_or(usize::MAX);
    if size <= MAX_VALUE_BYTES {
        return Ok(());
    }
    let message = format!("the value takes {size} bytes as a document: the limit is {MAX_VALUE_BYTES}");
    Err(Error::new(ErrorKind::TooLarge, message))
}

/// An item of a list as it is stored.
pub(crate) fn item_value(json: &Json) -> Result<Bson> {
    Ok(match json_value(json)? {
        (_, Some(text)) => Bson::Document(doc! {ITEM_TEXT: text}),
        (value, None) => value,
    })
}

/// An item of a list.
pub(crate) fn item(value: RawBsonRef<'_>) -> Result<Json> {
    if let RawBsonRef::Document(fields) = value
        && let Ok(Some(RawBsonRef::String(text))) = fields.get(ITEM_TEXT)
    {
        return Ok(Json::from_stored(Bytes::copy_from_slice(text.as_bytes())));
    }
    read_json(value)
}

/// A stored JSON value.
pub(crate) fn read_json(value: RawBsonRef<'_>) -> Result<Json> {
    let mut text = Vec::new();
    write_json(value, &mut text)?;
    Ok(Json::from_stored(text.into()))
}

fn write_json(value: RawBsonRef<'_>, text: &mut Vec<u8>) -> Result<()> {
    match value {
        RawBsonRef::Null => text.extend_from_slice(b"null"),
        RawBsonRef::Boolean(value) => text.extend_from_slice(if value { b"true" } else { b"false" }),
        RawBsonRef::Int32(value) => text.extend_from_slice(value.to_string().as_bytes()),
        RawBsonRef::Int64(value) => text.extend_from_slice(value.to_string().as_bytes()),
        RawBsonRef::Double(value) if value.is_finite() => {
            let number = serde_json::Number::from_f64(value).map(|number| number.to_string());
            text.extend_from_slice(number.unwrap_or_default().as_bytes());
        }
        RawBsonRef::Decimal128(value) => {
            // Another program may have stored one that is no number of JSON.
            let number =
                Json::parse(value.to_string()).map_err(|_| foreign("a decimal that is no number"))?;
            text.extend_from_slice(number.as_bytes());
        }
        RawBsonRef::String(value) => write_text(value, text)?,
        RawBsonRef::Array(items) => write_array(items, text)?,
        RawBsonRef::Document(fields) => write_object(fields, text)?,
        other => return Err(foreign(&format!("a {:?}", other.element_type()))),
    }
    Ok(())
}

fn write_array(items: &RawArray, text: &mut Vec<u8>) -> Result<()> {
    text.push(b'[');
    for (position, item) in items.into_iter().enumerate() {
        if position > 0 {
            text.push(b',');
        }
        write_json(item.map_err(damaged)?, text)?;
    }
    text.push(b']');
    Ok(())
}

fn write_object(fields: &RawDocument, text: &mut Vec<u8>) -> Result<()> {
    text.push(b'{');
    for (position, entry) in fields.iter().enumerate() {
        let (name, value) = entry.map_err(damaged)?;
        if position > 0 {
            text.push(b',');
        }
        write_text(&field_key(name.as_str()), text)?;
        text.push(b':');
        write_json(value, text)?;
    }
    text.push(b'}');
    Ok(())
}

fn write_text(value: &str, text: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(text, value)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("a text as JSON: {error}")))
}

/// The record that a document holds. Of a list the items may be missing.
pub(crate) fn record(collection: &CollectionName, document: &RawDocument) -> Result<Record> {
    let (mut key, mut value, mut text) = (None, None, None);
    let (mut version, mut created_at, mut updated_at, mut expires_at) = (None, None, None, None);
    let (mut bytes, mut media_type) = (None, None);
    for entry in document {
        let (name, field) = entry.map_err(damaged)?;
        match (name.as_str(), field) {
            (field::ID, RawBsonRef::String(text)) => key = Some(Key::new(text)?),
            (field::VERSION, RawBsonRef::String(text)) => version = Some(Version::new(text)?),
            (field::CREATED_AT, RawBsonRef::DateTime(at)) => created_at = Some(at),
            (field::UPDATED_AT, RawBsonRef::DateTime(at)) => updated_at = Some(at),
            (field::EXPIRES_AT, RawBsonRef::DateTime(at)) => expires_at = Some(at),
            (field::TEXT, RawBsonRef::String(stored)) => text = Some(stored),
            (field::JSON, json) => value = Some(Stored::Json(json)),
            (field::BYTES, RawBsonRef::Binary(data)) => bytes = Some(data.bytes),
            (field::MEDIA_TYPE, RawBsonRef::String(text)) => media_type = Some(text),
            (field::COUNTERS, RawBsonRef::Document(fields)) => value = Some(Stored::Counters(fields)),
            (field::LIST, RawBsonRef::Document(list)) => value = Some(Stored::List(list)),
            // Somebody may add fields of their own.
            _ => {}
        }
    }
    let value = match (value, text, bytes) {
        (Some(Stored::Json(_)), Some(text), _) => {
            Value::Json(Json::from_stored(Bytes::copy_from_slice(text.as_bytes())))
        }
        (Some(Stored::Json(json)), None, _) => Value::Json(read_json(json)?),
        (Some(Stored::Counters(fields)), ..) => Value::Counters(counters(fields)?),
        (Some(Stored::List(list)), ..) => Value::List { length: length(list)? },
        (None, _, Some(data)) => Value::Bytes(Blob {
            media_type: Blob::read_media_type(media_type.unwrap_or(Blob::OCTET_STREAM)),
            data: Bytes::copy_from_slice(data),
        }),
        (None, _, None) => return Err(foreign("a document without a value")),
    };
    let (Some(key), Some(version), Some(created_at), Some(updated_at)) =
        (key, version, created_at, updated_at)
    else {
        return Err(foreign("a document that storage did not write"));
    };
    let time = |date: mongodb::bson::DateTime| Timestamp::from_millis(date.timestamp_millis());
    Ok(Record {
        address: Address { collection: collection.clone(), key },
        value,
        version,
        created_at: time(created_at),
        updated_at: time(updated_at),
        expires_at: expires_at.map(time),
    })
}

enum Stored<'d> {
    Json(RawBsonRef<'d>),
    Counters(&'d RawDocument),
    List(&'d RawDocument),
}

/// The counters of a record.
pub(crate) fn counters(fields: &RawDocument) -> Result<std::collections::BTreeMap<SmolStr, i64>> {
    fields
        .iter()
        .map(|entry| {
            let (name, value) = entry.map_err(damaged)?;
            let value = match value {
                RawBsonRef::Int64(value) => value,
                RawBsonRef::Int32(value) => i64::from(value),
                _ => return Err(foreign("a counter that is no integer")),
            };
            Ok((SmolStr::new(field_key(name.as_str())), value))
        })
        .collect()
}

fn length(list: &RawDocument) -> Result<u64> {
    match list.get("length").map_err(damaged)? {
        Some(RawBsonRef::Int64(length)) => Ok(u64::try_from(length).unwrap_or(0)),
        Some(RawBsonRef::Int32(length)) => Ok(u64::try_from(length).unwrap_or(0)),
        _ => Err(foreign("a list without a length")),
    }
}

/// What another program has put into a collection of the store.
fn foreign(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the collection holds {what}, which is no record of a store"))
}

/// A document that cannot be read.
pub(crate) fn damaged(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a document cannot be read: {error}"))
}
