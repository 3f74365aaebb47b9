//! A call that the plugin will complete later, as a future.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use storage_core::{Address, Result};

use super::instance::Instance;
use super::janitor;
use super::slots::{Abandoned, Stage};
use super::store::StoreHandle;
use super::token::Token;
use crate::Incoming;
use crate::wire::Wire;

/// Waits for the reply. Dropped before that, it cancels the call.
pub(super) struct Pending<'a> {
    instance: &'static Instance,
    operation: &'static str,
    addresses: &'a [Address],
    token: Token,
    call: u64,
    store: Option<&'a Arc<StoreHandle>>,
    finished: bool,
}

impl<'a> Pending<'a> {
    pub(super) fn new(
        instance: &'static Instance,
        operation: &'static str,
        addresses: &'a [Address],
        token: Token,
        call: u64,
        store: Option<&'a Arc<StoreHandle>>,
    ) -> Self {
        Self { instance, operation, addresses, token, call, store, finished: false }
    }

    /// Reads the reply that came.
    pub(super) fn read<T: Wire>(&self, reply: Incoming) -> Result<T> {
        self.instance.read(self.operation, self.addresses, reply)
    }

    fn abandoned(&self) -> Abandoned {
        Abandoned { operation: self.operation, call: Some(self.call), store: self.store.cloned() }
    }
}

impl Future for Pending<'_> {
    type Output = Incoming;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Incoming> {
        let Some(mut stage) = self.instance.slots().stage(self.token) else { return Poll::Pending };
        match mem::replace(&mut *stage, Stage::Awaited(None)) {
            Stage::Answered(reply) => {
                drop(stage);
                self.finished = true;
                self.instance.call_free(self.call);
                self.instance.slots().free_answered(self.token);
                Poll::Ready(reply)
            }
            Stage::Awaited(Some(waker)) if waker.will_wake(cx.waker()) => {
                *stage = Stage::Awaited(Some(waker));
                Poll::Pending
            }
            former => {
                *stage = Stage::Awaited(Some(cx.waker().clone()));
                drop(stage);
                // A waker's drop is foreign code, which must not run under the lock.
                drop(former);
                Poll::Pending
            }
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if let Err(reply) = leave(self.instance, self.token, || None) {
            return janitor::finish(self.instance, self.token, self.abandoned(), reply);
        }
        // `done` may come from within `cancel`. It must not let go of the call before `cancel` has returned, and
        // does not: the call is not marked as abandoned yet.
        self.instance.cancel(self.call);
        match leave(self.instance, self.token, || Some(self.abandoned())) {
            Ok(()) => self.instance.janitor().watch(self.instance, self.token, self.operation),
            Err(reply) => janitor::finish(self.instance, self.token, self.abandoned(), reply),
        }
    }
}

/// Ends a call that was completed although it was not pending.
pub(super) fn discard(instance: &'static Instance, token: Token, operation: &'static str) {
    let abandoned = || Abandoned { operation, call: None, store: None };
    if let Err(reply) = leave(instance, token, || Some(abandoned())) {
        janitor::finish(instance, token, abandoned(), reply);
    }
}

/// Stops waiting for a reply, and marks the call as `abandoned` if there is such.
///
/// # Errors
/// The reply, if it is there already; the call is then the caller's to finish.
fn leave(
    instance: &'static Instance,
    token: Token,
    abandoned: impl FnOnce() -> Option<Abandoned>,
) -> Result<(), Incoming> {
    let Some(mut stage) = instance.slots().stage(token) else { return Ok(()) };
    let former = mem::replace(&mut *stage, Stage::Awaited(None));
    match former {
        Stage::Answered(reply) => Err(reply),
        former => {
            if let Some(abandoned) = abandoned() {
                *stage = Stage::Abandoned(abandoned);
            }
            drop(stage);
            // A waker's drop is foreign code, which must not run under the lock.
            drop(former);
            Ok(())
        }
    }
}
