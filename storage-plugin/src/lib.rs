#![doc = include_str!("../README.md")]

pub mod abi;
#[cfg(feature = "host")]
pub mod host;
mod message;
pub mod note;
pub mod plugin;
mod sent;
pub mod wire;

pub use message::{Incoming, Outgoing, Received};
