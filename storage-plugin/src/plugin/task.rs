//! The work of a call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::completion::Pending;
use super::panics::{caught, discard};
use crate::{Outgoing, wire};

/// A future that gives the reply of a call, and never panics: a panic is a reply too.
pub(super) struct Work {
    operation: &'static str,
    /// Taken when it has ended.
    future: Option<Pin<Box<dyn Future<Output = Outgoing> + Send>>>,
}

impl Work {
    pub(super) fn new(
        operation: &'static str,
        future: impl Future<Output = Outgoing> + Send + 'static,
    ) -> Self {
        Self { operation, future: Some(Box::pin(future)) }
    }

    /// Once ready, the future is gone: the host, when it hears of the reply, may rely on the work being over.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outgoing> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let reply = match caught(|| future.as_mut().poll(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(reply)) => reply,
            Err(panic) => wire::panicked(self.operation, &panic),
        };
        discard(self.future.take());
        Poll::Ready(reply)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        discard(self.future.take());
    }
}

/// The task of a pending call: however it ends, the call is completed.
pub(super) struct Task {
    work: Work,
    call: Arc<Pending>,
}

impl Task {
    pub(super) fn new(work: Work, call: Arc<Pending>) -> Self {
        Self { work, call }
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.work.poll(context).map(|reply| self.call.complete(|| reply))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        discard(self.work.future.take());
        self.call.complete(|| wire::cancelled(self.work.operation));
    }
}
