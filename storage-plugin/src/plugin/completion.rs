//! Completing pending calls: each exactly once, and none after the shutdown.

#![expect(unsafe_code, reason = "calls the function by which the host is told of completed calls")]

use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::Outgoing;
use crate::abi::Done;

/// How the host is told that a call is completed.
pub(super) struct Callback {
    done: Done,
    token: *mut c_void,
}

// SAFETY: the ABI says that `done` may be called on any thread; the token is the host's, and only handed back.
unsafe impl Send for Callback {}
// SAFETY: as above; nothing is changed through a shared reference.
unsafe impl Sync for Callback {}

impl Callback {
    /// # Safety
    /// The two came with a call to which the plugin has not answered yet; they are used only if it is left pending.
    pub(super) unsafe fn new(done: Done, token: *mut c_void) -> Self {
        Self { done, token }
    }
}

/// A pending call: known to its task, and under its number to the host.
pub(super) struct Pending {
    callback: Callback,
    is_taken: AtomicBool,
    gate: &'static Gate,
    task: OnceLock<JoinHandle<()>>,
}

impl Pending {
    pub(super) fn new(callback: Callback, gate: &'static Gate) -> Self {
        Self { callback, is_taken: AtomicBool::new(false), gate, task: OnceLock::new() }
    }

    /// Says which task does the work.
    pub(super) fn set_task(&self, task: JoinHandle<()>) {
        // There is one task for a call, so that this is set once.
        let _ = self.task.set(task);
    }

    /// Completes the call, unless it is completed already or the plugin has ended.
    pub(super) fn complete(&self, reply: impl FnOnce() -> Outgoing) {
        let Some(_passing) = self.gate.pass() else { return };
        if self.is_taken.swap(true, AcqRel) {
            return;
        }
        let reply = reply().into_raw();
        // SAFETY: the call was left pending and is completed here only: nobody else can take it. The host takes the
        // message over.
        unsafe { (self.callback.done)(self.callback.token, &raw const reply) }
    }

    /// Has the future dropped, whose end then completes the call.
    pub(super) fn cancel(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// The host has let go of the call. If that was before the completion, against the rules, its token may be dead:
    /// it is not used any more.
    pub(super) fn free(&self) {
        if !self.is_taken.swap(true, AcqRel) {
            self.cancel();
        }
    }
}

/// Lets completions through until the plugin has ended.
pub(super) struct Gate {
    /// [`SHUT`], and how many are passing.
    state: AtomicU64,
}

const SHUT: u64 = 1 << 63;

/// A completion on its way.
struct Passing<'gate>(&'gate Gate);

impl Gate {
    pub(super) fn new() -> Self {
        Self { state: AtomicU64::new(0) }
    }

    fn pass(&self) -> Option<Passing<'_>> {
        let passing = Passing(self);
        (self.state.fetch_add(1, AcqRel) & SHUT == 0).then_some(passing)
    }

    /// Lets nothing more pass, and waits for what is passing, as long as `limit` allows: the host may be slow.
    pub(super) fn shut(&self, limit: Duration) {
        /// How long to wait before looking again.
        const PAUSE: Duration = Duration::from_millis(1);

        let begin = Instant::now();
        self.state.fetch_or(SHUT, AcqRel);
        while self.state.load(Acquire) != SHUT && begin.elapsed() < limit {
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::{Incoming, abi, wire};

    unsafe extern "C" fn count(token: *mut c_void, reply: *const abi::Message) {
        // SAFETY: the tests' tokens are counters that live long enough.
        let count = unsafe { &*token.cast::<AtomicUsize>() };
        count.fetch_add(1, AcqRel);
        // SAFETY: the message is the receiver's.
        drop(unsafe { Incoming::take(reply) });
    }

    fn pending(count: &AtomicUsize, gate: &'static Gate) -> Pending {
        // SAFETY: `super::tests::count` bears the token as long as the counter lives, which outlives the call.
        let callback = unsafe { Callback::new(self::count, ptr::from_ref(count).cast_mut().cast()) };
        Pending::new(callback, gate)
    }

    #[test]
    fn one_of_many_completes() {
        let (done, gate) = (AtomicUsize::new(0), Box::leak(Box::new(Gate::new())));
        for round in 1..=200 {
            let call = pending(&done, gate);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| call.complete(|| wire::ok(&())));
                }
            });
            assert_eq!(done.load(Acquire), round);
        }
        let freed = pending(&done, gate);
        freed.free();
        freed.complete(|| wire::ok(&()));
        assert_eq!(done.load(Acquire), 200, "what the host has let go of is not mentioned");
    }

    #[test]
    fn nothing_passes_a_gate_that_is_shut() {
        let (done, gate): (_, &Gate) = (AtomicUsize::new(0), Box::leak(Box::new(Gate::new())));
        let passing = gate.pass().unwrap();
        thread::scope(|scope| {
            let shut = scope.spawn(|| gate.shut(Duration::from_secs(60)));
            while gate.pass().is_some() {}
            assert!(!shut.is_finished(), "it waits for what is passing");
            drop(passing);
        });
        pending(&done, gate).complete(|| wire::ok(&()));
        assert_eq!(done.load(Acquire), 0);
        let begin = Instant::now();
        let stuck = Box::leak(Box::new(Gate::new()));
        let _passing = stuck.pass();
        stuck.shut(Duration::from_millis(20));
        assert!(begin.elapsed() < Duration::from_secs(10), "a limit is kept");
    }
}
