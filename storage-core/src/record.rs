//! A stored record.

use serde::{Deserialize, Serialize};

use crate::{Address, Timestamp, Value, Version};

/// A record as it was read: where, what, and since when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Collection and key.
    pub address: Address,
    /// The value.
    pub value: Value,
    /// Changes on every write: the ETag. Where [`Preconditions`](crate::Feature::Preconditions) are not offered, equal
    /// versions only say that the values are equal.
    pub version: Version,
    /// When the record was made. Overwriting keeps it; deleting and making anew does not. The Unix epoch if the
    /// backend does not know, and offers no [`Preconditions`](crate::Feature::Preconditions).
    pub created_at: Timestamp,
    /// When the record was last written, or the Unix epoch as above.
    pub updated_at: Timestamp,
    /// From when on the record counts as absent, if ever.
    pub expires_at: Option<Timestamp>,
}

impl Record {
    /// Whether the record counts as absent at `now`: it does from `expires_at` on.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// About how many bytes the record takes in memory: names and value.
    pub fn size(&self) -> usize {
        self.address.collection.as_str().len() + self.address.key.as_str().len() + self.value.size()
    }
}
