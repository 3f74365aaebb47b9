//! Optimistic transactions: reads are remembered, writes buffered, and the commit is one atomic write.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smol_str::SmolStr;

use super::conflict::{ATTEMPTS, as_conflict, at, is_conflict, retrying};
use super::{Store, write_atomic};
use crate::apply::{Next, apply};
use crate::{
    Address, Change, Codec, CollectionName, Error, Json, JsonCodec, Key, Mutation, Precondition, Record,
    Result, Retry, Timestamp, Value, Version,
};

impl Store {
    /// Runs `body` in a transaction and commits it when it returns `Ok`; `Err` rolls back.
    ///
    /// If another writer changed what was read, `body` runs again on a new transaction, up to 20 times in
    /// all, with random waits that grow from 1 ms to 200 ms; so it should have no effects of its own. An
    /// error of `body` that may come of reads that do not fit together is checked in the same way.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use storage_core::{MemoryBackend, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> storage_core::Result<()> {
    /// # let store = Store::new(Arc::new(MemoryBackend::new()));
    /// let total = store
    ///     .transaction(|tx| async move {
    ///         let accounts = tx.collection::<i64>("accounts")?;
    ///         let total = accounts.get("ada").await?.unwrap_or(0) + 10;
    ///         accounts.put("ada", &total)?;
    ///         Ok(total)
    ///     })
    ///     .await?;
    /// assert_eq!(total, 10);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// That of `body`; [`Conflict`](crate::ErrorKind::Conflict) after the last attempt; otherwise that of the
    /// write. One whose outcome is unknown ([`Retry::IfIdempotent`]) is never repeated here.
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the commit takes more than one mutation or check and
    /// the backend has no atomic writes, or none of that scope.
    pub async fn transaction<T, F, Fut>(&self, mut body: F) -> Result<T>
    where
        F: FnMut(Transaction) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let attempt = || {
            let transaction = self.begin();
            let running = body(transaction.clone());
            async move {
                match running.await {
                    Ok(value) => transaction.commit().await.map(|()| value),
                    Err(error) => Err(transaction.explain(error).await),
                }
            }
        };
        retrying(ATTEMPTS, is_conflict, attempt).await
    }

    /// Begins a transaction that is [committed](Transaction::commit) or [rolled back](Transaction::rollback)
    /// by hand. Nothing is held in the database meanwhile; one that is dropped leaves nothing.
    pub fn begin(&self) -> Transaction {
        Transaction { store: self.clone(), state: Arc::default() }
    }
}

/// A transaction under way. Cheap to clone: clones are the same transaction.
///
/// - A record that is read is remembered: a second read gives the same, and the commit fails with
///   [`Conflict`](crate::ErrorKind::Conflict) if it has changed by then.
/// - Writes are buffered and seen by later reads of this transaction: such a record has the version
///   `uncommitted` and times of its own. A write of what was not read goes through whatever others do.
/// - The commit applies all writes in order, or none.
#[derive(Clone)]
pub struct Transaction {
    store: Store,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What was read, `None` where nothing was.
    reads: HashMap<Address, Option<Record>>,
    writes: Vec<Mutation>,
    finished: bool,
}

impl Transaction {
    /// Reads a record as this transaction sees it.
    ///
    /// # Errors
    /// Also that of a buffered write to it which cannot be applied, such as an increment of JSON.
    pub async fn get(&self, address: &Address) -> Result<Option<Record>> {
        let records = self.get_many(std::slice::from_ref(address)).await?;
        Ok(records.into_iter().next().flatten())
    }

    /// Reads records as this transaction sees them, in order.
    pub async fn get_many(&self, addresses: &[Address]) -> Result<Vec<Option<Record>>> {
        let missing: Vec<Address> = {
            let state = self.open()?;
            addresses.iter().filter(|address| state.needs(address)).cloned().collect()
        };
        if !missing.is_empty() {
            let records = self.store.get_many(&missing).await?;
            let mut state = self.open()?;
            for (address, record) in missing.into_iter().zip(records) {
                // What a clone read meanwhile stays: reads are repeatable.
                state.reads.entry(address).or_insert(record);
            }
        }
        let state = self.open()?;
        addresses.iter().map(|address| state.view(address)).collect()
    }

