//! The engine's and the system's errors as kinds.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use storage_core::{Error, ErrorKind, Result, Retry};

/// Turns an error of the engine into ours.
///
/// | native | kind | retry |
/// |---|---|---|
/// | `Io` not found | `not_found` | never |
/// | `Io` permission denied, read-only file system | `permission_denied` | never |
/// | `Io` no space, quota | `storage_full` | never |
/// | `Io` other | `unavailable` | never: the disk is in trouble |
/// | `PreviousIo`, `DatabaseClosed` | `unavailable` | safe: the store is being opened anew |
/// | `DatabaseAlreadyOpen` | `busy` | never: the other process keeps it |
/// | `Corrupted`, `RepairAborted`, wrong table types | `corrupt` | never |
/// | `UpgradeRequired` | `corrupt` | never |
/// | `ValueTooLarge` | `too_large` | never |
/// | all others | `internal` | never |
pub(crate) fn engine(error: impl Into<redb::Error>) -> Error {
    use redb::Error as Native;

    let error = error.into();
    let text = error.to_string();
    let kind = match &error {
        Native::Io(io) => return system(io, "the store's file"),
        Native::PreviousIo | Native::DatabaseClosed => {
            return Error::new(ErrorKind::Unavailable, text).with_retry(Retry::Safe).with_source(error);
        }
        Native::DatabaseAlreadyOpen => ErrorKind::Busy,
        Native::Corrupted(_)
        | Native::RepairAborted
        | Native::TableTypeMismatch { .. }
        | Native::TypeDefinitionChanged { .. }
        | Native::TableIsMultimap(_)
        | Native::TableDoesNotExist(_)
        | Native::UpgradeRequired(_) => ErrorKind::Corrupt,
        Native::ValueTooLarge(_) => ErrorKind::TooLarge,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, text).with_retry(Retry::Never).with_source(error)
}

/// Turns an error of the operating system into ours; `what` names the file or directory.
pub(crate) fn system(error: &io::Error, what: &str) -> Error {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::NotFound, ""),
        io::ErrorKind::PermissionDenied => (ErrorKind::PermissionDenied, "; check its owner and mode"),
        io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::PermissionDenied, "; mount it writable, or name another directory")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (ErrorKind::StorageFull, "; free some space")
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
            (ErrorKind::Corrupt, "; the file is damaged or cut short")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
            (ErrorKind::InvalidInput, "; name a directory for the store")
        }
        _ => (ErrorKind::Unavailable, ""),
    };
    Error::new(kind, format!("{what}: {error}{hint}")).with_retry(Retry::Never)
}

/// Runs engine code. Damaged pages can make the engine panic instead of returning an error; the panic ends
/// here and becomes [`ErrorKind::Corrupt`].
pub(crate) fn contain<T>(run: impl FnOnce() -> T) -> Result<T> {
    // Nothing of ours is left half changed: on the read path nothing changes, and the committer drops the
    // transaction and gives up writing after a panic.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panicked(panic.as_ref()))
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Error::new(ErrorKind::Corrupt, format!("the file is damaged: the engine gave up with: {text}"))
}
