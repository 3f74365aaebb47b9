//! What a plugin says of itself before anything of it runs: the descriptor and the ELF note.

#![expect(unsafe_code, reason = "a descriptor holds raw pointers, to constants")]

use std::ffi::{CStr, c_char};
use std::mem;
use std::sync::OnceLock;

use storage_core::TypeDescriptor;

use super::functions::FUNCTIONS;
use crate::abi::{ABI_MAJOR, ABI_MINOR, Descriptor, MAGIC, NOTE_TYPE};

/// What this library exports; each library has its own copy of this crate, and so of this.
static EXPORTED: OnceLock<&'static Export> = OnceLock::new();

/// A storage type and what the C descriptor says of it. Made by [`export_plugin!`](crate::export_plugin) alone.
pub struct Export {
    raw: Descriptor,
    pub(super) descriptor: &'static dyn TypeDescriptor,
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) is_inline: bool,
}

// SAFETY: the raw pointers in it point to constants.
unsafe impl Send for Export {}
// SAFETY: as above.
unsafe impl Sync for Export {}

impl Export {
    /// Names, versions and builds end with their only NUL.
    ///
    /// # Panics
    /// At compile time, if a text is none that a descriptor may have.
    pub const fn new(
        descriptor: &'static dyn TypeDescriptor,
        name: &'static str,
        version: &'static str,
        build: &'static str,
        is_inline: bool,
    ) -> Self {
        assert!(is_type_name(without_nul(name)), "a type's name is [a-z][a-z0-9-]{{0,31}}");
        Self {
            raw: Descriptor {
                magic: MAGIC,
                struct_size: mem::size_of::<Descriptor>() as u32,
                abi_major: ABI_MAJOR,
                abi_minor: ABI_MINOR,
                name: c_text(name),
                version: c_text(version),
                build: c_text(build),
                functions: &raw const FUNCTIONS,
            },
            descriptor,
            name: without_nul(name),
            version: without_nul(version),
            is_inline,
        }
    }

    /// What the entry symbol does.
    pub fn enter(&'static self) -> *const Descriptor {
        EXPORTED.get_or_init(|| self);
        &raw const self.raw
    }

    /// What was entered.
    pub(super) fn entered() -> Option<&'static Self> {
        EXPORTED.get().copied()
    }
}

const fn c_text(text: &'static str) -> *const c_char {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text.as_ptr(),
        Err(_) => panic!("names and versions have no NUL"),
    }
}

const fn without_nul(text: &'static str) -> &'static str {
    text.split_at(text.len() - 1).0
}

const fn is_type_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 32 || !bytes[0].is_ascii_lowercase() {
        return false;
    }
    let mut at = 1;
    while at < bytes.len() {
        if !(bytes[at].is_ascii_lowercase() || bytes[at].is_ascii_digit() || bytes[at] == b'-') {
            return false;
        }
        at += 1;
    }
    true
}

/// The first line of every note's text; a test holds it against the constants of the ABI.
const ABI_LINE: &[u8; 8] = b"abi=1.0\n";

/// An ELF note of ours, whose text is `ABI_LINE` and `N` bytes more.
#[repr(C, align(4))]
pub struct Note<const N: usize> {
    name_size: u32,
    text_size: u32,
    kind: u32,
    name: [u8; 8],
    abi: [u8; ABI_LINE.len()],
    text: [u8; N],
}

impl<const N: usize> Note<N> {
    /// The note with the lines after the first.
    ///
    /// # Panics
    /// At compile time, if the text does not have `N` bytes.
    pub const fn new(text: &str) -> Self {
        let Some(text) = text.as_bytes().first_chunk::<N>() else { panic!("a note is as long as its text") };
        Self {
            name_size: 8,
            text_size: (ABI_LINE.len() + N) as u32,
            kind: NOTE_TYPE,
            name: *b"storage\0",
            abi: *ABI_LINE,
            text: *text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{NOTE_NAME, NOTE_SECTION};

    #[test]
    fn the_note_says_what_the_abi_says() {
        assert_eq!(ABI_LINE, format!("abi={ABI_MAJOR}.{ABI_MINOR}\n").as_bytes());
        let note = Note::<4>::new("a=b\n");
        assert_eq!(note.name, *format!("{NOTE_NAME}\0").as_bytes());
        assert_eq!((note.name_size, note.text_size, note.kind), (8, 12, NOTE_TYPE));
        assert_eq!(mem::size_of_val(&note), 32);
        let macros = include_str!("export.rs");
        assert!(macros.contains(&format!("link_section = {NOTE_SECTION:?}")));
    }

    #[test]
    fn names_are_checked() {
        for name in ["a", "redis", "my-type-2", "a2345678901234567890123456789012"] {
            assert!(is_type_name(name), "{name}");
        }
        for name in ["", "2a", "-a", "A", "a_b", "é", "a b", "a23456789012345678901234567890123"] {
            assert!(!is_type_name(name), "{name}");
        }
    }
}
