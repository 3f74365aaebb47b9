//! Why a plugin is refused.

use std::fmt;

use serde::Serialize;
use storage_core::{Error, ErrorKind};

/// What kind of thing is wrong with a plugin. Callers branch on this; messages are for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemKind {
    /// There is no such file or directory.
    Missing,
    /// It cannot be read, or is not the kind of file that it has to be, such as a symbolic link.
    Unreadable,
    /// The manifest is damaged or says what it may not.
    Manifest,
    /// The library has another size than the manifest says.
    Size,
    /// The library has another SHA-256 digest than the manifest says.
    Hash,
    /// There is no signature.
    Unsigned,
    /// The signature is damaged, or is of another manifest.
    BadSignature,
    /// The signature is by a key that is not in the keyring.
    UntrustedKey,
    /// The file is no intact shared library.
    NotALibrary,
    /// The shared library is no storage plugin.
    NotAPlugin,
    /// It is for another system than this one: architecture, glibc or plugin ABI.
    Incompatible,
    /// The manifest and the library say different things about the plugin.
    Contradiction,
    /// The lock file pins this name and version to another library.
    Pin,
    /// There is another plugin, or a linked-in type, of the same name and version.
    Duplicate,
}

impl ProblemKind {
    /// The stable name used in JSON output, such as `bad_signature`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Manifest => "manifest",
            Self::Size => "size",
            Self::Hash => "hash",
            Self::Unsigned => "unsigned",
            Self::BadSignature => "bad_signature",
            Self::UntrustedKey => "untrusted_key",
            Self::NotALibrary => "not_a_library",
            Self::NotAPlugin => "not_a_plugin",
            Self::Incompatible => "incompatible",
            Self::Contradiction => "contradiction",
            Self::Pin => "pin",
            Self::Duplicate => "duplicate",
        }
    }

    /// Whether it is only that nobody who is trusted vouches for the plugin, which an operator may waive.
    pub const fn is_unsigned(self) -> bool {
        matches!(self, Self::Unsigned | Self::UntrustedKey)
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a plugin, in one line that says what, where, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The kind.
    pub kind: ProblemKind,
    /// One line for people.
    pub message: String,
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl From<Problem> for Error {
    /// The problem is the error's source, so that its kind is not lost.
    fn from(problem: Problem) -> Self {
        let kind = match problem.kind {
            ProblemKind::Missing => ErrorKind::NotFound,
            ProblemKind::Size | ProblemKind::Hash | ProblemKind::BadSignature | ProblemKind::Pin => {
                ErrorKind::Corrupt
            }
            ProblemKind::Unsigned | ProblemKind::UntrustedKey => ErrorKind::PermissionDenied,
            ProblemKind::Incompatible => ErrorKind::Unsupported,
            _ => ErrorKind::InvalidInput,
        };
        Self::new(kind, problem.message.clone()).with_source(problem)
    }
}
