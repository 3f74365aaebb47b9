//! The orderly end of all plugins.

#![expect(unsafe_code, reason = "registers a function to be called when the process exits")]

use std::mem;
use std::panic::catch_unwind;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::instance::Instance;

/// How long all plugins together have to end.
const LIMIT: Duration = Duration::from_secs(5);

/// Shuts all plugins down: their stores are closed, their calls in flight completed, their threads ended. Returns
/// when that is done, and after 5 seconds at the latest. Calls made from then on fail with
/// [`Closed`](storage_core::ErrorKind::Closed).
///
/// A program need not call it: it happens when the process exits in order. Calling it again does nothing, but waits
/// for a shutdown that is under way.
pub fn shutdown_all() {
    for instance in end_all() {
        tracing::error!(target: "storage_plugin", plugin = %instance, "the plugin did not shut down within {LIMIT:?}");
    }
}

/// Shuts all plugins down; returns those that did not end in time.
///
/// This runs when the process exits. The thread's destructors have run then, so that it neither logs nor makes
/// use of channels.
fn end_all() -> Vec<&'static Instance> {
    let deadline = Instant::now() + LIMIT;
    for instance in Instance::all().filter(|instance| instance.begin_shutdown()) {
        // Each on a thread of its own, as any of them may hang. One for which there is no thread is not ended.
        let _ = thread::Builder::new().name("plugin-shutdown".to_owned()).spawn(|| instance.shutdown());
    }
    Instance::all().filter(|instance| !instance.ended().wait_until(deadline)).collect()
}

/// Has plugins shut down when the process exits.
///
/// Called after each load: handlers run in the reverse order of their registration, so that ours comes before the
/// destructors of the library's statics, which were registered while it was loaded.
pub(super) fn register() {
    // SAFETY: the function is never unloaded and does not unwind.
    if unsafe { libc::atexit(at_exit) } != 0 {
        tracing::warn!(target: "storage_plugin", "plugins will not be shut down when the process exits: no memory");
    }
}

extern "C" fn at_exit() {
    if let Err(panic) = catch_unwind(end_all) {
        // Dropping the payload could panic again.
        mem::forget(panic);
    }
}

/// Opened once, for all who wait.
#[derive(Default)]
pub(super) struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    pub(super) fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// Waits, and returns whether it is open.
    fn wait_until(&self, deadline: Instant) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.opened.wait_timeout_while(open, left, |open| !*open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
