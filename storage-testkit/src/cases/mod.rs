//! The cases, a group to a file. `list.rs` names them.

pub mod batches;
pub mod concurrency;
pub mod counters;
pub mod crud;
pub mod errors_and_life;
pub mod expiry;
pub mod lists;
pub mod query;
pub mod scan;
pub mod server;
pub mod text;
pub mod transactions;
pub mod versions;
