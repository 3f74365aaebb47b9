//! Writing messages.

use std::convert::Infallible;

use bytes::Bytes;
use rmp::encode::{self, ByteBuf, ValueWriteError};

use super::Wire;
use crate::Outgoing;

/// A message in the making.
///
/// Arrays and maps begin with their length; the caller then writes as many values, or pairs of key and value.
///
/// ```
/// use storage_plugin::wire::Writer;
///
/// let mut to = Writer::new();
/// to.tuple("ok", 1);
/// to.blob(bytes::Bytes::from_static(b"{}"));
/// let message = to.into_message();
/// assert_eq!((message.head.as_slice(), message.blobs.len()), (&b"\x92\xa2ok\x00"[..], 1));
/// ```
#[derive(Debug)]
pub struct Writer {
    head: ByteBuf,
    blobs: Vec<Bytes>,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// An empty message.
    pub fn new() -> Self {
        /// The head of a request for one record, and of the reply, without growing.
        const HEAD: usize = 160;

        Self { head: ByteBuf::with_capacity(HEAD), blobs: Vec::new() }
    }

    /// The message.
    pub fn into_message(self) -> Outgoing {
        Outgoing { head: self.head.into_vec(), blobs: self.blobs }
    }

    /// Writes nil.
    pub fn nil(&mut self) {
        let Ok(()) = encode::write_nil(&mut self.head);
    }

    /// Writes a boolean.
    pub fn bool(&mut self, value: bool) {
        let Ok(()) = encode::write_bool(&mut self.head, value);
    }

    /// Writes an integer that is not negative.
    pub fn uint(&mut self, value: u64) {
        written(encode::write_uint(&mut self.head, value));
    }

    /// Writes an integer.
    pub fn int(&mut self, value: i64) {
        written(encode::write_sint(&mut self.head, value));
    }

    /// Writes text.
    pub fn str(&mut self, text: &str) {
        written(encode::write_str(&mut self.head, text));
    }

    /// Begins an array of `len` values.
    pub fn array(&mut self, len: usize) {
        written(encode::write_array_len(&mut self.head, len as u32));
    }

    /// Begins a map of `len` pairs.
    pub fn map(&mut self, len: usize) {
        written(encode::write_map_len(&mut self.head, len as u32));
    }

    /// Adds a blob and writes its position. The bytes are not copied.
    pub fn blob(&mut self, bytes: Bytes) {
        self.uint(self.blobs.len() as u64);
        self.blobs.push(bytes);
    }

    /// Begins a tuple: an array of its name and `elements` more values.
    pub fn tuple(&mut self, name: &str, elements: usize) {
        self.array(1 + elements);
        self.str(name);
    }

    /// Writes a pair of a map.
    pub fn entry<T: Wire>(&mut self, key: &str, value: &T) {
        self.str(key);
        value.write(self);
    }

    /// Writes a pair of a map whose value is text.
    pub fn text_entry(&mut self, key: &str, text: &str) {
        self.str(key);
        self.str(text);
    }

    /// Writes an array of values.
    pub fn list<T: Wire>(&mut self, items: &[T]) {
        self.array(items.len());
        for item in items {
            item.write(self);
        }
    }
}

/// Writing to memory does not fail; the compiler agrees.
fn written<T>(result: Result<T, ValueWriteError<Infallible>>) {
    let Ok(_) = result;
}
