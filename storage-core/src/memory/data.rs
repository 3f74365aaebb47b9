//! The records, and what a batch does to them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::apply::{Next, apply, check_unique};
use crate::{
    Address, Atomicity, Batch, Change, CollectionName, ErrorKind, IndexSpec, Json, Key, Mutation, Record,
    Result, Timestamp, Version, Written,
};

/// All that a memory store holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    collections: BTreeMap<CollectionName, BTreeMap<Key, Entry>>,
    indexes: BTreeSet<(CollectionName, crate::Path, bool)>,
    /// Counts up with every mutation and never repeats.
    sequence: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    record: Record,
    items: Vec<Json>,
}

impl Data {
    /// The record that is there now, expired or not.
    fn stored(&self, address: &Address) -> Option<&Entry> {
        self.collections.get(&address.collection)?.get(&address.key)
    }

    pub(super) fn get(&self, address: &Address, now: Timestamp) -> Option<Record> {
        self.stored(address).map(|entry| &entry.record).filter(|record| !record.is_expired(now)).cloned()
    }

    pub(super) fn items(&self, address: &Address) -> &[Json] {
        self.stored(address).map_or(&[], |entry| &entry.items)
    }

    /// The live records of a collection whose keys begin with `prefix` and come after `after`, in key order.
    pub(super) fn records<'a>(
        &'a self,
        collection: &CollectionName,
        prefix: &'a str,
        after: Option<&'a Key>,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Record> + use<'a> {
        let from = after.map_or(Bound::Included(prefix), |key| Bound::Excluded(key.as_str()));
        let records =
            self.collections.get(collection).map(|records| records.range::<str, _>((from, Bound::Unbounded)));
        let entries =
            records.into_iter().flatten().take_while(move |(key, _)| key.as_str().starts_with(prefix));
        entries.map(|(_, entry)| &entry.record).filter(move |record| !record.is_expired(now))
    }

    pub(super) fn collections(&self) -> Vec<CollectionName> {
        self.collections.keys().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.collections.values().map(BTreeMap::len).sum()
    }

    pub(super) fn size(&self) -> usize {
        let entries = self.collections.values().flat_map(BTreeMap::values);
        entries.map(|entry| entry.record.size() + entry.items.iter().map(Json::size).sum::<usize>()).sum()
    }

    pub(super) fn clear(&mut self, collection: &CollectionName, now: Timestamp) -> u64 {
        let records = self.collections.remove(collection).unwrap_or_default();
        records.values().filter(|entry| !entry.record.is_expired(now)).count() as u64
    }

    pub(super) fn sweep(&mut self, now: Timestamp) -> u64 {
        let before = self.len();
        for records in self.collections.values_mut() {
            records.retain(|_, entry| !entry.record.is_expired(now));
        }
        self.collections.retain(|_, records| !records.is_empty());
        (before - self.len()) as u64
    }

    /// Applies a batch. An atomic one that fails leaves no trace: it works on a copy of what it touches.
    pub(super) fn write(&mut self, batch: &Batch, now: Timestamp) -> Result<Vec<Result<Written>>> {
        if batch.atomicity == Atomicity::Independent {
            return Ok(batch.mutations.iter().map(|mutation| self.mutate(mutation, now)).collect());
        }
        let before: Vec<(Address, Option<Entry>)> = batch
            .mutations
            .iter()
            .map(|mutation| (mutation.address.clone(), self.stored(&mutation.address).cloned()))
            .collect();
        let mut results = Vec::with_capacity(batch.mutations.len());
        for (position, mutation) in batch.mutations.iter().enumerate() {
            match self.mutate(mutation, now) {
                Ok(written) => results.push(Ok(written)),
                Err(error) => {
                    before.into_iter().for_each(|(address, entry)| self.set(&address, entry));
                    return Err(error.mutation(position));
                }
            }
        }
        Ok(results)
    }

    fn mutate(&mut self, mutation: &Mutation, now: Timestamp) -> Result<Written> {
        let address = &mutation.address;
        let version = Version::from_sequence(self.sequence + 1);
        let current = self.stored(address);
        let outcome = apply(mutation, current.map(|entry| &entry.record), now, version)?;
        match outcome.next {
            Next::Keep => return Ok(outcome.written),
            Next::Remove => self.set(address, None),
            Next::Store { record, drops_items } => {
                self.check_indexes(&record, now)?;
                let mut items = if drops_items { Vec::new() } else { self.take_items(address) };
                if let Change::Append { items: more, .. } = &mutation.change {
                    items.extend(more.iter().cloned());
                }
                self.set(address, Some(Entry { record, items }));
            }
        }
        self.sequence += 1;
        Ok(outcome.written)
    }

    /// The items of a list whose entry is about to be replaced.
    fn take_items(&mut self, address: &Address) -> Vec<Json> {
        let records = self.collections.get_mut(&address.collection);
        let entry = records.and_then(|records| records.get_mut(&address.key));
        entry.map(|entry| std::mem::take(&mut entry.items)).unwrap_or_default()
    }

    fn set(&mut self, address: &Address, entry: Option<Entry>) {
        let records = self.collections.entry(address.collection.clone()).or_default();
        match entry {
            Some(entry) => _ = records.insert(address.key.clone(), entry),
            None => _ = records.remove(&address.key),
        }
        if records.is_empty() {
            self.collections.remove(&address.collection);
        }
    }

    fn check_indexes(&self, record: &Record, now: Timestamp) -> Result<()> {
        let collection = &record.address.collection;
        for (_, path, _) in self.indexes.iter().filter(|(of, _, unique)| of == collection && *unique) {
            for other in self.records(collection, "", None, now) {
                check_unique(path, record, other, now)?;
            }
        }
        Ok(())
    }

    pub(super) fn ensure_index(&mut self, index: &IndexSpec, now: Timestamp) -> Result<bool> {
        let IndexSpec { collection, path, unique } = index;
        if let Some(there) = self.indexes(collection).iter().find(|there| there.path == *path) {
            return same_kind(there, index).map(|()| false);
        }
        if *unique {
            for record in self.records(collection, "", None, now) {
                for other in self.records(collection, "", None, now) {
                    check_unique(path, record, other, now)?;
                }
            }
        }
        Ok(self.indexes.insert((collection.clone(), path.clone(), *unique)))
    }

    pub(super) fn indexes(&self, collection: &CollectionName) -> Vec<IndexSpec> {
        let own = self.indexes.iter().filter(|(of, ..)| of == collection);
        own.map(|(collection, path, unique)| IndexSpec {
            collection: collection.clone(),
            path: path.clone(),
            unique: *unique,
        })
        .collect()
    }

    pub(super) fn drop_index(&mut self, collection: &CollectionName, path: &crate::Path) -> bool {
        let before = self.indexes.len();
        self.indexes.retain(|(of, at, _)| !(of == collection && at == path));
        self.indexes.len() < before
    }
}

/// An index cannot be there once plain and once unique.
pub(super) fn same_kind(there: &IndexSpec, wanted: &IndexSpec) -> Result<()> {
    if there.unique == wanted.unique {
        return Ok(());
    }
    let kind = if there.unique { "unique" } else { "not unique" };
    let message =
        format!("the index {} of {} is there and is {kind}: drop it first", there.path, there.collection);
    Err(crate::Error::new(ErrorKind::Conflict, message).with_retry(crate::Retry::Never))
}
