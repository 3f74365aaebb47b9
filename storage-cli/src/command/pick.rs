//! The key of a record, from a path within it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use storage_core::{Key, Path};

use crate::exit::Failure;

/// The key that `path` leads to in JSON `text`: a string as it is, an integer in its decimal digits.
///
/// Goes over the text without building a tree, so that numbers keep all their digits.
pub(crate) fn key(text: &[u8], path: &Path) -> Result<Key, Failure> {
    let wrong = |what: &str| Failure::invalid("import", format!("the record {what}"));
    let mut at: &RawValue =
        serde_json::from_slice(text).map_err(|error| wrong(&format!("is not valid JSON: {error}")))?;
    for segment in path.segments() {
        let mut reader = serde_json::Deserializer::from_str(at.get());
        let found = Step(segment).deserialize(&mut reader);
        at = (found.ok().flatten()).ok_or_else(|| wrong(&format!("has no field {path} to be its key")))?;
    }
    let text = at.get();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Key::new(text)?);
    }
    match serde_json::from_str::<String>(text) {
        Ok(name) => Ok(Key::new(name)?),
        Err(_) => {
            let kind = match text.as_bytes().first() {
                Some(b'{') => "an object",
                Some(b'[') => "an array",
                Some(b'n') => "null",
                Some(b't' | b'f') => "a boolean",
                _ => "a number with a fraction or exponent",
            };
            Err(wrong(&format!("has {kind} at {path}: a key is a string or an integer")))
        }
    }
}

/// What one segment of a path leads to, as it stands in the text.
struct Step<'s>(&'s str);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let (wanted, mut at, mut found) = (self.0.parse::<usize>().ok(), 0, None);
        while let Some(item) = items.next_element::<&RawValue>()? {
            if Some(at) == wanted {
                found = Some(item);
            }
            at += 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, path: &str) -> Result<String, String> {
        let key = key(text.as_bytes(), &Path::new(path).unwrap());
        key.map(|key| key.as_str().to_owned()).map_err(|failure| failure.line(false))
    }

    #[test]
    fn keys() {
        assert_eq!(at(r#"{"id":"a\u00e9"}"#, "id").unwrap(), "aé");
        assert_eq!(at(r#"{"id": -7 }"#, "id").unwrap(), "-7");
        assert_eq!(
            at(r#"{"id":123456789012345678901234567890}"#, "id").unwrap(),
            "123456789012345678901234567890"
        );
        assert_eq!(at(r#"{"a":{"b":[1,{"c":"x"}]}}"#, "a.b.1.c").unwrap(), "x");
        assert_eq!(at(r#"{"id":1,"id":"last"}"#, "id").unwrap(), "last");
    }

    #[test]
    fn what_is_no_key() {
        for (text, says) in [
            (r#"{"id":1.5}"#, "fraction"),
            (r#"{"id":1e3}"#, "fraction"),
            (r#"{"id":null}"#, "null"),
            (r#"{"id":true}"#, "boolean"),
            (r#"{"id":{}}"#, "object"),
            (r#"{"id":[1]}"#, "array"),
            (r#"{"id":""}"#, "empty"),
            (r#"{"other":1}"#, "no field id"),
            ("5", "no field id"),
        ] {
            let message = at(text, "id").unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
        assert!(at(r#"{"id":"a\u0000"}"#, "id").unwrap_err().contains("NUL"));
    }
}
