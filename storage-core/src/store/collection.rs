//! A typed view of a collection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::conflict::{ATTEMPTS, as_conflict, at, is_conflict, waits};
use super::write::{Delete, Put, Write};
use super::{Keys, Pages, Querying, Scanning, Store, write_one};
use crate::{
    Address, Batch, Codec, CollectionName, Count, Filter, JsonCodec, Key, Mutation, Precondition, Query,
    Record, Result, Scan, Timestamp, Version,
};

impl Store {
    /// A typed view of a collection, in JSON. The collection need not exist: it does once it has a record.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a name that is no [`CollectionName`].
    pub fn collection<T: Send + 'static>(&self, name: impl AsRef<str>) -> Result<Collection<T>>
    where
        JsonCodec: Codec<T>,
    {
        self.collection_with(name, JsonCodec)
    }

    /// A typed view of a collection, with a codec.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use storage_core::{MemoryBackend, Store};
    /// use storage_core::{Blob, Raw};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> storage_core::Result<()> {
    /// # let store = Store::new(Arc::new(MemoryBackend::new()));
    /// let images = store.collection_with::<Blob>("images", Raw)?;
    /// images.put("logo", &Blob::new("<svg/>").with_media_type("image/svg+xml")).await?;
    /// assert_eq!(images.get("logo").await?.unwrap().media_type, "image/svg+xml");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`collection`](Self::collection).
    pub fn collection_with<T: Send + 'static>(
        &self,
        name: impl AsRef<str>,
        codec: impl Codec<T>,
    ) -> Result<Collection<T>> {
        Ok(Collection { store: self.clone(), name: CollectionName::new(name)?, codec: Arc::new(codec) })
    }
}

/// A collection whose values are of type `T`. Cheap to clone.
///
/// Keys are checked when they are passed: a bad one is [`InvalidInput`](crate::ErrorKind::InvalidInput). A
/// stored value of another kind than the codec's is [`TypeMismatch`](crate::ErrorKind::TypeMismatch), one of
/// another shape than `T` [`Decode`](crate::ErrorKind::Decode); both name the record.
pub struct Collection<T> {
    store: Store,
    name: CollectionName,
    codec: Arc<dyn Codec<T>>,
}

/// A record with its typed value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<T> {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: T,
    /// Changes on every write: the ETag.
    pub version: Version,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When the record was last written.
    pub updated_at: Timestamp,
    /// From when on the record counts as absent, if ever.
    pub expires_at: Option<Timestamp>,
}

