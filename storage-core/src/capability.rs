//! What a backend can do, as data.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, MAX_JSON_DEPTH, Result};

/// Something a backend may or may not offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Feature {
    /// Getting records by key.
    Get,
    /// Putting, deleting and checking records.
    Put,
    /// Preconditions on mutations, decided without a race, and the account of writes that they rest on: a version
    /// that changes with every write, and when a record was made and written. Without it, a version only tells values
    /// apart, and the times of a record may be the Unix epoch.
    Preconditions,
    /// Expiry of records, and touching.
    Expiry,
    /// Atomic batches.
    Atomic,
    /// Scanning by key prefix.
    Scan,
    /// Scans return keys in byte order.
    OrderedScan,
    /// Queries by filter.
    Query,
    /// Sorted queries.
    Sort,
    /// Secondary indexes.
    Indexes,
    /// Unique secondary indexes.
    UniqueIndexes,
    /// Counting records.
    Count,
    /// Listing collections.
    Collections,
    /// Clearing a collection.
    Clear,
    /// Values of opaque bytes.
    Bytes,
    /// Counters.
    Counters,
    /// Lists.
    Lists,
    /// The feed of changes.
    Changes,
    /// [`Maintenance::Sweep`](crate::Maintenance::Sweep).
    Sweep,
    /// [`Maintenance::Analyse`](crate::Maintenance::Analyse).
    Analyse,
    /// [`Maintenance::Compact`](crate::Maintenance::Compact).
    Compact,
    /// [`Maintenance::Verify`](crate::Maintenance::Verify).
    Verify,
}

impl Feature {
    /// Every feature, in order.
    pub const ALL: [Self; 22] = [
        Self::Get,
        Self::Put,
        Self::Preconditions,
        Self::Expiry,
        Self::Atomic,
        Self::Scan,
        Self::OrderedScan,
        Self::Query,
        Self::Sort,
        Self::Indexes,
        Self::UniqueIndexes,
        Self::Count,
        Self::Collections,
        Self::Clear,
        Self::Bytes,
        Self::Counters,
        Self::Lists,
        Self::Changes,
        Self::Sweep,
        Self::Analyse,
        Self::Compact,
        Self::Verify,
    ];

    /// The stable name, such as `ordered_scan`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Preconditions => "preconditions",
            Self::Expiry => "expiry",
            Self::Atomic => "atomic",
            Self::Scan => "scan",
            Self::OrderedScan => "ordered_scan",
            Self::Query => "query",
            Self::Sort => "sort",
            Self::Indexes => "indexes",
            Self::UniqueIndexes => "unique_indexes",
            Self::Count => "count",
            Self::Collections => "collections",
            Self::Clear => "clear",
            Self::Bytes => "bytes",
            Self::Counters => "counters",
            Self::Lists => "lists",
            Self::Changes => "changes",
            Self::Sweep => "sweep",
            Self::Analyse => "analyse",
            Self::Compact => "compact",
            Self::Verify => "verify",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a backend offers a feature. What it does not list it does not offer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Support {
    /// By the database itself.
    Native,
    /// By this crate, at the cost that the text names (such as "reads the whole collection").
    Emulated(Cow<'static, str>),
}

/// Which mutations can be in one atomic batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtomicScope {
    /// Only mutations of one record.
    Record,
    /// Only records of one collection.
    Collection,
    /// Any records of the store.
    Store,
}

/// How merging concurrent calls into batches pays for this backend; see the coalesce layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coalescing {
    /// Calls cost a network round trip or a transaction each: merge them.
    Pays,
    /// Calls are answered in place, or the backend merges them itself: a layer would only add to it.
    Idle,
}

/// What a backend offers, how, and within which limits. Plain data: listed, stored, and compared.
///
/// ```
/// use storage_core::{Capabilities, Feature, Support};
///
/// let capabilities = Capabilities::none().native([Feature::Get, Feature::Put]);
/// assert!(capabilities.has(Feature::Get));
/// assert!(capabilities.require(Feature::Query).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What is offered, and how.
    pub features: BTreeMap<Feature, Support>,
    /// What an atomic batch can span, if there are any.
    pub atomic_scope: AtomicScope,
    /// Whether merging concurrent reads pays.
    pub coalesce_reads: Coalescing,
    /// Whether merging concurrent writes pays.
    pub coalesce_writes: Coalescing,
    /// The limits.
    pub limits: Limits,
}

impl Capabilities {
    /// Offers nothing, within the default limits.
    pub fn none() -> Self {
        Self {
            features: BTreeMap::new(),
            atomic_scope: AtomicScope::Record,
            coalesce_reads: Coalescing::Idle,
            coalesce_writes: Coalescing::Idle,
            limits: Limits::default(),
        }
    }

    /// Adds features that the database offers itself.
    #[must_use]
    pub fn native(mut self, features: impl IntoIterator<Item = Feature>) -> Self {
        self.features.extend(features.into_iter().map(|feature| (feature, Support::Native)));
        self
    }

    /// Adds a feature that the backend crate makes up for, and at which cost.
    #[must_use]
    pub fn emulated(mut self, feature: Feature, cost: &'static str) -> Self {
        self.features.insert(feature, Support::Emulated(Cow::Borrowed(cost)));
        self
    }

    /// Whether the feature is offered, natively or emulated.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains_key(&feature)
    }

    /// [`Unsupported`](crate::ErrorKind::Unsupported) unless the feature is offered.
    pub fn require(&self, feature: Feature) -> Result<()> {
        if self.has(feature) { Ok(()) } else { Err(Error::unsupported(feature)) }
    }
}

/// The limits of a backend. A request beyond one is [`TooLarge`](crate::ErrorKind::TooLarge), and the error
/// names the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Most mutations in one batch, and keys in one get.
    pub batch_len: usize,
    /// Most bytes in one batch.
    pub batch_bytes: usize,
    /// Most mutations in one atomic batch, which cannot be done in parts to let others in between.
    pub atomic_len: usize,
    /// Most bytes in one atomic batch.
    pub atomic_bytes: usize,
    /// Most bytes in one value, or in one list item.
    pub value_bytes: usize,
    /// Deepest nesting of JSON, at most [`MAX_JSON_DEPTH`].
    pub json_depth: usize,
    /// Most records in one page.
    pub page_len: u32,
    /// Most fields in one counters record, each with a name of 1 to 256 bytes.
    pub counter_fields: usize,
}

impl Default for Limits {
    /// 10,000 mutations and 256 MiB a batch, atomic or not, 64 MiB a value, the greatest JSON depth, 10,000 records a page,
    /// 1,000 counter fields.
    fn default() -> Self {
        Self {
            batch_len: 10_000,
            batch_bytes: 256 << 20,
            atomic_len: 10_000,
            atomic_bytes: 256 << 20,
            value_bytes: 64 << 20,
            json_depth: MAX_JSON_DEPTH,
            page_len: 10_000,
            counter_fields: 1_000,
        }
    }
}
