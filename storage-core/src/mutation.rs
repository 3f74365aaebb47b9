//! Changes to records, alone and in batches.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::collections::BTreeMap;

use crate::{Address, Error, Json, Record, Result, Timestamp, Value, Version};

/// One change to one record, on a condition if need be. Serialisable: the write-ahead log, migration and
/// the plugin ABI carry it as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mutation {
    /// The record.
    pub address: Address,
    /// What must hold for the change to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precondition: Option<Precondition>,
    /// The change.
    pub change: Change,
}

/// What must hold for a mutation to be applied. A record past its expiry counts as absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precondition {
    /// There is no record.
    Absent,
    /// There is a record.
    Present,
    /// There is a record of exactly this version.
    Version(Version),
}

impl Precondition {
    /// Whether this holds for the record that is there now.
    pub fn holds(&self, current: Option<&Record>) -> bool {
        match self {
            Self::Absent => current.is_none(),
            Self::Present => current.is_some(),
            Self::Version(version) => current.is_some_and(|record| record.version == *version),
        }
    }
}

/// What a mutation does to its record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Makes the record or replaces its value, of whatever kind it was, and its expiry.
    ///
    /// The value is JSON, bytes or counters. A list is made by [`Append`](Self::Append):
    /// [`Value::List`] is refused here as [`InvalidInput`](crate::ErrorKind::InvalidInput).
    Put {
        /// The new value.
        value: Value,
        /// When it expires; `None`: never. A time that has passed leaves the record absent.
        expires_at: Option<Timestamp>,
    },
    /// Removes the record. Quiet if there is none.
    Delete,
    /// Sets or clears the expiry and keeps the value. [`NotFound`](crate::ErrorKind::NotFound) if there is
    /// no record.
    Touch {
        /// When the record expires; `None`: never.
        expires_at: Option<Timestamp>,
    },
    /// Adds to named counters, each of which starts at zero.
    ///
    /// [`TypeMismatch`](crate::ErrorKind::TypeMismatch) if the record is of another kind,
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange) if a sum leaves 64 bits; then no field is changed.
    Increment {
        /// What to add to each field.
        fields: BTreeMap<SmolStr, i64>,
        /// The expiry if this mutation makes the record; one that is there keeps its own.
        expires_at: Option<Timestamp>,
    },
    /// Adds items to the end of a list, which starts empty.
    ///
    /// [`TypeMismatch`](crate::ErrorKind::TypeMismatch) if the record is of another kind.
    Append {
        /// The items, in order.
        items: Vec<Json>,
        /// The expiry if this mutation makes the record; one that is there keeps its own.
        expires_at: Option<Timestamp>,
    },
    /// Changes nothing: only the precondition counts.
    Check,
}

impl Change {
    /// The stable name used in messages and JSON: `put`, `delete`, `touch`, `increment`, `append`, `check`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Put { .. } => "put",
            Self::Delete => "delete",
            Self::Touch { .. } => "touch",
            Self::Increment { .. } => "increment",
            Self::Append { .. } => "append",
            Self::Check => "check",
        }
    }
}

impl Mutation {
    /// `change` at `address`, unconditionally.
    pub fn new(address: Address, change: Change) -> Self {
        Self { address, precondition: None, change }
    }

    /// Puts `value`, without expiry.
    ///
    /// ```
    /// use storage_core::{Address, Json, Mutation, Precondition};
    ///
    /// let put = Mutation::put(Address::new("users", "ada")?, Json::parse("{}")?).on(Precondition::Absent);
    /// assert!(!put.is_idempotent());
    /// # Ok::<(), storage_core::Error>(())
    /// ```
    pub fn put(address: Address, value: impl Into<Value>) -> Self {
        Self::new(address, Change::Put { value: value.into(), expires_at: None })
    }

    /// Deletes the record.
    pub fn delete(address: Address) -> Self {
        Self::new(address, Change::Delete)
    }

    /// Adds `delta` to one counter.
    pub fn increment(address: Address, field: impl Into<SmolStr>, delta: i64) -> Self {
        Self::new(address, Change::Increment { fields: [(field.into(), delta)].into(), expires_at: None })
    }

