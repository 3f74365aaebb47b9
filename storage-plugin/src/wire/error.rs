//! Errors and the failures that replies carry.

use std::error::Error as StdError;
use std::fmt;

use smol_str::SmolStr;
use storage_core::{Error, ErrorKind, Result, Retry};

use super::{Reader, Wire, Writer};

/// More errors behind an error than so many are not passed on, in either direction.
const MAX_SOURCES: usize = 16;

/// What a reply says that is no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The error.
    pub error: Error,
    /// Whether the plugin's code panicked.
    pub panicked: bool,
}

impl From<Error> for Box<Failure> {
    fn from(error: Error) -> Self {
        Self::new(Failure { error, panicked: false })
    }
}

impl Wire for Error {
    fn write(&self, to: &mut Writer) {
        write_error(self, self.kind().as_str(), false, to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.read::<Failure>().map(|failure| failure.error)
    }
}

impl Wire for Failure {
    fn write(&self, to: &mut Writer) {
        write_error(&self.error, self.error.kind().as_str(), self.panicked, to);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        let (mut kind, mut message, mut retry, mut panicked) = (None, None, None, None);
        let (mut operation, mut backend) = (SmolStr::default(), SmolStr::default());
        let (mut mutation, mut sources) = (None::<u64>, Vec::new());
        from.map(|from| {
            match from.name()? {
                b"kind" => kind = Some(kind_of(from.name()?)),
                b"message" => message = Some(from.read::<String>()?),
                b"retry" => retry = from.optional_str()?.and_then(retry_of),
                b"operation" => operation = from.read::<Option<_>>()?.unwrap_or_default(),
                b"backend" => backend = from.read::<Option<_>>()?.unwrap_or_default(),
                b"mutation" => mutation = from.read()?,
                b"sources" => sources = from.read::<Option<Vec<String>>>()?.unwrap_or_default(),
                b"panicked" => panicked = from.read::<Option<bool>>()?,
                _ => from.skip()?,
            }
            Ok(())
        })?;
        let kind = kind.ok_or_else(|| from.missing(at, "kind"))?;
        let message = message.ok_or_else(|| from.missing(at, "message"))?;
        let mut error = Error::new(kind, message).operation(operation).backend(backend);
        if let Some(retry) = retry {
            error = error.with_retry(retry);
        }
        if let Some(position) = mutation.and_then(|position| usize::try_from(position).ok()) {
            error = error.mutation(position);
        }
        sources.truncate(MAX_SOURCES);
        let chain = sources
            .into_iter()
            .rev()
            .fold(None, |inner, text| Some(Source { text, inner: inner.map(Box::new) }));
        if let Some(chain) = chain {
            error = error.with_source(chain);
        }
        Ok(Self { error, panicked: panicked.unwrap_or(false) })
    }
}

/// Writes an error as one of the kind `kind`, which need not be one of storage-core.
pub(super) fn write_error(error: &Error, kind: &str, panicked: bool, to: &mut Writer) {
    let sources: Vec<String> = std::iter::successors(error.source(), |source| (*source).source())
        .take(MAX_SOURCES)
        .map(ToString::to_string)
        .collect();
    let retry = (error.retry() != error.kind().default_retry()).then(|| retry_name(error.retry()));
    let (operation, backend) = (error.operation_name(), error.backend_name());
    let mutation = error.failed_mutation();
    let optional = [
        retry.is_some(),
        !operation.is_empty(),
        !backend.is_empty(),
        mutation.is_some(),
        !sources.is_empty(),
        panicked,
    ];
    to.map(2 + optional.into_iter().filter(|there| *there).count());
    to.text_entry("kind", kind);
    to.text_entry("message", error.message());
    if let Some(retry) = retry {
        to.text_entry("retry", retry);
    }
    if !operation.is_empty() {
        to.text_entry("operation", operation);
    }
    if !backend.is_empty() {
        to.text_entry("backend", backend);
    }
    if let Some(position) = mutation {
        to.entry("mutation", &(position as u64));
    }
    if !sources.is_empty() {
        to.entry("sources", &sources);
    }
    if panicked {
        to.entry("panicked", &true);
    }
}

/// Every kind. A test fails if one is added and not named here.
const KINDS: [ErrorKind; 18] = [
    ErrorKind::InvalidInput,
    ErrorKind::NotFound,
    ErrorKind::PreconditionFailed,
    ErrorKind::Conflict,
    ErrorKind::TypeMismatch,
    ErrorKind::OutOfRange,
    ErrorKind::TooLarge,
    ErrorKind::Unsupported,
    ErrorKind::Unauthenticated,
    ErrorKind::PermissionDenied,
    ErrorKind::Busy,
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::StorageFull,
    ErrorKind::Corrupt,
    ErrorKind::Decode,
    ErrorKind::Closed,
    ErrorKind::Internal,
];

/// The kind of a name; one that is not known counts as internal.
fn kind_of(name: &[u8]) -> ErrorKind {
    KINDS.into_iter().find(|kind| kind.as_str().as_bytes() == name).unwrap_or(ErrorKind::Internal)
}

fn retry_name(retry: Retry) -> &'static str {
    match retry {
        Retry::Never => "never",
        Retry::Safe => "safe",
        Retry::IfIdempotent => "if_idempotent",
    }
}

fn retry_of(name: &str) -> Option<Retry> {
    [Retry::Never, Retry::Safe, Retry::IfIdempotent].into_iter().find(|retry| retry_name(*retry) == name)
}

/// An error of the other side, of which only the text came over.
#[derive(Debug)]
struct Source {
    text: String,
    inner: Option<Box<Source>>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Source {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.as_deref().map(|inner| inner as &(dyn StdError + 'static))
    }
}
