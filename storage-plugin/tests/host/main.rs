//! The host's side against plugins that behave well and ones that do not. They are function tables within this test,
//! so that each can misbehave to order; `shutdown_all`, which ends all plugins of a process, has a test of its own.

#![cfg(feature = "host")]
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]
#![expect(unsafe_code, reason = "the fake plugin is on the other side of the C ABI")]

mod calls;
mod fake;
mod load;
mod log;
mod misbehaviour;
mod races;
