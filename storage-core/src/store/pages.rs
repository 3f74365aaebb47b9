//! Many records: page by page, or as one stream over all pages.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::{Collection, Entry, Store};
use crate::{Backend, Count, Cursor, Key, Page, Query, Result, Scan, Sort};

/// A request for many records. Nothing happens until [`page`](Self::page) is awaited or the
/// [`stream`](Self::stream) polled.
///
/// ```
/// # use std::sync::Arc;
/// # use storage_core::{MemoryBackend, Store};
/// use futures_util::TryStreamExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// # let store = Store::new(Arc::new(MemoryBackend::new()));
/// let ages = store.collection::<u32>("ages")?;
/// for (key, age) in [("ada", 36), ("alan", 41), ("bob", 7)] {
///     ages.put(key, &age).await?;
/// }
/// let page = ages.scan().prefix("a").limit(1).page().await?;
/// assert_eq!((page.items[0].key.as_str(), page.items[0].value), ("ada", 36));
/// let rest = ages.scan().prefix("a").after(page.next).page().await?;
/// assert_eq!(rest.items[0].key.as_str(), "alan");
/// let all: Vec<_> = ages.keys().stream().try_collect().await?;
/// assert_eq!(all.len(), 3);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is read until a page or the stream is asked for"]
pub struct Pages<R> {
    backend: Arc<dyn Backend>,
    request: R,
}

impl<R: PageRequest> Pages<R> {
    pub(super) fn new(store: &Store, mut request: R) -> Self {
        let most = store.backend().info().capabilities.limits.page_len;
        *request.limit_mut() = crate::query::DEFAULT_PAGE.min(most);
        Self { backend: store.backend().clone(), request }
    }

    /// The most items of a page, at least 1 and at most the backend's limit; default 100. A stream reads
    /// pages of this size, to the end.
    pub fn limit(mut self, limit: u32) -> Self {
        *self.request.limit_mut() = limit;
        self
    }

    /// Goes on where a page of the same request ended; `None`: from the start.
    pub fn after(mut self, cursor: Option<Cursor>) -> Self {
        *self.request.after_mut() = cursor;
        self
    }

    /// Reads one page.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a limit of 0 or a cursor of another request.
    pub async fn page(self) -> Result<Page<R::Item>> {
        self.request.read(self.backend.as_ref()).await
    }

    /// Everything from here to the end, reading page after page as it is polled. An error ends it.
    pub fn stream(self) -> BoxStream<'static, Result<R::Item>> {
        let pages = stream::try_unfold(Some(self), |pages| async {
            let Some(mut pages) = pages else { return Ok(None) };
            let page = pages.request.read(pages.backend.as_ref()).await?;
            let rest = page.next.map(|next| {
                *pages.request.after_mut() = Some(next);
                pages
            });
            Ok(Some((stream::iter(page.items).map(Ok), rest)))
        });
        pages.try_flatten().boxed()
    }
}

impl<T> Pages<Scanning<T>> {
    /// Only keys that begin with this text, taken literally.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.request.scan.prefix = prefix.into();
        self
    }
}

impl Pages<Keys> {
    /// Only keys that begin with this text, taken literally.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.request.scan.prefix = prefix.into();
        self
    }
}

impl<T> Pages<Querying<T>> {
    /// Orders by this, after what was named before; ties are ordered by key.
    pub fn sort(mut self, sort: Sort) -> Self {
        self.request.query.sort.push(sort);
        self
    }

    /// The number of records that match.
    pub async fn count(self) -> Result<u64> {
        let Query { collection, filter, .. } = self.request.query;
        self.backend.count(&Count { collection, filter: Some(filter) }).await
    }
}

impl<R> fmt::Debug for Pages<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

/// What [`Pages`] reads.
#[async_trait]
pub trait PageRequest: sealed::Sealed + Send + Sync + 'static {
    /// One item of a page.
    type Item: Send + 'static;

    #[doc(hidden)]
    fn limit_mut(&mut self) -> &mut u32;
    #[doc(hidden)]
    fn after_mut(&mut self) -> &mut Option<Cursor>;
    #[doc(hidden)]
    async fn read(&self, backend: &dyn Backend) -> Result<Page<Self::Item>>;
}

mod sealed {
    pub trait Sealed {}
}

/// The records of a collection by key.
pub struct Scanning<T> {
    pub(super) collection: Collection<T>,
    pub(super) scan: Scan,
}

/// The keys of a collection.
pub struct Keys {
    pub(super) scan: Scan,
}

/// The records of a collection by filter.
pub struct Querying<T> {
    pub(super) collection: Collection<T>,
    pub(super) query: Query,
}

macro_rules! page_request {
    ([$($generics:tt)*] $type:ty, $field:ident, $item:ty, ($self:ident, $backend:ident) => $read:expr) => {
        impl<$($generics)*> sealed::Sealed for $type {}

        #[async_trait]
        impl<$($generics)*> PageRequest for $type {
            type Item = $item;

            fn limit_mut(&mut self) -> &mut u32 {
                &mut self.$field.limit
            }

            fn after_mut(&mut self) -> &mut Option<Cursor> {
                &mut self.$field.after
            }

            async fn read(&$self, $backend: &dyn Backend) -> Result<Page<$item>> {
                $read
            }
        }
    };
}

page_request!([T: Send + 'static] Scanning<T>, scan, Entry<T>, (self, backend) => {
    typed(&self.collection, backend.scan(&self.scan).await?)
});
page_request!([T: Send + 'static] Querying<T>, query, Entry<T>, (self, backend) => {
    typed(&self.collection, backend.query(&self.query).await?)
});
page_request!([] Keys, scan, Key, (self, backend) => backend.keys(&self.scan).await);

fn typed<T: Send + 'static>(
    collection: &Collection<T>,
    page: crate::Page<crate::Record>,
) -> Result<Page<Entry<T>>> {
    let items = page.items.into_iter().map(|record| collection.entry(record)).collect::<Result<_>>()?;
    Ok(Page { items, next: page.next })
}
