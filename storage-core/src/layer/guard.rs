//! Refuses what the backend does not offer, and says whose errors they are.

use std::future::Future;

use super::{Call, Policy, Reply};
use crate::Result;

/// The innermost layer of every store.
///
/// - A request that the backend does not offer, or that is beyond its limits, fails before any I/O, with
///   the same error on every backend ([`Request::check`](crate::Request::check)).
/// - A call counts against the task's scheduling budget, so that a task that only makes calls which are
///   answered at once, such as reads of an embedded store, lets others run now and then.
/// - Errors, also those of single mutations, name the operation and the backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard;

impl Policy for Guard {
    fn name(&self) -> &'static str {
        "guard"
    }

    async fn around<T, N, F>(&self, call: Call<'_>, next: N) -> Result<T>
    where
        T: Reply,
        N: Fn() -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send,
    {
        tokio::task::coop::consume_budget().await;
        let result = match call.request.check(&call.backend.capabilities) {
            Ok(()) => next().await,
            Err(error) => Err(error),
        };
        let named = |error| call.named(error);
        result.map(|reply| reply.map_errors(named)).map_err(named)
    }
}
