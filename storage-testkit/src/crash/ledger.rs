//! What was acknowledged, against what was found.

use std::collections::BTreeMap;
use std::fmt;

use super::parent::Event;
use super::{Failure, Outcome};

/// Everything that is known of one store.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    lanes: BTreeMap<String, Known>,
    /// How many acknowledgements were counted.
    pub(super) acknowledged: u64,
}

/// What may be found of a lane: no step before `must`, none after `may`.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    must: u64,
    may: u64,
}

/// Where a store broke its promise.
#[derive(Debug)]
pub(super) enum Problem {
    /// An acknowledged write is gone.
    Lost(String),
    /// The store is damaged in another way: torn, not to be opened, holding what was never written.
    Damaged(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Lost(what) | Self::Damaged(what)) = self;
        f.write_str(what)
    }
}

impl Ledger {
    /// Takes in what a writer said that ran until its disk was cut off at `cut`, if it was. What it said later
    /// is no promise: writes end in errors then, or in syncs that the file system only pretends to have done.
    pub(super) fn read(&mut self, events: &[Event], cut: Option<u64>) -> Vec<Problem> {
        let before = |at: u64| cut.is_none_or(|cut| at < cut);
        let mut problems = Vec::new();
        for event in events {
            match event {
                Event::Found { lane, low, high } => problems.extend(self.found(lane, *low, *high)),
                Event::Acknowledged { lane, step, at } => {
                    let known = self.lanes.entry(lane.clone()).or_default();
                    // The next step may have been done before anybody could say so.
                    known.may = known.may.max(step + 1);
                    if before(*at) {
                        known.must = known.must.max(*step);
                        self.acknowledged += 1;
                    }
                }
                Event::Trouble { at, what } if before(*at) => problems.push(Problem::Damaged(what.clone())),
                Event::Trouble { .. } | Event::Ready | Event::End => {}
            }
        }
        problems
    }

    fn found(&mut self, lane: &str, low: u64, high: u64) -> Option<Problem> {
        let known = self.lanes.entry(lane.to_owned()).or_insert(Known { must: 0, may: 1 });
        let Known { must, may } = *known;
        // What has been read once after opening must be there the next time.
        *known = Known { must: low, may: may.max(low + 1) };
        if low < must {
            return Some(Problem::Lost(format!(
                "{lane}: step {must} was acknowledged, and the store holds step {low}"
            )));
        }
        (high > may).then(|| {
            Problem::Damaged(format!("{lane}: the store holds step {high}, and {may} was the last sent"))
        })
    }

    /// [`read`](Self::read) where any problem fails the test.
    pub(super) fn hold(
        &mut self,
        events: &[Event],
        cut: Option<u64>,
        when: impl fmt::Display,
    ) -> Outcome<()> {
        let problems = self.read(events, cut);
        if problems.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> = problems.iter().take(10).map(|problem| format!("\n  {problem}")).collect();
        Err(Failure::broken(format!("{when}: {} problems:{}", problems.len(), lines.concat())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(low: u64, high: u64) -> Event {
        Event::Found { lane: "put-0".to_owned(), low, high }
    }

    fn acknowledged(step: u64, at: u64) -> Event {
        Event::Acknowledged { lane: "put-0".to_owned(), step, at }
    }

    #[test]
    fn what_was_acknowledged_must_be_found_and_nothing_that_was_not_sent() {
        for (step, lost, damaged) in
            [(6, true, false), (7, false, false), (8, false, false), (9, false, true)]
        {
            let mut ledger = Ledger::default();
            assert!(
                ledger
                    .read(&[found(0, 0), Event::Ready, acknowledged(6, 1), acknowledged(7, 2)], None)
                    .is_empty()
            );
            assert_eq!(ledger.acknowledged, 2);
            let problems = ledger.read(&[found(step, step)], None);
            assert_eq!(matches!(problems[..], [Problem::Lost(_)]), lost, "{step}: {problems:?}");
            assert_eq!(matches!(problems[..], [Problem::Damaged(_)]), damaged, "{step}: {problems:?}");
        }
    }

    #[test]
    fn only_what_was_acknowledged_before_the_cut_counts() {
        let said = [
            found(0, 0),
            acknowledged(1, 10),
            acknowledged(2, 20),
            Event::Trouble { at: 30, what: "EIO".into() },
        ];
        for (low, lost) in [(0, true), (1, false), (2, false), (3, false)] {
            let mut ledger = Ledger::default();
            assert!(ledger.read(&said, Some(15)).is_empty());
            let problems = ledger.read(&[found(low, low)], None);
            assert_eq!(!problems.is_empty(), lost, "{low}: {problems:?}");
        }
    }

    #[test]
    fn what_was_found_once_must_stay() {
        let mut ledger = Ledger::default();
        assert!(ledger.read(&[found(0, 0), acknowledged(1, 1)], None).is_empty());
        assert!(ledger.read(&[found(2, 2)], None).is_empty());
        assert_eq!(ledger.read(&[found(1, 1)], None).len(), 1);
        assert!(ledger.hold(&[Event::Trouble { at: 5, what: "torn".into() }], None, "round 1").is_err());
    }
}
