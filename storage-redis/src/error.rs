//! The driver's errors and the server's codes as kinds.

use redis::{ErrorKind as Native, RedisError};
use storage_core::{Error, ErrorKind, Retry};

/// What was under way when an error came: it decides whether something may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// Connecting: no request was sent.
    Connect,
    /// A request: a connection that breaks leaves its outcome unknown.
    Request,
}

/// Codes of errors with which a server refuses a command before it does anything.
///
/// | code | kind | retry |
/// |---|---|---|
/// | `NOAUTH`, `WRONGPASS`, `ERR invalid password` | `unauthenticated` | never |
/// | `NOPERM` | `permission_denied` | never |
/// | `LOADING`, `MASTERDOWN`, `CLUSTERDOWN`, `TRYAGAIN`, `READONLY`, `NOREPLICAS`, `MISCONF`, `MOVED`, `ASK` | `unavailable` | safe |
/// | `BUSY`, `ERR max number of clients` | `busy` | safe |
/// | `OOM` | `storage_full` | never |
/// | `WRONGTYPE` | `type_mismatch` | never |
/// | `EXECABORT`, `CROSSSLOT`, `NOSCRIPT`, all others | `internal` | never |
///
/// Of the driver's own errors, those of a connection that could not be made are `unavailable` (or `timeout`) and safe
/// to repeat; those of one that broke, if idempotent.
const CODES: &[(&str, ErrorKind, Retry)] = &[
    ("NOAUTH", ErrorKind::Unauthenticated, Retry::Never),
    ("WRONGPASS", ErrorKind::Unauthenticated, Retry::Never),
    ("NOPERM", ErrorKind::PermissionDenied, Retry::Never),
    ("LOADING", ErrorKind::Unavailable, Retry::Safe),
    ("MASTERDOWN", ErrorKind::Unavailable, Retry::Safe),
    ("CLUSTERDOWN", ErrorKind::Unavailable, Retry::Safe),
    ("TRYAGAIN", ErrorKind::Unavailable, Retry::Safe),
    ("READONLY", ErrorKind::Unavailable, Retry::Safe),
    ("NOREPLICAS", ErrorKind::Unavailable, Retry::Safe),
    ("MISCONF", ErrorKind::Unavailable, Retry::Safe),
    ("MOVED", ErrorKind::Unavailable, Retry::Safe),
    ("ASK", ErrorKind::Unavailable, Retry::Safe),
    ("BUSY", ErrorKind::Busy, Retry::Safe),
    ("OOM", ErrorKind::StorageFull, Retry::Never),
    ("WRONGTYPE", ErrorKind::TypeMismatch, Retry::Never),
];

/// Turns an error of the driver into ours.
pub(crate) fn driver(error: RedisError, during: During) -> Error {
    let text = error.to_string();
    let known = error.code().and_then(known).or_else(|| in_text(&text));
    let (kind, retry) = match (known, error.kind()) {
        (Some(known), _) => known,
        (None, Native::AuthenticationFailed) => (ErrorKind::Unauthenticated, Retry::Never),
        (None, Native::InvalidClientConfig) => (ErrorKind::InvalidInput, Retry::Never),
        (None, Native::MasterNameNotFoundBySentinel) => (ErrorKind::Unavailable, Retry::Safe),
        (None, _) if error.is_timeout() => (ErrorKind::Timeout, after(during)),
        (None, Native::ClusterConnectionNotFound) => (ErrorKind::Unavailable, Retry::Safe),
        (None, Native::Io) if error.is_connection_refusal() => (ErrorKind::Unavailable, Retry::Safe),
        (None, Native::Io) => (ErrorKind::Unavailable, after(during)),
        (None, Native::Parse) => (ErrorKind::Unavailable, Retry::IfIdempotent),
        (None, _) => (ErrorKind::Internal, Retry::Never),
    };
    Error::new(kind, advice(kind, &text)).with_retry(retry).with_source(error)
}

fn after(during: During) -> Retry {
    match during {
        During::Connect => Retry::Safe,
        During::Request => Retry::IfIdempotent,
    }
}

fn known(code: &str) -> Option<(ErrorKind, Retry)> {
    CODES.iter().find(|(known, ..)| *known == code).map(|(_, kind, retry)| (*kind, *retry))
}

/// Codes within the text of a general `ERR`: old servers put the error of a command in a script there.
fn in_text(text: &str) -> Option<(ErrorKind, Retry)> {
    if text.contains("max number of clients") {
        return Some((ErrorKind::Busy, Retry::Safe));
    }
    if text.contains("invalid password") || text.contains("invalid username-password") {
        return Some((ErrorKind::Unauthenticated, Retry::Never));
    }
    if text.contains("non local key") {
        // A script came to a key that has moved to another node, perhaps after it wrote others.
        return Some((ErrorKind::Unavailable, Retry::IfIdempotent));
    }
    let words = text.split(|c: char| !c.is_ascii_uppercase());
    words.filter(|word| word.len() > 2).find_map(known)
}

fn advice(kind: ErrorKind, text: &str) -> String {
    match kind {
        ErrorKind::Unauthenticated => format!("the server takes no such user or password: {text}"),
        ErrorKind::StorageFull => {
            format!("the server is out of memory; raise its maxmemory or remove data: {text}")
        }
        ErrorKind::TypeMismatch => {
            format!(
                "another program keeps something else under a key of this store; give the store a prefix of its own: {text}"
            )
        }
        _ => text.to_owned(),
    }
}
