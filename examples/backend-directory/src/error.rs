//! The system's errors as kinds.

use std::io;
use std::path::Path;

use storage_core::{Error, ErrorKind, Retry};

/// Turns an error of the operating system into ours.
///
/// | native | kind |
/// |---|---|
/// | permission denied, read-only file system | `permission_denied` |
/// | no space, quota, file too large | `storage_full` |
/// | a file where a directory should be, or the other way round | `invalid_input` |
/// | all others | `unavailable` |
///
/// No error is worth a retry: a disk that fails goes on failing.
pub(crate) fn system(error: io::Error, path: &Path) -> Error {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied => (ErrorKind::PermissionDenied, "; check its owner and mode"),
        io::ErrorKind::ReadOnlyFilesystem => (ErrorKind::PermissionDenied, "; mount it writable"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (ErrorKind::StorageFull, "; free some space")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
            (ErrorKind::InvalidInput, "; name a directory that holds such a store or nothing")
        }
        _ => (ErrorKind::Unavailable, ""),
    };
    let message = format!("{}: {error}{hint}", path.display());
    Error::new(kind, message).with_retry(Retry::Never).with_source(error)
}

/// A file that is no record, and why.
pub(crate) fn damaged(path: &Path, why: impl std::fmt::Display) -> Error {
    let message = format!("{} is not a record: {why}; repair the file, or move it away", path.display());
    Error::new(ErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_errors_have_their_kind() {
        for (native, kind) in [
            (io::ErrorKind::PermissionDenied, ErrorKind::PermissionDenied),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied),
            (io::ErrorKind::StorageFull, ErrorKind::StorageFull),
            (io::ErrorKind::NotADirectory, ErrorKind::InvalidInput),
            (io::ErrorKind::Other, ErrorKind::Unavailable),
        ] {
            let error = system(native.into(), Path::new("data"));
            assert_eq!((error.kind(), error.retry()), (kind, Retry::Never), "{native}");
            assert!(error.message().starts_with("data: "), "{error}");
        }
    }
}
