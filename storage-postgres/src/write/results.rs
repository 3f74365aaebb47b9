//! The results of a batch while it is written in parts.

use storage_core::{Error, ErrorKind, Result, Retry, Written};

use super::Item;
use crate::error::code;

/// A result for each mutation, as far as it is known.
pub(super) struct Results<'m> {
    slots: Vec<Option<Result<Written>>>,
    /// The first error of those that came over the connection, not from a mutation.
    gone: Option<Error>,
    /// How many mutations got such an error.
    lost: usize,
    /// Whether nobody knows the outcome of one of them.
    unknown: Option<Error>,
    /// Mutations that are left for the general way.
    left: Vec<Item<'m>>,
}

impl<'m> Results<'m> {
    pub(super) fn new(count: usize) -> Self {
        let mut slots = Vec::with_capacity(count);
        slots.resize_with(count, || None);
        Self { slots, gone: None, lost: 0, unknown: None, left: Vec::new() }
    }

    /// How many mutations the batch has.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn set(&mut self, position: usize, result: Result<Written>) {
        if let Some(slot) = self.slots.get_mut(position) {
            *slot = Some(result);
        }
    }

    /// Leaves mutations for the general way.
    pub(super) fn leave(&mut self, items: &[Item<'m>]) {
        self.left.extend(items);
    }

    /// As [`leave`](Self::leave), those that have no result yet.
    pub(super) fn leave_rest(&mut self, items: &[Item<'m>]) {
        let open = |(position, _): &&Item<'m>| {
            matches!(self.slots.get(*position), Some(None))
                && !self.left.iter().any(|(left, _)| left == position)
        };
        let rest: Vec<Item<'m>> = items.iter().filter(open).copied().collect();
        self.left.extend(rest);
    }

    pub(super) fn take_left(&mut self) -> Vec<Item<'m>> {
        std::mem::take(&mut self.left)
    }

    /// Whether the database did not answer: the next part would wait as long again.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Gives the error to those mutations that have no result yet and are not left.
    pub(super) fn fail(&mut self, items: &[Item<'m>], error: &Error) {
        let mine = is_of_data(error);
        for (position, _) in items {
            let left = self.left.iter().any(|(left, _)| left == position);
            if let Some(slot @ None) = self.slots.get_mut(*position)
                && !left
            {
                *slot = Some(Err(error.clone()));
                self.lost += usize::from(!mine);
            }
        }
        if !mine {
            if error.retry() == Retry::IfIdempotent {
                self.unknown.get_or_insert_with(|| error.clone());
            }
            self.gone.get_or_insert_with(|| error.clone());
        }
    }

    /// Fails mutations that were not sent because the part before them got no answer.
    pub(super) fn not_sent(&mut self, items: &[Item<'m>]) {
        if let Some(error) = &self.gone {
            let passes =
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Busy);
            let error = if passes { error.clone().with_retry(Retry::Safe) } else { error.clone() };
            self.fail(items, &error);
        }
    }

    /// All results, or the error of the whole call where no mutation reached the database. If the outcome of one is unknown,
    /// it is that of the whole, which must not be repeated then.
    pub(super) fn finish(self) -> Result<Vec<Result<Written>>> {
        if self.lost == self.slots.len()
            && let Some(error) = self.unknown.or(self.gone)
        {
            return Err(error);
        }
        let missing = || Err(Error::new(ErrorKind::Internal, "no result for a mutation"));
        Ok(self.slots.into_iter().map(|slot| slot.unwrap_or_else(missing)).collect())
    }
}

/// Whether an error is about what a mutation carries, so that others of the batch may go through.
pub(super) fn is_of_data(error: &Error) -> bool {
    let of_server =
        code(error).is_some_and(|code| code.starts_with("22") || code == "23505" || code.starts_with("54"));
    of_server
        || code(error).is_none() && matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge)
}

#[cfg(test)]
mod tests {
    use storage_core::{Address, Effect, Mutation};

    use super::*;

    #[test]
    fn one_unknown_outcome_makes_the_whole_call_unknown() {
        let mutation = Mutation::delete(Address::new("c", "k").unwrap());
        let items: Vec<Item<'_>> = vec![(0, &mutation), (1, &mutation)];
        let lost = |retry| Error::new(ErrorKind::Unavailable, "gone").with_retry(retry);
        for (first, second, whole) in [
            (Retry::Safe, Retry::Safe, Retry::Safe),
            (Retry::Safe, Retry::IfIdempotent, Retry::IfIdempotent),
            (Retry::IfIdempotent, Retry::Safe, Retry::IfIdempotent),
        ] {
            let mut results = Results::new(2);
            results.fail(&items[..1], &lost(first));
            results.fail(&items[1..], &lost(second));
            assert_eq!(results.finish().unwrap_err().retry(), whole);
        }
        let mut results = Results::new(2);
        results.set(0, Ok(Written { version: None, effect: Effect::Done }));
        results.fail(&items, &lost(Retry::IfIdempotent));
        assert!(results.is_gone());
        let results = results.finish().unwrap();
        assert!(results[0].is_ok() && results[1].is_err(), "what was done is told");
    }
}
