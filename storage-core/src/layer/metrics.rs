//! How long calls take, for the `metrics` facade.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use metrics::{Key, Label, Level, Metadata, Unit};
use smol_str::SmolStr;

use super::{Call, Policy, Reply};
use crate::{CollectionName, Error, ErrorKind, Result};

const DURATION: &str = "db.client.operation.duration";
static METADATA: Metadata<'_> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// How many time series a thread keeps the keys of.
const RECENT: usize = 16;

thread_local! {
    /// The time series in which this thread recorded lately. To make a key costs more than all else that is done for
    /// a call here. Only keys are kept, so that a recorder that is installed later, or for a while, gets its own.
    static SERIES: RefCell<Vec<Series>> = const { RefCell::new(Vec::new()) };
}

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
        record(&call, begun.elapsed(), result.as_ref().err());
        result
    }
}

/// Records a call that has ended.
pub(super) fn record(call: &Call<'_>, taken: Duration, error: Option<&Error>) {
    let error = error.map(Error::kind);
    let recent = SERIES.try_with(|series| {
        let mut series = series.borrow_mut();
        if let Some(found) = series.iter().find(|series| series.has(call, error)) {
            return found.key.clone();
        }
        if series.len() == RECENT {
            series.clear();
        }
        let new = Series::new(call, error);
        let key = new.key.clone();
        series.push(new);
        key
    });
    // A thread that ends has no recent ones any more.
    let key = recent.unwrap_or_else(|_| Series::new(call, error).key);
    metrics::with_recorder(|recorder| recorder.register_histogram(&key, &METADATA).record(taken));
}

/// A time series: the calls that share all labels.
struct Series {
    system: SmolStr,
    operation: &'static str,
    collection: Option<CollectionName>,
    error: Option<ErrorKind>,
    key: Rc<Key>,
}

impl Series {
    fn new(call: &Call<'_>, error: Option<ErrorKind>) -> Self {
        let (system, operation) = (call.backend.name.clone(), call.request.operation());
        let collection = call.request.collection().cloned();
        let mut labels = vec![
            Label::new("db.system.name", system.to_string()),
            Label::from_static_parts("db.operation.name", operation),
        ];
        let named = collection.as_ref().map(|name| Label::new("db.collection.name", name.to_string()));
        labels.extend(named);
        labels.extend(error.map(|kind| Label::from_static_parts("error.type", kind.as_str())));
        let key = Rc::new(Key::from_parts(DURATION, labels));
        Self { system, operation, collection, error, key }
    }

    fn has(&self, call: &Call<'_>, error: Option<ErrorKind>) -> bool {
        self.operation == call.request.operation()
            && self.error == error
            && self.system == call.backend.name
            && self.collection.as_ref() == call.request.collection()
    }
}
