//! The layers over a backend that fails, waits, counts and panics as it is told.
#![allow(missing_docs, reason = "a test program has no readers of docs")]
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod coalesce;
mod deadlines;
mod fake;
mod policies;
mod stack;
mod telemetry;
mod time_to_live;

use storage_core::{Address, Batch, Mutation, Value};

fn at(key: &str) -> Address {
    Address::new("users", key).unwrap()
}

fn put(key: &str) -> Batch {
    Batch::independent(vec![Mutation::put(at(key), Value::bytes("x"))])
}

fn increment(key: &str) -> Batch {
    Batch::independent(vec![Mutation::increment(at(key), "n", 1)])
}
