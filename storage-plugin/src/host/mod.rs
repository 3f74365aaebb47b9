//! The host's side: loading plugins, and calling them.
//!
//! A [`Plugin`] is a [`TypeDescriptor`](storage_core::TypeDescriptor), and what it opens is a
//! [`Backend`](storage_core::Backend), so that a registry and a program need not know that they are not linked in.
//!
//! The host trusts a plugin to keep to the ABI where memory is concerned; there is no other way within one process.
//! What it can check, it checks: tokens of calls are numbers that are good once, replies are read with suspicion,
//! and calls that are dropped are cancelled, watched, and let go of only when the plugin has completed them.

mod asked;
mod backend;
mod completion;
mod conduct;
mod descriptor;
mod exit;
mod functions;
mod glibc;
mod instance;
mod janitor;
mod library;
mod log;
mod pending;
mod plugin;
mod slots;
mod store;
mod token;

pub use exit::shutdown_all;
pub use glibc::glibc_version;
pub use plugin::{LoadLimits, Plugin};
