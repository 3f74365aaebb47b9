//! `done`: how a plugin completes a pending call.

#![expect(unsafe_code, reason = "plugins call this function with raw pointers")]

use std::ffi::c_void;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::functions;
use super::instance::Instance;
use super::slots::Stage;
use super::token::Token;
use crate::Incoming;
use crate::abi::Message;

/// Takes the reply to the call that `token` stands for.
///
/// A token that stands for no call in flight (it was used before, or never given out) is counted and harms
/// nothing. The message is then left alone: it may be one that has been taken already.
///
/// # Safety
/// `reply` is null or points to a message, which is the receiver's from now on.
pub(super) unsafe extern "C" fn done(token: *mut c_void, reply: *const Message) {
    // What wakes a future is foreign code. A panic must not unwind into the plugin, and has been reported by the
    // panic hook.
    let completed = catch_unwind(AssertUnwindSafe(|| {
        let token = Token::from_raw(token);
        let Some(instance) = Instance::of(token) else {
            tracing::error!(target: "storage_plugin", "a plugin completed a call that was never made");
            return;
        };
        if !instance.slots().answer(token) {
            instance.conduct().violation("completed a call twice, too late, or one that was never made");
            return;
        }
        let nothing = functions::empty();
        let reply = if reply.is_null() { &raw const nothing } else { reply };
        // SAFETY: an empty message, or by the caller's promise one that is the receiver's.
        let reply = unsafe { Incoming::take(reply) };
        complete(instance, token, reply);
    }));
    if let Err(panic) = completed {
        // Dropping the payload could panic again.
        mem::forget(panic);
    }
}

fn complete(instance: &'static Instance, token: Token, reply: Incoming) {
    let Some(mut stage) = instance.slots().stage(token) else { return };
    match mem::replace(&mut *stage, Stage::Awaited(None)) {
        Stage::Abandoned(abandoned) => {
            drop(stage);
            instance.janitor().completed(instance, token, abandoned, reply);
        }
        Stage::Awaited(waker) => {
            *stage = Stage::Answered(reply);
            drop(stage);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        // Tokens are good once, so that there is no reply before this one.
        Stage::Answered(first) => *stage = Stage::Answered(first),
    }
}
