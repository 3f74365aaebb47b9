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
mod read;
mod script;
mod write;

pub use backend::RedisBackend;
pub use config::{RedisConfig, Secret, Serializer, Topology};
pub use descriptor::{REDIS, RedisType};
