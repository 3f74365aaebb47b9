//! The results of a batch while it is written in parts.

use storage_core::{Error, ErrorKind, Result, Retry, Written};

use super::Item;

/// What became of one mutation.
pub(super) enum Step {
    /// It is done, or it is not and here is why.
    Settled(Result<Written>),
    /// Nothing was done, and the record has to be looked at to say why.
    Left,
}

/// A result for each mutation, as far as it is known.
pub(super) struct Results<'m> {
    slots: Vec<Option<Result<Written>>>,
    left: Vec<Item<'m>>,
    /// The first error of those that are not about a mutation.
    gone: Option<Error>,
    /// The first error of those that leave an outcome unknown.
    unknown: Option<Error>,
    /// How many mutations got an error that is not about them.
    lost: usize,
}

impl<'m> Results<'m> {
    pub(super) fn new(count: usize) -> Self {
        let mut slots = Vec::with_capacity(count);
        slots.resize_with(count, || None);
        Self { slots, left: Vec::new(), gone: None, unknown: None, lost: 0 }
    }

    pub(super) fn take(&mut self, item: Item<'m>, step: Step) {
        let result = match step {
            Step::Settled(result) => result,
            Step::Left => return self.left.push(item),
        };
        if let Err(error) = &result
            && !is_of_mutation(error)
        {
            self.lost += 1;
            if error.retry() == Retry::IfIdempotent {
                self.unknown.get_or_insert_with(|| error.clone());
            }
            self.gone.get_or_insert_with(|| error.clone());
        }
        if let Some(slot) = self.slots.get_mut(item.0) {
            *slot = Some(result);
        }
    }

    /// The error of a database that does not answer: the next request would wait as long again.
    pub(super) fn gone(&self) -> Option<Error> {
        self.gone.as_ref().map(not_sent)
    }

    /// The mutations that were left, in their order.
    pub(super) fn take_left(&mut self) -> Vec<Item<'m>> {
        let mut left = std::mem::take(&mut self.left);
        left.sort_unstable_by_key(|(position, _)| *position);
        left
    }

    pub(super) fn is_done(&self, position: usize) -> bool {
        matches!(self.slots.get(position), Some(Some(Ok(_))))
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

/// Whether an error is about what a mutation carries or meets, so that others of the batch may go through.
pub(super) fn is_of_mutation(error: &Error) -> bool {
    use ErrorKind::*;

    matches!(
        error.kind(),
        InvalidInput
            | NotFound
            | PreconditionFailed
            | Conflict
            | TypeMismatch
            | OutOfRange
            | TooLarge
            | Corrupt
            | Internal
    )
}

/// The error of a request that was not sent because one before it failed with `error`.
pub(super) fn not_sent(error: &Error) -> Error {
    let passes = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Busy);
    if passes { error.clone().with_retry(Retry::Safe) } else { error.clone() }
}

#[cfg(test)]
mod tests {
    use storage_core::{Address, Effect, Mutation};

    use super::*;

    #[test]
    fn one_unknown_outcome_makes_the_whole_call_unknown() {
        let mutation = Mutation::delete(Address::new("c", "k").unwrap());
        let lost = |retry| Step::Settled(Err(Error::new(ErrorKind::Unavailable, "gone").with_retry(retry)));
        for (first, second, whole) in [
            (Retry::Safe, Retry::Safe, Retry::Safe),
            (Retry::Safe, Retry::IfIdempotent, Retry::IfIdempotent),
            (Retry::IfIdempotent, Retry::Safe, Retry::IfIdempotent),
        ] {
            let mut results = Results::new(2);
            results.take((0, &mutation), lost(first));
            results.take((1, &mutation), lost(second));
            assert_eq!(results.finish().unwrap_err().retry(), whole);
        }
        let mut results = Results::new(2);
        results.take((0, &mutation), Step::Settled(Ok(Written { version: None, effect: Effect::Done })));
        results.take((1, &mutation), lost(Retry::IfIdempotent));
        assert_eq!(results.gone().map(|error| error.retry()), Some(Retry::Safe), "what follows is not sent");
        let results = results.finish().unwrap();
        assert!(results[0].is_ok() && results[1].is_err(), "what was done is told");
    }
}
