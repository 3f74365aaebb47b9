#![doc = include_str!("../README.md")]

mod backend;
mod client;
mod config;
mod convert;
mod descriptor;
mod error;

pub use backend::DirectoryBackend;
pub use config::DirectoryConfig;
pub use descriptor::{DIRECTORY, DirectoryType};
