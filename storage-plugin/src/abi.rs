//! The C ABI as Rust types: what `include/storage_plugin.h` says, whose comments bind. A test compiles the header
//! and compares sizes and offsets.

use std::ffi::{c_char, c_void};

/// `STORPLUG`, read as a big-endian number: the first field of every descriptor.
pub const MAGIC: u64 = 0x5354_4f52_504c_5547;
/// A host loads plugins of its own major only.
pub const ABI_MAJOR: u16 = 1;
/// Minors only append.
pub const ABI_MINOR: u16 = 0;

/// The reply is there.
pub const READY: i32 = 0;
/// The reply comes by `done`.
pub const PENDING: i32 = 1;

/// The one symbol that a plugin exports, of the type [`Entry`].
pub const ENTRY: &str = "storage_plugin_entry";

/// Bytes that belong to somebody else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// The first byte; may be null if there are none.
    pub data: *const u8,
    /// The number of bytes.
    pub len: usize,
}

/// A message; the receiver owns it. See [`Incoming`](crate::Incoming) and [`Outgoing`](crate::Outgoing).
#[repr(C)]
#[derive(Debug)]
pub struct Message {
    /// The MessagePack head.
    pub head: *const u8,
    /// Its size in bytes.
    pub head_len: usize,
    /// The blobs.
    pub blobs: *const Slice,
    /// How many there are.
    pub blob_count: usize,
    /// What `release` is called with.
    pub owner: *mut c_void,
    /// Called by the receiver exactly once, unless null.
    pub release: Option<unsafe extern "C" fn(owner: *mut c_void)>,
}

/// Completes a pending call.
pub type Done = unsafe extern "C" fn(token: *mut c_void, reply: *const Message);

/// What the host offers to the plugin.
#[repr(C)]
#[derive(Debug)]
pub struct Host {
    /// The size of this struct as the host was compiled.
    pub struct_size: u32,
    /// The host's ABI.
    pub abi_major: u16,
    /// The host's ABI.
    pub abi_minor: u16,
    /// The first argument of the functions.
    pub context: *mut c_void,
    /// The highest log level that is of interest, 0 to 5.
    pub log_level: unsafe extern "C" fn(context: *mut c_void) -> u32,
    /// Hands an event to the host's log.
    pub log:
        unsafe extern "C" fn(context: *mut c_void, level: u32, target: Slice, message: Slice, fields: Slice),
}

/// `init` of [`Functions`].
pub type Init = unsafe extern "C" fn(host: *const Host, reply: *mut Message) -> i32;
/// `call` of [`Functions`].
pub type Call = unsafe extern "C" fn(
    store: u64,
    request: *const Message,
    done: Done,
    token: *mut c_void,
    call: *mut u64,
    reply: *mut Message,
) -> i32;

/// What the plugin offers to the host. The functions are optional here because the host checks for null.
#[repr(C)]
#[derive(Debug)]
pub struct Functions {
    /// The size of this struct as the plugin was compiled.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Called once, first.
    pub init: Option<Init>,
    /// Does what a request asks.
    pub call: Option<Call>,
    /// Gives up a pending call.
    pub cancel: Option<unsafe extern "C" fn(call: u64)>,
    /// Lets go of a pending call, after `done`.
    pub call_free: Option<unsafe extern "C" fn(call: u64)>,
    /// Lets go of a store.
    pub store_free: Option<unsafe extern "C" fn(store: u64)>,
    /// Ends everything.
    pub shutdown: Option<unsafe extern "C" fn()>,
}

/// What the entry symbol returns.
#[repr(C)]
#[derive(Debug)]
pub struct Descriptor {
    /// [`MAGIC`].
    pub magic: u64,
    /// The size of this struct as the plugin was compiled.
    pub struct_size: u32,
    /// The plugin's ABI.
    pub abi_major: u16,
    /// The plugin's ABI.
    pub abi_minor: u16,
    /// The type's name.
    pub name: *const c_char,
    /// The type's version, as semver.
    pub version: *const c_char,
    /// What made it.
    pub build: *const c_char,
    /// The function table.
    pub functions: *const Functions,
}

/// The type of the entry symbol.
pub type Entry = unsafe extern "C" fn() -> *const Descriptor;

/// The name of the ELF note.
pub const NOTE_NAME: &str = "storage";
/// The type of the ELF note.
pub const NOTE_TYPE: u32 = 1;
/// The section of the ELF note.
pub const NOTE_SECTION: &str = ".note.storage_plugin";
