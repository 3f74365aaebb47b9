//! Where the order of the mutations of a batch can be seen.

use storage_core::apply::{Taken, crowded};
use storage_core::{IndexSpec, Result};

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

    /// Whether a mutation takes a value that the record of another holds or takes.
    pub(super) async fn passes_values(&self, items: &[Item<'_>], unique: &[IndexSpec]) -> Result<bool> {
        let taken = Taken::new(items.iter().map(|(_, mutation)| *mutation), unique)?;
        let stored = self.headers(taken.holders(), None).await?;
        taken.is_passed_on(stored.values().map(|header| &header.record))
    }
}
