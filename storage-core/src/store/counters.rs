//! Named counters.

use std::collections::BTreeMap;
use std::time::Duration;

use smol_str::SmolStr;

use super::conflict::at;
use super::write::{Delete, Increment, IncrementMany, Write};
use super::{Store, write_one};
use crate::{Address, Change, CollectionName, Error, ErrorKind, Key, Mutation, Result, Timestamp, Value};

impl Store {
    /// The counters of a collection: each record has named fields that are added to.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a name that is no [`CollectionName`].
    pub fn counters(&self, collection: impl AsRef<str>) -> Result<Counters> {
        Ok(Counters { store: self.clone(), collection: CollectionName::new(collection)? })
    }
}

/// Records of named signed 64-bit counters. Cheap to clone.
///
/// Increments of many writers add up exactly. They are not repeated after an error whose outcome is unknown;
/// [`Store::write_idempotent`] makes one that can be.
///
/// ```
/// # use std::sync::Arc;
/// # use storage_core::{MemoryBackend, Store};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// # let store = Store::new(Arc::new(MemoryBackend::new()));
/// let usage = store.counters("usage")?;
/// assert_eq!(usage.increment("ada", "tokens", 5).ttl(Duration::from_secs(3600)).await?, 5);
/// assert_eq!(usage.increment("ada", "tokens", -2).await?, 3);
/// assert_eq!(usage.get("ada", "calls").await?, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Counters {
    store: Store,
    collection: CollectionName,
}

impl Counters {
    /// Adds to a field, which starts at zero. Returns its new value. Options are those of [`Write`].
    ///
    /// # Errors
    /// [`OutOfRange`](ErrorKind::OutOfRange) if the sum leaves 64 bits,
    /// [`TypeMismatch`](ErrorKind::TypeMismatch) if the record holds no counters.
    pub fn increment(&self, key: impl AsRef<str>, field: impl Into<SmolStr>, delta: i64) -> Write<Increment> {
        Write::new(self.store.backend(), self.address(key), |address| {
            Ok(Mutation::increment(address, field, delta))
        })
    }

    /// Adds to several fields at once, all or none; deltas of a field named twice add up. Returns their new
    /// values.
    ///
    /// # Errors
    /// As [`increment`](Self::increment).
    pub fn increment_many<F: Into<SmolStr>>(
        &self,
        key: impl AsRef<str>,
        fields: impl IntoIterator<Item = (F, i64)>,
    ) -> Write<IncrementMany> {
        Write::new(self.store.backend(), self.address(key), |address| {
            let mut sums: BTreeMap<SmolStr, i64> = BTreeMap::new();
            for (field, delta) in fields {
                let sum = sums.entry(field.into()).or_insert(0);
                *sum = sum.checked_add(delta).ok_or_else(|| {
                    Error::new(ErrorKind::OutOfRange, format!("{address}: the deltas add up beyond 64 bits"))
                })?;
            }
            Ok(Mutation::new(address, Change::Increment { fields: sums, expires_at: None }))
        })
    }

    /// The value of a field; 0 if there is none.
    pub async fn get(&self, key: impl AsRef<str>, field: impl AsRef<str>) -> Result<i64> {
        Ok(self.all(key).await?.get(field.as_ref()).copied().unwrap_or(0))
    }

    /// All fields; none if there is no record.
    pub async fn all(&self, key: impl AsRef<str>) -> Result<BTreeMap<SmolStr, i64>> {
        let address = self.address(key)?;
        match self.store.get(&address).await?.map(|record| record.value) {
            None => Ok(BTreeMap::new()),
            Some(Value::Counters(fields)) => Ok(fields),
            Some(other) => {
                let message = format!("the record holds {}, not counters", other.kind());
                Err(at(&address, Error::new(ErrorKind::TypeMismatch, message)))
            }
        }
    }

    /// Removes a record with all its fields. Returns whether there was one.
    pub fn delete(&self, key: impl AsRef<str>) -> Write<Delete> {
        Write::new(self.store.backend(), self.address(key), |address| Ok(Mutation::delete(address)))
    }

    /// Sets the time to live, or with `None` clears it.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no record.
    pub async fn touch(&self, key: impl AsRef<str>, ttl: Option<Duration>) -> Result<()> {
        let expires_at = ttl.map(Timestamp::after).transpose()?;
        write_one(self.store.backend().as_ref(), Mutation::touch(self.address(key)?, expires_at)).await?;
        Ok(())
    }

    fn address(&self, key: impl AsRef<str>) -> Result<Address> {
        Ok(Address { collection: self.collection.clone(), key: Key::new(key)? })
    }
}
