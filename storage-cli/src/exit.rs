//! Exit statuses, and how a failure is told.

use std::io::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind as Usage};
use serde_json::json;
use storage_core::{Error, ErrorKind};

/// How the process ends; scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Done.
    Done = 0,
    /// A record, collection, index or list is not there.
    NotFound = 1,
    /// Bad input or usage.
    BadInput = 2,
    /// A precondition failed, or another writer got in between.
    Precondition = 3,
    /// The backend is unavailable, busy, or took too long.
    Unavailable = 4,
    /// Anything else.
    Other = 5,
}

impl Status {
    pub(crate) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::InvalidInput
            | ErrorKind::TypeMismatch
            | ErrorKind::OutOfRange
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported => Self::BadInput,
            ErrorKind::PreconditionFailed | ErrorKind::Conflict => Self::Precondition,
            ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::Timeout => Self::Unavailable,
            _ => Self::Other,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// Why a command did not do what it was asked to.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    status: Status,
    kind: ErrorKind,
    message: String,
    operation: String,
    backend: String,
    /// The message tells what to do next, if anything can be done.
    complete: bool,
    /// The reader of our output went away: that is for it to know, and no error.
    quiet: bool,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, operation: &str, message: impl Into<String>) -> Self {
        Self {
            status: Status::of(kind),
            kind,
            message: message.into(),
            operation: operation.to_owned(),
            backend: String::new(),
            complete: false,
            quiet: false,
        }
    }

    pub(crate) fn invalid(operation: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, operation, message)
    }

    /// An I/O error of the command itself: of its output, a terminal, a temporary file.
    pub(crate) fn io(operation: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;

        let kind = match error.kind() {
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::StorageFull,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
            _ => ErrorKind::Internal,
        };
        let mut failure = Self::new(kind, operation, error.to_string());
        if error.kind() == Io::BrokenPipe {
            (failure.quiet, failure.status) = (true, Status::Done);
        }
        failure
    }

    /// The same failure with another exit status.
    pub(crate) fn with_status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// The same failure without the next step that stores need after errors of its kind.
    pub(crate) fn without_hint(mut self) -> Self {
        self.complete = true;
        self
    }

    /// The same failure with words before its message.
    pub(crate) fn prefixed(mut self, words: impl std::fmt::Display) -> Self {
        self.message = format!("{words}: {}", self.message);
        self
    }

    /// The same failure with words after its message.
    pub(crate) fn suffixed(mut self, words: impl std::fmt::Display) -> Self {
        self.message = format!("{}; {words}", self.message);
        self
    }

    #[cfg(test)]
    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The one line on stderr, without the newline.
    pub(crate) fn line(&self, json: bool) -> String {
        if json {
            let error = json!({"error": {
                "kind": self.kind.as_str(),
                "message": self.message,
                "operation": self.operation,
                "backend": self.backend,
            }});
            return error.to_string();
        }
        let place = match (self.backend.as_str(), self.operation.as_str()) {
            ("", "") => String::new(),
            ("", operation) => format!("{operation}: "),
            (backend, "") => format!("{backend}: "),
            (backend, operation) => format!("{backend} {operation}: "),
        };
        // What follows a semicolon is a next step already.
        let complete = self.complete || self.message.contains("; ");
        let hint = if complete { None } else { hint(self.kind) };
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("storage: {place}{}{hint}", self.message).replace(char::is_control, " ")
    }

    /// Tells the failure on stderr and gives the status to end with.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if !self.quiet {
            // With stderr gone there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{}", self.line(json));
        }
        self.status.into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let at = error.failed_mutation().map(|position| format!("mutation {position}: "));
        Self {
            status: Status::of(error.kind()),
            kind: error.kind(),
            message: format!("{}{}", at.unwrap_or_default(), error.message()),
            operation: error.operation_name().to_owned(),
            backend: error.backend_name().to_owned(),
            complete: false,
            quiet: false,
        }
    }
}

