//! JSON as validated text, and what equality and order of JSON values mean here.

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Number, Value as Tree};

use crate::{Error, ErrorKind, Result};

/// The deepest nesting of arrays and objects in a JSON value.
///
/// The limit of `serde_json`, whose reader is recursive; a backend may have a lower one.
pub const MAX_JSON_DEPTH: usize = 127;

/// One JSON value, carried as its UTF-8 text so that a database can parse it itself.
///
/// The text is always valid: numbers fit a double or 64-bit integer in magnitude, nesting is at most
/// [`MAX_JSON_DEPTH`]. Cheap to clone. `==` compares by value: the order of object keys and the spelling
/// of numbers and strings do not matter (`1` equals `1.0`, `"\u0041"` equals `"A"`).
///
/// ```
/// use storage_core::Json;
///
/// let a = Json::parse(r#"{"n": 1, "s": "x"}"#)?;
/// let b = Json::parse(r#"{"s":"x","n":1.0}"#)?;
/// assert_eq!(a, b);
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Json(Bytes);

impl Json {
    /// Validates `text` as one JSON value.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput), with line and column, for text that is not JSON, is nested
    /// too deep or has a number beyond the range of a double.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self> {
        let text = text.into();
        let checked: Result<Check, _> = serde_json::from_slice(&text);
        match checked {
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(Error::invalid(format!("not valid JSON: {error}")).with_source(error)),
        }
    }

    /// The JSON form of a serialisable value. Non-finite floats become `null`, as in `serde_json`.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the value has no JSON form (such as a map whose keys are
    /// not text) or is nested too deep.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let text = serde_json::to_vec(value).map_err(|error| {
            Error::invalid(format!("the value has no JSON form: {error}")).with_source(error)
        })?;
        if depth(&text) > MAX_JSON_DEPTH {
            return Err(Error::invalid(format!("the value is nested deeper than {MAX_JSON_DEPTH} levels")));
        }
        Ok(Self(Bytes::from(text)))
    }

    /// Text that is known to be valid JSON because this crate or a backend stored it.
    ///
    /// Passing other text breaks no memory rule, but later reads will fail with
    /// [`Decode`](ErrorKind::Decode).
    pub fn from_stored(text: Bytes) -> Self {
        Self(text)
    }

    /// Decodes into `T`.
    ///
    /// # Errors
    /// [`Decode`](ErrorKind::Decode) if the value has another shape than `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.0).map_err(|error| {
            Error::new(
                ErrorKind::Decode,
                format!("the stored JSON is no {}: {error}", std::any::type_name::<T>()),
            )
            .with_source(error)
        })
    }

    /// The value as a tree.
    ///
    /// # Errors
    /// [`Decode`](ErrorKind::Decode) only for damaged stored text.
    pub fn tree(&self) -> Result<Tree> {
        self.decode()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("null")
    }

    /// The text as shared bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The size of the text in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The deepest nesting of arrays and objects; 0 for a scalar.
    pub fn depth(&self) -> usize {
        depth(&self.0)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || matches!((self.tree(), other.tree()), (Ok(a), Ok(b)) if json_eq(&a, &b))
    }
}

impl fmt::Debug for Json {
    /// Only the size: stored values may be secrets, and debug output ends in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl From<Tree> for Json {
    fn from(tree: Tree) -> Self {
        Self(Bytes::from(tree.to_string()))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serde_json::from_slice::<&RawValue>(&self.0).map_err(S::Error::custom)?.serialize(serializer)
        } else {
            serializer.serialize_str(self.as_str())
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: String = if deserializer.is_human_readable() {
            <Box<RawValue>>::deserialize(deserializer)?.get().to_owned()
        } else {
            String::deserialize(deserializer)?
        };
        Self::parse(text).map_err(D::Error::custom)
    }
}

