//! What messages hold: the values of `storage-core` as MessagePack heads and blobs. The format stands in
//! `docs/plugin-abi.md`.
//!
//! [`Wire`] is both directions of one kind of value. Requests and replies are made of it:
//!
//! ```
//! use storage_core::{Address, Request};
//! use storage_plugin::wire::{self, Call};
//!
//! let keys = [Address::new("users", "ada")?];
//! let message = wire::request(&Request::Get(&keys)).into_incoming();
//! assert!(matches!(wire::call(message)?, Call::Store(_)));
//! # Ok::<(), storage_core::Error>(())
//! ```

mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

use storage_core::Result;

/// A value that messages carry.
pub trait Wire: Sized {
    /// Appends the value to a message.
    fn write(&self, to: &mut Writer);

    /// Reads the value.
    ///
    /// # Errors
    /// [`Internal`](storage_core::ErrorKind::Internal) for what is not such a value; the message says what was
    /// expected and where. It never panics, whatever the bytes are.
    fn read(from: &mut Reader<'_>) -> Result<Self>;
}