    /// Buffers a put without expiry.
    ///
    /// # Errors
    /// This and the other writes fail only if the transaction is finished.
    pub fn put(&self, address: Address, value: impl Into<Value>) -> Result<()> {
        self.buffer(Mutation::put(address, value))
    }

    /// Buffers a put that expires at a time; `None`: never.
    pub fn put_expiring(
        &self,
        address: Address,
        value: impl Into<Value>,
        expires_at: Option<Timestamp>,
    ) -> Result<()> {
        self.buffer(Mutation::put(address, value).expiring(expires_at))
    }

    /// Buffers a delete. Quiet if there is no record.
    pub fn delete(&self, address: Address) -> Result<()> {
        self.buffer(Mutation::delete(address))
    }

    /// Buffers a change of expiry. The commit fails with [`NotFound`](crate::ErrorKind::NotFound) if there is
    /// no record.
    pub fn touch(&self, address: Address, expires_at: Option<Timestamp>) -> Result<()> {
        self.buffer(Mutation::touch(address, expires_at))
    }

    /// Buffers an addition to a counter.
    pub fn increment(&self, address: Address, field: impl Into<SmolStr>, delta: i64) -> Result<()> {
        self.buffer(Mutation::increment(address, field, delta))
    }

    /// Buffers items for the end of a list. [`get`](Self::get) then shows the new length; the items can be
    /// read after the commit.
    pub fn append(&self, address: Address, items: Vec<Json>) -> Result<()> {
        self.buffer(Mutation::append(address, items))
    }

    /// A typed view of a collection within this transaction, in JSON.
    pub fn collection<T: 'static>(&self, name: impl AsRef<str>) -> Result<TransactionCollection<T>>
    where
        JsonCodec: Codec<T>,
    {
        self.collection_with(name, JsonCodec)
    }

