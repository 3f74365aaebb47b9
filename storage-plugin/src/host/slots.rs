//! The table of the calls that a plugin may still complete.
//!
//! Each call to a plugin needs a token before it is made, and most are answered at once; so claiming and freeing a
//! slot costs an atomic operation or a few, and no allocation.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use super::store::StoreHandle;
use super::token::{MAX_CALLS, Token, following};
use crate::Incoming;

/// Slots in the first segment; each further one has twice as many as the one before.
const FIRST_SEGMENT: u32 = 64;
const SEGMENTS: usize = (MAX_CALLS.ilog2() - FIRST_SEGMENT.ilog2()) as usize;
/// Free lists, so that threads seldom meet at one.
const SHARDS: usize = 8;

/// The slots of one plugin. They are made as they are needed and used again, never given back.
pub(super) struct Slots {
    plugin: u16,
    /// The generation in which every slot begins: no plugin can know it.
    first_generation: u32,
    segments: [OnceLock<Box<[Slot]>>; SEGMENTS],
    fresh: AtomicU32,
    free: [FreeList; SHARDS],
}

#[repr(align(64))]
#[derive(Default)]
struct FreeList {
    /// The number of changes so far (against ABA), and below it the first slot's index and 1, or 0.
    head: AtomicU64,
}

#[repr(align(64))]
struct Slot {
    /// The generation, and below it the phase.
    word: AtomicU64,
    /// In a free list: the next slot's index and 1, or 0.
    next: AtomicU32,
    stage: Mutex<Stage>,
}

/// The slot is in a free list, or on its way there.
const FREE: u64 = 0;
/// The plugin may complete the call.
const OPEN: u64 = 1;
/// The plugin has completed the call; the slot's owner has not freed it yet.
const ANSWERED: u64 = 2;

/// Who is to hear of the reply.
pub(super) enum Stage {
    /// A future polls for it, and is woken.
    Awaited(Option<Waker>),
    /// It is there to be picked up.
    Answered(Incoming),
    /// Nobody waits: whoever brings the reply hands the call to the [`Janitor`](super::janitor::Janitor).
    Abandoned(Abandoned),
}

/// A call whose caller has gone.
pub(super) struct Abandoned {
    pub(super) operation: &'static str,
    /// What the plugin calls it; `None` if the plugin never gave it a name.
    pub(super) call: Option<u64>,
    /// Keeps the store from being freed while the call is in flight.
    pub(super) store: Option<Arc<StoreHandle>>,
}

impl Slots {
    pub(super) fn new(plugin: u16) -> Self {
        let random = RandomState::new().hash_one(plugin) as u32;
        Self {
            plugin,
            first_generation: following(random),
            segments: [const { OnceLock::new() }; SEGMENTS],
            fresh: AtomicU32::new(0),
            free: Default::default(),
        }
    }

    /// A slot for a call to be made; `None` if the table is full.
    pub(super) fn claim(&'static self) -> Option<Token> {
        let (index, slot) = match Kept::take() {
            Some(kept) if ptr::eq(kept.slots, self) => kept.into_parts(),
            _ => self.find()?,
        };
        let generation = generation(slot.word.load(Relaxed));
        slot.word.store(word(generation, OPEN), Release);
        Some(Token::new(self.plugin, index, generation))
    }

    /// A free slot, of this thread's list if it can be.
    fn find(&self) -> Option<(u32, &Slot)> {
        let own = shard();
        let index =
            (own..own + SHARDS).find_map(|shard| self.pop(&self.free[shard % SHARDS])).or_else(|| {
                self.fresh
                    .fetch_update(Relaxed, Relaxed, |n| (n < MAX_CALLS - FIRST_SEGMENT).then_some(n + 1))
                    .ok()
            })?;
        Some((index, self.slot_or_new(index)?))
    }

    /// Frees a slot whose call was not completed; returns `false`, and leaves it, if it was.
    pub(super) fn free_open(&'static self, token: Token) -> bool {
        self.free(token, OPEN)
    }

    /// Frees a slot whose call was completed, and whose reply was taken.
    pub(super) fn free_answered(&'static self, token: Token) {
        self.free(token, ANSWERED);
    }

    /// Notes that the call is completed. `false` for a token that stands for no call in flight.
    pub(super) fn answer(&self, token: Token) -> bool {
        let generation = token.generation();
        self.slot(token.index())
            .is_some_and(|slot| slot.change(word(generation, OPEN), word(generation, ANSWERED)))
    }

    /// Whether the call is still to be completed.
    pub(super) fn is_open(&self, token: Token) -> bool {
        self.slot(token.index()).is_some_and(|slot| slot.word.load(Acquire) == word(token.generation(), OPEN))
    }

