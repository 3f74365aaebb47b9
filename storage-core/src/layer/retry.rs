//! Repeats what failed for a passing reason.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Call, Policy, Reply};
use crate::{Error, Request, Result, Retry as Class};

/// Repeats a call that failed, if its error and the request allow it.
///
/// | the error's [`retry`](Error::retry) | is repeated |
/// |---|---|
/// | [`Safe`](Class::Safe) | always: nothing was done |
/// | [`IfIdempotent`](Class::IfIdempotent) | if the [request is idempotent](Request::is_idempotent) |
/// | [`Never`](Class::Never) | never |
///
/// Before each repeat it waits a random time up to a limit that doubles (exponential backoff with *full
/// jitter*), so that callers that failed together do not come back together. The error of the last attempt
/// is returned as it is.
///
/// Only the result of the whole call counts: errors of single mutations in an independent batch are the
/// caller's to repeat.
///
/// Durations are written like `20ms` or `1s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The most attempts, the first included. Default: 3.
    pub attempts: u32,
    /// The most to wait before the second attempt; it doubles with each further one. Default: 20 ms.
    #[serde(with = "crate::duration")]
    pub base: Duration,
    /// The most to wait before any attempt. Default: 1 s.
    #[serde(with = "crate::duration")]
    pub cap: Duration,
    /// No attempt begins later than this after the first began. Default: 10 s.
    #[serde(with = "crate::duration")]
    pub budget: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            base: Duration::from_millis(20),
            cap: Duration::from_secs(1),
            budget: Duration::from_secs(10),
        }
    }
}

impl Retry {
    /// The longest waits before the second attempt, the third, and so on.
    fn limits(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        ExponentialBuilder::new()
            .with_factor(2.0)
            .with_min_delay(self.base.min(self.cap))
            .with_max_delay(self.cap)
            .with_max_times(self.attempts.saturating_sub(1) as usize)
            .build()
    }
}

impl Policy for Retry {
    fn name(&self) -> &'static str {
        "retry"
    }

    async fn around<T, N, F>(&self, call: Call<'_>, next: N) -> Result<T>
    where
        T: Reply,
        N: Fn() -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send,
    {
        let begun = Instant::now();
        match next().await {
            Err(error) if may_repeat(&error, &call.request) => self.repeat(call, next, begun, error).await,
            result => result,
        }
    }
}

impl Retry {
    /// The attempts after the first, which began then and failed with `error`.
    pub(super) async fn repeat<T, N, F>(
        &self,
        call: Call<'_>,
        next: N,
        begun: Instant,
        mut error: Error,
    ) -> Result<T>
    where
        N: Fn() -> F,
        F: Future<Output = Result<T>>,
    {
        for limit in self.limits() {
            // backon's own jitter adds to the delay; full jitter is any time up to it.
            let wait = limit.mul_f64(fastrand::f64());
            if begun.elapsed().saturating_add(wait) > self.budget {
                break;
            }
            tracing::debug!(target: "storage", %error, ?wait, "storage call failed and is repeated");
            tokio::time::sleep(wait).await;
            error = match next().await {
                Err(error) if may_repeat(&error, &call.request) => error,
                result => return result,
            };
        }
        Err(error)
    }
}

/// Whether a request that failed with `error` can be repeated.
pub(super) fn may_repeat(error: &Error, request: &Request<'_>) -> bool {
    match error.retry() {
        Class::Never => false,
        Class::Safe => true,
        Class::IfIdempotent => request.is_idempotent(),
    }
}
