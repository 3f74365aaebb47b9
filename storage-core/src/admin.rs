//! Health, statistics and maintenance of a store.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether it does its work.
    pub status: HealthStatus,
    /// How long the probe took.
    pub latency: Duration,
    /// What is wrong, if anything; otherwise what was probed.
    pub detail: String,
}

/// Whether a store does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Reads and writes work.
    Up,
    /// Some operations work, such as reads only.
    Degraded,
    /// Nothing works.
    Down,
}

/// What a store holds and has done since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Records read by key, found or not.
    pub reads: u64,
    /// Mutations applied.
    pub writes: u64,
    /// Live records, if the backend knows cheaply; may include some that expired and were not yet swept.
    pub records: Option<u64>,
    /// Bytes on disk or in memory, if the backend knows.
    pub bytes: Option<u64>,
    /// What else the backend has to tell, such as pool sizes or the server's version.
    pub details: BTreeMap<SmolStr, serde_json::Value>,
}

/// A chore that keeps a store in shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maintenance {
    /// Remove expired records. What has expired is absent already; this frees the room.
    Sweep,
    /// Refresh what the database's planner knows.
    Analyse,
    /// Give room back to the operating system.
    Compact,
    /// Read everything and check it against itself: checksums, indexes, counts.
    Verify,
}

impl Maintenance {
    /// The stable name: `sweep`, `analyse`, `compact`, `verify`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Analyse => "analyse",
            Self::Compact => "compact",
            Self::Verify => "verify",
        }
    }
}

/// What a chore did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MaintenanceReport {
    /// Records looked at.
    pub examined: u64,
    /// Records removed.
    pub removed: u64,
    /// Bytes given back.
    pub freed_bytes: u64,
    /// What [`Maintenance::Verify`] found wrong, one sentence each, at most 100; empty: all is well.
    pub problems: Vec<String>,
}
