//! The registry through its public interface, with types made for the tests.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;
mod open;
mod registry;
mod resolve;