impl<T: Send + 'static> Collection<T> {
    /// The name.
    pub fn name(&self) -> &CollectionName {
        &self.name
    }

    /// Reads a value; `None` if there is no record.
    pub async fn get(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        Ok(self.get_record(key).await?.map(|entry| entry.value))
    }

    /// Reads a value with its version and times.
    pub async fn get_record(&self, key: impl AsRef<str>) -> Result<Option<Entry<T>>> {
        let record = self.store.get(&self.address(key)?).await?;
        record.map(|record| self.entry(record)).transpose()
    }

    /// Reads values, in the order of the keys, `None` where there is no record.
    ///
    /// Any number of keys: more than the backend's limit are read in parts.
    pub async fn get_many<K: AsRef<str>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<T>>> {
        let addresses: Vec<Address> = keys.into_iter().map(|key| self.address(key)).collect::<Result<_>>()?;
        let records = self.store.get_many(&addresses).await?;
        let value = |record: Record| self.entry(record).map(|entry| entry.value);
        records.into_iter().map(|record| record.map(value).transpose()).collect()
    }

    /// Whether there is a record.
    pub async fn exists(&self, key: impl AsRef<str>) -> Result<bool> {
        Ok(self.store.get(&self.address(key)?).await?.is_some())
    }

    /// Makes or replaces a record, with its expiry (without one, it never expires). Returns the new version.
    /// Options are those of [`Write`].
    pub fn put(&self, key: impl AsRef<str>, value: &T) -> Write<Put> {
        Write::new(self.store.backend(), self.address(key), |address| self.mutation(address, value))
    }

    /// Puts each value for itself: one result each, in order. What is beyond the backend's limits is sent in
    /// parts, as [`Store::write`] says.
    ///
    /// # Errors
    /// Nothing is written if a key is not valid or a value cannot be encoded.
    pub async fn put_many<'v, K: AsRef<str>>(
        &self,
        values: impl IntoIterator<Item = (K, &'v T)>,
    ) -> Result<Vec<Result<Version>>> {
        let put = |(key, value): (K, &T)| self.mutation(self.address(key)?, value);
        let batch = Batch::independent(values.into_iter().map(put).collect::<Result<_>>()?);
        let results = self.store.write(batch).await?;
        Ok(results.into_iter().map(|result| result?.into_version()).collect())
    }

    /// Removes a record. Returns whether there was one.
    pub fn delete(&self, key: impl AsRef<str>) -> Write<Delete> {
        Write::new(self.store.backend(), self.address(key), |address| Ok(Mutation::delete(address)))
    }

    /// Sets the time to live, or with `None` clears it, and keeps the value. Returns the new version.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no record.
    pub async fn touch(&self, key: impl AsRef<str>, ttl: Option<Duration>) -> Result<Version> {
        let expires_at = ttl.map(Timestamp::after).transpose()?;
        let mutation = Mutation::touch(self.address(key)?, expires_at);
        write_one(self.store.backend().as_ref(), mutation).await?.into_version()
    }

    /// Replaces a value by what `change` makes of it, and keeps its expiry. Returns the new value.
    ///
    /// If another writer gets in between, `change` is asked again, up to 20 times in all.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use storage_core::{MemoryBackend, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> storage_core::Result<()> {
    /// # let store = Store::new(Arc::new(MemoryBackend::new()));
    /// let tags = store.collection::<Vec<String>>("tags")?;
    /// let push = |old: Option<Vec<String>>| old.into_iter().flatten().chain(["new".into()]).collect();
    /// assert_eq!(tags.update("ada", push).await?, ["new"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Conflict`](crate::ErrorKind::Conflict) after the last attempt. An error whose outcome is unknown is
    /// not repeated.
    pub async fn update(&self, key: impl AsRef<str>, mut change: impl FnMut(Option<T>) -> T) -> Result<T> {
        let address = self.address(key)?;
        let mut waits = waits(ATTEMPTS);
        loop {
            let old = self.store.get(&address).await?.map(|record| self.entry(record)).transpose()?;
            let (seen, expires_at) = match &old {
                Some(entry) => (Precondition::Version(entry.version.clone()), entry.expires_at),
                None => (Precondition::Absent, None),
            };
            let new = change(old.map(|entry| entry.value));
            let put = self.mutation(address.clone(), &new)?.on(seen).expiring(expires_at);
            match write_one(self.store.backend().as_ref(), put).await.map_err(as_conflict) {
                Err(error) if is_conflict(&error) => match waits.next() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(error),
                },
                result => return result.map(|_| new),
            }
        }
    }

    /// All records, page by page or as a stream; a prefix of the keys narrows them.
    pub fn scan(&self) -> Pages<Scanning<T>> {
        Pages::new(&self.store, Scanning { collection: self.clone(), scan: Scan::new(self.name.clone()) })
    }

    /// All keys, page by page or as a stream, without the values.
    pub fn keys(&self) -> Pages<Keys> {
        Pages::new(&self.store, Keys { scan: Scan::new(self.name.clone()) })
    }

    /// The JSON records that match, page by page or as a stream.
    pub fn query(&self, filter: Filter) -> Pages<Querying<T>> {
        let query = Query::new(self.name.clone(), filter);
        Pages::new(&self.store, Querying { collection: self.clone(), query })
    }

    /// The number of records.
    pub async fn count(&self) -> Result<u64> {
        self.store.backend().count(&Count { collection: self.name.clone(), filter: None }).await
    }

    /// Removes all records and returns how many there were. Not atomic.
    pub async fn clear(&self) -> Result<u64> {
        self.store.backend().clear(&self.name).await
    }

    pub(super) fn entry(&self, record: Record) -> Result<Entry<T>> {
        let Record { address, value, version, created_at, updated_at, expires_at } = record;
        let value = self.codec.decode(value).map_err(|error| at(&address, error))?;
        Ok(Entry { key: address.key, value, version, created_at, updated_at, expires_at })
    }

    fn address(&self, key: impl AsRef<str>) -> Result<Address> {
        Ok(Address { collection: self.name.clone(), key: Key::new(key)? })
    }

    fn mutation(&self, address: Address, value: &T) -> Result<Mutation> {
        let value = self.codec.encode(value).map_err(|error| at(&address, error))?;
        Ok(Mutation::put(address, value))
    }
}

impl<T> Clone for Collection<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), name: self.name.clone(), codec: self.codec.clone() }
    }
}

impl<T> fmt::Debug for Collection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Collection").field(&self.name).finish()
    }
}
