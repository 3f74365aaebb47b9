//! The wire format: every type comes back as it went, newer messages are understood, broken ones are refused, and
//! the bytes are those of `tests/golden`.

#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod allocations;
mod evolution;
mod examples;
mod golden;
mod malformed;
mod names;
mod node;
mod roundtrip;
mod strategies;
