//! The parts of a message to be sent, and the room they are in.

#![expect(unsafe_code, reason = "pointers to the parts, which the ABI wants, may go to other threads")]

use std::cell::Cell;
use std::mem;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rmp::encode::ByteBuf;
use smallvec::SmallVec;

use crate::abi::Slice;

/// A message's parts, which stay alive and in their place until its receiver releases it.
pub(crate) struct Sent {
    pub(crate) head: ByteBuf,
    /// The small blobs, one after the other. Never grows beyond its room, which would move them.
    packed: Vec<u8>,
    /// What was packed before, when the room was used up.
    full: Vec<Vec<u8>>,
    shared: SmallVec<[Bytes; 1]>,
    blobs: Blobs,
}

/// Where the blobs are: in [`packed`](Sent::packed), [`full`](Sent::full), or [`shared`](Sent::shared).
struct Blobs(SmallVec<[Slice; 1]>);

// SAFETY: the pointers lead to blobs that the same message owns, and that any thread may read and drop.
unsafe impl Send for Blobs {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Blobs {}

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
                full: Vec::new(),
                shared: SmallVec::new_const(),
                blobs: Blobs(SmallVec::new_const()),
            })
        })
    }

    /// Adds a blob.
    #[inline]
    pub(crate) fn push(&mut self, blob: &Bytes) {
        let data = if blob.len() <= PACKED { self.pack(blob) } else { self.share(blob) };
        self.blobs.0.push(Slice { data, len: blob.len() });
    }

    /// Copies a blob, and returns where to.
    fn pack(&mut self, blob: &[u8]) -> *const u8 {
        if self.packed.capacity() - self.packed.len() < blob.len() {
            let more = Vec::with_capacity((self.packed.capacity() * 2).max(PACKED));
            let full = mem::replace(&mut self.packed, more);
            if !full.is_empty() {
                self.full.push(full);
            }
        }
        let at = self.packed.len();
        self.packed.extend_from_slice(blob);
        self.packed.as_ptr().wrapping_add(at)
    }

    /// Keeps a blob where it is.
    fn share(&mut self, blob: &Bytes) -> *const u8 {
        self.shared.push(blob.clone());
        blob.as_ptr()
    }

    /// The blobs, as the ABI has them.
    pub(crate) fn blobs(&self) -> &[Slice] {
        &self.blobs.0
    }

    /// Keeps the message's room for another one, but not what it held.
    pub(crate) fn reuse(mut self: Box<Self>) {
        /// Room for a merged batch of small records. A large message is rare, and its room is not held for it.
        const KEPT: usize = 16 << 10;

        let head = self.head.as_mut_vec();
        head.clear();
        let blobs =
            self.blobs.0.capacity() * size_of::<Slice>() + self.shared.capacity() * size_of::<Bytes>();
        if head.capacity() + self.packed.capacity() + blobs > KEPT {
            return;
        }
        self.packed.clear();
        self.full.clear();
        self.shared.clear();
        self.blobs.0.clear();
        let former = SPARE.try_with(|spare| spare.replace(Some(self))).ok().flatten();
        // A reply is written by one thread and released by another, which would keep the room from the first.
        if let Some(former) = former {
            pool(|pool| {
                if pool.len() < POOLED {
                    pool.push(former);
                }
            });
        }
    }
}

thread_local! {
    /// The room that this thread released last.
    static SPARE: Cell<Option<Box<Sent>>> = const { Cell::new(None) };
}

/// So much room is kept beside that of each thread.
const POOLED: usize = 16;

#[expect(clippy::vec_box, reason = "messages come and go as boxes")]
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
        for blob in [&small(1), &large, &Bytes::new(), &small(2)] {
            sent.push(blob);
        }
        let [first, second, _, last] = sent.blobs() else { panic!("there are four") };
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
        assert_eq!((sent.head.as_slice().len(), sent.packed.len(), sent.blobs().len()), (0, 0, 0));
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
