//! The feed of changes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Address, CollectionName, Cursor, Record, Timestamp};

/// Asks for the changes after a cursor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// Only this collection; `None`: all.
    pub collection: Option<CollectionName>,
    /// Where the page before ended; `None`: from now on. The first call returns at once, with no items and
    /// the cursor of the present.
    pub after: Option<Cursor>,
    /// The most items of this page, at least 1.
    pub limit: u32,
    /// How long to wait for a first change if there is none yet.
    pub wait: Duration,
}

/// One change of one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeEvent {
    /// The record.
    pub address: Address,
    /// When it changed.
    pub at: Timestamp,
    /// The record after the change; `None`: deleted or expired.
    pub record: Option<Record>,
}
