//! How long calls take, for the `metrics` facade.

use std::future::Future;
use std::time::Instant;

use metrics::{Label, SharedString, Unit};

use super::{Call, Policy, Reply};
use crate::{Error, Result};

const DURATION: &str = "db.client.operation.duration";

/// Records the histogram `db.client.operation.duration`, in seconds, with the names of the stable
/// [OpenTelemetry conventions for databases](https://opentelemetry.io/docs/specs/semconv/database/database-metrics/):
///
/// | label | value |
/// |---|---|
/// | `db.system.name` | the backend's type, such as `file` |
/// | `db.operation.name` | the operation, such as `get` |
/// | `db.collection.name` | the collection, if the call is about just one |
/// | `error.type` | the [kind](crate::ErrorKind::as_str) of error, if the call failed |
///
/// The number of keys or mutations is in the span of the [`Tracing`](super::Tracing) layer and not here,
/// where each number would be a time series of its own. A call that was dropped is not recorded.
///
/// It goes to whatever recorder the program has installed when the call ends; if there is none, nothing
/// is kept.
#[derive(Clone, Copy, Debug)]
pub struct Metrics(());

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// The layer; describes the histogram to the recorder that is installed now.
    pub fn new() -> Self {
        metrics::describe_histogram!(DURATION, Unit::Seconds, "Duration of database client operations.");
        Self(())
    }
}

impl Policy for Metrics {
    fn name(&self) -> &'static str {
        "metrics"
    }

    async fn around<T, N, F>(&self, call: Call<'_>, next: N) -> Result<T>
    where
        T: Reply,
        N: Fn() -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send,
    {
        let begun = Instant::now();
        let result = next().await;
        record(&call, begun, result.as_ref().err());
        result
    }
}

fn record(call: &Call<'_>, begun: Instant, error: Option<&Error>) {
    let taken = begun.elapsed();
    let mut labels = Vec::with_capacity(4);
    labels.push(Label::new("db.system.name", call.backend.name.to_string()));
    labels.push(Label::from_static_parts("db.operation.name", call.request.operation()));
    if let Some(collection) = call.request.collection() {
        labels.push(Label::new("db.collection.name", SharedString::from(collection.as_str().to_owned())));
    }
    if let Some(error) = error {
        labels.push(Label::from_static_parts("error.type", error.kind().as_str()));
    }
    metrics::histogram!(DURATION, labels).record(taken);
}
