//! The one error type: what happened, where, and whether a repeat is safe.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// A `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// What kind of thing went wrong. Callers branch on this; messages are for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself is wrong and never reached the database.
    InvalidInput,
    /// The record, type or index that the request needs does not exist.
    NotFound,
    /// A precondition of the request (absent, present, version) does not hold.
    PreconditionFailed,
    /// Another writer got in between, or a unique index already holds the value.
    Conflict,
    /// The record is of another kind than the operation works on, such as an increment of JSON.
    TypeMismatch,
    /// A counter would leave the range of a signed 64-bit integer.
    OutOfRange,
    /// A value, batch or page exceeds a limit, which the message names.
    TooLarge,
    /// The backend does not offer the operation; see its [`Capabilities`](crate::Capabilities).
    Unsupported,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// The credentials do not allow the operation, or the files are read-only.
    PermissionDenied,
    /// The store is locked by another process, or has no free connection or slot.
    Busy,
    /// The database cannot be reached or refuses work just now.
    Unavailable,
    /// The deadline passed before an answer came.
    Timeout,
    /// The disk, or a quota, is full.
    StorageFull,
    /// Stored data is damaged or of an unknown format.
    Corrupt,
    /// Stored data does not decode into the type the caller asked for.
    Decode,
    /// The store has been closed.
    Closed,
    /// A defect in this software or its driver.
    Internal,
}

impl ErrorKind {
    /// The stable name used in JSON output, logs and metrics, such as `precondition_failed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::NotFound => "not_found",
            Self::PreconditionFailed => "precondition_failed",
            Self::Conflict => "conflict",
            Self::TypeMismatch => "type_mismatch",
            Self::OutOfRange => "out_of_range",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::StorageFull => "storage_full",
            Self::Corrupt => "corrupt",
            Self::Decode => "decode",
            Self::Closed => "closed",
            Self::Internal => "internal",
        }
    }

    /// The retry class an error of this kind has unless its maker knows better: transient kinds in
    /// which nothing was done are [`Retry::Safe`], those with an unknown outcome are
    /// [`Retry::IfIdempotent`], all others [`Retry::Never`].
    pub const fn default_retry(self) -> Retry {
        match self {
            Self::Conflict | Self::Busy => Retry::Safe,
            Self::Unavailable | Self::Timeout => Retry::IfIdempotent,
            _ => Retry::Never,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the same request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// A repeat would fail the same way.
    Never,
    /// Nothing was done; a repeat is safe for every request.
    Safe,
    /// The outcome is unknown; only an idempotent request may be repeated.
    IfIdempotent,
}

/// An error of a storage operation. Cheap to move (one pointer) and to clone.
///
/// `Display` is one line for people: what failed, on which backend, and why. Secrets never appear:
/// makers of errors pass only redacted locations.
///
/// ```
/// use storage_core::{Error, ErrorKind, Retry};
///
/// let error = Error::new(ErrorKind::Busy, "the store is in use by another process").operation("open");
/// assert_eq!(error.retry(), Retry::Safe);
/// assert_eq!(error.to_string(), "open: the store is in use by another process");
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    retry: Retry,
    operation: SmolStr,
    backend: SmolStr,
    message: String,
    mutation: Option<usize>,
    source: Option<Source>,
}

impl Error {
    /// An error of `kind` with a message that says what is wrong and, where it can, what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            retry: kind.default_retry(),
            operation: SmolStr::default(),
            backend: SmolStr::default(),
            message: message.into(),
            mutation: None,
            source: None,
        }))
    }

    /// Shorthand for [`ErrorKind::InvalidInput`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Shorthand for [`ErrorKind::Unsupported`]: `what` names the operation or feature.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unsupported, format!("{what} is not offered by this backend"))
    }

    /// Overrides the retry class of the kind.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Names the operation, unless an inner layer already did.
    #[must_use]
    pub fn operation(mut self, operation: impl Into<SmolStr>) -> Self {
        if self.0.operation.is_empty() {
            self.0.operation = operation.into();
        }
        self
    }

    /// Names the backend type, unless an inner layer already did.
    #[must_use]
    pub fn backend(mut self, backend: impl Into<SmolStr>) -> Self {
        if self.0.backend.is_empty() {
            self.0.backend = backend.into();
        }
        self
    }

    /// Says which mutation of a batch failed (its position, from 0).
    #[must_use]
    pub fn mutation(mut self, position: usize) -> Self {
        self.0.mutation = Some(position);
        self
    }

    /// Attaches the driver's own error.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether a repeat is safe.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// The operation that failed, such as `write`; empty if it never reached one.
    pub fn operation_name(&self) -> &str {
        &self.0.operation
    }

    /// The type name of the backend, such as `file`; empty if none was involved.
    pub fn backend_name(&self) -> &str {
        &self.0.backend
    }

    /// The message without the operation and backend.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The position, from 0, of the mutation that made an atomic batch fail.
    pub fn failed_mutation(&self) -> Option<usize> {
        self.0.mutation
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, backend, message, mutation, .. } = &*self.0;
        match (operation.as_str(), backend.as_str()) {
            ("", "") => {}
            (operation, "") => write!(f, "{operation}: ")?,
            ("", backend) => write!(f, "{backend}: ")?,
            (operation, backend) => write!(f, "{backend} {operation}: ")?,
        }
        if let Some(position) = mutation {
            write!(f, "mutation {position}: ")?;
        }
        f.write_str(message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind).field("retry", &self.0.retry);
        out.field("operation", &self.0.operation).field("backend", &self.0.backend);
        out.field("message", &self.0.message);
        if let Some(position) = self.0.mutation {
            out.field("mutation", &position);
        }
        out.finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
