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

use crate::abi::Message;
use crate::sent::Sent;

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

/// A received message that is read, and whose blobs may be kept.
#[derive(Debug)]
pub struct Received(Held);

#[derive(Debug)]
enum Held {
    /// Without a large blob, the message need not be where blobs can share it, which costs an allocation.
    Alone(Incoming),
    Shared(Arc<Incoming>),
}

/// Copying so much costs less than sharing does, and a page of small records is not kept for one of them.
const COPIED: usize = 4096;

impl Received {
    /// The message.
    pub fn message(&self) -> &Incoming {
        match &self.0 {
            Held::Alone(message) => message,
            Held::Shared(message) => message,
        }
    }

    /// A blob, if there are so many, as bytes that may outlive the message: small ones are copied, large ones keep it
    /// alive.
    #[inline]
    pub fn share(&self, position: usize) -> Option<Bytes> {
        let blob = self.message().blob(position)?;
        match &self.0 {
            Held::Shared(message) if blob.len() > COPIED => {
                Some(Bytes::from_owner(Shared { message: Arc::clone(message), position }))
            }
            _ => Some(Bytes::copy_from_slice(blob)),
        }
    }
}

impl From<Incoming> for Received {
    #[inline]
    fn from(message: Incoming) -> Self {
        let mut blobs = (0..message.blob_count()).filter_map(|position| message.blob(position));
        if blobs.any(|blob| blob.len() > COPIED) {
            return Self(Held::Shared(Arc::new(message)));
        }
        Self(Held::Alone(message))
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
pub struct Outgoing(Box<Sent>);

impl Outgoing {
    /// A message of this head, in MessagePack, and these blobs.
    pub fn new(head: impl AsRef<[u8]>, blobs: impl IntoIterator<Item = Bytes>) -> Self {
        let mut sent = Sent::new();
        sent.head.as_mut_vec().extend_from_slice(head.as_ref());
        blobs.into_iter().for_each(|blob| sent.push(&blob));
        Self(sent)
    }

    /// The MessagePack head.
    pub fn head(&self) -> &[u8] {
        self.0.head.as_slice()
    }

    /// The head, to be changed.
    pub fn head_mut(&mut self) -> &mut Vec<u8> {
        self.0.head.as_mut_vec()
    }

    /// The blobs.
    pub fn blobs(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        // SAFETY: each slice leads to bytes that this message holds, which nobody changes.
        self.0.blobs().iter().map(|blob| unsafe { std::slice::from_raw_parts(blob.data, blob.len) })
    }

    /// The message as the ABI passes it; whoever receives it releases it.
    #[inline]
    pub fn into_raw(self) -> Message {
        let owner = Box::into_raw(self.0);
        // SAFETY: the box that was just let go of, and nobody else has it yet.
        let sent = unsafe { &*owner };
        let (head, blobs) = (sent.head.as_slice(), sent.blobs());
        Message {
            head: head.as_ptr(),
            head_len: head.len(),
            blobs: blobs.as_ptr(),
            blob_count: blobs.len(),
            owner: owner.cast(),
            release: Some(release),
        }
    }

    /// The same message on the receiving side, without a border between.
    pub fn into_incoming(self) -> Incoming {
        Incoming(self.into_raw())
    }
}

impl From<Box<Sent>> for Outgoing {
    #[inline]
    fn from(sent: Box<Sent>) -> Self {
        Self(sent)
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outgoing({} bytes, {} blobs)", self.head().len(), self.blobs().len())
    }
}

unsafe extern "C" fn release(owner: *mut c_void) {
    // SAFETY: `owner` is the box that `into_raw` let go of, and a receiver releases a message once. What is dropped are
    // vectors and shared bytes, none of which panics.
    unsafe { Box::from_raw(owner.cast::<Sent>()) }.reuse();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_outlives_its_message() {
        let large = Bytes::from(vec![7; 10_000]);
        let sent = Outgoing::new([1, 2], [Bytes::from_static(b"small"), large.clone(), Bytes::new()]);
        let message = Received::from(sent.into_incoming());
        assert_eq!((message.message().head(), message.message().blob_count()), (&[1, 2][..], 3));
        let shared = message.share(1).unwrap();
        assert_eq!(shared.as_ptr(), large.as_ptr(), "large blobs are not copied");
        assert_eq!(message.share(0).unwrap(), "small");
        assert_eq!(message.share(2).unwrap(), "");
        assert!(message.share(3).is_none());
        drop(message);
        assert_eq!(shared, large);
    }

    #[test]
    fn each_number_of_blobs_arrives() {
        // Many are more than the room for small ones that a message begins with.
        for count in [0, 1, 2, 3, 10, 200] {
            let blobs: Vec<Bytes> = (0..count).map(|n| Bytes::from(vec![n; 5 * usize::from(n)])).collect();
            let message = Outgoing::new([], blobs.clone()).into_incoming();
            let arrived: Vec<_> = (0..message.blob_count()).filter_map(|n| message.blob(n)).collect();
            assert_eq!(arrived, blobs);
            assert!(message.blob(blobs.len()).is_none());
        }
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
