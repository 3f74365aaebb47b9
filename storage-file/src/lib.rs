#![doc = include_str!("../README.md")]

mod backend;
mod client;
mod committer;
mod config;
mod convert;
mod descriptor;
mod disk;
mod error;
mod index;
mod open;
mod query;
mod schema;
mod snapshot;
mod verify;
mod writer;

pub use backend::FileBackend;
pub use config::{CheckOnOpen, Durability, FileConfig};
pub use descriptor::{FILE, FileType};
