//! One step of a sequence, in symbols: collections by position, versions by when they were seen.

use std::fmt;

use storage_core::{
    Address, Change, CollectionName, Filter, Json, Key, Maintenance, Path, Sort, Timestamp, Value,
};

/// The collections of a run, one name inside the other so that leaks show.
pub(super) const COLLECTIONS: [&str; 3] = ["c", "c.b", "cb"];

/// One of [`COLLECTIONS`], by position.
pub(super) type Slot = usize;

/// A record's place.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) slot: Slot,
    pub(super) key: Key,
}

/// Which version a precondition names. Each side puts in its own.
#[derive(Clone, Debug)]
pub(super) enum Which {
    /// The one last seen for the same record.
    Latest,
    /// Any one seen for the same record, by position.
    Earlier(usize),
    /// The one last seen for another record.
    OfAnother(Place),
    /// One that no backend ever gave.
    NeverGiven,
}

#[derive(Clone, Debug)]
pub(super) enum Condition {
    Absent,
    Present,
    Version(Which),
}

/// A mutation in symbols.
#[derive(Clone)]
pub(super) struct Planned {
    pub(super) place: Place,
    pub(super) on: Option<Condition>,
    pub(super) change: Change,
}

/// One step. Reads of pages are always carried through to the last page.
#[derive(Clone)]
pub(super) enum Step {
    Get(Vec<Place>),
    Write {
        atomic: bool,
        mutations: Vec<Planned>,
    },
    Scan {
        slot: Slot,
        prefix: String,
        limit: u32,
    },
    Keys {
        slot: Slot,
        prefix: String,
        limit: u32,
    },
    Query {
        slot: Slot,
        filter: Filter,
        sort: Vec<Sort>,
        limit: u32,
    },
    ListRange {
        place: Place,
        start: u64,
        limit: u32,
    },
    Count {
        slot: Slot,
        filter: Option<Filter>,
    },
    Collections,
    Clear(Slot),
    EnsureIndex {
        slot: Slot,
        path: Path,
        unique: bool,
    },
    ListIndexes(Slot),
    DropIndex {
        slot: Slot,
        path: Path,
    },
    Maintain(Maintenance),
    /// Closes the backend under test and opens it again.
    Reopen,
}

impl Step {
    /// The places the step names.
    pub(super) fn places(&self) -> Vec<&Place> {
        match self {
            Self::Get(places) => places.iter().collect(),
            Self::Write { mutations, .. } => mutations.iter().map(|planned| &planned.place).collect(),
            Self::ListRange { place, .. } => vec![place],
            _ => Vec::new(),
        }
    }
}

/// The real names of a run's collections.
#[derive(Clone, Debug)]
pub(super) struct Names([CollectionName; COLLECTIONS.len()]);

impl Names {
    pub(super) fn new() -> storage_core::Result<Self> {
        let [a, b, c] = COLLECTIONS.map(CollectionName::new);
        Ok(Self([a?, b?, c?]))
    }

    pub(super) fn collection(&self, slot: Slot) -> CollectionName {
        self.0[slot].clone()
    }

    pub(super) fn address(&self, place: &Place) -> Address {
        Address { collection: self.collection(place.slot), key: place.key.clone() }
    }

    pub(super) fn slot(&self, collection: &CollectionName) -> Option<Slot> {
        self.0.iter().position(|name| name == collection)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_str();
        match key.char_indices().nth(24) {
            Some((end, _)) => {
                write!(f, "{}/{:?}… of {} bytes", COLLECTIONS[self.slot], &key[..end], key.len())
            }
            None => write!(f, "{}/{key:?}", COLLECTIONS[self.slot]),
        }
    }
}

impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.place, ShownChange(&self.change))?;
        match &self.on {
            None => Ok(()),
            Some(Condition::Absent) => f.write_str(" if absent"),
            Some(Condition::Present) => f.write_str(" if present"),
            Some(Condition::Version(Which::Latest)) => f.write_str(" if the version is the one last seen"),
            Some(Condition::Version(Which::Earlier(n))) => {
                write!(f, " if the version is number {n} (modulo how many there were) of those seen")
            }
            Some(Condition::Version(Which::OfAnother(other))) => {
                write!(f, " if the version is the one last seen of {other:?}")
            }
            Some(Condition::Version(Which::NeverGiven)) => f.write_str(" if the version is one never given"),
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |slot: &Slot| COLLECTIONS[*slot];
        match self {
            Self::Get(places) => write!(f, "get {places:?}"),
            Self::Write { atomic, mutations } => {
                write!(f, "write {}", if *atomic { "atomically" } else { "independently" })?;
                match &mutations[..] {
                    [one] => write!(f, " {one:?}"),
                    many => many.iter().try_for_each(|planned| write!(f, "\n       {planned:?}")),
                }
            }
            Self::Scan { slot, prefix, limit } => {
                write!(f, "scan {} prefix {prefix:?} in pages of {limit}", name(slot))
            }
            Self::Keys { slot, prefix, limit } => {
                write!(f, "keys of {} prefix {prefix:?} in pages of {limit}", name(slot))
            }
            Self::Query { slot, filter, sort, limit } => {
                write!(f, "query {} {}", name(slot), filter.to_json())?;
                sort.iter().try_for_each(|sort| write!(f, " sort {sort}"))?;
                write!(f, " in pages of {limit}")
            }
            Self::ListRange { place, start, limit } => {
                write!(f, "list_range {place:?} from {start}, at most {limit}")
            }
            Self::Count { slot, filter: None } => write!(f, "count {}", name(slot)),
            Self::Count { slot, filter: Some(filter) } => {
                write!(f, "count {} where {}", name(slot), filter.to_json())
            }
            Self::Collections => f.write_str("collections"),
            Self::Clear(slot) => write!(f, "clear {}", name(slot)),
            Self::EnsureIndex { slot, path, unique } => {
                write!(f, "ensure_index {} on {path}{}", name(slot), if *unique { ", unique" } else { "" })
            }
            Self::ListIndexes(slot) => write!(f, "list_indexes of {}", name(slot)),
            Self::DropIndex { slot, path } => write!(f, "drop_index {} on {path}", name(slot)),
            Self::Maintain(task) => write!(f, "maintain {}", task.as_str()),
            Self::Reopen => f.write_str("close and open again"),
        }
    }
}

struct ShownChange<'a>(&'a Change);

impl fmt::Display for ShownChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expiring = |f: &mut fmt::Formatter<'_>, at: &Option<Timestamp>| match at {
            Some(at) => write!(f, " expiring {at}"),
            None => Ok(()),
        };
        match self.0 {
            Change::Put { value, expires_at } => {
                write!(f, "put {}", Shown(value))?;
                expiring(f, expires_at)
            }
            Change::Touch { expires_at: None } => f.write_str("touch without expiry"),
            Change::Touch { expires_at } => {
                f.write_str("touch")?;
                expiring(f, expires_at)
            }
            Change::Increment { fields, expires_at } => {
                write!(f, "increment {fields:?}")?;
                expiring(f, expires_at)
            }
            Change::Append { items, expires_at } => {
                let items: Vec<&str> = items.iter().map(Json::as_str).collect();
                write!(f, "append [{}]", items.join(", "))?;
                expiring(f, expires_at)
            }
            Change::Delete | Change::Check => f.write_str(self.0.name()),
        }
    }
}

/// A value in full: test data is no secret.
pub(super) struct Shown<'a>(pub(super) &'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Json(json) => f.write_str(json.as_str()),
            Value::Bytes(blob) => write!(f, "{} {:?}", blob.media_type, blob.data),
            Value::Counters(fields) => write!(f, "counters {fields:?}"),
            Value::List { length } => write!(f, "a list of {length}"),
        }
    }
}
