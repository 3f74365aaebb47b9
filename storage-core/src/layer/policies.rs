//! Policies that stand next to each other, as one layer.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use ::tracing::{Instrument, Span};
use tokio::time::Instant;

use super::{Around, Call, Layer, Metrics, Policy, Reply, Retry, Timeout, Tracing};
use super::{metrics, retry, timeout, tracing};
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
        let span = self.tracing.map_or_else(Span::none, |_| tracing::span(&call));
        let mut traced = pin!(self.measured(&call, &next).instrument(span));
        let result = traced.as_mut().await;
        if let (Some(_), Err(error)) = (self.tracing, &result) {
            tracing::failed(traced.span(), error);
        }
        result
    }
}

impl Policies {
    /// A call with all its attempts.
    async fn measured<T, N, F>(&self, call: &Call<'_>, next: &N) -> Result<T>
    where
        T: Send,
        N: Fn() -> F + Sync,
        F: Future<Output = Result<T>> + Send,
    {
        let begun = Instant::now();
        let result = match (self.attempt(call, begun, next).await, &self.retry) {
            (Err(error), Some(retry)) if retry::may_repeat(&error, &call.request) => {
                let again = || self.attempt(call, Instant::now(), next);
                // Apart, since a call that is answered has no need of the room.
                Box::pin(retry.repeat(*call, again, begun, error)).await
            }
            (result, _) => result,
        };
        if self.metrics.is_some() {
            metrics::record(call, begun.elapsed(), result.as_ref().err());
        }
        result
    }

    /// One attempt, which begins now.
    async fn attempt<T, N, F>(&self, call: &Call<'_>, now: Instant, next: &N) -> Result<T>
    where
        N: Fn() -> F,
        F: Future<Output = Result<T>>,
    {
        match self.timeout.and_then(|timeout| timeout.of(&call.request)) {
            Some(limit) => timeout::within(limit, now, call, next()).await,
            None => next().await,
        }
    }
}
