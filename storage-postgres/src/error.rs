//! The driver's errors and the server's codes as kinds.

use std::fmt;

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use storage_core::{Error, ErrorKind, Retry};

/// What was under way when an error came: it decides whether something may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// Connecting: no request was sent.
    Connect,
    /// A request: a connection that breaks leaves its outcome unknown.
    Request,
}

/// Codes (SQLSTATE), or the class that they begin with. The first that fits counts.
///
/// | code | kind | retry |
/// |---|---|---|
/// | `28…` (password, role), `3D000` (no such database) | `unauthenticated`, `invalid_input` | never |
/// | `42501` | `permission_denied` | never |
/// | `25006` (read-only: a replica, or a primary that was one's) | `unavailable` | safe |
/// | `40001`, `40P01` (serialization, deadlock) | `conflict` | safe |
/// | `23505` (unique index), other `23…` | `conflict`, `internal` | never |
/// | `55P03` (lock), `53300`, `53400` (connections) | `busy` | safe |
/// | `57014` (statement timeout, or cancelled) | `timeout` | safe: it was rolled back |
/// | `57P01`, `57P03` (shut down, starting) | `unavailable` | safe: nothing was committed |
/// | other `57…`, `08…`, `58…` | `unavailable` | if idempotent |
/// | `53100`, `53200`, other `53…` | `storage_full`, `unavailable` | never, if idempotent |
/// | `54…` | `too_large` | never |
/// | `3F000`, `42P01`, `42703` (schema, table or column gone) | `not_found` | never |
/// | `22…` | `invalid_input` | never |
/// | `XX001`, `XX002` | `corrupt` | never |
/// | all others | `internal` | never |
const CODES: &[(&str, ErrorKind, Retry)] = &[
    ("28", ErrorKind::Unauthenticated, Retry::Never),
    ("3D000", ErrorKind::InvalidInput, Retry::Never),
    ("42501", ErrorKind::PermissionDenied, Retry::Never),
    ("25006", ErrorKind::Unavailable, Retry::Safe),
    ("40001", ErrorKind::Conflict, Retry::Safe),
    ("40P01", ErrorKind::Conflict, Retry::Safe),
    ("23505", ErrorKind::Conflict, Retry::Never),
    ("55P03", ErrorKind::Busy, Retry::Safe),
    ("53300", ErrorKind::Busy, Retry::Safe),
    ("53400", ErrorKind::Busy, Retry::Safe),
    ("57014", ErrorKind::Timeout, Retry::Safe),
    ("57P01", ErrorKind::Unavailable, Retry::Safe),
    ("57P03", ErrorKind::Unavailable, Retry::Safe),
    ("57", ErrorKind::Unavailable, Retry::IfIdempotent),
    ("08", ErrorKind::Unavailable, Retry::IfIdempotent),
    ("58", ErrorKind::Unavailable, Retry::IfIdempotent),
    ("53100", ErrorKind::StorageFull, Retry::Never),
    ("53", ErrorKind::Unavailable, Retry::IfIdempotent),
    ("54", ErrorKind::TooLarge, Retry::Never),
    ("3F000", ErrorKind::NotFound, Retry::Never),
    ("42P01", ErrorKind::NotFound, Retry::Never),
    ("42703", ErrorKind::NotFound, Retry::Never),
    ("22", ErrorKind::InvalidInput, Retry::Never),
    ("XX001", ErrorKind::Corrupt, Retry::Never),
    ("XX002", ErrorKind::Corrupt, Retry::Never),
];

/// An error that the server told, without the values that its message may have in it.
#[derive(Clone, Debug)]
pub(crate) struct ServerError {
    code: String,
    message: String,
}

