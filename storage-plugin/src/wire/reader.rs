//! Reading messages.

#![expect(unsafe_code, reason = "text that is ASCII is taken as UTF-8 without a second check")]

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::slice;

use bytes::Bytes;
use rmp::Marker;
use serde_json::Value as Tree;
use storage_core::{Address, Error, Json, Result};

use super::malformed::{Shown, kind_of, malformed};
use super::{Elements, Wire};
use crate::Received;

/// How deep arrays and maps may be nested.
const MAX_DEPTH: u32 = 32;
/// Text of up to 31 bytes, arrays of up to 15 values, maps of up to 15 pairs, and integers up to 127.
const FIX_STR: RangeInclusive<u8> = 0xa0..=0xbf;
const FIX_ARRAY: RangeInclusive<u8> = 0x90..=0x9f;
const FIX_MAP: RangeInclusive<u8> = 0x80..=0x8f;
/// Text of up to 255 bytes, whose length follows.
const STR_8: u8 = 0xd9;
const NIL: RangeInclusive<u8> = 0xc0..=0xc0;
const FIX_POS: RangeInclusive<u8> = 0x00..=0x7f;
/// An integer of eight bytes, which follow.
const U_64: u8 = 0xcf;
/// No more room than for so many items is made in advance, whatever length an array claims.
const MAX_RESERVED: usize = 1024;

/// Reads the values of a message one after the other.
///
/// It trusts nothing: every method returns [`Internal`](storage_core::ErrorKind::Internal) for what is not there,
/// with the position in the head and what was found instead. Where it fails, the rest of the message is not to be
/// read.
#[derive(Debug)]
pub struct Reader<'a> {
    message: &'a Received,
    head_len: usize,
    rest: &'a [u8],
    depth: u32,
    expected: slice::Iter<'a, Address>,
}

impl<'a> Reader<'a> {
    /// Begins at the start of the head.
    pub fn new(message: &'a Received) -> Self {
        Self::expecting(&[], message)
    }

    /// As [`new`](Self::new). These addresses will probably come, in this order, and then need not be checked and made
    /// anew. Some may be left out, and others may come.
    pub(super) fn expecting(addresses: &'a [Address], message: &'a Received) -> Self {
        let head = message.message().head();
        Self { message, head_len: head.len(), rest: head, depth: 0, expected: addresses.iter() }
    }

    /// The position in the head, in bytes from 0: for [`invalid`](Self::invalid) and [`missing`](Self::missing).
    #[inline]
    pub fn position(&self) -> usize {
        self.head_len - self.rest.len()
    }

