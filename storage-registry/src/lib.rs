#![doc = include_str!("../README.md")]

#[cfg(all(feature = "plugins", not(target_os = "linux")))]
compile_error!("the feature `plugins` is for Linux, whose libraries it loads: build without it");

mod backends;
mod config;
mod entry;
mod event;
mod open;
#[cfg(feature = "plugins")]
pub mod plugins;
mod redact;
mod registry;
mod resolve;

pub use config::StoreConfig;
pub use entry::{Descriptor, Origin, Status, TypeEntry};
pub use event::RegistryEvent;
pub use open::{OpenPlan, open, open_backend};
pub use registry::Registry;
pub use resolve::TypeRef;
pub use semver;
pub use storage_core::*;
#[cfg(feature = "file")]
pub use storage_file as file;
#[cfg(feature = "redis")]
pub use storage_redis as redis;
