//! Names: collections and keys, validated once when they are built.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{Error, Result};

/// The longest collection name, in bytes.
pub const MAX_COLLECTION_BYTES: usize = 64;
/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 512;

/// Which bytes a text may have.
pub(crate) type Alphabet = [bool; 256];

/// Letters, digits and `more`.
pub(crate) const fn alphabet(more: &[u8]) -> Alphabet {
    let mut legal = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        legal[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < more.len() {
        legal[more[at] as usize] = true;
        at += 1;
    }
    legal
}

/// Whether all bytes of `text` are in the alphabet.
pub(crate) fn legal(text: &str, alphabet: &Alphabet) -> bool {
    // Without leaving early, which for texts so short costs more than it saves.
    text.bytes().fold(true, |legal, b| legal & alphabet[usize::from(b)])
}

/// `text` as it is kept. What is short enough for it is made in its place: [`SmolStr::new`] moves it once more, which
/// takes longer than all the rest.
pub(crate) fn kept(text: &str) -> SmolStr {
    if text.len() <= SmolStr::INLINE_CAP { SmolStr::new_inline(text) } else { SmolStr::new(text) }
}

static COLLECTION: Alphabet = alphabet(b"_.-");

/// The name of a collection: `[A-Za-z0-9][A-Za-z0-9_.-]{0,63}`.
///
/// Cheap to clone. Compared and ordered by its bytes.
///
/// ```
/// use storage_core::CollectionName;
///
/// assert!(CollectionName::new("chat.sessions-2026").is_ok());
/// assert!(CollectionName::new("no spaces").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct CollectionName(SmolStr);

impl CollectionName {
    /// Validates `name`. A bad one is [`InvalidInput`](crate::ErrorKind::InvalidInput).
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        let head = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if head && name.len() <= MAX_COLLECTION_BYTES && legal(name, &COLLECTION) {
            return Ok(Self(kept(name)));
        }
        Err(Error::invalid(format!(
            "collection name {} is not valid: it begins with a letter or digit and has at most \
             {MAX_COLLECTION_BYTES} characters of A-Z a-z 0-9 _ . -",
            shown(name)
        )))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key of a record within its collection: UTF-8, 1 to 512 bytes, no NUL.
///
/// Compared and ordered by its bytes: NFC and NFD forms of a letter are different keys.
///
/// ```
/// use storage_core::Key;
///
/// assert_eq!(Key::new("user:ada")?.as_str(), "user:ada");
/// assert!(Key::new("").is_err());
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct Key(SmolStr);

impl Key {
    /// Validates `key`. A bad one is [`InvalidInput`](crate::ErrorKind::InvalidInput).
    pub fn new(key: impl AsRef<str>) -> Result<Self> {
        let key = key.as_ref();
        if key.is_empty() {
            return Err(Error::invalid("key is empty: a key has 1 to 512 bytes"));
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(Error::invalid(format!(
                "key of {} bytes is too long: a key has at most {MAX_KEY_BYTES} bytes (it begins {})",
                key.len(),
                shown(key)
            )));
        }
        // Without leaving early, as in `legal`.
        if key.bytes().fold(false, |found, b| found | (b == 0)) {
            return Err(Error::invalid(format!("key {} contains a NUL character", shown(key))));
        }
        Ok(Self(kept(key)))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// At most 40 characters of `text`, quoted and escaped, for messages.
pub(crate) fn shown(text: &str) -> String {
    let head: String = text.chars().take(40).collect();
    if head.len() < text.len() { format!("{head:?}…") } else { format!("{head:?}") }
}

macro_rules! text_type {
    ($type:ident) => {
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::str::FromStr for $type {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }
        impl TryFrom<&str> for $type {
            type Error = Error;
            fn try_from(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }
        impl TryFrom<SmolStr> for $type {
            type Error = Error;
            fn try_from(text: SmolStr) -> Result<Self> {
                Self::new(text.as_str())
            }
        }
        impl From<$type> for SmolStr {
            fn from(value: $type) -> SmolStr {
                value.0
            }
        }
    };
}
pub(crate) use text_type;

text_type!(CollectionName);
text_type!(Key);

/// Where a record lives: its collection and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    /// The collection.
    pub collection: CollectionName,
    /// The key within the collection.
    pub key: Key,
}

impl Address {
    /// Validates both names.
    ///
    /// ```
    /// use storage_core::Address;
    ///
    /// assert_eq!(Address::new("users", "ada")?.to_string(), "users/ada");
    /// # Ok::<(), storage_core::Error>(())
    /// ```
    pub fn new(collection: impl AsRef<str>, key: impl AsRef<str>) -> Result<Self> {
        Ok(Self { collection: CollectionName::new(collection)?, key: Key::new(key)? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.key)
    }
}
