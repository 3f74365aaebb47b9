//! Writing: what mutations do to the tables, within one transaction of the engine.

use std::collections::HashMap;
use std::ops::Bound;

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use storage_core::apply::{Next, Outcome, apply, check_unique};
use storage_core::{
    Atomicity, Batch, Change, CollectionName, Error, Json, Mutation, Record, Result, Timestamp, Value,
    Version, Written,
};

use crate::convert::{self, Stored};
use crate::error::engine;
use crate::index::{Catalog, Index, KeyRange, entry_record};
use crate::schema::{self, Bytes, ENTRIES, EXPIRY, ITEMS, META, META_SEQUENCE, RECORDS};

/// How many versions are set aside at once, so that the table that says so is not written every time.
const SEQUENCE_STEP: u64 = 1 << 20;

/// Versions set aside before a transaction: more than one can use.
const SEQUENCE_RESERVE: u64 = 1 << 18;

/// Numbers that never repeat: each is above all that were given out before, also before a crash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence {
    last: u64,
    /// What `meta` says durably: no number at or above this one was ever given out.
    ceiling: u64,
}

impl Sequence {
    /// Goes on after a store whose `meta` says that nothing at or above `ceiling` was given out.
    pub(crate) fn after(ceiling: u64) -> Self {
        Self { last: ceiling, ceiling }
    }

    /// Whether the next transaction has to raise the ceiling, and to be durable so that the new one holds.
    pub(crate) fn is_short(&self) -> bool {
        self.last + SEQUENCE_RESERVE > self.ceiling
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// A failure inside a transaction.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Of the request, or of a record it meets: the transaction is as it was before.
    Own(Error),
    /// Of the engine: the transaction is lost.
    Engine(Error),
}

pub(crate) type Attempt<T> = Result<T, Failure>;

pub(crate) fn fatal(error: impl Into<redb::Error>) -> Failure {
    Failure::Engine(engine(error))
}

/// One transaction's tables. All but `records` are opened when they are first needed: most writes touch no
/// other, and each one touched costs a page.
pub(crate) struct Writer<'t> {
    transaction: &'t WriteTransaction,
    indexes: &'t Catalog,
    sequence: &'t mut Sequence,
    now: Timestamp,
    records: Table<'t, Bytes, Bytes>,
    items: Option<Table<'t, Bytes, Bytes>>,
    expiry: Option<Table<'t, Bytes, ()>>,
    entries: Option<Table<'t, Bytes, ()>>,
}

/// What mutations decided before now will have made of their records, for an atomic batch.
type Pending = HashMap<Vec<u8>, Option<Stored>>;

/// A mutation that will be done.
struct Decision {
    key: Vec<u8>,
    old: Option<Stored>,
    new: Option<Stored>,
    /// The new record as it will be stored: what cannot be stored is refused before anything is changed.
    bytes: Option<Vec<u8>>,
    changes: bool,
    /// Whether items of a list that was here go.
    drops_items: bool,
    written: Written,
}

/// What an attempt at overwriting met.
enum Met {
    /// A record, and replaced it.
    Overwritten(Written),
    /// No record.
    Nothing,
    /// A mutation or a record that needs the longer way.
    Other,
}

impl<'t> Writer<'t> {
    pub(crate) fn new(
        transaction: &'t WriteTransaction,
        indexes: &'t Catalog,
        sequence: &'t mut Sequence,
    ) -> Attempt<Self> {
        let records = transaction.open_table(RECORDS).map_err(fatal)?;
        let now = Timestamp::now();
        Ok(Self { transaction, indexes, sequence, now, records, items: None, expiry: None, entries: None })
    }

