//! The cases, a group to a file. `list.rs` names them.

pub mod crud;
pub mod server;
pub mod versions;
