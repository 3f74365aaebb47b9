//! A timer that is there before those of the calls.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// Holds a timer as long as calls are made.
///
/// Backends give their requests deadlines. A runtime without any other timer wakes the thread that waits for its
/// sockets at each of these, to tell it until when it may wait; here, where all timers are those of calls, that would
/// be once for nearly every call, at the cost of a system call and a wake-up for nothing. A timer that is due before
/// them all spares it.
#[derive(Default)]
pub(super) struct Anchor {
    is_held: AtomicBool,
    used: Notify,
}

/// Shorter than the deadlines of most requests, long enough to be due seldom.
const HELD: Duration = Duration::from_secs(1);

impl Anchor {
    /// Says that a call begins.
    pub(super) fn cast(&self) {
        if !self.is_held.load(Relaxed) && !self.is_held.swap(true, Relaxed) {
            self.used.notify_one();
        }
    }

    /// Holds the timer, whenever there are calls. Without any it sleeps.
    pub(super) async fn hold(&self) {
        loop {
            self.used.notified().await;
            sleep(HELD).await;
            self.is_held.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_held_while_calls_are_made_and_not_longer() {
        let anchor = Arc::new(Anchor::default());
        tokio::spawn({
            let anchor = Arc::clone(&anchor);
            async move { anchor.hold().await }
        });
        for _ in 0..3 {
            anchor.cast();
            sleep(HELD / 2).await;
            anchor.cast();
            assert!(anchor.is_held.load(Relaxed));
            sleep(HELD).await;
            assert!(!anchor.is_held.load(Relaxed), "the second call of the same time asks for nothing");
        }
    }
}
