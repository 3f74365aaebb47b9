//! The opaque version of a record: its ETag.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Makes numbers for versions without asking a database: 64 bits that do not repeat within a source, and of which two
/// sources have the same by a chance of one in 2^64.
///
/// ```
/// use storage_core::{Version, VersionSource};
///
/// let versions = VersionSource::new();
/// assert_ne!(Version::from_sequence(versions.next()), Version::from_sequence(versions.next()));
/// ```
#[derive(Debug)]
pub struct VersionSource {
    seed: u64,
    next: AtomicU64,
}

impl VersionSource {
    /// A source seeded by the system's randomness: what is derived from a clock could be the same on two machines that
    /// start together.
    #[allow(clippy::new_without_default, reason = "no two are alike")]
    pub fn new() -> Self {
        Self { seed: RandomState::new().hash_one(()), next: AtomicU64::new(0) }
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        mix(self.seed ^ mix(number))
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): different
/// numbers stay different.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_never_repeat_themselves_or_each_other() {
        let (one, other) = (VersionSource::new(), VersionSource::new());
        let made: std::collections::HashSet<u64> = (0..10_000).map(|_| one.next()).collect();
        assert_eq!(made.len(), 10_000);
        assert!((0..10_000).all(|_| !made.contains(&other.next())));
    }
}
