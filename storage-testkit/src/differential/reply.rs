//! Replies, made comparable between backends.

use std::fmt;

use storage_core::{Effect, Error, ErrorKind, Json, Value};

use super::step::{COLLECTIONS, Place, Shown, Slot};

/// What a step answered, without what may rightly differ: versions are numbered by when they were first
/// seen for their record, pages are joined, and messages and times of writing are left out.
#[derive(PartialEq)]
pub(super) enum Reply {
    Records(Vec<Option<Seen>>),
    Written(Vec<Result<Outcome, Failure>>),
    Keys(Vec<String>),
    Items(Option<(Vec<Json>, u64)>),
    Number(u64),
    Yes(bool),
    Collections(Vec<Slot>),
    Indexes(Vec<(String, bool)>),
    Problems(Vec<String>),
    Failed(Failure),
    Nothing,
}

/// A record as it was read.
#[derive(PartialEq)]
pub(super) struct Seen {
    pub(super) place: Place,
    pub(super) value: Value,
    pub(super) version: usize,
    pub(super) expires_at: Option<i64>,
}

/// What a mutation did.
#[derive(PartialEq)]
pub(super) struct Outcome {
    pub(super) version: Option<usize>,
    pub(super) effect: Effect,
}

/// An error, compared by kind and by the mutation it blames.
pub(super) struct Failure {
    kind: ErrorKind,
    mutation: Option<usize>,
    message: String,
}

impl Failure {
    /// `many`: whether blaming a mutation tells anything.
    pub(super) fn new(error: &Error, many: bool) -> Self {
        let mutation = error.failed_mutation().filter(|_| many);
        Self { kind: error.kind(), mutation, message: error.to_string() }
    }
}

impl PartialEq for Failure {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.mutation == other.mutation
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(position) = self.mutation {
            write!(f, " at mutation {position}")?;
        }
        write!(f, " ({})", self.message)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} = {} (version #{}", self.place, Shown(&self.value), self.version)?;
        match self.expires_at {
            Some(at) => write!(f, ", expires at {at})"),
            None => f.write_str(")"),
        }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.effect {
            Effect::Done => f.write_str("done")?,
            Effect::Deleted { existed: true } => f.write_str("deleted")?,
            Effect::Deleted { existed: false } => f.write_str("nothing to delete")?,
            Effect::Counters(fields) => write!(f, "counters {fields:?}")?,
            Effect::Length(length) => write!(f, "length {length}")?,
        }
        match self.version {
            Some(version) => write!(f, " (version #{version})"),
            None => f.write_str(" (no record)"),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(records) => f.debug_list().entries(records).finish(),
            Self::Written(results) => f.debug_list().entries(results).finish(),
            Self::Keys(keys) => write!(f, "{keys:?}"),
            Self::Items(None) => f.write_str("no record"),
            Self::Items(Some((items, length))) => {
                let items: Vec<&str> = items.iter().map(Json::as_str).collect();
                write!(f, "[{}] of {length}", items.join(", "))
            }
            Self::Number(number) => write!(f, "{number}"),
            Self::Yes(yes) => write!(f, "{yes}"),
            Self::Collections(slots) => {
                f.debug_list().entries(slots.iter().map(|slot| COLLECTIONS[*slot])).finish()
            }
            Self::Indexes(indexes) => write!(f, "{indexes:?}"),
            Self::Problems(problems) => write!(f, "problems {problems:?}"),
            Self::Failed(failure) => write!(f, "failed: {failure:?}"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}
