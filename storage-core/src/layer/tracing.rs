//! A span for every call, for the `tracing` facade.

use std::future::Future;
use std::pin::pin;

use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

use super::{Call, Policy, Reply};
use crate::{Error, ErrorKind, Result};

/// Puts every call into a span of level `info` and target `storage`, with the names of the
/// [OpenTelemetry conventions for databases](https://opentelemetry.io/docs/specs/semconv/database/database-spans/):
///
/// | field | value |
/// |---|---|
/// | `otel.name` | the operation, and the collection if there is one: `get users` |
/// | `otel.kind` | `client` |
/// | `otel.status_code` | `ERROR`, if the call failed |
/// | `db.system.name` | the backend's type, such as `file` |
/// | `db.operation.name` | the operation, such as `get` |
/// | `db.collection.name` | the collection, if the call is about just one |
/// | `db.operation.batch.size` | the number of keys or mutations, if it is 2 or more |
/// | `error.type` | the [kind](ErrorKind::as_str) of error, if the call failed |
///
/// No key and no value is in a span. A failed call also makes an event in its span, with the error's
/// message: at level `warn` if the store is in trouble, else (a precondition that does not hold, say) at
/// `debug`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing;

impl Policy for Tracing {
    fn name(&self) -> &'static str {
        "tracing"
    }

    async fn around<T, N, F>(&self, call: Call<'_>, next: N) -> Result<T>
    where
        T: Reply,
        N: Fn() -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send,
    {
        let mut traced = pin!(next().instrument(span(&call)));
        let result = traced.as_mut().await;
        if let Err(error) = &result {
            failed(traced.span(), error);
        }
        result
    }
}

/// The span of a call.
pub(super) fn span(call: &Call<'_>) -> Span {
    let operation = call.request.operation();
    let span = tracing::info_span!(
        target: "storage",
        "storage",
        otel.name = Empty,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = call.backend.name.as_str(),
        db.operation.name = operation,
        db.collection.name = Empty,
        db.operation.batch.size = Empty,
        "error.type" = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    match call.request.collection() {
        Some(collection) => {
            span.record("otel.name", display(format_args!("{operation} {collection}")));
            span.record("db.collection.name", collection.as_str());
        }
        None => {
            span.record("otel.name", operation);
        }
    }
    if let Some(size) = call.request.batch_len().filter(|size| *size >= 2) {
        span.record("db.operation.batch.size", size);
    }
    span
}

/// Notes in a call's span that it failed.
pub(super) fn failed(span: &Span, error: &Error) {
    let _entered = span.enter();
    span.record("otel.status_code", "ERROR").record("error.type", error.kind().as_str());
    if is_trouble(error.kind()) {
        tracing::warn!(target: "storage", %error, "storage call failed");
    } else {
        tracing::debug!(target: "storage", %error, "storage call failed");
    }
}

/// Whether people who run the store should hear of it, not only the caller.
fn is_trouble(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::StorageFull
            | ErrorKind::Corrupt
            | ErrorKind::Internal
    )
}
