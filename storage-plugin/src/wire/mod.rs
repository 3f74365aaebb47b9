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

#[macro_use]
mod map;
mod admin;
mod call;
mod capabilities;
mod description;
mod elements;
mod error;
mod malformed;
mod mutations;
mod primitives;
mod queries;
mod reader;
mod reply;
mod request;
mod values;
mod writer;

pub use call::{Call, StoreCall, call};
pub use description::{Description, Opened};
pub use elements::Elements;
pub use error::Failure;
pub use reader::Reader;
pub use reply::{answer, cancelled, error, ok, panicked, reply, reply_about};
pub use request::{config_from_url, open, request, validate};
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
