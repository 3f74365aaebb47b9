//! A deadline for every call.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Call, Policy, Reply};
use crate::{Error, ErrorKind, Request, Result};

/// Gives up on a call when its deadline passes.
///
/// A call that took too long fails with [`Timeout`](ErrorKind::Timeout), and what is below is dropped:
/// every atomic step of it is done or not done. Whether a write was done is not known then, so only
/// idempotent requests are repeated ([`Retry::IfIdempotent`](crate::Retry::IfIdempotent)).
///
/// Durations are written like `30s`, `1m 30s` or `250ms`; `null` is no deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeout {
    /// For reads: get, scan, keys, query, list range, count, collections, indexes, health and stats. For
    /// the feed of changes, on top of the time it is asked to wait. Default: 30 s.
    #[serde(with = "crate::duration::optional")]
    pub read: Option<Duration>,
    /// For writes, and for dropping an index and closing. Default: 30 s.
    #[serde(with = "crate::duration::optional")]
    pub write: Option<Duration>,
    /// For what takes the longer the more there is: clear, ensuring an index, maintenance. Default: none.
    #[serde(with = "crate::duration::optional")]
    pub bulk: Option<Duration>,
}

impl Default for Timeout {
    fn default() -> Self {
        let short = Some(Duration::from_secs(30));
        Self { read: short, write: short, bulk: None }
    }
}

impl Timeout {
    /// The deadline of a request; `None`: it has none.
    pub fn of(&self, request: &Request<'_>) -> Option<Duration> {
        match request {
            Request::Clear(_) | Request::EnsureIndex(_) | Request::Maintain(_) => self.bulk,
            Request::Write(_) | Request::DropIndex(..) | Request::Close => self.write,
            Request::Changes(changes) => self.read.map(|limit| limit.saturating_add(changes.wait)),
            _ => self.read,
        }
    }
}

impl Policy for Timeout {
    fn name(&self) -> &'static str {
        "timeout"
    }

    async fn around<T, N, F>(&self, call: Call<'_>, next: N) -> Result<T>
    where
        T: Reply,
        N: Fn() -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send,
    {
        match self.of(&call.request) {
            Some(limit) => within(limit, Instant::now(), &call, next()).await,
            None => next().await,
        }
    }
}

/// An attempt at a call that began then, with so long to go.
pub(super) async fn within<T>(
    limit: Duration,
    begun: Instant,
    call: &Call<'_>,
    attempt: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut attempt = pin!(attempt);
    // What is answered at once needs no timer.
    if let Poll::Ready(result) = poll_once(attempt.as_mut()).await {
        return result;
    }
    // Durations that the clock cannot count are as good as no limit.
    let Some(deadline) = begun.checked_add(limit) else { return attempt.await };
    match tokio::time::timeout_at(deadline, attempt).await {
        Ok(result) => result,
        Err(_) => Err(call.named(passed(&call.request, limit))),
    }
}

async fn poll_once<F: Future + Unpin>(mut future: F) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut future).poll(cx))).await
}

fn passed(request: &Request<'_>, limit: Duration) -> Error {
    let outcome = if request.is_write() {
        ": whether it was done is unknown, so read before you repeat it"
    } else {
        ""
    };
    Error::new(ErrorKind::Timeout, format!("no answer within {limit:?}{outcome}"))
}
