//! Where the order of the mutations of a batch can be seen.

use storage_core::apply::{Taken, crowded};
use storage_core::{ErrorKind, IndexSpec, Result};

use super::Item;
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
    pub(super) async fn is_ordered(&self, items: &[Item<'_>], unique: &[IndexSpec]) -> Result<bool> {
        match self.passes_values(items, unique).await {
            // Who does not need it does not fail because of it.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Decode) => Ok(true),
            told => told,
        }
    }

    async fn passes_values(&self, items: &[Item<'_>], unique: &[IndexSpec]) -> Result<bool> {
        let taken = Taken::new(items.iter().map(|(_, mutation)| *mutation), unique)?;
        // Commands that are under way at once may do the later one first.
        if taken.has_rivals() {
            return Ok(true);
        }
        let stored = self.headers(taken.holders(), None).await?;
        taken.is_passed_on(stored.values().map(|header| &header.record))
    }
}
