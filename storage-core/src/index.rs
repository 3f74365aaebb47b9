//! Secondary indexes on JSON paths.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

/// The indexes of collections as a client has seen them lately, for backends that ask a server for them.
///
/// What is here is believed for ten seconds: others make and drop indexes too. So it may decide how something is read or
/// written, never what it means. The indexes of 1,000 collections are kept at most.
#[derive(Debug, Default)]
pub struct KnownIndexes(Mutex<HashMap<CollectionName, Seen>>);

/// The indexes of a collection, and when they were seen.
type Seen = (Instant, Arc<[IndexSpec]>);

impl KnownIndexes {
    const BELIEVED: Duration = Duration::from_secs(10);
    const COLLECTIONS: usize = 1_000;

    /// The indexes of a collection, `None` if the server has to be asked.
    pub fn of(&self, collection: &CollectionName) -> Option<Arc<[IndexSpec]>> {
        let (since, specs) = self.seen().get(collection).cloned()?;
        (since.elapsed() < Self::BELIEVED).then_some(specs)
    }

    /// Notes the indexes that the server has told, and returns them.
    pub fn learn(&self, collection: &CollectionName, found: Vec<IndexSpec>) -> Arc<[IndexSpec]> {
        let found: Arc<[IndexSpec]> = found.into();
        let mut seen = self.seen();
        if seen.len() >= Self::COLLECTIONS {
            seen.clear();
        }
        seen.insert(collection.clone(), (Instant::now(), found.clone()));
        found
    }

    /// Forgets the indexes of a collection, after one was made or dropped.
    pub fn forget(&self, collection: &CollectionName) {
        self.seen().remove(collection);
    }

    /// Forgets all.
    pub fn forget_all(&self) {
        self.seen().clear();
    }

    // Each change of it is whole, also one that panics.
    fn seen(&self) -> MutexGuard<'_, HashMap<CollectionName, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
