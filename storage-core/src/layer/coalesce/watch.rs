//! Lets no call wait for good behind flights that nobody polls.

use std::sync::Weak;
use std::time::Duration;

use tokio::runtime::Id;
use tokio::time::Instant;

use super::lane::{Kind, Shared};

/// A call that waited this long no longer minds the window. Flights in their callers' futures move only
/// while those are polled, and a task may hold some that it does not poll while it awaits another.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Looks after the calls that wait, for those of one runtime, whose end it does not outlive. One timer for all
/// of them, since one for each is a good part of what a merged call costs.
pub(super) struct Watch<K: Kind> {
    /// Weak, so that a store that is let go of is gone at once.
    pub(super) lane: Weak<Shared<K>>,
    pub(super) runtime: Id,
}

impl<K: Kind> Watch<K> {
    /// Sends what has waited too long, until no call waits.
    pub(super) async fn keep(mut self, since: Instant) {
        let mut next = since + PATIENCE;
        loop {
            tokio::time::sleep_until(next).await;
            let Some(lane) = self.lane.upgrade() else { return };
            match lane.send_overdue(self.runtime) {
                Some(at) => next = at,
                None => {
                    // Given up already, and there may be a new one by now.
                    self.lane = Weak::new();
                    return;
                }
            }
        }
    }
}

impl<K: Kind> Drop for Watch<K> {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.upgrade() {
            lane.unwatched(self.runtime);
        }
    }
}
