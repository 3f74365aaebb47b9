//! What a policy sees of a call and what it can do with it.

use std::fmt;
use std::future::Future;

use smol_str::SmolStr;

use crate::{
    BackendInfo, ChangeEvent, CollectionName, Error, Health, IndexSpec, Key, ListItems, MaintenanceReport,
    Page, Record, Request, Result, Stats, Written,
};

/// A layer that treats all operations alike: it sees the request, not the values of the reply.
///
/// [`Around`](super::Around) turns a policy into a [`Backend`](crate::Backend), so that a policy is one
/// function:
///
/// ```
/// use storage_core::layer::{Call, Policy, Reply};
/// use storage_core::{Error, ErrorKind, Result};
///
/// /// Refuses everything that changes data.
/// #[derive(Debug)]
/// struct ReadOnly;
///
/// impl Policy for ReadOnly {
///     fn name(&self) -> &'static str {
///         "read_only"
///     }
///
///     async fn around<T, N, F>(&self, call: Call<'_>, next: N) -> Result<T>
///     where
///         T: Reply,
///         N: Fn() -> F + Send + Sync,
///         F: Future<Output = Result<T>> + Send,
///     {
///         if call.request.is_write() {
///             return Err(Error::new(ErrorKind::PermissionDenied, "the store is read-only"));
///         }
///         next().await
///     }
/// }
/// ```
pub trait Policy: fmt::Debug + Send + Sync + 'static {
    /// The layer's name, such as `retry`.
    fn name(&self) -> &'static str;

    /// The names of the layers that this is, from the outside in: several where policies are joined into one.
    fn names(&self) -> Vec<&'static str> {
        vec![self.name()]
    }

    /// Makes the call. Each `next()` is one attempt at what is below; there may be none, one or several.
    ///
    /// Dropping the future must do no more than dropping that of `next()` does.
    fn around<T, N, F>(&self, call: Call<'_>, next: N) -> impl Future<Output = Result<T>> + Send
    where
        T: Reply,
        N: Fn() -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send;
}

/// A call on its way to a backend.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The operation with its arguments.
    pub request: Request<'a>,
    /// The backend it goes to.
    pub backend: &'a BackendInfo,
}

impl Call<'_> {
    /// `error` with the names of the operation and the backend, where it has none yet.
    pub fn named(&self, error: Error) -> Error {
        error.operation(SmolStr::new_static(self.request.operation())).backend(self.backend.name.clone())
    }
}

/// What a backend's method can return.
pub trait Reply: Send {
    /// Passes every error inside a reply through `change`: those of single mutations in an independent
    /// batch.
    #[must_use]
    fn map_errors(self, change: impl Fn(Error) -> Error) -> Self;
}

impl Reply for Vec<Result<Written>> {
    fn map_errors(mut self, change: impl Fn(Error) -> Error) -> Self {
        for result in &mut self {
            if let Err(error) = result {
                *error = change(error.clone());
            }
        }
        self
    }
}

macro_rules! without_errors {
    ($($reply:ty),+ $(,)?) => {$(
        impl Reply for $reply {
            fn map_errors(self, _: impl Fn(Error) -> Error) -> Self {
                self
            }
        }
    )+};
}

without_errors!(
    Vec<Option<Record>>,
    Page<Record>,
    Page<Key>,
    Option<ListItems>,
    u64,
    Vec<CollectionName>,
    bool,
    Vec<IndexSpec>,
    Page<ChangeEvent>,
    Health,
    Stats,
    MaintenanceReport,
    (),
);
