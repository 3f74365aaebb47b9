//! What each change does to a record: the reference semantics, shared by backends that evaluate changes
//! themselves.

mod order;

use std::collections::BTreeMap;

use smol_str::SmolStr;

pub use self::order::{Taken, crowded, unrepeated};
use crate::{Change, Effect, Error, ErrorKind, Mutation, Record, Result, Timestamp, Value, Version, Written};

/// What is to be stored after a mutation.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Leave everything as it is.
    Keep,
    /// Store this record. `new_list` says that the record's list begins empty, so items of a list that was
    /// here before must go.
    Store {
        /// The record.
        record: Record,
        /// Whether a list that was here before, if any, is gone.
        drops_items: bool,
    },
    /// Remove the record and the items of its list.
    Remove,
}

/// The outcome of a mutation that is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What is to be stored. Items of an [`Change::Append`] are to be added after those that are there.
    pub next: Next,
    /// What the caller is told.
    pub written: Written,
}

/// Decides one mutation against the record that is there now.
///
/// `current` is the stored record, expired or not; `version` is the version the record gets if it changes.
///
/// # Errors
/// [`PreconditionFailed`](ErrorKind::PreconditionFailed), [`NotFound`](ErrorKind::NotFound),
/// [`TypeMismatch`](ErrorKind::TypeMismatch) or [`OutOfRange`](ErrorKind::OutOfRange); then nothing is to be
/// stored.
pub fn apply(
    mutation: &Mutation,
    current: Option<&Record>,
    now: Timestamp,
    version: Version,
) -> Result<Outcome> {
    let leftover = current.is_some();
    let current = current.filter(|record| !record.is_expired(now));
    if let Some(precondition) = &mutation.precondition
        && !precondition.holds(current)
    {
        return Err(precondition_failed(mutation, current.map(|record| &record.version)));
    }
    let step = Step { mutation, current, leftover, now, version };
    match &mutation.change {
        Change::Put { value, expires_at } => {
            let record = step.record(value.clone(), *expires_at);
            if record.is_expired(now) {
                return Ok(step.remove(Effect::Done));
            }
            Ok(step.store(record, true, Effect::Done))
        }
        Change::Delete => Ok(step.remove(Effect::Deleted { existed: current.is_some() })),
        Change::Touch { expires_at } => {
            let Some(record) = current else {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("{} is not there to touch", mutation.address),
                ));
            };
            let record = step.record(record.value.clone(), *expires_at);
            if record.is_expired(now) {
                return Ok(step.remove(Effect::Done));
            }
            Ok(step.store(record, false, Effect::Done))
        }
        Change::Increment { fields, expires_at } => step.increment(fields, *expires_at),
        Change::Append { items, expires_at } => step.append(items.len() as u64, *expires_at),
        Change::Check => {
            let version = current.map(|record| record.version.clone());
            Ok(Outcome { next: Next::Keep, written: Written { version, effect: Effect::Done } })
        }
    }
}

struct Step<'a> {
    mutation: &'a Mutation,
    current: Option<&'a Record>,
    /// Whether something is stored, be it expired.
    leftover: bool,
    now: Timestamp,
    version: Version,
}

