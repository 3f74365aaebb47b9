//! Secondary indexes on JSON paths.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{CollectionName, Path, Result};

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
/// What is here is believed for ten seconds, so an index that others made meanwhile is missed for so long, and one that they
/// dropped is still there. The indexes of 1,000 collections are kept at most.
#[derive(Debug, Default)]
pub struct KnownIndexes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The indexes of a collection, and when they were seen.
    seen: HashMap<CollectionName, (Instant, Arc<[IndexSpec]>)>,
    /// How often something was forgotten.
    forgotten: u64,
}

impl KnownIndexes {
    const BELIEVED: Duration = Duration::from_secs(10);
    const COLLECTIONS: usize = 1_000;

    /// The indexes of a collection; what `ask` tells, which asks the server, if they are not known.
    ///
    /// # Errors
    /// That of `ask`.
    pub async fn of(
        &self,
        collection: &CollectionName,
        ask: impl Future<Output = Result<Vec<IndexSpec>>>,
    ) -> Result<Arc<[IndexSpec]>> {
        let before = {
            let known = self.known();
            if let Some((since, specs)) = known.seen.get(collection)
                && since.elapsed() < Self::BELIEVED
            {
                return Ok(specs.clone());
            }
            known.forgotten
        };
        let found: Arc<[IndexSpec]> = ask.await?.into();
        let mut known = self.known();
        // What was forgotten meanwhile may have changed after the server looked.
        if known.forgotten == before {
            if known.seen.len() >= Self::COLLECTIONS {
                known.seen.clear();
            }
            known.seen.insert(collection.clone(), (Instant::now(), found.clone()));
        }
        Ok(found)
    }

    /// Forgets the indexes of a collection, once one was made or dropped; and before one is made, as who makes it may be given up.
    pub fn forget(&self, collection: &CollectionName) {
        let mut known = self.known();
        known.seen.remove(collection);
        known.forgotten += 1;
    }

    /// Forgets all.
    pub fn forget_all(&self) {
        let mut known = self.known();
        known.seen.clear();
        known.forgotten += 1;
    }

    // Each change of it is whole, also one that panics.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_changed_while_the_server_was_asked_is_asked_again() {
        let collection = CollectionName::new("users").unwrap();
        let index = IndexSpec::new(collection.clone(), Path::new("email").unwrap());
        let known = KnownIndexes::default();
        let old = known.of(&collection, async {
            known.forget(&collection);
            Ok(Vec::new())
        });
        assert!(old.await.unwrap().is_empty());
        let indexes = [index];
        let new = async { Ok(indexes.to_vec()) };
        assert_eq!(*known.of(&collection, new).await.unwrap(), indexes);
        let never = async { panic!("it is known") };
        assert_eq!(*known.of(&collection, never).await.unwrap(), indexes);
    }
}
