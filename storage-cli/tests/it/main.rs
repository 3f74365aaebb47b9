//! The contract of the command line, checked on the real binary with stores in temporary directories.

#![allow(clippy::unwrap_used, reason = "a panic here is the failing test's message")]

mod bad_input;
mod contract;
mod docs;
mod import;
mod json;
#[cfg(target_os = "linux")]
mod memory;
mod plugins;
mod round_trip;
mod schema;
mod shell;