    /// Ends reading: nothing may be left.
    pub fn finish(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(malformed(format_args!("{left} bytes follow its end at byte {}", self.position()))),
        }
    }

    /// Reads a value of the type that the caller wants.
    #[inline]
    pub fn read<T: Wire>(&mut self) -> Result<T> {
        T::read(self)
    }

    /// Whether the next value is nil; if so, reads it.
    #[inline]
    pub fn nil(&mut self) -> bool {
        self.short(NIL).is_some()
    }

    /// Reads a boolean.
    pub fn bool(&mut self) -> Result<bool> {
        let at = self.position();
        match self.marker("a boolean")? {
            Marker::True => Ok(true),
            Marker::False => Ok(false),
            other => Err(self.unexpected("a boolean", at, other)),
        }
    }

    /// Reads an integer that is not negative, of whatever width.
    #[inline]
    pub fn uint(&mut self) -> Result<u64> {
        let at = self.position();
        self.integer("an unsigned integer")?.map_err(|found| {
            malformed(format_args!("expected an unsigned integer at byte {at}, found {found}"))
        })
    }

    /// Reads an integer, of whatever width.
    #[inline]
    pub fn int(&mut self) -> Result<i64> {
        let at = self.position();
        let unsigned = match self.integer("an integer")? {
            Ok(unsigned) => unsigned,
            Err(negative) => return Ok(negative),
        };
        i64::try_from(unsigned).map_err(|_| {
            malformed(format_args!("expected a signed integer of 64 bits at byte {at}, found {unsigned}"))
        })
    }

    /// Reads text.
    #[inline]
    pub fn str(&mut self) -> Result<&'a str> {
        let at = self.position();
        let bytes = self.name()?;
        if bytes.is_ascii() {
            // SAFETY: ASCII is UTF-8. The check for it is several times as fast as that for all of UTF-8, and most text
            // of a message is short names.
            return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
        }
        utf8(at, bytes)
    }

    /// Reads text or nil.
    #[inline]
    pub fn optional_str(&mut self) -> Result<Option<&'a str>> {
        if self.nil() { Ok(None) } else { self.str().map(Some) }
    }

    /// Reads text as the bytes that it is: all that is needed to find a known name.
    #[inline]
    pub fn name(&mut self) -> Result<&'a [u8]> {
        let len = match self.short(FIX_STR) {
            Some(len) => len,
            None => self.str_len()?,
        };
        self.take(len)
    }

    /// Whether the next value is this text, of at most 255 bytes; if so, reads it. `false` may also be text that is
    /// longer, or whose length is written in more bytes than it needs.
    #[inline]
    pub(super) fn is_text(&mut self, text: &str) -> bool {
        let begin = match u8::try_from(text.len()) {
            Ok(len @ 0..=31) => self.rest.strip_prefix(&[FIX_STR.start() | len]),
            Ok(len) => self.rest.strip_prefix(&[STR_8, len]),
            Err(_) => None,
        };
        let Some(rest) = begin.and_then(|rest| rest.strip_prefix(text.as_bytes())) else { return false };
        self.rest = rest;
        true
    }

    /// The address that comes next, if it is an expected one; then it is read.
    #[inline]
    pub(super) fn expected_address(&mut self) -> Option<&'a Address> {
        let start = self.rest;
        while let Some(address) = self.expected.next() {
            if self.short(FIX_ARRAY) == Some(2)
                && self.is_text(address.collection.as_str())
                && self.is_text(address.key.as_str())
            {
                return Some(address);
            }
            self.rest = start;
        }
        None
    }

    /// Whether the next value is text.
    pub fn at_str(&self) -> bool {
        let marker = self.peek();
        matches!(marker, Some(Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32))
    }

    /// Reads text that is JSON.
    pub fn json_text(&mut self) -> Result<Tree> {
        let at = self.position();
        serde_json::from_str(self.str()?).map_err(|error| self.invalid(at, &error))
    }

    /// Reads the position of a blob, and gives its bytes: small ones copied, large ones shared with the message.
    #[inline]
    pub fn blob(&mut self) -> Result<Bytes> {
        let at = self.position();
        let position = self.uint()?;
        usize::try_from(position).ok().and_then(|position| self.message.share(position)).ok_or_else(|| {
            let count = self.message.message().blob_count();
            malformed(format_args!("byte {at} refers to the blob {position}, and there are {count}"))
        })
    }

    /// Reads the position of a blob that holds JSON. That it is UTF-8 is checked; that it is JSON, whoever sent it
    /// has checked.
    pub fn json(&mut self) -> Result<Json> {
        let at = self.position();
        let text = self.blob()?;
        match std::str::from_utf8(&text) {
            Ok(_) => Ok(Json::from_stored(text)),
            Err(error) => {
                Err(malformed(format_args!("the JSON that byte {at} refers to is not UTF-8: {error}")))
            }
        }
    }

    /// Reads a map: `pair` is called for each pair, and reads its key and its value; what it does not know, it
    /// [skips](Self::skip).
    #[inline]
    pub fn map(&mut self, mut pair: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        for _ in 0..self.enter_map()? {
            pair(self)?;
        }
        self.leave();
        Ok(())
    }

    /// Begins a map, whose pairs the caller reads before it calls [`leave`](Self::leave), and says how many.
    #[inline]
    pub(super) fn enter_map(&mut self) -> Result<usize> {
        let at = self.position();
        let pairs = match self.short(FIX_MAP) {
            Some(len) => len,
            None => self.map_len()?,
        };
        self.enter(at, pairs.saturating_mul(2))?;
        Ok(pairs)
    }

    /// Goes back to the map at `at`, of which keys were read, but nothing that lies deeper is under way.
    #[cold]
    pub(super) fn back_to_map(&mut self, at: usize) {
        self.rest = self.message.message().head().get(at..).unwrap_or_default();
        self.leave();
    }

    /// Reads an array whose elements each mean something else; those that `read` leaves are skipped.
    #[inline]
    pub fn elements<R>(&mut self, read: impl FnOnce(&mut Elements<'_, 'a>) -> Result<R>) -> Result<R> {
        let at = self.position();
        let len = self.array()?;
        self.enter(at, len)?;
        let mut elements = Elements::new(self, len, at);
        // Given back as it is, not taken apart and put together again: moves are what reading costs most.
        let result = read(&mut elements);
        for _ in 0..elements.left() {
            if result.is_err() {
                break;
            }
            self.skip()?;
        }
        self.leave();
        result
    }

    /// Reads an array of values of one type.
    #[inline]
    pub fn list<T: Wire>(&mut self) -> Result<Vec<T>> {
        let len = self.enter_array()?;
        let mut items = Vec::with_capacity(len.min(MAX_RESERVED));
        for _ in 0..len {
            items.push(T::read(self)?);
        }
        self.leave();
        Ok(items)
    }

    /// Begins an array, whose elements the caller reads before it calls [`leave`](Self::leave), and says how many.
    #[inline]
    pub(super) fn enter_array(&mut self) -> Result<usize> {
        let at = self.position();
        let len = self.array()?;
        self.enter(at, len)?;
        Ok(len)
    }

    /// Ends an array or map.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Skips a value of whatever type.
    pub fn skip(&mut self) -> Result<()> {
        let at = self.position();
        let (bytes, values) = match self.marker("a value")? {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (0, 0),
            Marker::U8 | Marker::I8 => (1, 0),
            Marker::U16 | Marker::I16 => (2, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
            // One byte more than the data is the type.
            Marker::FixExt1 => (2, 0),
            Marker::FixExt2 => (3, 0),
            Marker::FixExt4 => (5, 0),
            Marker::FixExt8 => (9, 0),
            Marker::FixExt16 => (17, 0),
            Marker::Ext8 => (usize::from(u8::from_be_bytes(self.bytes()?)) + 1, 0),
            Marker::Ext16 => (usize::from(u16::from_be_bytes(self.bytes()?)) + 1, 0),
            Marker::Ext32 => (u32::from_be_bytes(self.bytes()?) as usize + 1, 0),
            Marker::FixStr(len) => (usize::from(len), 0),
            Marker::Str8 | Marker::Bin8 => (usize::from(u8::from_be_bytes(self.bytes()?)), 0),
            Marker::Str16 | Marker::Bin16 => (usize::from(u16::from_be_bytes(self.bytes()?)), 0),
            Marker::Str32 | Marker::Bin32 => (u32::from_be_bytes(self.bytes()?) as usize, 0),
            Marker::FixArray(len) => (0, usize::from(len)),
            Marker::Array16 => (0, usize::from(u16::from_be_bytes(self.bytes()?))),
            Marker::Array32 => (0, u32::from_be_bytes(self.bytes()?) as usize),
            Marker::FixMap(len) => (0, usize::from(len) * 2),
            Marker::Map16 => (0, usize::from(u16::from_be_bytes(self.bytes()?)) * 2),
            Marker::Map32 => (0, (u32::from_be_bytes(self.bytes()?) as usize).saturating_mul(2)),
            other @ Marker::Reserved => return Err(self.unexpected("a value", at, other)),
        };
        self.take(bytes)?;
        if values > 0 {
            self.enter(at, values)?;
            for _ in 0..values {
                self.skip()?;
            }
            self.leave();
        }
        Ok(())
    }

    /// The error for a value at `at` that is well formed but wrong.
    #[cold]
    pub fn invalid(&self, at: usize, why: &impl Display) -> Error {
        malformed(format_args!("the value at byte {at} is not valid: {why}"))
    }

    /// The error for a name at `at` that is none of the `expected` ones.
    #[cold]
    pub fn unknown(&self, at: usize, expected: &str, found: &[u8]) -> Error {
        malformed(format_args!("expected {expected} at byte {at}, found {}", Shown(found)))
    }

    /// The error for a map at `at` without a key that it must have.
    #[cold]
    pub fn missing(&self, at: usize, key: &str) -> Error {
        malformed(format_args!("the map at byte {at} has no key {key:?}"))
    }

    /// The length of an array.
    #[inline]
    fn array(&mut self) -> Result<usize> {
        match self.short(FIX_ARRAY) {
            Some(len) => Ok(len),
            None => self.array_len(),
        }
    }

    /// The length of an array of more than 15 elements.
    fn array_len(&mut self) -> Result<usize> {
        let at = self.position();
        match self.marker("an array")? {
            Marker::Array16 => Ok(usize::from(u16::from_be_bytes(self.bytes()?))),
            Marker::Array32 => Ok(u32::from_be_bytes(self.bytes()?) as usize),
            other => Err(self.unexpected("an array", at, other)),
        }
    }

    /// The length of text of more than 31 bytes.
    fn str_len(&mut self) -> Result<usize> {
        let at = self.position();
        match self.marker("a str")? {
            Marker::Str8 => Ok(usize::from(u8::from_be_bytes(self.bytes()?))),
            Marker::Str16 => Ok(usize::from(u16::from_be_bytes(self.bytes()?))),
            Marker::Str32 => Ok(u32::from_be_bytes(self.bytes()?) as usize),
            other => Err(self.unexpected("a str", at, other)),
        }
    }

    /// The length of a map of more than 15 pairs.
    fn map_len(&mut self) -> Result<usize> {
        let at = self.position();
        match self.marker("a map")? {
            Marker::Map16 => Ok(usize::from(u16::from_be_bytes(self.bytes()?))),
            Marker::Map32 => Ok(u32::from_be_bytes(self.bytes()?) as usize),
            other => Err(self.unexpected("a map", at, other)),
        }
    }

    /// The length that the marker holds, if it is one of these. Most are, so that this comes before all the others.
    #[inline]
    fn short(&mut self, markers: RangeInclusive<u8>) -> Option<usize> {
        let [marker, rest @ ..] = self.rest else { return None };
        if !markers.contains(marker) {
            return None;
        }
        self.rest = rest;
        Some(usize::from(marker - markers.start()))
    }

    /// An integer; in the inner `Err`, if it is negative.
    #[inline]
    fn integer(&mut self, expected: &str) -> Result<Result<u64, i64>> {
        if let Some(value) = self.short(FIX_POS) {
            return Ok(Ok(value as u64));
        }
        // As times are.
        if let [U_64, rest @ ..] = self.rest
            && let Some((bytes, rest)) = rest.split_first_chunk()
        {
            self.rest = rest;
            return Ok(Ok(u64::from_be_bytes(*bytes)));
        }
        let at = self.position();
        let signed = match self.marker(expected)? {
            Marker::FixPos(value) => return Ok(Ok(value.into())),
            Marker::U8 => return Ok(Ok(u8::from_be_bytes(self.bytes()?).into())),
            Marker::U16 => return Ok(Ok(u16::from_be_bytes(self.bytes()?).into())),
            Marker::U32 => return Ok(Ok(u32::from_be_bytes(self.bytes()?).into())),
            Marker::U64 => return Ok(Ok(u64::from_be_bytes(self.bytes()?))),
            Marker::FixNeg(value) => value.into(),
            Marker::I8 => i8::from_be_bytes(self.bytes()?).into(),
            Marker::I16 => i16::from_be_bytes(self.bytes()?).into(),
            Marker::I32 => i32::from_be_bytes(self.bytes()?).into(),
            Marker::I64 => i64::from_be_bytes(self.bytes()?),
            other => return Err(self.unexpected(expected, at, other)),
        };
        Ok(u64::try_from(signed).map_err(|_| signed))
    }

    #[inline]
    fn peek(&self) -> Option<Marker> {
        self.rest.first().map(|byte| Marker::from_u8(*byte))
    }

    #[inline]
    fn marker(&mut self, expected: &str) -> Result<Marker> {
        let [byte, rest @ ..] = self.rest else {
            return Err(malformed(format_args!(
                "expected {expected} where it ends, at byte {}",
                self.position()
            )));
        };
        self.rest = rest;
        Ok(Marker::from_u8(*byte))
    }

    #[inline]
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else { return Err(self.cut_off(N)) };
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else { return Err(self.cut_off(len)) };
        self.rest = rest;
        Ok(taken)
    }

    /// Goes into an array or map of so many values.
    #[inline]
    fn enter(&mut self, at: usize, values: usize) -> Result<()> {
        // Each takes a byte at least, so that a length beyond that is refused before anything is done by it.
        if values > self.rest.len() {
            let left = self.rest.len();
            return Err(malformed(format_args!(
                "the array or map at byte {at} claims {values} values, and {left} bytes follow"
            )));
        }
        if self.depth == MAX_DEPTH {
            return Err(malformed(format_args!(
                "the array or map at byte {at} is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        self.depth += 1;
        Ok(())
    }

    #[cold]
    pub(super) fn unexpected(&self, expected: &str, at: usize, found: Marker) -> Error {
        malformed(format_args!("expected {expected} at byte {at}, found {}", kind_of(found)))
    }

    /// The error for whatever comes next.
    #[cold]
    pub(super) fn expected(&mut self, expected: &str) -> Error {
        let at = self.position();
        self.marker(expected).map_or_else(|error| error, |found| self.unexpected(expected, at, found))
    }

    #[cold]
    fn cut_off(&self, len: usize) -> Error {
        let (at, left) = (self.position(), self.rest.len());
        malformed(format_args!("expected {len} bytes at byte {at}, and {left} follow"))
    }
}

/// Text of which it is not known that it is ASCII.
#[inline(never)]
fn utf8(at: usize, bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|error| malformed(format_args!("the str at byte {at} is not UTF-8: {error}")))
}