    /// A typed view of a collection within this transaction, with a codec.
    pub fn collection_with<T: 'static>(
        &self,
        name: impl AsRef<str>,
        codec: impl Codec<T>,
    ) -> Result<TransactionCollection<T>> {
        let collection = CollectionName::new(name)?;
        Ok(TransactionCollection { transaction: self.clone(), collection, codec: Arc::new(codec) })
    }

    /// Applies all writes in one atomic write, if what was read is unchanged.
    ///
    /// Without writes, it checks that the reads fit together, if there were several.
    ///
    /// # Errors
    /// As [`Store::transaction`]; a second finish is [`InvalidInput`](crate::ErrorKind::InvalidInput).
    /// Whatever the error, the transaction is finished.
    pub async fn commit(&self) -> Result<()> {
        let mutations = {
            let mut state = self.open()?;
            state.finished = true;
            state.mutations()
        };
        self.apply(mutations).await
    }

    /// Drops all writes. A second finish is [`InvalidInput`](crate::ErrorKind::InvalidInput).
    pub fn rollback(&self) -> Result<()> {
        let mut state = self.open()?;
        state.finished = true;
        state.writes.clear();
        Ok(())
    }

    async fn apply(&self, mutations: Vec<Mutation>) -> Result<()> {
        if mutations.is_empty() {
            return Ok(());
        }
        write_atomic(self.store.backend().as_ref(), mutations).await.map_err(as_conflict)?;
        Ok(())
    }

    /// Rolls back after an error of the body, which is a conflict instead if what was read did not fit
    /// together: the body may have failed of just that.
    async fn explain(&self, error: Error) -> Error {
        let checks = {
            let mut state = self.lock();
            if state.finished || error.retry() != Retry::Never {
                return error;
            }
            state.finished = true;
            state.writes.clear();
            state.mutations()
        };
        match self.apply(checks).await {
            Err(conflict) if is_conflict(&conflict) => conflict,
            _ => error,
        }
    }

    fn buffer(&self, mutation: Mutation) -> Result<()> {
        self.open()?.writes.push(mutation);
        Ok(())
    }

    fn open(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.finished {
            return Err(Error::invalid(
                "the transaction is finished: it was committed or rolled back before; begin another",
            ));
        }
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Transaction")
            .field("reads", &state.reads.len())
            .field("writes", &state.writes.len())
            .field("finished", &state.finished)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Whether a read of this record must ask the database: it was not read before, and is not replaced by
    /// the first write of it.
    fn needs(&self, address: &Address) -> bool {
        let first = self.writes.iter().find(|write| write.address == *address);
        let replaced = first.is_some_and(|write| matches!(write.change, Change::Put { .. } | Change::Delete));
        !replaced && !self.reads.contains_key(address)
    }

    /// The record that was read with the buffered writes on top.
    fn view(&self, address: &Address) -> Result<Option<Record>> {
        let mut record = self.reads.get(address).cloned().flatten();
        for write in self.writes.iter().filter(|write| write.address == *address) {
            match apply(write, record.as_ref(), Timestamp::now(), Version::new("uncommitted")?)?.next {
                Next::Keep => {}
                Next::Store { record: stored, .. } => record = Some(stored),
                Next::Remove => record = None,
            }
        }
        Ok(record)
    }

    /// The commit: the writes in order, the first of each record on the condition that it is as it was read,
    /// and a check of what was only read.
    fn mutations(&self) -> Vec<Mutation> {
        let mut written = HashSet::new();
        let mut mutations = self.writes.clone();
        for mutation in &mut mutations {
            if written.insert(mutation.address.clone()) {
                mutation.precondition = self.reads.get(&mutation.address).map(unchanged);
            }
        }
        let read_only = self.reads.iter().filter(|(address, _)| !written.contains(*address));
        mutations.extend(read_only.map(|(address, seen)| Mutation::check(address.clone(), unchanged(seen))));
        if self.writes.is_empty() && mutations.len() == 1 {
            // A single read is consistent with itself.
            mutations.clear();
        }
        mutations
    }
}

fn unchanged(seen: &Option<Record>) -> Precondition {
    seen.as_ref().map_or(Precondition::Absent, |record| Precondition::Version(record.version.clone()))
}

/// A typed view of a collection within a [`Transaction`].
#[derive(Clone)]
pub struct TransactionCollection<T> {
    transaction: Transaction,
    collection: CollectionName,
    codec: Arc<dyn Codec<T>>,
}

impl<T: 'static> TransactionCollection<T> {
    /// Reads a value as the transaction sees it.
    pub async fn get(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        let address = self.address(key)?;
        let record = self.transaction.get(&address).await?;
        record.map(|record| self.codec.decode(record.value).map_err(|error| at(&address, error))).transpose()
    }

    /// Buffers a put without expiry.
    pub fn put(&self, key: impl AsRef<str>, value: &T) -> Result<()> {
        self.put_expiring(key, value, None)
    }

    /// Buffers a put that expires at a time; `None`: never.
    pub fn put_expiring(&self, key: impl AsRef<str>, value: &T, expires_at: Option<Timestamp>) -> Result<()> {
        let address = self.address(key)?;
        let value = self.codec.encode(value).map_err(|error| at(&address, error))?;
        self.transaction.put_expiring(address, value, expires_at)
    }

    /// Buffers a delete. Quiet if there is no record.
    pub fn delete(&self, key: impl AsRef<str>) -> Result<()> {
        self.transaction.delete(self.address(key)?)
    }

    fn address(&self, key: impl AsRef<str>) -> Result<Address> {
        Ok(Address { collection: self.collection.clone(), key: Key::new(key)? })
    }
}

impl<T> fmt::Debug for TransactionCollection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TransactionCollection").field(&self.collection).finish()
    }
}
