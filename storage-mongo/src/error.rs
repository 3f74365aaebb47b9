//! The driver's errors and the server's codes as kinds.

use mongodb::bson::Document;
use mongodb::error::{Error as DriverError, ErrorKind as Driver, WriteFailure};
use storage_core::{Error, ErrorKind, Retry};

/// Codes of the server, their kind, and whether a repeat is safe.
///
/// | code | kind | retry |
/// |---|---|---|
/// | 11000, 11001, 12582 (unique index) | `conflict` | never |
/// | 112, 251 (another transaction, or this one is gone) | `conflict` | safe |
/// | 24, 46 (locks), 365 (the cache is full of what is not written yet) | `busy` | safe |
/// | 10107, 13435, 13436, 10058 (no primary), 133 (no such member) | `unavailable` | safe: it was not begun |
/// | 6, 7, 43, 89, 91, 189, 202, 234, 9001, 11600, 11602 (cut off, stepped down, stopped) | `unavailable` | if idempotent |
/// | 50, 262 (time), 64 (not replicated in time) | `timeout` | if idempotent |
/// | 79, 100 (write concern that cannot be met; the write is done here) | `unavailable` | if idempotent |
/// | 11, 18, 8000 | `unauthenticated` | never |
/// | 13 | `permission_denied` | never |
/// | 10334, 17280, 17419, 17420, 292 (size), 388 (a transaction larger than the cache takes) | `too_large` | never |
/// | 14031 | `storage_full` | never |
/// | 26, 27 | `not_found` | never |
/// | 85, 86 (index of another kind) | `conflict` | never |
/// | 20, 59, 115 | `unsupported` | never |
/// | 2, 9, 14, 67, 16746 (a path with a position that is a name, too) | `invalid_input` | never |
/// | all others | `internal` | never |
const CODES: &[(&[i32], ErrorKind, Retry)] = &[
    (&[11000, 11001, 12582], ErrorKind::Conflict, Retry::Never),
    (&[112, 251], ErrorKind::Conflict, Retry::Safe),
    (&[24, 46, 365], ErrorKind::Busy, Retry::Safe),
    (&[10107, 13435, 13436, 10058, 133], ErrorKind::Unavailable, Retry::Safe),
    (&[6, 7, 43, 89, 91, 189, 202, 234, 9001, 11600, 11602], ErrorKind::Unavailable, Retry::IfIdempotent),
    (&[50, 64, 262], ErrorKind::Timeout, Retry::IfIdempotent),
    (&[79, 100], ErrorKind::Unavailable, Retry::IfIdempotent),
    (&[11, 18, 8000], ErrorKind::Unauthenticated, Retry::Never),
    (&[13], ErrorKind::PermissionDenied, Retry::Never),
    (&[10334, 17280, 17419, 17420, 292, 388], ErrorKind::TooLarge, Retry::Never),
    (&[14031], ErrorKind::StorageFull, Retry::Never),
    (&[26, 27], ErrorKind::NotFound, Retry::Never),
    (&[85, 86], ErrorKind::Conflict, Retry::Never),
    (&[20, 59, 115], ErrorKind::Unsupported, Retry::Never),
    (&[2, 9, 14, 67, AMBIGUOUS], ErrorKind::InvalidInput, Retry::Never),
];

/// The code of a value that a unique index, or that of the keys, has already.
pub(crate) const DUPLICATE: i32 = 11000;

/// The code of a collection that is there already.
pub(crate) const EXISTS: i32 = 48;

/// The code of a document in which the path of an index leads to a position of a list and also to a name.
const AMBIGUOUS: i32 = 16746;

/// Turns an error of the driver into ours.
pub(crate) fn driver(error: DriverError) -> Error {
    let retryable = error.contains_label("RetryableWriteError");
    let told = match error.kind.as_ref() {
        Driver::Command(told) => server(told.code, &told.message, retryable),
        Driver::Write(WriteFailure::WriteError(told)) => server(told.code, &told.message, retryable),
        Driver::Write(WriteFailure::WriteConcernError(told)) => server(told.code, &told.message, retryable),
        Driver::Authentication { message, .. } => authentication(message),
        Driver::ServerSelection { message, .. } => unreachable(message),
        Driver::DnsResolve { message, .. } => {
            Error::new(ErrorKind::Unavailable, format!("the name cannot be resolved: {message}"))
                .with_retry(Retry::Safe)
        }
        // Before the request was sent; or while its answer was waited for, when the monitor got none.
        Driver::ConnectionPoolCleared { message, .. } => {
            let before = message.starts_with("Connection pool for");
            Error::new(ErrorKind::Unavailable, format!("the server cannot be reached: {message}"))
                .with_retry(if before { Retry::Safe } else { Retry::IfIdempotent })
        }
        Driver::Io(error) => {
            let kind = match error.kind() {
                std::io::ErrorKind::TimedOut => ErrorKind::Timeout,
                _ => ErrorKind::Unavailable,
            };
            Error::new(kind, format!("the connection to the server broke: {error}"))
                .with_retry(Retry::IfIdempotent)
        }
        Driver::InvalidResponse { message, .. } => {
            Error::new(ErrorKind::Unavailable, format!("the server's answer makes no sense: {message}"))
                .with_retry(Retry::IfIdempotent)
        }
        Driver::InvalidArgument { message, .. } => {
            Error::invalid(format!("the configuration of mongo: {message}"))
        }
        Driver::InvalidTlsConfig { message, .. } => {
            Error::invalid(format!("the certificates that the configuration of mongo names: {message}"))
        }
        Driver::IncompatibleServer { message, .. } => Error::new(ErrorKind::Unsupported, message.clone()),
        Driver::SessionsNotSupported => Error::unsupported("a session on this server"),
        Driver::Shutdown => Error::new(ErrorKind::Closed, "the store has been closed"),
        other => Error::new(ErrorKind::Internal, format!("the driver: {other}")),
    };
    told.with_source(error)
}

