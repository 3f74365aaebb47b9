//! Batches that are applied once, however often they are sent.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::conflict::retrying;
use super::{Store, incomplete, write_atomic};
use crate::{Address, Error, ErrorKind, Json, Mutation, Precondition, Result, Retry, Timestamp, Written};

/// The collection that holds the records of idempotent writes, one for each key.
pub const IDEMPOTENCY_COLLECTION: &str = "storage.idempotency";

/// How long an idempotency key is remembered unless the caller says otherwise: 24 hours.
pub const IDEMPOTENCY_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// What an idempotent write did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Idempotent {
    /// The mutations were applied now; one result each, in order.
    Applied(Vec<Written>),
    /// The mutations had been applied before, by this call (whose reply was lost) or an earlier one; nothing
    /// was done now. Their results are not known any more: others may have changed the records since.
    AlreadyApplied {
        /// When they were applied.
        at: Timestamp,
    },
}

/// The stored record of an idempotent write.
#[derive(Serialize, Deserialize)]
struct Applied {
    /// XXH3-128 of the mutations, in hexadecimal: detects reuse of a key by mistake, not by malice.
    request: String,
}

impl Store {
    /// Applies mutations once, all or none, however often it is called with this `key` within
    /// [`IDEMPOTENCY_RETENTION`].
    ///
    /// A record of the key, in the collection [`IDEMPOTENCY_COLLECTION`], is made in the same atomic write.
    /// So, unlike other writes, the call may be repeated after every error, also by another process; it
    /// repeats itself after errors whose outcome is unknown, up to 4 attempts in all.
    ///
    /// A repeat must have the same mutations: equal JSON, and the same absolute times of expiry.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use storage_core::{MemoryBackend, Store};
    /// use storage_core::{Address, Idempotent, Mutation};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> storage_core::Result<()> {
    /// # let store = Store::new(Arc::new(MemoryBackend::new()));
    /// let payment = || vec![Mutation::increment(Address::new("balances", "ada").unwrap(), "cents", 500)];
    /// assert!(matches!(store.write_idempotent("payment-17", payment()).await?, Idempotent::Applied(_)));
    /// let again = store.write_idempotent("payment-17", payment()).await?;
    /// assert!(matches!(again, Idempotent::AlreadyApplied { .. }));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`InvalidInput`](ErrorKind::InvalidInput) if the key was used for other mutations, is no valid
    ///   [`Key`](crate::Key), or a mutation writes to [`IDEMPOTENCY_COLLECTION`].
    /// - Those of an atomic write of the mutations; then the key is not used up. It needs atomic writes over
    ///   the whole store, preconditions and expiry.
    pub async fn write_idempotent(
        &self,
        key: impl AsRef<str>,
        mutations: Vec<Mutation>,
    ) -> Result<Idempotent> {
        self.write_idempotent_with_retention(key, mutations, IDEMPOTENCY_RETENTION).await
    }

    /// As [`write_idempotent`](Self::write_idempotent), with the key remembered for `retention`.
    pub async fn write_idempotent_with_retention(
        &self,
        key: impl AsRef<str>,
        mutations: Vec<Mutation>,
        retention: Duration,
    ) -> Result<Idempotent> {
        let address = Address::new(IDEMPOTENCY_COLLECTION, key)?;
        if mutations.iter().any(|mutation| mutation.address.collection == address.collection) {
            return Err(Error::invalid(format!("{IDEMPOTENCY_COLLECTION} is written by the store alone")));
        }
        let expires_at = Timestamp::after(retention)?;
        let applied = Applied { request: fingerprint(&mutations)? };
        let mark = Mutation::put(address.clone(), Json::encode(&applied)?)
            .expiring(Some(expires_at))
            .on(Precondition::Absent);
        let all: Vec<Mutation> = std::iter::once(mark).chain(mutations).collect();
        let unknown = |error: &Error| error.retry() == Retry::IfIdempotent;
        retrying(4, unknown, || self.apply_once(&address, &applied, all.clone())).await
    }

    async fn apply_once(
        &self,
        address: &Address,
        applied: &Applied,
        all: Vec<Mutation>,
    ) -> Result<Idempotent> {
        let error = match write_atomic(self.backend.as_ref(), all).await {
            Ok(mut written) if !written.is_empty() => {
                written.remove(0);
                return Ok(Idempotent::Applied(written));
            }
            Ok(_) => return Err(incomplete()),
            Err(error) => error,
        };
        // Any mutation may be the one that does not go through a second time.
        if error.retry() == Retry::IfIdempotent || error.kind() == ErrorKind::Unsupported {
            return Err(error);
        }
        let Some(record) = self.get(address).await? else { return Err(position_of_caller(error)) };
        let before: Applied = record.value.as_json().ok_or_else(incomplete)?.decode()?;
        if before.request == applied.request {
            return Ok(Idempotent::AlreadyApplied { at: record.created_at });
        }
        Err(Error::invalid(format!(
            "idempotency key {:?} was used for other mutations at {}: pass a new key for new mutations",
            address.key.as_str(),
            record.created_at
        )))
    }
}

/// The position of the failed mutation as the caller counts: without the idempotency record before it.
fn position_of_caller(error: Error) -> Error {
    match error.failed_mutation() {
        Some(position) if position > 0 => error.mutation(position - 1),
        _ => error,
    }
}

/// The same for mutations that are equal by value: going through a tree makes the order of object keys one.
fn fingerprint(mutations: &[Mutation]) -> Result<String> {
    let tree = serde_json::to_value(mutations).map_err(|error| {
        Error::invalid(format!("the mutations have no JSON form: {error}")).with_source(error)
    })?;
    Ok(format!("{:032x}", xxh3_128(tree.to_string().as_bytes())))
}