    /// Appends items to a list.
    pub fn append(address: Address, items: Vec<Json>) -> Self {
        Self::new(address, Change::Append { items, expires_at: None })
    }

    /// Sets or clears the expiry.
    pub fn touch(address: Address, expires_at: Option<Timestamp>) -> Self {
        Self::new(address, Change::Touch { expires_at })
    }

    /// Checks a precondition and changes nothing.
    pub fn check(address: Address, precondition: Precondition) -> Self {
        Self { address, precondition: Some(precondition), change: Change::Check }
    }

    /// The same mutation on a condition.
    #[must_use]
    pub fn on(mut self, precondition: Precondition) -> Self {
        self.precondition = Some(precondition);
        self
    }

    /// The same mutation with this expiry, where the change has one (put, touch, increment, append).
    #[must_use]
    pub fn expiring(mut self, at: Option<Timestamp>) -> Self {
        match &mut self.change {
            Change::Put { expires_at, .. }
            | Change::Touch { expires_at }
            | Change::Increment { expires_at, .. }
            | Change::Append { expires_at, .. } => *expires_at = at,
            Change::Delete | Change::Check => {}
        }
        self
    }

    /// Whether doing it twice leaves the same state and tells the caller the truth: a put, delete or touch
    /// without a precondition, and a check.
    pub fn is_idempotent(&self) -> bool {
        match self.change {
            Change::Put { .. } | Change::Delete | Change::Touch { .. } => self.precondition.is_none(),
            Change::Check => true,
            Change::Increment { .. } | Change::Append { .. } => false,
        }
    }

    /// About how many bytes the mutation carries.
    pub fn size(&self) -> usize {
        let body = match &self.change {
            Change::Put { value, .. } => value.size(),
            Change::Append { items, .. } => items.iter().map(Json::size).sum(),
            Change::Increment { fields, .. } => fields.keys().map(|name| name.len() + 8).sum(),
            Change::Delete | Change::Touch { .. } | Change::Check => 0,
        };
        body + self.address.collection.as_str().len() + self.address.key.as_str().len()
    }
}

/// How the mutations of a batch hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Atomicity {
    /// Each mutation stands alone: one result each, and a failure harms no other.
    Independent,
    /// All or none, preconditions included.
    Atomic,
}

/// Mutations that travel together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// All or none, or each for itself.
    pub atomicity: Atomicity,
    /// The mutations, applied in order.
    pub mutations: Vec<Mutation>,
}

impl Batch {
    /// A batch in which each mutation stands alone.
    pub fn independent(mutations: Vec<Mutation>) -> Self {
        Self { atomicity: Atomicity::Independent, mutations }
    }

    /// A batch that is applied whole or not at all.
    pub fn atomic(mutations: Vec<Mutation>) -> Self {
        Self { atomicity: Atomicity::Atomic, mutations }
    }

    /// Whether sending the batch twice leaves the same state and tells the caller the truth.
    pub fn is_idempotent(&self) -> bool {
        self.mutations.iter().all(Mutation::is_idempotent)
    }

    /// About how many bytes the batch carries.
    pub fn size(&self) -> usize {
        self.mutations.iter().map(Mutation::size).sum()
    }
}

/// What one mutation did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// The record's version after the mutation; `None` if there is no record now (deleted, a check of an
    /// absent one, or a put that had expired already).
    pub version: Option<Version>,
    /// What else there is to say.
    pub effect: Effect,
}

/// What a mutation did beyond the new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The value was put, the expiry set, or the check passed.
    Done,
    /// The record was deleted, or there was none.
    Deleted {
        /// Whether there was a record.
        existed: bool,
    },
    /// The new values of the incremented fields.
    Counters(BTreeMap<SmolStr, i64>),
    /// The new length of the list.
    Length(u64),
}

impl Written {
    /// The new version; an error if the mutation left no record.
    pub fn into_version(self) -> Result<Version> {
        self.version.ok_or_else(|| Error::invalid("the mutation left no record, so it has no version"))
    }
}
