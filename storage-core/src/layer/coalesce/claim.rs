//! Which calls may be under way together, and what they weigh.

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

/// The hash of a record's address: if two collide, one waits without need, and that is all.
pub(super) type Claim = u64;

/// The records that calls are about, if order matters, and what the calls weigh: the places of a window that they could use.
#[derive(Default)]
pub(super) struct Claims {
    /// How many items are about each. The hashes are random already, so a cheap hash of them will do.
    records: FxHashMap<Claim, usize>,
    /// Items of calls whose order is no matter.
    unordered: usize,
}

impl Claims {
    /// The records, since items on one record go together or one after the other, and the items whose order is no matter.
    pub(super) fn weight(&self) -> usize {
        self.records.len() + self.unordered
    }

    /// Whether there is no item whose order matters.
    pub(super) fn is_unordered(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether a call with these claims has to wait for one that is in.
    pub(super) fn conflict(&self, claims: &[Claim]) -> bool {
        claims.iter().any(|claim| self.records.contains_key(claim))
    }

    /// Adds a call of so many items.
    pub(super) fn add(&mut self, claims: &[Claim], items: usize) {
        if claims.is_empty() {
            self.unordered += items;
        }
        for claim in claims {
            *self.records.entry(*claim).or_default() += 1;
        }
    }

    /// Removes what was added.
    pub(super) fn remove(&mut self, claims: &[Claim], items: usize) {
        if claims.is_empty() {
            self.unordered -= items;
        }
        for claim in claims {
            if let Entry::Occupied(mut items) = self.records.entry(*claim) {
                *items.get_mut() -= 1;
                if *items.get() == 0 {
                    items.remove();
                }
            }
        }
    }
}
