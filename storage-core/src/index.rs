//! Secondary indexes on JSON paths.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{CollectionName, Path};

/// A secondary index of the JSON records of a collection on one path.
///
/// Indexes change how fast a query is, never what it returns; a unique one also refuses writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IndexSpec {
    /// The collection.
    pub collection: CollectionName,
    /// The indexed path.
    pub path: Path,
    /// Whether two records may not hold the same scalar at the path; a write that would make them is a
    /// [`Conflict`](crate::ErrorKind::Conflict).
    pub unique: bool,
}

impl IndexSpec {
    /// A plain index.
    pub fn new(collection: CollectionName, path: Path) -> Self {
        Self { collection, path, unique: false }
    }

    /// The name of the index within its collection: its path.
    pub fn name(&self) -> SmolStr {
        SmolStr::new(self.path.as_str())
    }
}
