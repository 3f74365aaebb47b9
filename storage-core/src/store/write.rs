//! A single write under way: options first, then `.await`.

use std::collections::BTreeMap;
use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use smol_str::SmolStr;

use super::{incomplete, write_one};
use crate::{Address, Backend, Effect, Error, Mutation, Precondition, Result, Timestamp, Version, Written};

/// A write of one record. Nothing happens until it is awaited; options come before that.
///
/// ```
/// # use std::sync::Arc;
/// # use storage_core::{MemoryBackend, Store};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// # let store = Store::new(Arc::new(MemoryBackend::new()));
/// let users = store.collection::<String>("users")?;
/// let version = users.put("ada", &"Ada".into()).ttl(Duration::from_secs(60)).if_absent().await?;
/// users.put("ada", &"Lovelace".into()).if_version(version).await?;
/// assert!(users.delete("ada").await?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What is wrong with key, value or options is the [`InvalidInput`](crate::ErrorKind::InvalidInput) of the
/// awaited write. A condition that does not hold is
/// [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed), and nothing is changed.
#[must_use = "nothing is written until it is awaited"]
pub struct Write<O> {
    backend: Arc<dyn Backend>,
    mutation: Result<Mutation>,
    operation: PhantomData<fn() -> O>,
}

impl<O> Write<O> {
    pub(super) fn new(
        backend: &Arc<dyn Backend>,
        address: Result<Address>,
        mutation: impl FnOnce(Address) -> Result<Mutation>,
    ) -> Self {
        Self { backend: backend.clone(), mutation: address.and_then(mutation), operation: PhantomData }
    }

    /// Only if there is no record.
    pub fn if_absent(self) -> Self {
        self.on(Precondition::Absent)
    }

    /// Only if there is a record.
    pub fn if_present(self) -> Self {
        self.on(Precondition::Present)
    }

    /// Only if the record has this version.
    pub fn if_version(self, version: Version) -> Self {
        self.on(Precondition::Version(version))
    }

    fn on(mut self, precondition: Precondition) -> Self {
        self.mutation = self.mutation.map(|mutation| mutation.on(precondition));
        self
    }
}

impl<O: Expiring> Write<O> {
    /// With this time to live from now on, at least one millisecond.
    ///
    /// For increments and appends it counts only if they make the record.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.expiring(Timestamp::after(ttl))
    }

    /// As [`ttl`](Self::ttl), with the time of expiry, which must not have passed.
    pub fn expires_at(self, at: Timestamp) -> Self {
        let passed = || Error::invalid(format!("the time of expiry, {at}, has passed"));
        self.expiring(if at > Timestamp::now() { Ok(at) } else { Err(passed()) })
    }

    fn expiring(mut self, at: Result<Timestamp>) -> Self {
        self.mutation = self.mutation.and_then(|mutation| Ok(mutation.expiring(Some(at?))));
        self
    }
}

impl<O: Operation> IntoFuture for Write<O> {
    type Output = Result<O::Output>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { O::output(write_one(self.backend.as_ref(), self.mutation?).await?) })
    }
}

impl<O> fmt::Debug for Write<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Write").field(&self.mutation).finish()
    }
}

/// What a [`Write`] does.
pub trait Operation: sealed::Sealed {
    /// What it returns.
    type Output: Send + 'static;

    #[doc(hidden)]
    fn output(written: Written) -> Result<Self::Output>;
}

/// A [`Write`] that can set an expiry.
pub trait Expiring: Operation {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! operation {
    ($(#[$doc:meta])* $name:ident -> $output:ty, $written:ident => $read:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl sealed::Sealed for $name {}

        impl Operation for $name {
            type Output = $output;

            fn output($written: Written) -> Result<$output> {
                $read
            }
        }
    };
}

operation! {
    /// A put: returns the new version.
    Put -> Version, written => written.into_version()
}
operation! {
    /// A delete: returns whether there was a record.
    Delete -> bool, written => Ok(matches!(written.effect, Effect::Deleted { existed: true }))
}
operation! {
    /// An increment of one field: returns its new value.
    Increment -> i64, written => match written.effect {
        Effect::Counters(fields) => fields.into_values().next().ok_or_else(incomplete),
        _ => Err(incomplete()),
    }
}
operation! {
    /// An increment of several fields: returns their new values.
    IncrementMany -> BTreeMap<SmolStr, i64>, written => match written.effect {
        Effect::Counters(fields) => Ok(fields),
        _ => Err(incomplete()),
    }
}
operation! {
    /// An append: returns the new length.
    Append -> u64, written => match written.effect {
        Effect::Length(length) => Ok(length),
        _ => Err(incomplete()),
    }
}

impl Expiring for Put {}
impl Expiring for Increment {}
impl Expiring for IncrementMany {}
impl Expiring for Append {}
