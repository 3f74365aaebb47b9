//! Records as files and back: the name of a file, and what is in it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use storage_core::{Address, Blob, Error, Feature, Json, Key, Record, Result, Timestamp, Value, Version};

use crate::error::damaged;

/// The longest part of a path. File systems take 255 bytes; keys can be longer.
const PART: usize = 200;

/// Ends the name of a directory that a long key goes on in. No encoded key has it.
pub(crate) const GOES_ON: char = '+';

/// The first line of a record's file, as JSON. What follows it is the value as it is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: Version,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// Of bytes. JSON has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<SmolStr>,
}

/// The file of a key in the directory of its collection: the key with all but ASCII letters and digits
/// percent-encoded, so that no key climbs out of the directory.
pub(crate) fn path(collection: &Path, key: &Key) -> PathBuf {
    let name = utf8_percent_encode(key.as_str(), NON_ALPHANUMERIC).to_string();
    let (mut path, mut rest) = (collection.to_owned(), name.as_str());
    while rest.len() > PART {
        let (part, more) = rest.split_at(PART);
        path.push(format!("{part}{GOES_ON}"));
        rest = more;
    }
    path.join(rest)
}

/// The key that has this encoded name, if it is one.
pub(crate) fn key(name: &str) -> Option<Key> {
    Key::new(percent_decode_str(name).decode_utf8().ok()?).ok()
}

/// What goes into the file of a record.
pub(crate) fn encode(record: &Record) -> Result<Vec<u8>> {
    let (media_type, data) = match &record.value {
        Value::Json(json) => (None, json.as_bytes()),
        Value::Bytes(blob) => (Some(blob.media_type.clone()), &blob.data),
        Value::Counters(_) => return Err(Error::unsupported(Feature::Counters)),
        Value::List { .. } => return Err(Error::unsupported(Feature::Lists)),
    };
    if record.expires_at.is_some() {
        return Err(Error::unsupported(Feature::Expiry));
    }
    let (created_at, updated_at) = (record.created_at, record.updated_at);
    let header = Header { version: record.version.clone(), created_at, updated_at, media_type };
    let mut file = Json::encode(&header)?.as_bytes().to_vec();
    file.push(b'\n');
    file.extend_from_slice(data);
    Ok(file)
}

/// The record in a file.
///
/// # Errors
/// [`Corrupt`](storage_core::ErrorKind::Corrupt) for what [`encode`] did not write: anybody can edit a plain file.
pub(crate) fn decode(address: &Address, path: &Path, mut file: Bytes) -> Result<Record> {
    let line = file.iter().position(|byte| *byte == b'\n');
    let line = line.ok_or_else(|| damaged(path, "it has no first line"))?;
    let header: Header = serde_json::from_slice(&file[..line])
        .map_err(|error| damaged(path, format!("first line: {error}")))?;
    let data = file.split_off(line + 1);
    let value = match header.media_type {
        None => Value::Json(Json::parse(data).map_err(|error| damaged(path, error.message()))?),
        Some(media_type) => Value::Bytes(Blob { media_type, data }),
    };
    Ok(Record {
        address: address.clone(),
        value,
        version: header.version,
        created_at: header.created_at,
        updated_at: header.updated_at,
        expires_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_path_and_the_other_way_round() {
        let longest = "é".repeat(256);
        for text in ["ada", "..", "a/b", "a%2Fb", "Ä", &longest] {
            let key = Key::new(text).unwrap();
            let path = path(Path::new(""), &key);
            let name: String =
                path.iter().map(|part| part.to_str().unwrap().trim_end_matches(GOES_ON)).collect();
            assert_eq!(super::key(&name), Some(key));
            assert!(path.iter().all(|part| part.len() < 255 && part != ".."), "{path:?}");
        }
        assert_eq!(path(Path::new("users"), &Key::new("a/b").unwrap()), Path::new("users/a%2Fb"));
    }

    #[test]
    fn files_that_somebody_edited_are_told_of() {
        let address = Address::new("users", "ada").unwrap();
        let header = r#"{"version":"1","created_at":0,"updated_at":0}"#;
        let decode = |text: String| decode(&address, Path::new("users/ada"), text.into());
        assert_eq!(
            decode(format!("{header}\n{{}}\n")).unwrap().value,
            Value::Json(Json::parse("{}").unwrap())
        );
        for text in [String::new(), header.to_owned(), "{}\n{}".to_owned(), format!("{header}\n{{")] {
            let error = decode(text).unwrap_err();
            assert_eq!(error.kind(), storage_core::ErrorKind::Corrupt);
            assert!(error.message().contains("users/ada"), "{error}");
        }
    }
}
