//! What is said of messages that are malformed.

use std::fmt;

use rmp::Marker;
use storage_core::{Error, ErrorKind};

/// The error for a message that is not what `docs/plugin-abi.md` says. Whoever sent it has a defect.
#[cold]
pub(super) fn malformed(why: fmt::Arguments<'_>) -> Error {
    Error::new(ErrorKind::Internal, format!("malformed message: {why}"))
}

/// What a value is that begins so.
pub(super) fn kind_of(marker: Marker) -> &'static str {
    match marker {
        Marker::Null => "nil",
        Marker::True | Marker::False => "a boolean",
        Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => "an integer",
        Marker::FixNeg(_) | Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => "an integer",
        Marker::F32 | Marker::F64 => "a floating-point number",
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => "a str",
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => "a bin",
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => "an array",
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => "a map",
        Marker::FixExt1 | Marker::FixExt2 | Marker::FixExt4 | Marker::FixExt8 | Marker::FixExt16 => "an ext",
        Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => "an ext",
        Marker::Reserved => "the byte 0xc1, which MessagePack never uses",
    }
}

/// Text of the other side, for a message: quoted, escaped, and not the whole of it if it is long.
pub(super) struct Shown<'a>(pub(super) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 40;

        match self.0.get(..SHOWN) {
            Some(head) if head.len() < self.0.len() => write!(f, "\"{}\"…", head.escape_ascii()),
            _ => write!(f, "\"{}\"", self.0.escape_ascii()),
        }
    }
}