/// What to do next about errors of which the message alone does not tell.
fn hint(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::PreconditionFailed | ErrorKind::Conflict => {
            "read it again with `storage get --meta` and repeat with the new version"
        }
        ErrorKind::TypeMismatch => "`storage get --meta` tells the kind of the record",
        ErrorKind::Busy => "try again later",
        ErrorKind::Unavailable | ErrorKind::Timeout => "try again; `storage health` tells how the store is",
        ErrorKind::PermissionDenied => "check who may read and write the path",
        ErrorKind::StorageFull => "free some room and repeat",
        ErrorKind::Corrupt => {
            "`storage verify` tells what is damaged; import the last export into a new store"
        }
        ErrorKind::Unsupported => "`storage types` tells what each type offers",
        _ => return None,
    })
}

/// Help and version are answers; everything else that clap says is one line, as any other error.
pub(crate) fn usage(error: &clap::Error) -> Result<Status, Failure> {
    if !error.use_stderr() {
        let printed = error.print().and_then(|()| std::io::stdout().flush());
        return printed.map(|()| Status::Done).map_err(|error| Failure::io("help", &error));
    }
    if error.kind() == Usage::DisplayHelpOnMissingArgumentOrSubcommand {
        return Err(Failure::invalid("usage", "no command is given: `storage --help` lists them"));
    }
    let text = error.render().to_string();
    // Paragraphs: what is wrong, a tip, the usage (which may be in colours, and is taken from the error itself).
    let about: Vec<String> = (text.split("\n\n"))
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .take_while(|paragraph| !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more"))
        .map(|paragraph| paragraph.trim_start_matches("error: ").to_owned())
        .filter(|paragraph| !paragraph.is_empty())
        .collect();
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let usage = usage.split_whitespace().collect::<Vec<_>>().join(" ");
    let next = if usage.is_empty() { "`storage --help` tells more".to_owned() } else { usage };
    Err(Failure::invalid("usage", format!("{}; {next}", about.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let error = Error::new(ErrorKind::Busy, "in\nuse").operation("open").backend("file").mutation(3);
        let failure = Failure::from(error);
        assert_eq!(failure.line(false), "storage: file open: mutation 3: in use; try again later");
        let told: serde_json::Value = serde_json::from_str(&failure.line(true)).unwrap();
        let expected = json!({"error": {
            "kind": "busy", "message": "mutation 3: in\nuse", "operation": "open", "backend": "file",
        }});
        assert_eq!(told, expected);
        assert_eq!(failure.status, Status::Unavailable);
    }

    #[test]
    fn a_next_step_is_given_once() {
        let failure = Failure::new(ErrorKind::StorageFull, "", "no room; buy a disk");
        assert_eq!(failure.line(false), "storage: no room; buy a disk");
        let failure = Failure::new(ErrorKind::StorageFull, "", "no room: buy a disk").without_hint();
        assert_eq!(failure.line(false), "storage: no room: buy a disk");
    }

    #[test]
    fn every_kind_has_its_status() {
        for (kind, status) in [
            (ErrorKind::NotFound, 1),
            (ErrorKind::InvalidInput, 2),
            (ErrorKind::TypeMismatch, 2),
            (ErrorKind::OutOfRange, 2),
            (ErrorKind::TooLarge, 2),
            (ErrorKind::Unsupported, 2),
            (ErrorKind::PreconditionFailed, 3),
            (ErrorKind::Conflict, 3),
            (ErrorKind::Busy, 4),
            (ErrorKind::Unavailable, 4),
            (ErrorKind::Timeout, 4),
            (ErrorKind::Unauthenticated, 5),
            (ErrorKind::PermissionDenied, 5),
            (ErrorKind::StorageFull, 5),
            (ErrorKind::Corrupt, 5),
            (ErrorKind::Decode, 5),
            (ErrorKind::Closed, 5),
            (ErrorKind::Internal, 5),
        ] {
            assert_eq!(Status::of(kind) as u8, status, "{kind}");
        }
    }
}
