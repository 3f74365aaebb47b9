//! Policies that stand next to each other, as one layer.

use std::future::Future;
use std::sync::Arc;

use super::{Around, Call, Layer, Metrics, Policy, Reply, Retry, Timeout, Tracing};
use crate::{Backend, Result};

/// Tracing, metrics, retry and timeout, from the outside in, those that are there: what the same policies do one on top
/// of the other, without a boxed future for each of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policies {
    tracing: Option<Tracing>,
    metrics: Option<Metrics>,
    retry: Option<Retry>,
    timeout: Option<Timeout>,
}

impl Policies {
    /// Takes in `layer`, if it is a policy that belongs around all that are in here.
    pub(super) fn take(&mut self, layer: &Layer) -> bool {
        let Self { tracing, metrics, retry, timeout } = self;
        match layer {
            Layer::Timeout(new) if tracing.is_none() && metrics.is_none() && retry.is_none() => {
                timeout.replace(*new).is_none()
            }
            Layer::Retry(new) if tracing.is_none() && metrics.is_none() => retry.replace(*new).is_none(),
            Layer::Metrics if tracing.is_none() => metrics.replace(Metrics::new()).is_none(),
            Layer::Tracing => tracing.replace(Tracing).is_none(),
            _ => false,
        }
    }

    /// Puts them on top of a backend, if there are any.
    pub(super) fn apply(self, inner: Arc<dyn Backend>) -> Arc<dyn Backend> {
        if self.names().is_empty() { inner } else { Arc::new(Around::new(self, inner)) }
    }
}

impl Policy for Policies {
    fn name(&self) -> &'static str {
        "policies"
    }

    fn names(&self) -> Vec<&'static str> {
        fn name<P: Policy>(policy: &Option<P>) -> Option<&'static str> {
            policy.as_ref().map(Policy::name)
        }
        [name(&self.tracing), name(&self.metrics), name(&self.retry), name(&self.timeout)]
            .into_iter()
            .flatten()
            .collect()
    }

    async fn around<T, N, F>(&self, call: Call<'_>, next: N) -> Result<T>
    where
        T: Reply,
        N: Fn() -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send,
    {
        let next = &next;
        let timed = move || maybe(self.timeout.as_ref(), call, next);
        let timed = &timed;
        let retried = move || maybe(self.retry.as_ref(), call, timed);
        let retried = &retried;
        let measured = move || maybe(self.metrics.as_ref(), call, retried);
        maybe(self.tracing.as_ref(), call, measured).await
    }
}

#[expect(
    clippy::manual_async_fn,
    reason = "of an async fn the compiler does not see that its future is Send"
)]
fn maybe<'a, P, T, N, F>(
    policy: Option<&'a P>,
    call: Call<'a>,
    next: N,
) -> impl Future<Output = Result<T>> + Send + use<'a, P, T, N, F>
where
    P: Policy,
    T: Reply,
    N: Fn() -> F + Send + Sync,
    F: Future<Output = Result<T>> + Send,
{
    async move {
        match policy {
            Some(policy) => policy.around(call, next).await,
            None => next().await,
        }
    }
}
