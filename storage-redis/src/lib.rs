#![doc = include_str!("../README.md")]

mod backend;
mod client;
mod config;
mod connect;
mod convert;
mod descriptor;
mod error;
mod layout;
mod link;
mod query;
mod raw;
mod read;
mod script;
mod server;
mod write;

pub use backend::RedisBackend;
pub use config::{Format, RawValues, RedisConfig, Serializer, Topology};
pub use descriptor::{REDIS, RedisType};
pub use raw::RawBackend;
