//! Plain strings under plain keys, for data that other programs own.

mod backend;
mod names;
mod strings;

pub use backend::RawBackend;
pub(crate) use names::overlap;
