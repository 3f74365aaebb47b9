//! The parts of a message to be sent, and the room they are in.

#![expect(unsafe_code, reason = "pointers to the parts, which the ABI wants, may go to other threads")]

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rmp::encode::ByteBuf;
use smallvec::SmallVec;

use crate::abi::Slice;

/// A message's parts, which stay alive and in their place until its receiver releases it.
pub(crate) struct Sent {
    pub(crate) head: ByteBuf,
    /// The small blobs, one after the other.
    packed: Vec<u8>,
    blobs: SmallVec<[Blob; 1]>,
    /// Where the blobs are, once the message is on its way.
    slices: Slices,
}

enum Blob {
    Packed { at: usize, len: usize },
    Shared(Bytes),
}

struct Slices(SmallVec<[Slice; 1]>);

// SAFETY: the pointers lead to blobs that the same message owns, and that any thread may read and drop.
unsafe impl Send for Slices {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Slices {}

/// Copying so much costs less than sharing does, of which the last part is done on another thread.
const PACKED: usize = 1024;

impl Sent {
    /// An empty message, in room that was used before if there is such.
    pub(crate) fn new() -> Box<Self> {
        /// The head of a request for one record, and of the reply, without growing.
        const HEAD: usize = 160;

        let own = SPARE.try_with(Cell::take).ok().flatten();
        own.or_else(|| pool(Vec::pop)).unwrap_or_else(|| {
            Box::new(Self {
                head: ByteBuf::with_capacity(HEAD),
                packed: Vec::new(),
                blobs: SmallVec::new_const(),
                slices: Slices(SmallVec::new_const()),
            })
        })
    }

    /// Adds a blob.
    #[inline]
    pub(crate) fn push(&mut self, blob: &Bytes) {
        self.blobs.push(if blob.len() <= PACKED {
            let at = self.packed.len();
            self.packed.extend_from_slice(blob);
            Blob::Packed { at, len: blob.len() }
        } else {
            Blob::Shared(blob.clone())
        });
    }

    pub(crate) fn blob_count(&self) -> usize {
        self.blobs.len()
    }

    pub(crate) fn blobs(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.blobs.iter().map(|blob| blob.bytes(&self.packed))
    }

    /// Where the blobs are: for good, as long as no more are added.
    #[inline]
    pub(crate) fn slices(&mut self) -> &[Slice] {
        let Self { packed, blobs, slices: Slices(slices), .. } = self;
        slices.clear();
        slices.extend(blobs.iter().map(|blob| {
            let bytes = blob.bytes(packed);
            Slice { data: bytes.as_ptr(), len: bytes.len() }
        }));
        slices
    }

    /// Keeps the message's room for another one, but not what it held.
    pub(crate) fn reuse(mut self: Box<Self>) {
        /// Room for a merged batch of small records. A large message is rare, and its room is not held for it.
        const KEPT: usize = 16 << 10;

        let head = self.head.as_mut_vec();
        head.clear();
        self.packed.clear();
        self.blobs.clear();
        self.slices.0.clear();
        let lists = self.blobs.capacity() * size_of::<Blob>() + self.slices.0.capacity() * size_of::<Slice>();
        if head.capacity() + self.packed.capacity() + lists > KEPT {
            return;
        }
        // A thread that ends has no next message.
        let former = SPARE.try_with(|spare| spare.replace(Some(self))).ok().flatten();
        // A reply is written by one thread and released by another, which would keep the room from the first.
        if let Some(former) = former {
            pool(|pool| {
                if pool.len() < POOLED {
                    pool.push(former)
                }
            });
        }
    }
}

impl Blob {
    #[inline]
    fn bytes<'a>(&'a self, packed: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Packed { at, len } => packed.get(*at..at + len).unwrap_or_default(),
            Self::Shared(bytes) => bytes,
        }
    }
}

thread_local! {
    /// The room that this thread released last.
    static SPARE: Cell<Option<Box<Sent>>> = const { Cell::new(None) };
}

/// So much room is kept beside that of each thread.
const POOLED: usize = 16;

fn pool<R>(work: impl FnOnce(&mut Vec<Box<Sent>>) -> R) -> R {
    static POOL: Mutex<Vec<Box<Sent>>> = Mutex::new(Vec::new());

    work(&mut POOL.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn small_blobs_are_packed_and_large_ones_shared() {
        let small = |byte| Bytes::from(vec![byte; 100]);
        let large = Bytes::from(vec![7; PACKED + 1]);
        let mut sent = Sent::new();
        for blob in [small(1), large.clone(), Bytes::new(), small(2)] {
            sent.push(&blob);
        }
        assert!(sent.blobs().eq([&[1; 100][..], &large, &[], &[2; 100]]));
        let [first, second, _, last] = sent.slices() else { panic!("there are four") };
        assert_eq!(second.data, large.as_ptr(), "large blobs are not copied");
        assert_eq!(last.data, first.data.wrapping_add(100), "small ones are in one place");
    }

    #[test]
    fn room_goes_from_those_who_release_to_those_who_write() {
        const ROUNDS: usize = 200;
        let (send, released) = mpsc::sync_channel::<Box<Sent>>(0);
        let writer = thread::spawn(move || {
            let used = (0..ROUNDS).filter(|_| {
                let mut sent = Sent::new();
                let head = sent.head.as_mut_vec();
                let is_used = head.capacity() >= 1_000;
                head.resize(1_000, 1);
                send.send(sent).unwrap();
                is_used
            });
            used.count()
        });
        released.iter().for_each(Sent::reuse);
        // Other tests take from the same pool.
        assert!(writer.join().unwrap() > ROUNDS / 2);
        let mut sent = Sent::new();
        sent.push(&Bytes::from_static(b"secret"));
        sent.reuse();
        let sent = Sent::new();
        assert_eq!((sent.head.as_slice().len(), sent.packed.len(), sent.blob_count()), (0, 0, 0));
    }

    #[test]
    fn the_room_of_large_messages_is_not_kept() {
        thread::spawn(|| {
            let mut sent = Sent::new();
            sent.head.as_mut_vec().resize(1 << 20, 1);
            sent.reuse();
            assert!(SPARE.take().is_none());
        })
        .join()
        .unwrap();
    }
}
