//! The function table: what the host calls. Nothing unwinds out of here.

#![expect(unsafe_code, reason = "the host calls these functions with raw pointers")]

use std::ffi::c_void;
use std::mem;

use storage_core::Error;

use super::completion::Callback;
use super::instance::{Answer, Instance};
use super::panics::caught;
use crate::abi::{Done, Functions, Host, Message, PENDING, READY};
use crate::{Incoming, Outgoing, wire};

pub(super) static FUNCTIONS: Functions = Functions {
    struct_size: mem::size_of::<Functions>() as u32,
    reserved: 0,
    init: Some(init),
    call: Some(call),
    cancel: Some(cancel),
    call_free: Some(call_free),
    store_free: Some(store_free),
    shutdown: Some(shutdown),
};

/// # Safety
/// As the header says: `host` lives as long as the process, and `reply` is writable.
unsafe extern "C" fn init(host: *const Host, reply: *mut Message) -> i32 {
    let answer = caught(|| {
        // SAFETY: the caller's promise.
        let started = unsafe { Instance::start(host) };
        match started {
            Ok(description) => wire::ok(&description),
            Err(error) => wire::error(&error.operation("init")),
        }
    });
    let answer = answer.unwrap_or_else(|panic| wire::panicked("init", &panic));
    // SAFETY: the caller's promise.
    unsafe { give(answer, reply) }
}

/// # Safety
/// As the header says: `request` is a message that is the receiver's from now on, `done` and `token` are good until
/// the call is completed, and `call` and `reply` are writable.
unsafe extern "C" fn call(
    store: u64,
    request: *const Message,
    done: Done,
    token: *mut c_void,
    call: *mut u64,
    reply: *mut Message,
) -> i32 {
    // SAFETY: the caller's promise.
    let request = unsafe { Incoming::take(request) };
    // SAFETY: the caller's promise; the instance uses it only for a call that it leaves pending.
    let callback = unsafe { Callback::new(done, token) };
    let answer = caught(|| match Instance::get() {
        Some(instance) => instance.call(store, request, callback),
        None => Answer::Ready(wire::error(&Error::invalid("the plugin was called before `init` succeeded"))),
    });
    match answer {
        Ok(Answer::Pending(number)) => {
            // SAFETY: the caller's promise.
            unsafe { call.write(number) };
            PENDING
        }
        // SAFETY: the caller's promise.
        Ok(Answer::Ready(answer)) => unsafe { give(answer, reply) },
        // SAFETY: as above.
        Err(panic) => unsafe { give(wire::panicked("call", &panic), reply) },
    }
}

unsafe extern "C" fn cancel(call: u64) {
    quietly(|instance| instance.cancel(call));
}

unsafe extern "C" fn call_free(call: u64) {
    quietly(|instance| instance.call_free(call));
}

unsafe extern "C" fn store_free(store: u64) {
    quietly(|instance| instance.store_free(store));
}

unsafe extern "C" fn shutdown() {
    quietly(Instance::shutdown);
}

/// For functions that have no way to report a panic; the panic hook has done it.
fn quietly(work: impl FnOnce(&'static Instance)) {
    let _ = caught(|| Instance::get().map(work));
}

/// # Safety
/// `reply` is writable.
unsafe fn give(answer: Outgoing, reply: *mut Message) -> i32 {
    // SAFETY: the caller's promise. What was there is not dropped: it is the host's, and says nothing.
    unsafe { reply.write(answer.into_raw()) };
    READY
}
