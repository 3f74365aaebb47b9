//! Messages as owned Rust values: what was received, and what is to be sent.

#![expect(
    unsafe_code,
    reason = "messages cross the ABI as raw pointers; this module alone makes and reads them"
)]

use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use bytes::Bytes;

use crate::abi::{Message, Slice};

/// A message that was received: released exactly once, when dropped.
pub struct Incoming(Message);

// SAFETY: the ABI says that the receiver may read and release a message on any thread.
unsafe impl Send for Incoming {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Incoming {}

impl Incoming {
    /// Takes a message over.
    ///
    /// # Safety
    /// `message` points to a message as the ABI describes it, of which nobody else makes use from now on: its
    /// pointers are good until `release` is called.
    pub unsafe fn take(message: *const Message) -> Self {
        // SAFETY: the caller's promise; the struct is plain data, so that reading it moves it.
        Self(unsafe { ptr::read(message) })
    }

    /// The MessagePack head.
    pub fn head(&self) -> &[u8] {
        if self.0.head.is_null() {
            return &[];
        }
        // SAFETY: not null, and the sender promised `head_len` readable bytes until the release in `drop`.
        unsafe { std::slice::from_raw_parts(self.0.head, self.0.head_len) }
    }

    /// How many blobs there are.
    pub fn blob_count(&self) -> usize {
        if self.0.blobs.is_null() { 0 } else { self.0.blob_count }
    }

    /// A blob, if there are so many.
    pub fn blob(&self, position: usize) -> Option<&[u8]> {
        if position >= self.blob_count() {
            return None;
        }
        // SAFETY: `blobs` is not null and has `blob_count` slices until the release in `drop`.
        let slice = unsafe { &*self.0.blobs.wrapping_add(position) };
        if slice.data.is_null() {
            return Some(&[]);
        }
        // SAFETY: not null, and the sender promised `len` readable bytes until the release in `drop`.
        Some(unsafe { std::slice::from_raw_parts(slice.data, slice.len) })
    }

    /// A blob as shared bytes: small ones are copied, large ones keep the message alive.
    pub fn share(self: &Arc<Self>, position: usize) -> Option<Bytes> {
        /// Copying so much costs less than sharing does, and a page of small records is not kept for one of them.
        const COPIED: usize = 4096;

        let blob = self.blob(position)?;
        if blob.len() <= COPIED {
            return Some(Bytes::copy_from_slice(blob));
        }
        Some(Bytes::from_owner(Shared { message: Arc::clone(self), position }))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(release) = self.0.release {
            // SAFETY: the message is this value's own, and this is the only place that releases it.
            unsafe { release(self.0.owner) }
        }
    }
}

impl fmt::Debug for Incoming {
    /// Only sizes: messages hold values, and these may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incoming({} bytes, {} blobs)", self.head().len(), self.blob_count())
    }
}

struct Shared {
    message: Arc<Incoming>,
    position: usize,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.message.blob(self.position).unwrap_or_default()
    }
}

/// A message to be sent.
#[derive(Default)]
pub struct Outgoing {
    /// The MessagePack head.
    pub head: Vec<u8>,
    /// The blobs.
    pub blobs: Vec<Bytes>,
}

/// What keeps the parts of a sent message alive until its receiver releases it.
struct Sent {
    _head: Vec<u8>,
    _blobs: Vec<Bytes>,
    slices: Vec<Slice>,
}

impl Outgoing {
    /// The message as the ABI passes it; whoever receives it releases it.
    pub fn into_raw(self) -> Message {
        let (head, head_len) = (self.head.as_ptr(), self.head.len());
        let slices = self.blobs.iter().map(|blob| Slice { data: blob.as_ptr(), len: blob.len() }).collect();
        let sent = Box::new(Sent { _head: self.head, _blobs: self.blobs, slices });
        let (blobs, blob_count) = (sent.slices.as_ptr(), sent.slices.len());
        Message {
            head,
            head_len,
            blobs,
            blob_count,
            owner: Box::into_raw(sent).cast(),
            release: Some(release),
        }
    }

    /// The same message on the receiving side, without a border between.
    pub fn into_incoming(self) -> Incoming {
        Incoming(self.into_raw())
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outgoing({} bytes, {} blobs)", self.head.len(), self.blobs.len())
    }
}

unsafe extern "C" fn release(owner: *mut c_void) {
    // SAFETY: `owner` is the box that `into_raw` let go of, and a receiver releases a message once. Dropping it
    // drops vectors and shared bytes, none of which panics.
    drop(unsafe { Box::from_raw(owner.cast::<Sent>()) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_outlives_its_message() {
        let large = Bytes::from(vec![7; 10_000]);
        let sent = Outgoing {
            head: vec![1, 2],
            blobs: vec![Bytes::from_static(b"small"), large.clone(), Bytes::new()],
        };
        let message = Arc::new(sent.into_incoming());
        assert_eq!((message.head(), message.blob_count()), (&[1, 2][..], 3));
        let shared = message.share(1).unwrap();
        assert_eq!(shared.as_ptr(), large.as_ptr(), "large blobs are not copied");
        assert_eq!(message.share(0).unwrap(), "small");
        assert_eq!(message.share(2).unwrap(), "");
        assert!(message.share(3).is_none());
        drop(message);
        assert_eq!(shared, large);
    }

    #[test]
    fn null_pointers_are_nothing() {
        let empty = Message {
            head: ptr::null(),
            head_len: 9,
            blobs: ptr::null(),
            blob_count: 9,
            owner: ptr::null_mut(),
            release: None,
        };
        // SAFETY: all pointers are null, and nothing is to be released.
        let message = unsafe { Incoming::take(&raw const empty) };
        assert_eq!((message.head(), message.blob_count()), (&[][..], 0));
    }
}
