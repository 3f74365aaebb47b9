//! Puts without preconditions.

use std::borrow::Cow;

use storage_core::{Address, Change, Effect, Result, Timestamp, Value, Written};

use super::results::{Results, is_of_data};
use super::rows::Rows;
use super::{Item, by_record};
use crate::client::Client;
use crate::convert::{StoredJson, Time, version};
use crate::error::code;
use crate::sql::Sql;

/// Most records, and about most bytes, in one statement.
const ROWS_AT_ONCE: usize = 2_000;
const BYTES_AT_ONCE: usize = 8 << 20;

/// A record to be written: what the last of its puts says.
struct Put<'m> {
    address: &'m Address,
    value: &'m Value,
    expires_at: Option<Timestamp>,
    version: i64,
    /// All its puts with their versions, the last of which is the record's.
    items: Vec<(Item<'m>, i64)>,
}

impl Client {
    /// Puts each for itself.
    pub(super) async fn put<'m>(
        &self,
        group: &[Item<'m>],
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> Result<()> {
        for chunk in chunks(group) {
            self.put_chunk(chunk, now, results).await?;
        }
        Ok(())
    }

    /// Puts all or nothing; `None` if what one of them carries is not taken.
    pub(super) async fn put_at_once(
        &self,
        group: &[Item<'_>],
        now: Timestamp,
    ) -> Result<Option<Vec<Result<Written>>>> {
        let puts = self.puts(group);
        match self.execute(self.put_statement(&puts, now)).await {
            Ok(_) => {}
            Err(error) if is_of_data(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut results = Results::new(group.len());
        puts.iter().for_each(|put| put.done(&mut results));
        results.finish().map(Some)
    }

    fn puts<'m>(&self, group: &[Item<'m>]) -> Vec<Put<'m>> {
        let record = |(address, items): (&'m Address, Vec<Item<'m>>)| {
            let items: Vec<(Item<'m>, i64)> =
                items.into_iter().map(|item| (item, self.versions.next())).collect();
            let ((_, last), version) = *items.last()?;
            let Change::Put { value, expires_at } = &last.change else { return None };
            Some(Put { address, value, expires_at: *expires_at, version, items })
        };
        by_record(group).into_iter().filter_map(record).collect()
    }

    /// Puts by one statement. Where what some carry is not taken, by the database or by a unique index, halves find out
    /// which: in the order of the batch, so that it is the later of two that are at odds.
    async fn put_chunk<'m>(
        &self,
        chunk: &[Item<'m>],
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> Result<()> {
        let mut parts = vec![chunk];
        let mut swept = false;
        while let Some(part) = parts.pop() {
            let puts = self.puts(part);
            let error = match self.execute(self.put_statement(&puts, now)).await {
                Ok(_) => {
                    puts.iter().for_each(|put| put.done(results));
                    continue;
                }
                Err(error) if is_of_data(&error) => error,
                Err(error) => return Err(error),
            };
            let taken = code(&error) == Some("23505");
            // What has expired holds no value any more, but the index may not know.
            if taken && !std::mem::replace(&mut swept, true) && self.sweep_some(now).await? > 0 {
                parts.push(part);
                continue;
            }
            match part {
                // Another mutation of the batch may give the value back.
                [_] if taken && results.len() > chunk.len() => results.leave(part),
                [(position, _)] => results.set(*position, Err(error)),
                _ => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        Ok(())
    }

    /// The statement that puts these records, in their order.
    fn put_statement(&self, puts: &[Put<'_>], now: Timestamp) -> Sql {
        let one_collection = puts.iter().all(|put| put.address.collection == puts[0].address.collection);
        let texts: Option<Vec<_>> =
            if one_collection { puts.iter().map(Put::lasting_json).collect() } else { None };
        match (puts, texts) {
            ([put], Some(texts)) => {
                let mut sql = Sql::prepared(&self.statements.put_one_json);
                sql.value(put.address.collection.as_str());
                sql.value(put.address.key.as_str());
                sql.value(put.version);
                sql.value(Time(now));
                sql.value(&*texts[0]);
                sql
            }
            ([first, ..], Some(texts)) => {
                let mut sql = Sql::prepared(&self.statements.put_json);
                sql.value(first.address.collection.as_str());
                sql.value(Time(now));
                sql.value(puts.iter().map(|put| put.address.key.as_str()).collect::<Vec<_>>());
                sql.value(puts.iter().map(|put| put.version).collect::<Vec<_>>());
                sql.value(texts.iter().map(|text| &**text).collect::<Vec<_>>());
                sql
            }
            _ => {
                let mut rows = Rows::default();
                for put in puts {
                    rows.push(put.address, put.value, put.version, put.expires_at, 0);
                }
                let mut sql = Sql::prepared(&self.statements.put_any);
                sql.value(Time(now));
                rows.bind(&mut sql);
                sql
            }
        }
    }
}

impl<'m> Put<'m> {
    /// The text of JSON that does not expire and is all in its column, which has a statement of its own.
    fn lasting_json(&self) -> Option<Cow<'m, str>> {
        match (self.value, self.expires_at) {
            (Value::Json(json), None) => {
                let stored = StoredJson::new(json);
                stored.exact.is_none().then_some(stored.text)
            }
            _ => None,
        }
    }

    fn done(&self, results: &mut Results<'m>) {
        for ((position, _), number) in &self.items {
            results.set(*position, Ok(Written { version: Some(version(*number)), effect: Effect::Done }));
        }
    }
}

/// Cuts puts into the parts of one statement each.
fn chunks<'a, 'm>(group: &'a [Item<'m>]) -> Vec<&'a [Item<'m>]> {
    let (mut chunks, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, (_, mutation)) in group.iter().enumerate() {
        let size = mutation.size();
        bytes += size;
        if at - start == ROWS_AT_ONCE || (bytes > BYTES_AT_ONCE && at > start) {
            chunks.push(&group[start..at]);
            (start, bytes) = (at, size);
        }
    }
    chunks.push(&group[start..]);
    chunks
}
