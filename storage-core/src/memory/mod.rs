//! The in-memory backend: the readable reference for what every operation means.

mod backend;
mod data;
mod descriptor;

pub use backend::MemoryBackend;
pub use descriptor::{MEMORY, MemoryType};
