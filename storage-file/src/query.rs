//! Queries and counts: through an index where one narrows the search, else record by record.

use storage_core::query::{Counting, Selection};
use storage_core::{Address, Count, Filter, Key, Page, Query, Record, Result, Timestamp};

use crate::convert;
use crate::error::engine;
use crate::index::{Index, KeyRange, entry_record};
use crate::schema::ENTRIES;
use crate::snapshot::Snapshot;

/// An index that finds more records than this is left aside: reading the collection in order costs less
/// memory, and soon less time.
const MOST_FOUND: usize = 10_000;

impl Snapshot {
    pub(crate) fn query(&self, query: &Query) -> Result<Page<Record>> {
        let mut selection = Selection::new(query)?;
        let after = selection.resume_after().cloned();
        self.matching(&query.collection, Some(&query.filter), after.as_ref(), |record| {
            selection.offer(record)
        })?;
        selection.finish()
    }

    pub(crate) fn count(&self, count: &Count) -> Result<u64> {
        let mut counting = Counting::new(count.filter.as_ref());
        if count.filter.is_none() {
            let mut total = 0;
            self.walk(&count.collection, "", None, |_, _| {
                total += 1;
                Ok(true)
            })?;
            return Ok(total);
        }
        self.matching(&count.collection, count.filter.as_ref(), None, |record| {
            counting.offer(&record)?;
            Ok(true)
        })?;
        Ok(counting.total())
    }

    /// Calls `each` with a superset of the records that match, in key order, until it says stop.
    fn matching(
        &self,
        collection: &storage_core::CollectionName,
        filter: Option<&Filter>,
        after: Option<&Key>,
        mut each: impl FnMut(Record) -> Result<bool>,
    ) -> Result<()> {
        if let Some(keys) = filter.map(|filter| self.by_index(collection, filter)).transpose()?.flatten() {
            let now = Timestamp::now();
            for key in keys.into_iter().filter(|key| after.is_none_or(|after| key > after)) {
                let address = Address { collection: collection.clone(), key };
                if let Some(record) = self.get(&address, now)?
                    && !each(record)?
                {
                    break;
                }
            }
            return Ok(());
        }
        self.walk(collection, "", after, |key, value| each(convert::decode(key, value)?.record))
    }

    /// The keys, in order, of a superset of the matching records, if some index finds few enough.
    fn by_index(
        &self,
        collection: &storage_core::CollectionName,
        filter: &Filter,
    ) -> Result<Option<Vec<Key>>> {
        let mut best: Option<Vec<Key>> = None;
        for (index, ranges) in self.usable(collection, filter) {
            let most = best.as_ref().map_or(MOST_FOUND, Vec::len);
            if let Some(found) = self.found(index, &ranges, most)? {
                best = Some(found);
            }
        }
        Ok(best)
    }

    /// The indexes that a conjunct of the filter can use.
    fn usable<'a>(
        &'a self,
        collection: &'a storage_core::CollectionName,
        filter: &Filter,
    ) -> Vec<(&'a Index, Vec<KeyRange>)> {
        match filter {
            Filter::And(parts) => parts.iter().flat_map(|part| self.usable(collection, part)).collect(),
            Filter::Field(path, test) => {
                let index = self.indexes.find(collection, path);
                index.and_then(|index| Some((index, index.ranges(test)?))).into_iter().collect()
            }
            Filter::Or(_) | Filter::Not(_) => Vec::new(),
        }
    }

    /// The keys of the records with entries in the ranges; `None` if there are more than `most`.
    fn found(&self, index: &Index, ranges: &[KeyRange], most: usize) -> Result<Option<Vec<Key>>> {
        let table = self.transaction.open_table(ENTRIES).map_err(engine)?;
        let mut keys = Vec::new();
        for range in ranges {
            for entry in table.range::<&[u8]>(range.bounds()).map_err(engine)? {
                let (entry, ()) = entry.map(|(key, value)| (key, value.value())).map_err(engine)?;
                let key = entry_record(entry.value()).and_then(|key| Key::new(key).ok());
                keys.push(key.ok_or_else(|| crate::index::damaged(index))?);
                if keys.len() > most {
                    return Ok(None);
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(Some(keys))
    }
}

#[cfg(test)]
mod tests {
    use storage_core::{Backend, Batch, CollectionName, IndexSpec, Json, Mutation};

    use super::*;
    use crate::{FileBackend, FileConfig};

    #[tokio::test]
    async fn an_index_narrows_the_search() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileBackend::open(FileConfig::new(directory.path())).await.unwrap();
        let users = CollectionName::new("users").unwrap();
        let records = (0..100).map(|i| {
            let address = Address::new("users", format!("u{i:02}")).unwrap();
            Mutation::put(address, Json::parse(format!(r#"{{"n":{i},"s":"s{}"}}"#, i % 10)).unwrap())
        });
        store.write(&Batch::independent(records.collect())).await.unwrap();
        for path in ["n", "s"] {
            store.ensure_index(&IndexSpec::new(users.clone(), path.parse().unwrap())).await.unwrap();
        }
        for (filter, found) in [
            (r#"{"n":7}"#, Some(1)),
            (r#"{"n":{"$gte":90}}"#, Some(10)),
            (r#"{"n":{"$in":[1,2,200]}}"#, Some(2)),
            (r#"{"s":{"$prefix":"s3"}}"#, Some(10)),
            // The index that finds fewer is taken; it finds the bound too, since numbers are rounded.
            (r#"{"s":"s3","n":{"$lt":5}}"#, Some(6)),
            (r#"{"n":{"$ne":7}}"#, None),
            (r#"{"$or":[{"n":1},{"n":2}]}"#, None),
            (r#"{"other":1}"#, None),
        ] {
            let filter: Filter = filter.parse().unwrap();
            let keys =
                store.client().unwrap().read(|snapshot| snapshot.by_index(&users, &filter)).await.unwrap();
            assert_eq!(keys.map(|keys| keys.len()), found, "{}", filter.to_json());
        }
    }
}