impl ServerError {
    fn new(error: &PgDatabaseError) -> Self {
        let code = error.code().to_owned();
        // The messages of these classes, on data and on constraints, quote what was stored or sent.
        let message = match (code.get(..2), error.constraint()) {
            (Some("22"), _) => "the server does not take a value".to_owned(),
            (Some("23"), Some(constraint)) => format!("the constraint {constraint} does not hold"),
            (Some("23"), None) => "a constraint does not hold".to_owned(),
            _ => error.message().to_owned(),
        };
        Self { code, message }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

impl std::error::Error for ServerError {}

/// Turns an error of the driver into ours.
pub(crate) fn driver(error: sqlx::Error, during: During) -> Error {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => server(ServerError::new(error), during),
            None => Error::new(ErrorKind::Internal, "an error of another database"),
        },
        sqlx::Error::Io(error) if encryption(&error).is_some() => tls(&error, encryption(&error), during),
        sqlx::Error::Io(error) => {
            let kind = match error.kind() {
                std::io::ErrorKind::TimedOut => ErrorKind::Timeout,
                _ => ErrorKind::Unavailable,
            };
            let message = match during {
                During::Connect => format!("the server cannot be reached: {error}"),
                During::Request => format!("the connection to the server broke: {error}"),
            };
            Error::new(kind, message).with_retry(after(during)).with_source(error)
        }
        sqlx::Error::Tls(error) => tls(&*error, error.downcast_ref(), during),
        // A peer that is no PostgreSQL, or a connection that breaks within a message.
        sqlx::Error::Protocol(text) => {
            Error::new(ErrorKind::Unavailable, format!("the server's answer makes no sense: {text}"))
                .with_retry(after(during))
        }
        sqlx::Error::Configuration(error) => {
            Error::invalid(format!("the configuration of postgres: {error}"))
        }
        other => Error::new(ErrorKind::Internal, format!("the driver: {other}")),
    }
}

fn after(during: During) -> Retry {
    match during {
        During::Connect => Retry::Safe,
        During::Request => Retry::IfIdempotent,
    }
}

fn server(error: ServerError, during: During) -> Error {
    let (kind, retry) = CODES
        .iter()
        .find(|(code, ..)| error.code.starts_with(code))
        .map_or((ErrorKind::Internal, Retry::Never), |(_, kind, retry)| (*kind, *retry));
    let retry = if during == During::Connect && retry == Retry::IfIdempotent { Retry::Safe } else { retry };
    if during == During::Connect && error.code == "08P01" && error.message.contains("startup parameter") {
        // PgBouncer takes no settings of a session.
        let advice = "what answers is a pooler: set prepared_statements to false";
        return Error::new(ErrorKind::InvalidInput, format!("{advice}: {error}")).with_source(error);
    }
    let advice = match (kind, error.code.as_str()) {
        (ErrorKind::Unauthenticated, _) => "the server takes no such user or password: ",
        (ErrorKind::PermissionDenied, _) => "the role may not do what the store needs: ",
        (ErrorKind::StorageFull, _) => "the server's disk is full: ",
        (ErrorKind::NotFound, _) => {
            "a table of the store is not there; `storage schema status` shows what is missing: "
        }
        (ErrorKind::Unavailable, "25006") => "this server takes no writes: ",
        (ErrorKind::Timeout, _) => "the server gave the statement up and undid it: ",
        _ => "",
    };
    Error::new(kind, format!("{advice}{error}")).with_retry(retry).with_source(error)
}

/// The error of the encryption within one of the connection.
fn encryption(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What an error of the encryption means, and what to do about it.
fn tls(
    error: &(dyn std::error::Error + 'static),
    encryption: Option<&rustls::Error>,
    during: During,
) -> Error {
    use rustls::{AlertDescription as Alert, Error as Tls};

    let refused = |advice: &str| Error::new(ErrorKind::Unauthenticated, format!("{advice}: {error}"));
    match encryption {
        Some(Tls::InvalidCertificate(_) | Tls::NoCertificatesPresented) => {
            refused("the server's certificate is not trusted; name its authority's with ca_file")
        }
        Some(Tls::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::DecryptError
            | Alert::AccessDenied,
        )) => refused(
            "the server wants another certificate of this client; name it with cert_file and key_file",
        ),
        None if error.to_string().contains("does not support TLS") => {
            let message = "the server offers no TLS; set tls to disable if that is meant";
            Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Never)
        }
        _ => {
            let message = format!("the TLS connection failed: {error}");
            Error::new(ErrorKind::Unavailable, message).with_retry(after(during))
        }
    }
}

/// The server's code (SQLSTATE) of an error that came from it.
pub(crate) fn code(error: &Error) -> Option<&str> {
    let told: &ServerError = std::error::Error::source(error)?.downcast_ref()?;
    Some(told.code.as_str())
}

/// Whether a connection is of no more use after an error of the driver.
pub(crate) fn breaks_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            // A server that takes no writes any more is not the one that is looked for.
            .is_none_or(|error| {
                matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic) || error.code() == "25006"
            }),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => false,
        _ => true,
    }
}
