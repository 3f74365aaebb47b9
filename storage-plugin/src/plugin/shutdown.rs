//! The end of a plugin, in order and in time.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use storage_core::Backend;

use super::instance::{Instance, shut_down};
use crate::wire;

// Together less than the 5 seconds of the ABI.

/// For the stores to close.
const CLOSE: Duration = Duration::from_secs(2);
/// For the threads to end.
const THREADS: Duration = Duration::from_millis(1_500);
/// For the host to take the last replies.
const REPLIES: Duration = Duration::from_millis(500);
/// For all of it, whatever may be slow besides.
const ALL: Duration = Duration::from_secs(4);

/// Closes the stores, completes all pending calls, and ends the threads. New calls are refused already.
///
/// Afterwards no call is completed, whatever a thread may still do that could not be ended.
pub(super) fn run(instance: &'static Instance) {
    let (ended, end) = mpsc::channel::<()>();
    // On a thread of its own, as the host may be slow to take replies, and as tokio refuses to end a runtime on one of
    // its own threads: the caller may be one, below `done`.
    let thread = thread::Builder::new().name("plugin-shutdown".to_owned()).spawn(move || {
        finish(instance);
        drop(ended);
    });
    match thread {
        Ok(_) => {
            // Nothing is sent: the channel is gone when the thread ends, or the time is up.
            let _ = end.recv_timeout(ALL);
        }
        Err(_) => finish(instance),
    }
    instance.gate().shut(REPLIES);
}

fn finish(instance: &'static Instance) {
    // First, so that no call can become pending, nor a store open, any more.
    let calls = instance.calls().close();
    close_all(instance, instance.stores().close());
    for call in calls {
        call.complete(|| wire::error(&shut_down()));
        call.cancel();
    }
    if let Some(runtime) = instance.take_runtime() {
        runtime.shutdown_timeout(THREADS);
    }
}

fn close_all(instance: &'static Instance, stores: Vec<Arc<dyn Backend>>) {
    let deadline = Instant::now() + CLOSE;
    let (closing, closed) = mpsc::channel::<()>();
    for store in stores {
        let closing = closing.clone();
        instance.spawn(async move {
            close(&*store).await;
            drop((store, closing));
        });
    }
    drop(closing);
    let left = deadline.saturating_duration_since(Instant::now());
    if closed.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!("not every store could be closed in {CLOSE:?}; the program ends nevertheless");
    }
}

/// Closes a store that the host cannot hear of any more.
pub(super) async fn close(store: &dyn Backend) {
    if let Err(error) = store.close().await {
        tracing::warn!(%error, "a store did not close well");
    }
}