/// Accepts what a [`Tree`] accepts (depth and number range included) without building one.
struct Check;

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Check;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Check, E> {
                Ok(Check)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Check, E> {
                Ok(Check)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Check, E> {
                Ok(Check)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Check, E> {
                Ok(Check)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Check, E> {
                Ok(Check)
            }
            fn visit_str<E>(self, _: &str) -> Result<Check, E> {
                Ok(Check)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Check, A::Error> {
                while seq.next_element::<Check>()?.is_some() {}
                Ok(Check)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Check, A::Error> {
                while map.next_entry::<Check, Check>()?.is_some() {}
                Ok(Check)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn depth(text: &[u8]) -> usize {
    let (mut deepest, mut now, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether two JSON values are equal: numbers by their mathematical value, strings by code points,
/// arrays in order, objects by key.
pub fn json_eq(a: &Tree, b: &Tree) -> bool {
    match (a, b) {
        (Tree::Number(a), Tree::Number(b)) => compare_numbers(a, b) == Ordering::Equal,
        (Tree::Array(a), Tree::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| json_eq(a, b)),
        (Tree::Object(a), Tree::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| json_eq(a, b)))
        }
        (a, b) => a == b,
    }
}

/// The exact mathematical order of two JSON numbers, whatever mix of integers and doubles they are.
pub fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => compare_integer_double(a, b.as_f64().unwrap_or(0.0)),
        (None, Some(b)) => compare_integer_double(b, a.as_f64().unwrap_or(0.0)).reverse(),
        (None, None) => {
            a.as_f64().unwrap_or(0.0).partial_cmp(&b.as_f64().unwrap_or(0.0)).unwrap_or(Ordering::Equal)
        }
    }
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// Integers beyond 2^53 have no exact double, so the double is taken apart instead.
fn compare_integer_double(integer: i128, double: f64) -> Ordering {
    // Every 64-bit integer lies strictly between these two doubles.
    if double >= 2f64.powi(65) {
        return Ordering::Less;
    }
    if double <= -2f64.powi(65) {
        return Ordering::Greater;
    }
    let floor = double.floor();
    // Exact: the magnitude is under 2^65, far inside i128.
    match integer.cmp(&(floor as i128)) {
        Ordering::Equal if double > floor => Ordering::Less,
        order => order,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_exactly() {
        let order = |a: &str, b: &str| {
            compare_numbers(&serde_json::from_str(a).unwrap(), &serde_json::from_str(b).unwrap())
        };
        assert_eq!(order("1", "1.0"), Ordering::Equal);
        assert_eq!(order("-0.0", "0"), Ordering::Equal);
        assert_eq!(order("9007199254740993", "9007199254740992.0"), Ordering::Greater);
        assert_eq!(order("18446744073709551615", "18446744073709551616.0"), Ordering::Less);
        assert_eq!(order("-9223372036854775808", "-9223372036854775808.0"), Ordering::Equal);
        assert_eq!(order("-3", "-2.5"), Ordering::Less);
        assert_eq!(order("1e308", "18446744073709551615"), Ordering::Greater);
    }

    #[test]
    fn depth_and_range_are_limited() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(Json::parse(nested(MAX_JSON_DEPTH)).unwrap().depth(), MAX_JSON_DEPTH);
        assert!(Json::parse(nested(MAX_JSON_DEPTH + 1)).is_err());
        assert!(Json::parse(nested(100_000)).is_err());
        assert!(Json::parse("1e400").is_err());
        assert!(Json::parse("[1] x").is_err());
        assert!(Json::parse(Bytes::from_static(b"\"\xff\"")).is_err());
        assert_eq!(Json::parse(r#""[[\"[""#).unwrap().depth(), 0);
    }

    #[test]
    fn big_integers_keep_their_digits() {
        let text = "123456789012345678901234567890";
        let json = Json::parse(text).unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), text);
        assert_eq!(serde_json::from_str::<Json>(text).unwrap().as_str(), text);
    }
}
