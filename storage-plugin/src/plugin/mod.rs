//! The plugin's side: any [`TypeDescriptor`](storage_core::TypeDescriptor) as the C function table.
//!
//! [`export_backend!`](crate::export_backend) is the one line of a backend crate;
//! [`export_plugin!`](crate::export_plugin) is for a library that is nothing but a plugin.
//!
//! A plugin has a tokio runtime of its own, on whose threads its backends run. A panic in a backend becomes an error,
//! a call that is cancelled has its future dropped, and every pending call is completed exactly once, by the shutdown
//! at the latest. What the backend logs with `tracing` goes to the host's log.

mod anchor;
mod completion;
mod entry;
mod export;
mod functions;
mod instance;
mod log;
mod panics;
mod shutdown;
mod table;
mod task;

#[doc(hidden)]
pub use entry::{Export, Note};
#[doc(hidden)]
pub use storage_core;