impl Step<'_> {
    fn record(&self, value: Value, expires_at: Option<Timestamp>) -> Record {
        Record {
            address: self.mutation.address.clone(),
            value,
            version: self.version.clone(),
            created_at: self.current.map_or(self.now, |record| record.created_at),
            updated_at: self.now,
            expires_at,
        }
    }

    fn store(&self, record: Record, drops_items: bool, effect: Effect) -> Outcome {
        let written = Written { version: Some(record.version.clone()), effect };
        Outcome { next: Next::Store { record, drops_items }, written }
    }

    fn remove(&self, effect: Effect) -> Outcome {
        let next = if self.leftover { Next::Remove } else { Next::Keep };
        Outcome { next, written: Written { version: None, effect } }
    }

    fn increment(
        &self,
        deltas: &BTreeMap<SmolStr, i64>,
        initial_expiry: Option<Timestamp>,
    ) -> Result<Outcome> {
        let mut fields = match self.current.map(|record| &record.value) {
            None => BTreeMap::new(),
            Some(Value::Counters(fields)) => fields.clone(),
            Some(other) => return Err(self.mismatch("increment", other)),
        };
        let mut changed = BTreeMap::new();
        for (name, delta) in deltas {
            let field = fields.entry(name.clone()).or_insert(0);
            *field = field.checked_add(*delta).ok_or_else(|| {
                Error::new(
                    ErrorKind::OutOfRange,
                    format!("{}: {field} plus {delta} leaves the range of 64 bits", self.mutation.address),
                )
            })?;
            changed.insert(name.clone(), *field);
        }
        let record = self.record(Value::Counters(fields), self.expiry(initial_expiry));
        if record.is_expired(self.now) {
            return Ok(self.remove(Effect::Counters(changed)));
        }
        Ok(self.store(record, self.current.is_none(), Effect::Counters(changed)))
    }

    fn append(&self, items: u64, initial_expiry: Option<Timestamp>) -> Result<Outcome> {
        let before = match self.current.map(|record| &record.value) {
            None => 0,
            Some(Value::List { length }) => *length,
            Some(other) => return Err(self.mismatch("append", other)),
        };
        let length = before + items;
        let record = self.record(Value::List { length }, self.expiry(initial_expiry));
        if record.is_expired(self.now) {
            return Ok(self.remove(Effect::Length(length)));
        }
        Ok(self.store(record, self.current.is_none(), Effect::Length(length)))
    }

    fn expiry(&self, initial: Option<Timestamp>) -> Option<Timestamp> {
        self.current.map_or(initial, |record| record.expires_at)
    }

    fn mismatch(&self, operation: &str, found: &Value) -> Error {
        let (address, kind) = (&self.mutation.address, found.kind());
        Error::new(ErrorKind::TypeMismatch, format!("{operation} of {address}: the record holds {kind}"))
    }
}

/// The error of a mutation whose precondition does not hold: `current` is the version of the record that is there.
pub fn precondition_failed(mutation: &Mutation, current: Option<&Version>) -> Error {
    use crate::Precondition;

    let address = &mutation.address;
    let message = match (&mutation.precondition, current) {
        (Some(Precondition::Absent), _) => format!("{address} exists already"),
        (Some(Precondition::Version(version)), Some(current)) => {
            format!("{address} has version {current}, not {version}: it was changed since it was read")
        }
        _ => format!("{address} does not exist"),
    };
    Error::new(ErrorKind::PreconditionFailed, message)
}

/// Whether `record` may be written under a unique index on `path`, given another record that the index
/// finds near: a [`Conflict`](ErrorKind::Conflict) if both hold an equal scalar at the path.
///
/// # Errors
/// Also [`Decode`](ErrorKind::Decode) if a stored JSON text is damaged.
pub fn check_unique(path: &crate::Path, record: &Record, other: &Record, now: Timestamp) -> Result<()> {
    let (Some(mine), Some(theirs)) = (record.value.as_json(), other.value.as_json()) else { return Ok(()) };
    if record.address == other.address || other.is_expired(now) {
        return Ok(());
    }
    let (mine, theirs) = (mine.tree()?, theirs.tree()?);
    let scalar = |tree: &&serde_json::Value| !(tree.is_array() || tree.is_object());
    let theirs = path.candidates(&theirs);
    let clash = path
        .candidates(&mine)
        .into_iter()
        .filter(scalar)
        .any(|a| theirs.iter().any(|b| crate::json_eq(a, b)));
    if !clash {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!("{} and {} hold the same {path}, which has a unique index", record.address, other.address),
    )
    .with_retry(crate::Retry::Never))
}