    /// The stage of a call whose slot the caller owns, or has answered.
    pub(super) fn stage(&self, token: Token) -> Option<MutexGuard<'_, Stage>> {
        // A stage is one value, whole at any time, so that a panic elsewhere does not spoil it.
        self.slot(token.index()).map(|slot| slot.stage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn free(&'static self, token: Token, phase: u64) -> bool {
        let (index, generation) = (token.index(), token.generation());
        let Some(slot) = self.slot(index) else { return false };
        let is_freed = slot.change(word(generation, phase), word(following(generation), FREE));
        if is_freed {
            Kept { slots: self, index, slot }.keep();
        }
        is_freed
    }

    fn pop(&self, list: &FreeList) -> Option<u32> {
        let mut head = list.head.load(Acquire);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let next = self.slot(index)?.next.load(Relaxed);
            match list.head.compare_exchange_weak(head, moved(head, next), AcqRel, Acquire) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    fn push(&self, list: &FreeList, index: u32, slot: &Slot) {
        let mut head = list.head.load(Relaxed);
        loop {
            slot.next.store(head as u32, Relaxed);
            match list.head.compare_exchange_weak(head, moved(head, index + 1), AcqRel, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn slot(&self, index: u32) -> Option<&Slot> {
        let (segment, offset) = place(index);
        self.segments.get(segment)?.get()?.get(offset)
    }

    fn slot_or_new(&self, index: u32) -> Option<&Slot> {
        let (segment, offset) = place(index);
        let slots = self.segments.get(segment)?.get_or_init(|| {
            let slot = || Slot {
                word: AtomicU64::new(word(self.first_generation, FREE)),
                next: AtomicU32::new(0),
                stage: Mutex::new(Stage::Awaited(None)),
            };
            (0..FIRST_SEGMENT << segment).map(|_| slot()).collect()
        });
        slots.get(offset)
    }
}

impl Slot {
    fn change(&self, from: u64, to: u64) -> bool {
        self.word.compare_exchange(from, to, AcqRel, Relaxed).is_ok()
    }
}

/// The free slot that this thread used last, for its next call: most calls are answered at once, and then no other
/// thread is needed to agree on who has which. Dropped, also with its thread, it goes to a free list.
struct Kept {
    slots: &'static Slots,
    index: u32,
    slot: &'static Slot,
}

thread_local! {
    static KEPT: Cell<Option<Kept>> = const { Cell::new(None) };
}

impl Kept {
    fn take() -> Option<Self> {
        // A thread that ends keeps nothing.
        KEPT.try_with(Cell::take).ok().flatten()
    }

    fn keep(self) {
        let _ = KEPT.try_with(|kept| kept.set(Some(self)));
    }

    fn into_parts(self) -> (u32, &'static Slot) {
        let parts = (self.index, self.slot);
        mem::forget(self);
        parts
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.slots.push(&self.slots.free[shard()], self.index, self.slot);
    }
}

fn place(index: u32) -> (usize, usize) {
    let shifted = index + FIRST_SEGMENT;
    let segment = shifted.ilog2() - FIRST_SEGMENT.ilog2();
    (segment as usize, (shifted - (FIRST_SEGMENT << segment)) as usize)
}

fn word(generation: u32, phase: u64) -> u64 {
    u64::from(generation) << 2 | phase
}

fn generation(word: u64) -> u32 {
    (word >> 2) as u32
}

/// A list's head with another first slot, and one more change.
fn moved(head: u64, first: u32) -> u64 {
    ((head >> 32).wrapping_add(1) << 32) | u64::from(first)
}

/// The free list of this thread.
fn shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(THREADS.fetch_add(1, Relaxed) % SHARDS);
        }
        shard.get()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    fn leaked(plugin: u16) -> &'static Slots {
        Box::leak(Box::new(Slots::new(plugin)))
    }

    #[test]
    fn a_token_is_good_once() {
        let slots = leaked(3);
        let token = slots.claim().unwrap();
        assert!(slots.is_open(token));
        assert!(slots.answer(token));
        assert!(!slots.answer(token), "twice");
        assert!(!slots.free_open(token), "it was answered");
        slots.free_answered(token);
        assert!(!slots.answer(token), "late");
        let again = slots.claim().unwrap();
        assert_eq!(again.index(), token.index());
        assert_ne!(again, token);
        assert!(!slots.answer(token), "a token of the slot's former use");
        assert!(slots.free_open(again));
        for made_up in [0, 1, 63, 64, u32::MAX] {
            assert!(!slots.answer(Token::new(3, made_up & (MAX_CALLS - 1), made_up & 0xfff)));
        }
    }

    #[test]
    fn every_index_has_its_place() {
        let mut places = HashSet::new();
        for index in 0..10_000 {
            let (segment, offset) = place(index);
            assert!(offset < (FIRST_SEGMENT << segment) as usize);
            assert!(places.insert((segment, offset)));
        }
        assert!(place(MAX_CALLS - FIRST_SEGMENT - 1).0 < SEGMENTS);
    }

    #[test]
    fn threads_never_share_a_slot() {
        let slots = leaked(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for round in 0..20_000 {
                        let held: Vec<_> = (0..round % 5 + 1).map(|_| slots.claim().unwrap()).collect();
                        for token in held {
                            assert!(slots.answer(token), "another thread had the same token");
                            slots.free_answered(token);
                        }
                    }
                });
            }
        });
        assert!(slots.fresh.load(Relaxed) <= 8 * 5 * 2, "freed slots are used again");
    }

    #[test]
    fn a_slot_outlives_the_thread_that_kept_it() {
        let (slots, others) = (leaked(0), leaked(1));
        let of_thread = |work: fn(&'static Slots, &'static Slots) -> u32| {
            thread::spawn(move || work(slots, others)).join().unwrap()
        };
        let claim_and_free = |slots: &'static Slots, _| {
            let token = slots.claim().unwrap();
            assert!(slots.free_open(token));
            token.index()
        };
        for _ in 0..100 {
            assert_eq!(of_thread(claim_and_free), 0);
        }
        // A slot of the one table is never handed out by the other.
        let in_turn = |slots: &'static Slots, others: &'static Slots| {
            for (slots, plugin) in [(slots, 0), (others, 1), (slots, 0)] {
                let token = slots.claim().unwrap();
                assert_eq!((token.plugin(), token.index()), (plugin, 0));
                assert!(slots.free_open(token));
            }
            0
        };
        of_thread(in_turn);
        assert_eq!((slots.fresh.load(Relaxed), others.fresh.load(Relaxed)), (1, 1));
    }

    #[test]
    fn a_full_table_says_so() {
        let slots = leaked(0);
        slots.fresh.store(MAX_CALLS - FIRST_SEGMENT, Relaxed);
        assert!(slots.claim().is_none());
    }
}
