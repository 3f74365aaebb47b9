//! Checks what a library's entry symbol returned.

#![expect(unsafe_code, reason = "reads what a foreign pointer points to")]

use std::ffi::c_char;
use std::mem;
use std::ptr::NonNull;
use std::str;

use semver::Version as Semver;
use smol_str::SmolStr;

use super::functions::Functions;
use crate::abi::{self, ABI_MAJOR, MAGIC};

const MAX_NAME: usize = 32;
const MAX_TEXT: usize = 256;

/// A descriptor that holds what it must.
pub(super) struct Checked {
    pub(super) name: SmolStr,
    pub(super) version: Semver,
    pub(super) build: String,
    pub(super) abi: (u16, u16),
    pub(super) functions: Functions,
}

/// Reads and checks a descriptor. Of one that is larger than ABI 1.0 says, the part that 1.0 knows is read.
///
/// # Errors
/// Says what is wrong with it.
///
/// # Safety
/// The pointer is null, or points to the descriptor of a library that is never unloaded: it begins with the magic
/// number, the size, and the ABI, and if these fit, what they announce is there, constant, and keeps to the ABI.
pub(super) unsafe fn check(descriptor: *const abi::Descriptor) -> Result<Checked, String> {
    let Some(descriptor) = NonNull::new(descriptor.cast_mut()) else {
        return Err("its entry symbol returned null".to_owned());
    };
    if !descriptor.is_aligned() {
        return Err("its descriptor is misaligned".to_owned());
    }
    // SAFETY: not null and aligned, and the caller promised that a descriptor begins with this number.
    let magic = unsafe { descriptor.cast::<u64>().read() };
    if magic != MAGIC {
        return Err("its descriptor does not begin with the magic number of storage plugins".to_owned());
    }
    // SAFETY: the magic number is right, so that size and ABI follow it.
    let header = unsafe { descriptor.cast::<Header>().read() };
    if header.abi_major != ABI_MAJOR {
        return Err(format!(
            "it is built for ABI {}.{}, and this program loads {ABI_MAJOR}.x only: get a build for that",
            header.abi_major, header.abi_minor
        ));
    }
    let known = mem::size_of::<abi::Descriptor>();
    if (header.struct_size as usize) < known {
        return Err(format!("its descriptor has {} bytes; ABI 1.0 has {known}", header.struct_size));
    }
    // SAFETY: as above, and the descriptor is at least as large as what is read.
    let found = unsafe { descriptor.read() };
    // SAFETY: the caller's promise about what the descriptor announces.
    let name = unsafe { text("name", found.name, MAX_NAME) }?;
    // SAFETY: as above.
    let version = unsafe { text("version", found.version, MAX_TEXT) }?;
    // SAFETY: as above.
    let build = unsafe { text("build", found.build, MAX_TEXT) }?;
    if !is_type_name(name) {
        return Err(format!(
            "its name {name:?} is not valid: it begins with a-z and has at most 32 characters of a-z 0-9 -"
        ));
    }
    let version =
        Semver::parse(version).map_err(|error| format!("its version {version:?} is no semver: {error}"))?;
    // SAFETY: the caller's promise about what the descriptor announces.
    let functions = unsafe { Functions::read(found.functions) }?;
    Ok(Checked {
        name: SmolStr::new(name),
        version,
        build: build.to_owned(),
        abi: (found.abi_major, found.abi_minor),
        functions,
    })
}

/// How a descriptor begins in every ABI.
#[repr(C)]
struct Header {
    magic: u64,
    struct_size: u32,
    abi_major: u16,
    abi_minor: u16,
}

/// The text at a pointer, which ends with a NUL.
///
/// # Safety
/// The pointer is null or points to bytes up to a NUL or to `limit` of them, which never change.
unsafe fn text(what: &str, text: *const c_char, limit: usize) -> Result<&'static str, String> {
    if text.is_null() {
        return Err(format!("its {what} is null"));
    }
    // SAFETY: each byte is read only if all before it were not the last.
    let len = (0..=limit).find(|&position| unsafe { *text.wrapping_add(position) } == 0);
    let Some(len) = len else {
        return Err(format!("its {what} is longer than {limit} bytes"));
    };
    // SAFETY: so many bytes were just read, and they never change.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    str::from_utf8(bytes).map_err(|_| format!("its {what} is not UTF-8"))
}

fn is_type_name(name: &str) -> bool {
    let head = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    head && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
