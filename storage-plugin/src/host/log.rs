//! What the host offers to a plugin: its log.

#![expect(unsafe_code, reason = "plugins call these functions with raw pointers")]

use std::borrow::Cow;
use std::ffi::c_void;
use std::fmt::Write as _;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rmp::decode::{read_map_len, read_str_from_slice};
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::abi::{self, Slice};

/// The most bytes of a message, or of all fields, that reach the log.
const MAX_TEXT: usize = 16 * 1024;

/// A `storage_host` and what its functions need.
pub(super) struct HostTable(abi::Host);

// SAFETY: the table is constant, and its context points to a constant text; both are never freed.
unsafe impl Send for HostTable {}
// SAFETY: as above.
unsafe impl Sync for HostTable {}

impl HostTable {
    /// The table for one plugin, never freed: the plugin keeps it as long as the process lives.
    pub(super) fn leak(plugin: String) -> &'static Self {
        let plugin: &'static String = Box::leak(Box::new(plugin));
        Box::leak(Box::new(Self(abi::Host {
            struct_size: mem::size_of::<abi::Host>() as u32,
            abi_major: abi::ABI_MAJOR,
            abi_minor: abi::ABI_MINOR,
            context: (&raw const *plugin).cast_mut().cast(),
            log_level,
            log,
        })))
    }

    pub(super) fn raw(&'static self) -> &'static abi::Host {
        &self.0
    }
}

unsafe extern "C" fn log_level(_: *mut c_void) -> u32 {
    match LevelFilter::current().into_level() {
        None => 0,
        Some(Level::ERROR) => 1,
        Some(Level::WARN) => 2,
        Some(Level::INFO) => 3,
        Some(Level::DEBUG) => 4,
        Some(Level::TRACE) => 5,
    }
}

/// # Safety
/// `context` is the host table's, and each slice is null or has as many readable bytes as it says.
unsafe extern "C" fn log(context: *mut c_void, level: u32, origin: Slice, message: Slice, fields: Slice) {
    // A subscriber is foreign code. A panic must not unwind into the plugin, and has been reported by the panic
    // hook; its payload is leaked because dropping it could panic again.
    let logged = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the context points to the leaked name. One that is null is answered with an empty name.
        let plugin = unsafe { context.cast::<String>().as_ref() }.map_or("", String::as_str);
        // SAFETY: the caller's promise, for each of the three.
        let origin = text(unsafe { bytes(&origin) });
        // SAFETY: as above.
        let message = text(unsafe { bytes(&message) });
        // SAFETY: as above.
        let fields = shown(unsafe { bytes(&fields) });
        event(level, plugin, &origin, &message, &fields);
    }));
    if let Err(panic) = logged {
        mem::forget(panic);
    }
}

fn event(level: u32, plugin: &str, origin: &str, message: &str, fields: &str) {
    // Empty fields are left out.
    let fields = (!fields.is_empty()).then_some(fields);
    macro_rules! at {
        ($level:expr) => {
            tracing::event!(target: "storage_plugin", $level, plugin, origin, fields, "{message}")
        };
    }
    match level {
        1 => at!(Level::ERROR),
        3 => at!(Level::INFO),
        4 => at!(Level::DEBUG),
        5 => at!(Level::TRACE),
        // An unknown level must not hide the event.
        _ => at!(Level::WARN),
    }
}

/// # Safety
/// The slice is null or has as many readable bytes as it says, at least as long as it is borrowed.
unsafe fn bytes(slice: &Slice) -> &[u8] {
    if slice.data.is_null() || slice.len > isize::MAX as usize {
        return &[];
    }
    // SAFETY: not null, and the caller's promise.
    unsafe { std::slice::from_raw_parts(slice.data, slice.len) }
}

/// The beginning of a text, with a mark for each byte that is not UTF-8.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)])
}

/// A MessagePack map of strings as `key=value, key=value`, as far as it can be read.
fn shown(map: &[u8]) -> String {
    let mut shown = String::new();
    if map.is_empty() {
        return shown;
    }
    let mut rest = map;
    let Ok(len) = read_map_len(&mut rest) else { return "(malformed)".to_owned() };
    for _ in 0..len {
        let Ok((key, after)) = read_str_from_slice(rest) else { return shown + "(malformed)" };
        let Ok((value, after)) = read_str_from_slice(after) else { return shown + "(malformed)" };
        if shown.len() + key.len() + value.len() > MAX_TEXT {
            return shown + "…";
        }
        let comma = if shown.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(shown, "{comma}{key}={value}");
        rest = after;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_shown_as_far_as_they_can_be_read() {
        assert_eq!(shown(b""), "");
        assert_eq!(shown(b"\x82\xa1a\xa11\xa1b\xa22x"), "a=1, b=2x");
        assert_eq!(shown(b"\x82\xa1a\xa11\xa1b"), "a=1(malformed)");
        assert_eq!(shown(b"\xdf\xff\xff\xff\xff"), "(malformed)");
        assert_eq!(shown(b"\xc0"), "(malformed)");
        assert_eq!(shown(b"\x81\xa1\xff\xa11"), "(malformed)");
    }

    #[test]
    fn texts_are_bounded() {
        assert_eq!(text(b"ab\xffc"), "ab\u{fffd}c");
        assert_eq!(text(&vec![b'a'; MAX_TEXT * 2]).len(), MAX_TEXT);
    }

    #[test]
    fn null_slices_and_bad_levels_are_logged() {
        let null = Slice { data: std::ptr::null(), len: 17 };
        for level in [0, 2, 6, u32::MAX] {
            // SAFETY: null slices are allowed, as is the context.
            unsafe { log(std::ptr::null_mut(), level, null, null, null) };
        }
    }
}