/// An error that the server told.
pub(crate) fn server(code: i32, message: &str, retryable: bool) -> Error {
    let known = CODES.iter().find(|(codes, ..)| codes.contains(&code));
    let (kind, retry) = match known {
        Some((_, kind, retry)) => (*kind, *retry),
        None if retryable => (ErrorKind::Unavailable, Retry::IfIdempotent),
        None => (ErrorKind::Internal, Retry::Never),
    };
    let message = match kind {
        // The server quotes the values.
        ErrorKind::Conflict if code == DUPLICATE => {
            format!("another record holds a value that the index {} takes once", index_of(message))
        }
        ErrorKind::InvalidInput if code == AMBIGUOUS => {
            "a number in the path of an index leads to an item of a list and to a name in that item"
                .to_owned()
        }
        ErrorKind::Unauthenticated => format!("the server takes no such user or password: {message}"),
        ErrorKind::PermissionDenied => format!("the user may not do what the store needs: {message}"),
        ErrorKind::StorageFull => format!("the server's disk is full: {message}"),
        ErrorKind::Timeout if code == 64 => {
            format!("the write is done on the primary, but was not replicated in time: {message}")
        }
        _ => message.to_owned(),
    };
    Error::new(kind, format!("{message} (code {code})")).with_retry(retry)
}

/// The server's code of an error that came from it.
pub(crate) fn code(error: &Error) -> Option<i32> {
    match told_by_driver(error)?.kind.as_ref() {
        Driver::Command(told) => Some(told.code),
        _ => None,
    }
}

/// The server's whole answer, if it is an error.
pub(crate) fn server_reply(error: &Error) -> Option<Document> {
    told_by_driver(error)?.server_response().and_then(|reply| Document::try_from(reply.as_ref()).ok())
}

/// Whether the server or the driver gave an error this label.
pub(crate) fn has_label(error: &Error, label: &str) -> bool {
    told_by_driver(error).is_some_and(|error| error.contains_label(label))
}

fn told_by_driver(error: &Error) -> Option<&DriverError> {
    std::error::Error::source(error)?.downcast_ref()
}

/// The name of the index in the message of a duplicate.
pub(crate) fn index_of(message: &str) -> &str {
    let after = message.split_once("index: ").map_or("", |(_, after)| after);
    after.split_whitespace().next().unwrap_or("?")
}

fn authentication(message: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, format!("the server takes no such user or password: {message}"))
}

/// No server was found to send the request to, so nothing was done.
fn unreachable(message: &str) -> Error {
    let lower = message.to_ascii_lowercase();
    if lower.contains("authentication failed") || lower.contains("scram failure") {
        return authentication(message);
    }
    // The alerts of a peer that does not take a certificate, besides those that name it.
    if ["certificate", "unknownca", "decrypterror", "accessdenied"].iter().any(|alert| lower.contains(alert))
    {
        let advice = "the certificate of the server or of this client is not taken; name them with ca_file and cert_file";
        return Error::new(ErrorKind::Unauthenticated, format!("{advice}: {message}"));
    }
    let advice = match lower.contains("tls") || lower.contains("handshake") || lower.contains("eof") {
        true => " (is it set to TLS, or without? see tls)",
        false => "",
    };
    Error::new(ErrorKind::Unavailable, format!("no server can be reached{advice}: {message}"))
        .with_retry(Retry::Safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_listed_once_and_known() {
        let mut codes: Vec<i32> = CODES.iter().flat_map(|(codes, ..)| codes.iter().copied()).collect();
        let listed = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), listed);
        assert_eq!(server(189, "stepped down", false).retry(), Retry::IfIdempotent);
        assert_eq!(server(10107, "not primary", true).retry(), Retry::Safe);
        assert_eq!(server(4242, "news", true).kind(), ErrorKind::Unavailable);
        assert_eq!(server(4242, "news", false).kind(), ErrorKind::Internal);
    }

    #[test]
    fn values_are_not_quoted() {
        let told = "E11000 duplicate key error collection: a.storage.u index: storage_email dup key: { json.email: \"ada@x\" }";
        let error = server(DUPLICATE, told, false);
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::Never));
        assert!(error.message().contains("storage_email") && !error.message().contains("ada"), "{error}");

        let told = "Ambiguous field name found in array (do not use numeric field names in embedded elements in an array), field: '0' for array: [ { 0: \"ada@x\" } ]";
        let error = server(AMBIGUOUS, told, false);
        assert_eq!((error.kind(), error.retry()), (ErrorKind::InvalidInput, Retry::Never));
        assert!(!error.message().contains("ada"), "{error}");
    }
}
