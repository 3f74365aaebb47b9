//! The driver's errors and the server's codes as kinds.

use std::sync::Arc;

use redis::{ErrorKind as Native, RedisError};
use storage_core::{Error, ErrorKind, Retry};

/// What was under way when an error came: it decides whether something may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// Connecting, encrypted or not: no request was sent.
    Connect { tls: bool },
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

/// What a server tells a script that comes to a key on another node.
pub(crate) const MOVED_AWAY: &str = "non local key";

/// Turns an error of the driver into ours.
pub(crate) fn driver(error: RedisError, during: During) -> Error {
    let text = error.to_string();
    if let Some(cause) = tls(&error) {
        let (kind, retry, advice) = encryption(cause);
        return Error::new(kind, format!("{advice}: {text}")).with_retry(retry).with_source(error);
    }
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
    let message = match during {
        During::Connect { tls: false }
            if known.is_none() && error.is_connection_dropped() && !error.is_connection_refusal() =>
        {
            format!("the server closes the connection; if it wants TLS, write rediss:// or set tls: {text}")
        }
        During::Connect { tls: true } if error.is_timeout() => {
            format!(
                "nothing answers in TLS; if that is not meant, write redis:// or set tls to false: {text}"
            )
        }
        _ => advice(kind, &text),
    };
    Error::new(kind, message).with_retry(retry).with_source(error)
}

/// The error of the encryption below an error of the driver.
fn tls(error: &RedisError) -> Option<&rustls::Error> {
    // The driver gives its cause out as the pointer to it.
    let cause = std::error::Error::source(error)?;
    let cause = cause.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    cause.downcast_ref().or_else(|| cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref())
}

/// What an error of the encryption means, and what to do about it.
fn encryption(error: &rustls::Error) -> (ErrorKind, Retry, &'static str) {
    use rustls::{AlertDescription as Alert, Error as Tls};

    match error {
        Tls::InvalidCertificate(_) | Tls::NoCertificatesPresented => (
            ErrorKind::Unauthenticated,
            Retry::Never,
            "the server's certificate is not trusted; name its authority's with tls_ca",
        ),
        Tls::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::DecryptError
            | Alert::AccessDenied,
        ) => (
            ErrorKind::Unauthenticated,
            Retry::Never,
            "the server wants another certificate of this client; name it with tls_cert and tls_key",
        ),
        Tls::InvalidMessage(_) => (
            ErrorKind::Unavailable,
            Retry::Safe,
            "what answers is no TLS; write redis:// or set tls to false if it is not meant to",
        ),
        _ => (ErrorKind::Unavailable, Retry::IfIdempotent, "the TLS connection failed"),
    }
}

/// The error of a command within a script that goes on after it.
pub(crate) fn refusal(text: &str) -> Error {
    let (kind, retry) = in_text(text).unwrap_or((ErrorKind::Internal, Retry::Never));
    Error::new(kind, advice(kind, text)).with_retry(retry)
}

/// The server's code of an error that came from it.
pub(crate) fn code(error: &Error) -> Option<&str> {
    std::error::Error::source(error)?.downcast_ref::<RedisError>()?.code()
}

fn after(during: During) -> Retry {
    match during {
        During::Connect { .. } => Retry::Safe,
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
    if text.contains("The user executing the script can't") {
        return Some((ErrorKind::PermissionDenied, Retry::Never));
    }
    if text.contains(MOVED_AWAY) {
        // A script came to a key that has moved to another node, perhaps after it wrote others.
        return Some((ErrorKind::Unavailable, Retry::IfIdempotent));
    }
    let words = text.split(|c: char| !c.is_ascii_uppercase());
    words.filter(|word| word.len() > 2).find_map(known)
}

fn advice(kind: ErrorKind, text: &str) -> String {
    match kind {
        ErrorKind::Unauthenticated => format!("the server takes no such user or password: {text}"),
        ErrorKind::PermissionDenied => {
            format!(
                "the server's ACL does not allow this user what the store needs, keys or commands: {text}"
            )
        }
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