    pub(crate) fn transaction(&self) -> &'t WriteTransaction {
        self.transaction
    }

    /// Applies a batch. The inner error is the batch's own and leaves the transaction as it was.
    pub(crate) fn write(&mut self, batch: &Batch) -> Attempt<Result<Vec<Result<Written>>>> {
        if batch.atomicity == Atomicity::Independent || batch.mutations.len() == 1 {
            let mut results = Vec::with_capacity(batch.mutations.len());
            for mutation in &batch.mutations {
                match self.mutate(mutation) {
                    Ok(written) => results.push(Ok(written)),
                    Err(Failure::Own(error)) if batch.atomicity == Atomicity::Atomic => {
                        return Ok(Err(error.mutation(0)));
                    }
                    Err(Failure::Own(error)) => results.push(Err(error)),
                    Err(engine) => return Err(engine),
                }
            }
            return Ok(Ok(results));
        }
        self.write_atomic(&batch.mutations)
    }

    /// Decides every mutation before it stores the first, so that a batch that fails leaves no trace.
    fn write_atomic(&mut self, mutations: &[Mutation]) -> Attempt<Result<Vec<Result<Written>>>> {
        let mut pending = Pending::new();
        let mut decisions = Vec::with_capacity(mutations.len());
        for (position, mutation) in mutations.iter().enumerate() {
            let key = schema::record_key(&mutation.address);
            let old = match pending.get(&key) {
                Some(decided) => Ok(decided.clone()),
                None => self.before(mutation, &key),
            };
            match old.and_then(|old| self.decide(mutation, key, old, &pending)) {
                Ok(decision) => {
                    if decision.changes {
                        pending.insert(decision.key.clone(), decision.new.clone());
                    }
                    decisions.push(decision);
                }
                Err(Failure::Own(error)) => return Ok(Err(error.mutation(position))),
                Err(engine) => return Err(engine),
            }
        }
        let mut results = Vec::with_capacity(mutations.len());
        for (mutation, decision) in mutations.iter().zip(decisions) {
            results.push(Ok(self.store(mutation, decision)?));
        }
        Ok(Ok(results))
    }

    fn mutate(&mut self, mutation: &Mutation) -> Attempt<Written> {
        let key = schema::record_key(&mutation.address);
        let old = match self.overwrite(mutation, &key)? {
            Met::Overwritten(written) => return Ok(written),
            Met::Nothing => None,
            Met::Other => self.before(mutation, &key)?,
        };
        let decision = self.decide(mutation, key, old, &Pending::new())?;
        self.store(mutation, decision)
    }

    /// Does the most common mutation with one descent of the tree: a put over a record on which nothing else
    /// hangs.
    fn overwrite(&mut self, mutation: &Mutation, key: &[u8]) -> Attempt<Met> {
        let address = &mutation.address;
        let plain = matches!(mutation.change, Change::Put { expires_at: None, .. })
            && mutation.precondition.is_none()
            && self.indexes.of(&address.collection).next().is_none();
        if !plain {
            return Ok(Met::Other);
        }
        let Some(mut place) = self.records.get_mut(key).map_err(fatal)? else { return Ok(Met::Nothing) };
        let old = convert::decode_head(address.clone(), key, place.value()).map_err(Failure::Own)?;
        if old.list != 0 || old.record.expires_at.is_some() {
            return Ok(Met::Other);
        }
        let version = Version::from_sequence(self.sequence.next());
        match apply(mutation, Some(&old.record), self.now, version).map_err(Failure::Own)? {
            Outcome { next: Next::Store { record, .. }, written } => {
                let bytes = convert::encode(key, &Stored { record, list: 0 }).map_err(Failure::Own)?;
                place.insert(bytes.as_slice()).map_err(fatal)?;
                Ok(Met::Overwritten(written))
            }
            _ => Ok(Met::Other),
        }
    }

    fn decide(
        &mut self,
        mutation: &Mutation,
        key: Vec<u8>,
        old: Option<Stored>,
        pending: &Pending,
    ) -> Attempt<Decision> {
        let number = self.sequence.next();
        let Outcome { next, written } =
            apply(mutation, old.as_ref().map(|old| &old.record), self.now, Version::from_sequence(number))
                .map_err(Failure::Own)?;
        let (new, changes, drops_items) = match next {
            Next::Keep => (None, false, false),
            Next::Remove => (None, true, true),
            Next::Store { record, drops_items } => {
                self.check_unique(&record, pending)?;
                let kept = old.as_ref().map_or(0, |old| old.list);
                let is_list = matches!(record.value, Value::List { .. });
                // A list's items live under the number of the version that made it.
                let list = if !is_list {
                    0
                } else if drops_items || kept == 0 {
                    number
                } else {
                    kept
                };
                (Some(Stored { record, list }), true, drops_items)
            }
        };
        let bytes = new.as_ref().map(|new| convert::encode(&key, new)).transpose().map_err(Failure::Own)?;
        Ok(Decision { key, old, new, bytes, changes, drops_items, written })
    }

    /// The record that a mutation meets; without its value if nothing looks at it.
    fn before(&self, mutation: &Mutation, key: &[u8]) -> Attempt<Option<Stored>> {
        let address = &mutation.address;
        let blind = matches!(mutation.change, Change::Put { .. } | Change::Delete | Change::Check)
            && self.indexes.of(&address.collection).next().is_none();
        let decode = if blind { convert::decode_head } else { convert::decode_at };
        let bytes = self.records.get(key).map_err(fatal)?;
        bytes.map(|bytes| decode(address.clone(), key, bytes.value())).transpose().map_err(Failure::Own)
    }

    fn stored(&self, key: &[u8]) -> Attempt<Option<Stored>> {
        let bytes = self.records.get(key).map_err(fatal)?;
        bytes.map(|bytes| convert::decode(key, bytes.value())).transpose().map_err(Failure::Own)
    }

    fn store(&mut self, mutation: &Mutation, decision: Decision) -> Attempt<Written> {
        let Decision { key, old, new, bytes, changes, drops_items, written } = decision;
        if !changes {
            return Ok(written);
        }
        self.move_entries(&key, old.as_ref(), new.as_ref())?;
        if let Some(old) = old.filter(|old| drops_items && old.list != 0) {
            self.drop_items(old.list)?;
        }
        if let (Change::Append { items, .. }, Some(new)) = (&mutation.change, &new) {
            self.append(new, items)?;
        }
        match bytes {
            Some(bytes) => drop(self.records.insert(key.as_slice(), bytes.as_slice()).map_err(fatal)?),
            None => drop(self.records.remove(key.as_slice()).map_err(fatal)?),
        }
        Ok(written)
    }

    fn append(&mut self, list: &Stored, items: &[Json]) -> Attempt<()> {
        let Value::List { length } = list.record.value else { return Ok(()) };
        let start = length - items.len() as u64;
        let table = open(&mut self.items, self.transaction, ITEMS)?;
        for (item, position) in items.iter().zip(start..) {
            let key = schema::item_key(list.list, position);
            table.insert(key.as_slice(), convert::encode_item(&key, item).as_slice()).map_err(fatal)?;
        }
        Ok(())
    }

    fn drop_items(&mut self, list: u64) -> Attempt<()> {
        let (from, to) = (schema::item_key(list, 0), schema::item_key(list, u64::MAX));
        let table = open(&mut self.items, self.transaction, ITEMS)?;
        table.retain_in::<&[u8], _>(from.as_slice()..=to.as_slice(), |_, _| false).map_err(fatal)
    }

    /// Brings expiry and index entries from the old record's to the new one's.
    fn move_entries(&mut self, key: &[u8], old: Option<&Stored>, new: Option<&Stored>) -> Attempt<()> {
        let expiry = |stored: Option<&Stored>| stored.and_then(|stored| stored.record.expires_at);
        if expiry(old) != expiry(new) {
            let table = open(&mut self.expiry, self.transaction, EXPIRY)?;
            if let Some(at) = expiry(old) {
                table.remove(schema::expiry_key(at, key).as_slice()).map_err(fatal)?;
            }
            if let Some(at) = expiry(new) {
                table.insert(schema::expiry_key(at, key).as_slice(), ()).map_err(fatal)?;
            }
        }
        let Some(record) = old.or(new).map(|stored| &stored.record) else { return Ok(()) };
        for index in self.indexes.of(&record.address.collection) {
            let entries = |stored: Option<&Stored>| {
                stored.map(|s| index.entries(&s.record)).transpose().map_err(Failure::Own)
            };
            let (old, new) = (entries(old)?.unwrap_or_default(), entries(new)?.unwrap_or_default());
            if old == new {
                continue;
            }
            let table = open(&mut self.entries, self.transaction, ENTRIES)?;
            for gone in old.iter().filter(|entry| new.binary_search(entry).is_err()) {
                table.remove(gone.as_slice()).map_err(fatal)?;
            }
            for come in new.iter().filter(|entry| old.binary_search(entry).is_err()) {
                table.insert(come.as_slice(), ()).map_err(fatal)?;
            }
        }
        Ok(())
    }

    fn check_unique(&mut self, record: &Record, pending: &Pending) -> Attempt<()> {
        let collection = &record.address.collection;
        for index in self.indexes.of(collection).filter(|index| index.spec.unique) {
            let path = &index.spec.path;
            for other in
                pending.values().flatten().filter(|other| other.record.address.collection == *collection)
            {
                check_unique(path, record, &other.record, self.now).map_err(Failure::Own)?;
            }
            for key in self.holders(index, record)? {
                if pending.contains_key(&key) {
                    continue;
                }
                if let Some(other) = self.stored(&key)? {
                    check_unique(path, record, &other.record, self.now).map_err(Failure::Own)?;
                }
            }
        }
        Ok(())
    }

    /// The keys of the records that an index finds under the record's scalars.
    fn holders(&mut self, index: &Index, record: &Record) -> Attempt<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        let table = open(&mut self.entries, self.transaction, ENTRIES)?;
        for scalar in index.scalars(record).map_err(Failure::Own)? {
            for entry in table.range::<&[u8]>(KeyRange::prefix(scalar).bounds()).map_err(fatal)? {
                let (entry, _) = entry.map_err(fatal)?;
                let key =
                    entry_record(entry.value()).ok_or_else(|| Failure::Own(crate::index::damaged(index)))?;
                keys.push(schema::scan_key(&record.address.collection, key));
            }
        }
        Ok(keys)
    }

    /// Removes up to `most` records that have expired; returns how many.
    pub(crate) fn sweep(&mut self, most: usize) -> Attempt<u64> {
        let table = open(&mut self.expiry, self.transaction, EXPIRY)?;
        let mut due = Vec::new();
        for entry in table.range::<&[u8]>(..).map_err(fatal)?.take(most) {
            let (key, _) = entry.map_err(fatal)?;
            match schema::split_expiry(key.value()) {
                Some((at, record)) if at <= self.now => due.push((at, record.to_vec())),
                _ => break,
            }
        }
        for (at, key) in &due {
            self.remove(*at, key)?;
        }
        Ok(due.len() as u64)
    }

    fn remove(&mut self, at: Timestamp, key: &[u8]) -> Attempt<()> {
        match self.stored(key) {
            Ok(Some(old)) if old.record.expires_at == Some(at) => self.erase(key, &old),
            // The entry is left over from damage; without it the sweep goes on.
            Ok(_) | Err(Failure::Own(_)) => {
                let table = open(&mut self.expiry, self.transaction, EXPIRY)?;
                table.remove(schema::expiry_key(at, key).as_slice()).map(drop).map_err(fatal)
            }
            Err(engine) => Err(engine),
        }
    }

    fn erase(&mut self, key: &[u8], old: &Stored) -> Attempt<()> {
        self.move_entries(key, Some(old), None)?;
        if old.list != 0 {
            self.drop_items(old.list)?;
        }
        self.records.remove(key).map(drop).map_err(fatal)
    }

    /// Removes up to `most` records of a collection; returns how many were live, and whether that was all.
    pub(crate) fn clear(&mut self, collection: &CollectionName, most: usize) -> Attempt<(u64, bool)> {
        let (from, to) = (schema::scan_key(collection, ""), schema::collection_end(collection));
        let mut batch = Vec::new();
        for entry in self.records.range::<&[u8]>(from.as_slice()..to.as_slice()).map_err(fatal)?.take(most) {
            let (key, value) = entry.map_err(fatal)?;
            batch.push((key.value().to_vec(), convert::decode(key.value(), value.value())));
        }
        let mut live = 0;
        for (key, stored) in &batch {
            match stored {
                Ok(stored) => {
                    live += u64::from(!stored.record.is_expired(self.now));
                    self.erase(key, stored)?;
                }
                // Clearing is a way to be rid of damaged records.
                Err(_) => drop(self.records.remove(key.as_slice()).map_err(fatal)?),
            }
        }
        Ok((live, batch.len() < most))
    }

    /// Fills a new index with the entries of the records that are there.
    pub(crate) fn fill(&mut self, index: &Index) -> Attempt<()> {
        let collection = &index.spec.collection;
        let (from, to) = (schema::scan_key(collection, ""), schema::collection_end(collection));
        let table = open(&mut self.entries, self.transaction, ENTRIES)?;
        for entry in self.records.range::<&[u8]>(from.as_slice()..to.as_slice()).map_err(fatal)? {
            let (key, value) = entry.map_err(fatal)?;
            let record = convert::decode(key.value(), value.value()).map_err(Failure::Own)?.record;
            if index.spec.unique && !record.is_expired(self.now) {
                for scalar in index.scalars(&record).map_err(Failure::Own)? {
                    for entry in table.range::<&[u8]>(KeyRange::prefix(scalar).bounds()).map_err(fatal)? {
                        let (entry, _) = entry.map_err(fatal)?;
                        let Some(key) = entry_record(entry.value()) else { continue };
                        let key = schema::scan_key(collection, key);
                        let Some(other) = self.records.get(key.as_slice()).map_err(fatal)? else { continue };
                        let other = convert::decode(&key, other.value()).map_err(Failure::Own)?.record;
                        check_unique(&index.spec.path, &record, &other, self.now).map_err(Failure::Own)?;
                    }
                }
            }
            for entry in index.entries(&record).map_err(Failure::Own)? {
                table.insert(entry.as_slice(), ()).map_err(fatal)?;
            }
        }
        Ok(())
    }

    pub(crate) fn empty(&mut self, index: &Index) -> Attempt<()> {
        let range = index.whole();
        let table = open(&mut self.entries, self.transaction, ENTRIES)?;
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) = range.bounds();
        table.retain_in::<&[u8], _>(bounds, |_, ()| false).map_err(fatal)
    }

    /// Writes down how far the sequence may go, if it is short. The caller makes the new ceiling count once it
    /// is durable.
    pub(crate) fn finish(self) -> Attempt<Sequence> {
        let mut sequence = *self.sequence;
        if sequence.is_short() {
            sequence.ceiling = sequence.last + SEQUENCE_STEP;
            let mut meta = self.transaction.open_table(META).map_err(fatal)?;
            meta.insert(META_SEQUENCE, sequence.ceiling).map_err(fatal)?;
        }
        Ok(sequence)
    }
}

fn open<'a, 't, V: redb::Value + 'static>(
    slot: &'a mut Option<Table<'t, Bytes, V>>,
    transaction: &'t WriteTransaction,
    table: TableDefinition<'_, Bytes, V>,
) -> Attempt<&'a mut Table<'t, Bytes, V>> {
    match slot {
        Some(open) => Ok(open),
        None => Ok(slot.insert(transaction.open_table(table).map_err(fatal)?)),
    }
}
