//! Pages and the cursors between them.

use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::name::text_type;
use crate::{Error, Result};

/// The longest cursor, in bytes.
pub const MAX_CURSOR_BYTES: usize = 16 * 1024;

/// Part of a result, and where to go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items. There may be fewer than the limit, even none, although more follow.
    pub items: Vec<T>,
    /// Pass it as `after` to get the next page; `None`: this was the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page that is the last.
    pub fn last(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// The same page with each item turned into another.
    pub fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(each).collect(), next: self.next }
    }
}

/// Where a page ended: opaque text of URL-safe characters, bound to the request that made it.
///
/// It stays valid over reconnects and restarts, as long as the same request is continued.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct Cursor(SmolStr);

impl Cursor {
    /// Checks the form of `text`; whether it continues a given request is checked when it is used.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if (1..=MAX_CURSOR_BYTES).contains(&text.len()) && text.bytes().all(legal) {
            return Ok(Self(SmolStr::new(text)));
        }
        Err(Self::invalid())
    }

    /// The cursor as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For backends: seals `position` for continuing `request` (what identifies it, without its position
    /// and limit).
    pub fn seal<P: Serialize>(request: &impl Hash, position: &P) -> Result<Self> {
        let body = rmp_serde::to_vec(position)
            .map_err(|error| Error::new(crate::ErrorKind::Internal, format!("cursor: {error}")))?;
        let mut sealed = Vec::with_capacity(8 + body.len());
        sealed.extend_from_slice(&fingerprint(request, &body).to_be_bytes());
        sealed.extend_from_slice(&body);
        Ok(Self(BASE64.encode(sealed).into()))
    }

    /// For backends: the position that [`seal`](Self::seal) put in.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the cursor is damaged or continues another request.
    pub fn open<P: DeserializeOwned>(&self, request: &impl Hash) -> Result<P> {
        let sealed = BASE64.decode(self.0.as_bytes()).map_err(|_| Self::invalid())?;
        let (mark, body) = sealed.split_at_checked(8).ok_or_else(Self::invalid)?;
        if mark != fingerprint(request, body).to_be_bytes() {
            return Err(Self::invalid());
        }
        rmp_serde::from_slice(body).map_err(|_| Self::invalid())
    }

    fn invalid() -> Error {
        Error::invalid(
            "the cursor is not valid for this request: pass `next` of the page before, with the same \
             collection, prefix, filter and sort, or start again without one",
        )
    }
}

text_type!(Cursor);

/// Binds a cursor to its request and detects damage; it is no secret and guards nothing.
fn fingerprint(request: &impl Hash, body: &[u8]) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    request.hash(&mut hasher);
    hasher.write(body);
    hasher.finish()
}

/// FNV-1a: `std`'s own hasher may change between releases, and a cursor must outlive an upgrade.
/// See <http://www.isthe.com/chongo/tech/comp/fnv/>.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_only_for_its_request() {
        let cursor = Cursor::seal(&("users", "a"), &"key").unwrap();
        let again: Cursor = cursor.as_str().parse().unwrap();
        assert_eq!(again.open::<String>(&("users", "a")).unwrap(), "key");
        assert!(again.open::<String>(&("users", "b")).is_err());
        assert!(Cursor::new("no cursor!").is_err());
        assert!(Cursor::new("AAAA").unwrap().open::<String>(&("users", "a")).is_err());
    }
}
