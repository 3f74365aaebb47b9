//! The opaque version of a record: its ETag.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::name::{Alphabet, alphabet, kept, legal, shown, text_type};
use crate::{Error, Result};

/// The longest version, in bytes.
pub const MAX_VERSION_BYTES: usize = 128;

static VERSION: Alphabet = alphabet(b"_.:=+/-");

/// The version of a record: opaque text that changes on every write and is never used again for the
/// same key, also not after the record was deleted and made anew. A backend without
/// [`Preconditions`](crate::Feature::Preconditions) keeps no account of writes: its versions only tell values apart.
///
/// Compare versions only for equality: their order means nothing. The text has 1 to 128 characters of
/// `A-Z a-z 0-9 _ . : = + / -`, so that it fits into an HTTP `ETag`, a shell word and a URL.
///
/// ```
/// use storage_core::Version;
///
/// assert!(Version::new("00000000000000a7").is_ok());
/// assert!(Version::new("not a version").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct Version(SmolStr);

impl Version {
    /// Validates the form of `text`. Whether a record has this version, only the backend can tell.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        if (1..=MAX_VERSION_BYTES).contains(&text.len()) && legal(text, &VERSION) {
            return Ok(Self(kept(text)));
        }
        Err(Error::invalid(format!(
            "version {} is malformed: pass a version exactly as a read or write returned it",
            shown(text)
        )))
    }

    /// A version from a number that its backend counts up, as 16 hexadecimal digits.
    pub fn from_sequence(sequence: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 16];
        for (i, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[(sequence >> (60 - 4 * i)) as usize & 0xf];
        }
        Self(SmolStr::new_inline(std::str::from_utf8(&text).unwrap_or("0")))
    }

    /// The number that [`from_sequence`](Self::from_sequence) was given, if this is such a version.
    pub fn to_sequence(&self) -> Option<u64> {
        if self.0.len() == 16 { u64::from_str_radix(&self.0, 16).ok() } else { None }
    }

    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text_type!(Version);
