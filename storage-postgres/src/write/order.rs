//! Where the order of the mutations of a batch can be seen.

use storage_core::apply::{Taken, crowded};
use storage_core::{ErrorKind, IndexSpec, Result, Timestamp};

use super::{Item, classify};
use crate::client::Client;

impl Client {
    /// The unique indexes of those collections of a batch in which its order may matter.
    pub(super) async fn unique_among(&self, items: &[Item<'_>]) -> Result<Vec<IndexSpec>> {
        let mut unique = Vec::new();
        for collection in crowded(items.iter().map(|(_, mutation)| *mutation)) {
            unique.extend(self.unique_indexes(collection).await?);
        }
        Ok(unique)
    }

    /// Whether the mutations have to be done one after the other, so that values go from record to record in their order.
    pub(super) async fn is_ordered(
        &self,
        items: &[Item<'_>],
        unique: &[IndexSpec],
        now: Timestamp,
    ) -> Result<bool> {
        match self.passes_values(items, unique, now).await {
            // Who does not need it does not fail because of it.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Decode) => Ok(true),
            told => told,
        }
    }

    async fn passes_values(&self, items: &[Item<'_>], unique: &[IndexSpec], now: Timestamp) -> Result<bool> {
        let taken = Taken::new(items.iter().map(|(_, mutation)| *mutation), unique)?;
        // Of one class, the first of two that put the same value gets it.
        if taken.has_rivals() && classify(items, now).len() > 1 {
            return Ok(true);
        }
        let stored = self.read_many(taken.holders()).await?;
        taken.is_passed_on(stored.iter().flatten())
    }
}
