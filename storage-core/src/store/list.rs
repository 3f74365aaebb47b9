//! Lists: append at the end, read by range.

use std::fmt;
use std::marker::PhantomData;

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::conflict::at;
use super::write::{Append, Delete, Write};
use super::{Store, incomplete};
use crate::{Address, CollectionName, Error, ErrorKind, Json, Key, ListRange, Mutation, Result, Value};

impl Store {
    /// The lists of a collection: each record is a sequence of JSON items.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a name that is no [`CollectionName`].
    pub fn list<T: Serialize + DeserializeOwned>(&self, collection: impl AsRef<str>) -> Result<List<T>> {
        Ok(List { store: self.clone(), collection: CollectionName::new(collection)?, items: PhantomData })
    }
}

/// Records that are lists of items of type `T`, such as logs and histories. Cheap to clone.
///
/// Appends of many writers all go in. They are not repeated after an error whose outcome is unknown;
/// [`Store::write_idempotent`] makes one that can be.
///
/// ```
/// # use std::sync::Arc;
/// # use storage_core::{MemoryBackend, Store};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// # let store = Store::new(Arc::new(MemoryBackend::new()));
/// let logs = store.list::<String>("logs")?;
/// assert_eq!(logs.append("today", &["started".into(), "ready".into()]).await?, 2);
/// assert_eq!(logs.range("today", 1, 10).await?, ["ready"]);
/// # Ok(())
/// # }
/// ```
pub struct List<T> {
    store: Store,
    collection: CollectionName,
    items: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned + Send + 'static> List<T> {
    /// Adds items to the end, all or none, at least one. Returns the new length. Options are those of [`Write`].
    ///
    /// # Errors
    /// [`TypeMismatch`](ErrorKind::TypeMismatch) if the record is no list,
    /// [`InvalidInput`](ErrorKind::InvalidInput) without items.
    pub fn append(&self, key: impl AsRef<str>, items: &[T]) -> Write<Append> {
        Write::new(self.store.backend(), self.address(key), |address| {
            let items = items.iter().map(Json::encode).collect::<Result<_>>();
            Ok(Mutation::append(address.clone(), items.map_err(|error| at(&address, error))?))
        })
    }

    /// At most `limit` items from position `start` (from 0) on; none past the end or if there is no list.
    pub async fn range(&self, key: impl AsRef<str>, start: u64, limit: usize) -> Result<Vec<T>> {
        let address = self.address(key)?;
        let mut items = Vec::new();
        while items.len() < limit {
            let (more, ended) =
                self.read(&address, start.saturating_add(items.len() as u64), limit - items.len()).await?;
            items.extend(more);
            if ended {
                break;
            }
        }
        Ok(items)
    }

    /// All items in order, read in pages as it is polled. An error ends it. Items that are appended meanwhile
    /// are read too.
    pub fn stream(&self, key: impl AsRef<str>) -> BoxStream<'static, Result<T>> {
        let list = self.clone();
        let begin = self.address(key).map(|address| (address, 0));
        let pages = stream::once(async { begin }).map_ok(move |begin| {
            let list = list.clone();
            stream::try_unfold(Some(begin), move |position| {
                let list = list.clone();
                async move {
                    let Some((address, start)) = position else { return Ok(None) };
                    let (items, ended) = list.read(&address, start, usize::MAX).await?;
                    let next = (!ended).then(|| (address, start + items.len() as u64));
                    Ok(Some((stream::iter(items).map(Ok), next)))
                }
            })
        });
        pages.try_flatten().try_flatten().boxed()
    }

    /// The number of items; 0 if there is no list.
    pub async fn len(&self, key: impl AsRef<str>) -> Result<u64> {
        let address = self.address(key)?;
        match self.store.get(&address).await?.map(|record| record.value) {
            None => Ok(0),
            Some(Value::List { length }) => Ok(length),
            Some(other) => {
                let message = format!("the record holds {}, not a list", other.kind());
                Err(at(&address, Error::new(ErrorKind::TypeMismatch, message)))
            }
        }
    }

    /// Removes a list with all its items. Returns whether there was one.
    pub fn delete(&self, key: impl AsRef<str>) -> Write<Delete> {
        Write::new(self.store.backend(), self.address(key), |address| Ok(Mutation::delete(address)))
    }

    /// One page from `start` on, and whether the list ends with it.
    async fn read(&self, address: &Address, start: u64, most: usize) -> Result<(Vec<T>, bool)> {
        let limit = self.store.backend().info().capabilities.limits.page_len.min(1000);
        let limit = u32::try_from(most).map_or(limit, |most| most.min(limit));
        let range = ListRange { address: address.clone(), start, limit };
        let Some(page) = self.store.backend().list_range(&range).await? else {
            return Ok((Vec::new(), true));
        };
        let end = start.saturating_add(page.items.len() as u64);
        if page.items.is_empty() && end < page.length {
            return Err(incomplete());
        }
        let items = page.items.iter().map(Json::decode).collect::<Result<_>>();
        Ok((items.map_err(|error| at(address, error))?, end >= page.length))
    }

    fn address(&self, key: impl AsRef<str>) -> Result<Address> {
        Ok(Address { collection: self.collection.clone(), key: Key::new(key)? })
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), collection: self.collection.clone(), items: PhantomData }
    }
}

impl<T> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("List").field(&self.collection).finish()
    }
}
