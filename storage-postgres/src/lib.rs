#![doc = include_str!("../README.md")]

mod backend;
mod changes;
mod client;
mod config;
mod connect;
mod convert;
mod descriptor;
mod error;
mod filter;
mod index;
mod layout;
mod listen;
mod numbers;
mod partition;
mod path;
mod pool;
mod query;
mod read;
pub mod schema;
mod server;
mod sort;
mod sql;
mod statements;
mod unique;
mod write;

pub use backend::PostgresBackend;
pub use changes::stop_changes;
pub use config::{PostgresConfig, Target, TlsMode};
pub use descriptor::{POSTGRES, PostgresType};
pub use partition::{Expired, KeyTime, PartitionSet};
pub use pool::{PoolSettings, PoolStats};
