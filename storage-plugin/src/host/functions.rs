//! The functions of a plugin, checked to be there, as safe ones.

#![expect(unsafe_code, reason = "calls what the plugin's function table points to")]

use std::mem;
use std::ptr::{self, NonNull};

use super::completion;
use super::token::Token;
use crate::abi::{self, Message};
use crate::{Incoming, Outgoing};

/// A plugin's functions. Whoever makes one has promised that they do what the ABI says.
pub(super) struct Functions {
    init: abi::Init,
    call: abi::Call,
    cancel: unsafe extern "C" fn(u64),
    call_free: unsafe extern "C" fn(u64),
    store_free: unsafe extern "C" fn(u64),
    shutdown: unsafe extern "C" fn(),
}

/// How a plugin took a call.
pub(super) enum Answer {
    /// The reply is there.
    Ready(Incoming),
    /// The reply comes later; the number is the plugin's name for the call.
    Pending(u64),
    /// A code that the ABI does not know.
    Unknown(i32),
}

impl Functions {
    /// Reads a function table.
    ///
    /// # Errors
    /// Says what is wrong with it.
    ///
    /// # Safety
    /// `table` is null, or points to a table of functions that begins with its size, and that is constant and
    /// keeps to the ABI for as long as the process lives.
    pub(super) unsafe fn read(table: *const abi::Functions) -> Result<Self, String> {
        let Some(table) = NonNull::new(table.cast_mut()).filter(|table| table.is_aligned()) else {
            return Err("its function table is null or misaligned".to_owned());
        };
        // SAFETY: not null and aligned, and the caller promised that a table begins with its size.
        let size = unsafe { table.cast::<u32>().read() };
        let known = mem::size_of::<abi::Functions>();
        if (size as usize) < known {
            return Err(format!("its function table has {size} bytes; ABI 1.0 has {known}"));
        }
        // SAFETY: as above, and the table is at least as large as what is read.
        let table = unsafe { table.read() };
        let missing = |name: &str| format!("its function `{name}` is null");
        Ok(Self {
            init: table.init.ok_or_else(|| missing("init"))?,
            call: table.call.ok_or_else(|| missing("call"))?,
            cancel: table.cancel.ok_or_else(|| missing("cancel"))?,
            call_free: table.call_free.ok_or_else(|| missing("call_free"))?,
            store_free: table.store_free.ok_or_else(|| missing("store_free"))?,
            shutdown: table.shutdown.ok_or_else(|| missing("shutdown"))?,
        })
    }

    /// Called once, first.
    ///
    /// # Errors
    /// The code, if it is not the one for success.
    pub(super) fn init(&self, host: &'static abi::Host) -> Result<Incoming, i32> {
        let mut reply = empty();
        // SAFETY: the function keeps to the ABI, `host` lives as long as the process, and `reply` is writable.
        let code = unsafe { (self.init)(host, &raw mut reply) };
        if code != abi::READY {
            return Err(code);
        }
        // SAFETY: the plugin filled `reply` in, or left it empty; either way it is nobody else's.
        Ok(unsafe { Incoming::take(&raw const reply) })
    }

    /// Makes a call; until the token is freed, the plugin may complete it.
    pub(super) fn call(&self, store: u64, request: Outgoing, token: Token) -> Answer {
        let request = request.into_raw();
        let (mut call, mut reply) = (0, empty());
        let done: abi::Done = completion::done;
        // SAFETY: the function keeps to the ABI: it takes the request over, and writes to `call` and `reply` only
        // before it returns. `done` bears any token.
        let code = unsafe {
            (self.call)(store, &raw const request, done, token.to_raw(), &raw mut call, &raw mut reply)
        };
        match code {
            // SAFETY: the plugin filled `reply` in, or left it empty; either way it is nobody else's.
            abi::READY => Answer::Ready(unsafe { Incoming::take(&raw const reply) }),
            abi::PENDING => Answer::Pending(call),
            code => Answer::Unknown(code),
        }
    }

    /// Gives up a pending call. At most once, and not after `call_free`.
    pub(super) fn cancel(&self, call: u64) {
        // SAFETY: the function keeps to the ABI.
        unsafe { (self.cancel)(call) }
    }

    /// Lets go of a pending call that is completed. Once.
    pub(super) fn call_free(&self, call: u64) {
        // SAFETY: the function keeps to the ABI.
        unsafe { (self.call_free)(call) }
    }

    /// Lets go of a store. Once.
    pub(super) fn store_free(&self, store: u64) {
        // SAFETY: the function keeps to the ABI.
        unsafe { (self.store_free)(store) }
    }

    /// Ends the plugin. Once.
    pub(super) fn shutdown(&self) {
        // SAFETY: the function keeps to the ABI.
        unsafe { (self.shutdown)() }
    }
}

/// What a plugin that fills in nothing has answered.
pub(super) fn empty() -> Message {
    Message {
        head: ptr::null(),
        head_len: 0,
        blobs: ptr::null(),
        blob_count: 0,
        owner: ptr::null_mut(),
        release: None,
    }
}
