//! The calls that wait for their turn.

use std::collections::{HashMap, HashSet, VecDeque};

use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::lane::Kind;
use crate::{Limits, Result};

/// Mostly one, which takes no memory of its own.
pub(super) type Few<T> = SmallVec<[T; 1]>;

pub(super) struct Waiting<K: Kind> {
    pub(super) items: Few<K::Item>,
    pub(super) bytes: usize,
    /// The records whose order matters, by hash: if two collide, one waits without need, and that is all.
    pub(super) keys: Few<u64>,
    pub(super) reply: oneshot::Sender<Result<Few<K::Reply>>>,
    pub(super) since: Instant,
    /// The caller's: it lives at least as long as the caller waits.
    pub(super) runtime: Handle,
}

/// Calls that go together.
pub(super) struct Load<K: Kind> {
    pub(super) calls: Vec<Waiting<K>>,
    /// Those of all calls.
    pub(super) keys: Few<u64>,
}

/// Calls in the order in which they came.
pub(super) struct Queue<K: Kind> {
    calls: VecDeque<Waiting<K>>,
    /// Items and bytes of all calls.
    len: usize,
    bytes: usize,
    /// The records that calls are about, and how often.
    keys: HashMap<u64, usize>,
}

impl<K: Kind> Queue<K> {
    pub(super) fn new() -> Self {
        Self { calls: VecDeque::new(), len: 0, bytes: 0, keys: HashMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn has(&self, key: u64) -> bool {
        self.keys.contains_key(&key)
    }

    /// Since when each call has waited, the longest first.
    pub(super) fn since(&self) -> impl Iterator<Item = Instant> {
        self.calls.iter().map(|call| call.since)
    }

    pub(super) fn push(&mut self, call: Waiting<K>) {
        self.len += call.items.len();
        self.bytes += call.bytes;
        for key in &call.keys {
            *self.keys.entry(*key).or_default() += 1;
        }
        self.calls.push_back(call);
    }

    /// Takes the next load, in order: all that fits, save what would overtake another call on a record, also one of
    /// those in flight. `None` if nothing can go.
    pub(super) fn take(&mut self, limits: &Limits, flying: &HashSet<u64>) -> Option<Load<K>> {
        let load = if self.is_free(limits) { self.take_all() } else { self.pick(limits, flying) };
        (!load.calls.is_empty()).then_some(load)
    }

    /// Whether all calls fit into one batch, and their order is no matter.
    fn is_free(&self, limits: &Limits) -> bool {
        self.keys.is_empty() && self.len <= limits.batch_len && self.bytes <= limits.batch_bytes
    }

    /// Without a look at each call: others wait for the lock meanwhile.
    fn take_all(&mut self) -> Load<K> {
        (self.len, self.bytes) = (0, 0);
        let room = VecDeque::with_capacity(self.calls.len());
        Load { calls: std::mem::replace(&mut self.calls, room).into(), keys: Few::new() }
    }

    fn pick(&mut self, limits: &Limits, flying: &HashSet<u64>) -> Load<K> {
        let mut load = Load { calls: Vec::new(), keys: Few::new() };
        let (mut skipped, mut held) = (Vec::new(), HashSet::new());
        let (mut len, mut bytes) = (0, 0);
        while let Some(mut call) = self.calls.pop_front() {
            if call.keys.iter().any(|key| flying.contains(key) || held.contains(key)) {
                held.extend(call.keys.iter().copied());
                skipped.push(call);
                continue;
            }
            let fits = len + call.items.len() <= limits.batch_len && bytes + call.bytes <= limits.batch_bytes;
            if !fits && !load.calls.is_empty() {
                self.calls.push_front(call);
                break;
            }
            len += call.items.len();
            bytes += call.bytes;
            self.forget(&call.keys);
            load.keys.append(&mut call.keys);
            load.calls.push(call);
        }
        for call in skipped.into_iter().rev() {
            self.calls.push_front(call);
        }
        self.len -= len;
        self.bytes -= bytes;
        load
    }

    fn forget(&mut self, keys: &[u64]) {
        for key in keys {
            if let Some(times) = self.keys.get_mut(key) {
                *times -= 1;
                if *times == 0 {
                    self.keys.remove(key);
                }
            }
        }
    }
}
