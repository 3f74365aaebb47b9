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
mod list;
mod monitor;
mod names;
mod numbers;
mod query;
mod read;
mod server;
mod sort;
mod topology;
mod write;

pub use backend::MongoBackend;
pub use config::MongoConfig;
pub use descriptor::{MONGO, MongoType};
pub use monitor::PoolStats;
