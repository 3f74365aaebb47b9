//! Writing messages.

use std::convert::Infallible;
use std::fmt;

use bytes::Bytes;
use rmp::Marker;
use rmp::encode::{self, ValueWriteError};

use super::Wire;
use crate::Outgoing;
use crate::sent::Sent;

/// A message in the making.
///
/// Arrays and maps begin with their length; the caller then writes as many values, or pairs of key and value.
///
/// ```
/// use storage_plugin::wire::Writer;
///
/// let mut to = Writer::new();
/// to.tuple("ok", 1);
/// to.blob(&bytes::Bytes::from_static(b"{}"));
/// let message = to.into_message();
/// assert_eq!((message.head(), message.blobs().len()), (&b"\x92\xa2ok\x00"[..], 1));
/// ```
pub struct Writer(Box<Sent>);

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// An empty message.
    #[inline]
    pub fn new() -> Self {
        Self(Sent::new())
    }

    /// The message.
    #[inline]
    pub fn into_message(self) -> Outgoing {
        self.0.into()
    }

    /// Writes nil.
    pub fn nil(&mut self) {
        let Ok(()) = encode::write_nil(&mut self.0.head);
    }

    /// Writes a boolean.
    pub fn bool(&mut self, value: bool) {
        let Ok(()) = encode::write_bool(&mut self.0.head, value);
    }

    /// Writes an integer that is not negative.
    #[inline]
    pub fn uint(&mut self, value: u64) {
        match (u8::try_from(value), u32::try_from(value)) {
            (Ok(small @ 0..=0x7f), _) => self.0.head.as_mut_vec().push(small),
            // As times are.
            (_, Err(_)) => {
                let mut large = [Marker::U64.to_u8(); 9];
                large[1..].copy_from_slice(&value.to_be_bytes());
                self.constant(&large);
            }
            _ => written(encode::write_uint(&mut self.0.head, value)),
        }
    }

    /// Writes an integer.
    #[inline]
    pub fn int(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.uint(value),
            Err(_) => written(encode::write_sint(&mut self.0.head, value)),
        }
    }

    /// Writes text.
    #[inline]
    pub fn str(&mut self, text: &str) {
        // Nearly all text is short, and its length a part of its first byte.
        match u8::try_from(text.len()) {
            Ok(short @ 0..=31) => {
                let head = self.0.head.as_mut_vec();
                head.reserve(1 + text.len());
                head.push(Marker::FixStr(short).to_u8());
                head.extend_from_slice(text.as_bytes());
            }
            _ => written(encode::write_str(&mut self.0.head, text)),
        }
    }

    /// Writes what is MessagePack already, and whose length is known when this is compiled.
    #[inline]
    pub(super) fn constant<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.0.head.as_mut_vec().extend_from_slice(bytes);
    }

    /// Begins an array of `len` values.
    #[inline]
    pub fn array(&mut self, len: usize) {
        match len {
            0..=15 => self.0.head.as_mut_vec().push(Marker::FixArray(len as u8).to_u8()),
            _ => written(encode::write_array_len(&mut self.0.head, len as u32)),
        }
    }

    /// Begins a map of `len` pairs.
    #[inline]
    pub fn map(&mut self, len: usize) {
        match len {
            0..=15 => self.0.head.as_mut_vec().push(Marker::FixMap(len as u8).to_u8()),
            _ => written(encode::write_map_len(&mut self.0.head, len as u32)),
        }
    }

    /// Adds a blob and writes its position. Small ones are copied, large ones shared.
    #[inline]
    pub fn blob(&mut self, bytes: &Bytes) {
        self.uint(self.0.blobs().len() as u64);
        self.0.push(bytes);
    }

    /// Begins a tuple: an array of its name and `elements` more values.
    #[inline]
    pub fn tuple(&mut self, name: &str, elements: usize) {
        self.array(1 + elements);
        self.str(name);
    }

    /// Writes a pair of a map.
    #[inline]
    pub fn entry<T: Wire>(&mut self, key: &str, value: &T) {
        self.str(key);
        value.write(self);
    }

    /// Writes a pair of a map whose value is text.
    #[inline]
    pub fn text_entry(&mut self, key: &str, text: &str) {
        self.str(key);
        self.str(text);
    }

    /// Writes an array of values.
    #[inline]
    pub fn list<T: Wire>(&mut self, items: &[T]) {
        self.array(items.len());
        for item in items {
            item.write(self);
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({} bytes, {} blobs)", self.0.head.as_slice().len(), self.0.blobs().len())
    }
}

/// Text of at most 31 bytes, as MessagePack has it.
pub(super) const fn fix_str<const N: usize>(text: &str) -> [u8; N] {
    assert!(text.len() + 1 == N && N <= 32, "too long for a length of five bits");
    let mut written = [Marker::FixStr(text.len() as u8).to_u8(); N];
    let mut at = 0;
    while at < text.len() {
        written[at + 1] = text.as_bytes()[at];
        at += 1;
    }
    written
}

/// Writing to memory does not fail; the compiler agrees.
fn written<T>(result: Result<T, ValueWriteError<Infallible>>) {
    let Ok(_) = result;
}

#[cfg(test)]
mod tests {
    use rmp::encode::ByteBuf;

    use super::*;

    fn head(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut to = Writer::new();
        write(&mut to);
        to.into_message().head().to_vec()
    }

    /// What is written by hand here is what the library writes, on both sides of each limit.
    #[test]
    fn the_short_way_is_that_of_the_library() {
        let library = |write: &dyn Fn(&mut ByteBuf)| {
            let mut to = ByteBuf::new();
            write(&mut to);
            to.into_vec()
        };
        for bits in [0, 4, 5, 7, 8, 16, 31, 32, 33, 63] {
            for value in [(1_u64 << bits) - 1, 1 << bits] {
                assert_eq!(head(|to| to.uint(value)), library(&|to| written(encode::write_uint(to, value))));
                let value = (value as i64).wrapping_neg();
                assert_eq!(head(|to| to.int(value)), library(&|to| written(encode::write_sint(to, value))));
            }
        }
        for len in [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
            let text = "a".repeat(len);
            assert_eq!(head(|to| to.str(&text)), library(&|to| written(encode::write_str(to, &text))));
            assert_eq!(
                head(|to| to.array(len)),
                library(&|to| written(encode::write_array_len(to, len as u32)))
            );
            assert_eq!(head(|to| to.map(len)), library(&|to| written(encode::write_map_len(to, len as u32))));
        }
        assert_eq!(fix_str::<6>("value").as_slice(), head(|to| to.str("value")));
    }
}
