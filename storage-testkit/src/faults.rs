//! Small steps of tests in which a server goes away, breaks a connection or refuses. They panic with a message that says
//! what was expected.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use storage_core::{Error, ErrorKind, Result, Retry};

/// How long a store gets to find its way back.
pub const RECOVERY: Duration = Duration::from_secs(30);

/// How long [`recovers`] waits between two calls.
const PAUSE: Duration = Duration::from_millis(20);

/// The error of a call that has to fail with this kind and class of retry, and with a text in its message, in whatever case.
#[track_caller]
pub fn expect<T: Debug>(result: Result<T>, kind: ErrorKind, retry: Retry, text: &str) -> Error {
    let error = result.expect_err("it has to fail");
    assert_eq!((error.kind(), error.retry()), (kind, retry), "{error:?}");
    assert!(error.message().to_lowercase().contains(&text.to_lowercase()), "no {text:?} in {error:?}");
    error
}

/// Checks that an error is one of a connection: what was asked for may have been done, or was not done.
#[track_caller]
pub fn of_the_connection(error: &Error) {
    let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Busy];
    assert!(kinds.contains(&error.kind()), "the wrong kind for a connection that broke: {error:?}");
    assert_ne!(error.retry(), Retry::Never, "{error:?}");
}

/// Repeats a call until it succeeds, at most for [`RECOVERY`].
pub async fn recovers<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> T {
    let until = Instant::now() + RECOVERY;
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < until, "it does not recover: {error:?}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How long a call took, with its result.
pub async fn timed<T>(call: impl Future<Output = T>) -> (Duration, T) {
    let started = Instant::now();
    let done = call.await;
    (started.elapsed(), done)
}
