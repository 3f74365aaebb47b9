//! The answer to a call that was made, as a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Context, Poll};

use futures_util::FutureExt;
use storage_core::Result;

use super::instance::{Instance, Started};
use super::pending::Pending;
use super::store::StoreHandle;
use crate::wire::Wire;

/// An answer that is there, or that is waited for.
///
/// The call is made before there is this future, which need not have room for the request.
pub(super) enum Asked<'a, T> {
    /// Taken when it is polled for.
    Answered(Option<Result<T>>),
    Pending(Pending<'a>),
}

impl<'a, T: Wire> Asked<'a, T> {
    pub(super) fn new(
        instance: &'static Instance,
        operation: &'static str,
        started: Result<Started>,
        store: Option<&'a Arc<StoreHandle>>,
    ) -> Self {
        match started {
            Ok(Started::Ready(reply)) => Self::Answered(Some(instance.read(operation, reply))),
            Ok(Started::Pending { token, call }) => {
                Self::Pending(Pending::new(instance, operation, token, call, store))
            }
            Err(error) => Self::Answered(Some(Err(error))),
        }
    }
}

// Nothing in it is pinned.
impl<T> Unpin for Asked<'_, T> {}

impl<T: Wire> Future for Asked<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        match &mut *self {
            Self::Answered(answer) => answer.take().map_or(Poll::Pending, Poll::Ready),
            Self::Pending(pending) => {
                let reply = task::ready!(pending.poll_unpin(context));
                Poll::Ready(pending.read(reply))
            }
        }
    }
}
