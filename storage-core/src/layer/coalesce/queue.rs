//! The calls that wait for their turn.

use std::collections::VecDeque;

use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::claim::{Claim, Claims};
use super::lane::Kind;
use crate::{Limits, Result};

/// Mostly one, which takes no memory of its own.
pub(super) type Few<T> = SmallVec<[T; 1]>;

pub(super) struct Waiting<K: Kind> {
    pub(super) items: Few<K::Item>,
    pub(super) bytes: usize,
    /// The records whose order matters.
    pub(super) claims: Few<Claim>,
    pub(super) reply: oneshot::Sender<Result<Vec<K::Reply>>>,
    /// For the replies. The caller makes it, as it is the caller who lets go of it: an allocator is slow where one thread
    /// makes what another lets go of.
    pub(super) room: Vec<K::Reply>,
    pub(super) since: Instant,
    /// The caller's: it lives at least as long as the caller waits.
    pub(super) runtime: Handle,
}

/// Calls that go together.
pub(super) struct Load<K: Kind> {
    pub(super) calls: Vec<Waiting<K>>,
    /// Those of all calls.
    pub(super) claims: Few<Claim>,
    pub(super) items: usize,
}

/// Calls in the order in which they came.
pub(super) struct Queue<K: Kind> {
    calls: VecDeque<Waiting<K>>,
    /// Items and bytes of all calls.
    len: usize,
    bytes: usize,
    /// The records that calls are about.
    claims: Claims,
}

impl<K: Kind> Queue<K> {
    pub(super) fn new() -> Self {
        Self { calls: VecDeque::new(), len: 0, bytes: 0, claims: Claims::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Since when each call has waited, the longest first.
    pub(super) fn since(&self) -> impl Iterator<Item = Instant> {
        self.calls.iter().map(|call| call.since)
    }

    pub(super) fn push(&mut self, call: Waiting<K>) {
        self.len += call.items.len();
        self.bytes += call.bytes;
        self.claims.add(&call.claims, call.items.len());
        self.calls.push_back(call);
    }

    /// Takes the next load, in order: all that fits and weighs no more than `share`, or one call, save what would
    /// overtake another call on a record, also one of those in flight. `None` if nothing can go.
    pub(super) fn take(&mut self, limits: &Limits, flying: &Claims, share: usize) -> Option<Load<K>> {
        let load =
            if self.is_free(limits, share) { self.take_all() } else { self.pick(limits, flying, share) };
        (!load.calls.is_empty()).then_some(load)
    }

    /// Whether all calls fit into one batch, and their order is no matter.
    fn is_free(&self, limits: &Limits, share: usize) -> bool {
        self.claims.is_unordered()
            && self.len <= limits.batch_len.min(share)
            && self.bytes <= limits.batch_bytes
    }

    /// Without a look at each call: others wait for the lock meanwhile.
    fn take_all(&mut self) -> Load<K> {
        let items = std::mem::take(&mut self.len);
        (self.bytes, self.claims) = (0, Claims::default());
        let room = VecDeque::with_capacity(self.calls.len());
        Load { calls: std::mem::replace(&mut self.calls, room).into(), claims: Few::new(), items }
    }

    fn pick(&mut self, limits: &Limits, flying: &Claims, share: usize) -> Load<K> {
        let mut load = Load { calls: Vec::new(), claims: Few::new(), items: 0 };
        let (mut skipped, mut held, mut taken) = (Vec::new(), Claims::default(), Claims::default());
        let mut bytes = 0;
        while let Some(mut call) = self.calls.pop_front() {
            let items = call.items.len();
            if flying.conflict(&call.claims) || held.conflict(&call.claims) {
                held.add(&call.claims, items);
                skipped.push(call);
                continue;
            }
            let weight = taken.weight();
            taken.add(&call.claims, items);
            let fits = load.items + items <= limits.batch_len
                && bytes + call.bytes <= limits.batch_bytes
                && (taken.weight() <= share || taken.weight() == weight);
            if !fits && !load.calls.is_empty() {
                self.calls.push_front(call);
                break;
            }
            load.items += items;
            bytes += call.bytes;
            self.claims.remove(&call.claims, items);
            load.claims.append(&mut call.claims);
            load.calls.push(call);
        }
        for call in skipped.into_iter().rev() {
            self.calls.push_front(call);
        }
        self.len -= load.items;
        self.bytes -= bytes;
        load
    }
}
