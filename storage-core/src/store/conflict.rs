//! Trying again after another writer got in between.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::{Address, Error, ErrorKind, Result, Retry};

/// The most attempts of an optimistic operation, the first included.
pub(super) const ATTEMPTS: usize = 20;

/// The waits between `attempts` attempts: random times up to a limit that doubles from 1 ms to 200 ms.
pub(super) fn waits(attempts: usize) -> impl Iterator<Item = Duration> + Send {
    let limits = ExponentialBuilder::new()
        .with_factor(2.0)
        .with_min_delay(Duration::from_millis(1))
        .with_max_delay(Duration::from_millis(200))
        .with_max_times(attempts.saturating_sub(1))
        .build();
    limits.map(|limit| limit.mul_f64(fastrand::f64()))
}

/// Calls `attempt` until it succeeds, fails with an error that `again` does not accept, or all `attempts`
/// are spent; then the last error is returned.
pub(super) async fn retrying<T, F: Future<Output = Result<T>>>(
    attempts: usize,
    again: impl Fn(&Error) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    for wait in waits(attempts) {
        match attempt().await {
            Err(error) if again(&error) => tokio::time::sleep(wait).await,
            result => return result,
        }
    }
    attempt().await
}

/// Whether another writer got in between, so that starting over can help.
pub(super) fn is_conflict(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict && error.retry() == Retry::Safe
}

/// Turns a failed precondition that the store itself had set into the conflict that it is.
pub(super) fn as_conflict(error: Error) -> Error {
    if error.kind() != ErrorKind::PreconditionFailed {
        return error;
    }
    let message = format!("another writer got in between: {}", error.message());
    Error::new(ErrorKind::Conflict, message)
        .operation(error.operation_name())
        .backend(error.backend_name())
        .with_source(error)
}

/// Says which record an error is about.
pub(super) fn at(address: &Address, error: Error) -> Error {
    Error::new(error.kind(), format!("{address}: {}", error.message()))
        .with_retry(error.retry())
        .with_source(error)
}
