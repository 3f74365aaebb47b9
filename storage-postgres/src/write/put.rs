//! Puts without preconditions.

use std::borrow::Cow;

use sqlx::Row as _;
use storage_core::{Address, Change, Effect, Result, Timestamp, Value, Written};

use super::results::{Results, is_of_data};
use super::rows::Rows;
use super::{Item, by_record};
use crate::client::{Client, undone};
use crate::convert::{StoredJson, Time, damaged, version};
use crate::error::code;
use crate::sql::Sql;
use crate::statements::Statements;

/// Most records, and about most bytes, in one statement.
const ROWS_AT_ONCE: usize = 2_000;
const BYTES_AT_ONCE: usize = 8 << 20;
/// The fewest puts for which it is worth a round trip to ask whether their records are new.
const MANY: usize = 256;

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
        match self.execute(self.put_statement(&puts, now, false)).await {
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
                items.into_iter().map(|item| (item, self.new_version())).collect();
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
        if chunk.len() >= MANY && self.insert_new(chunk, now, results).await? {
            return Ok(());
        }
        let mut parts = vec![chunk];
        let mut swept = false;
        while let Some(part) = parts.pop() {
            let puts = self.puts(part);
            let error = match self.execute(self.put_statement(&puts, now, false)).await {
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

    /// Puts records by one statement if all of them are new, as those of an import mostly are: the server takes them in two
    /// thirds of the time of an upsert. `false` if not, or if what one of them carries is not taken: nothing was done.
    async fn insert_new<'m>(
        &self,
        chunk: &[Item<'m>],
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> Result<bool> {
        let puts = self.puts(chunk);
        if !self.are_new(&puts).await? {
            return Ok(false);
        }
        match self.execute(self.put_statement(&puts, now, true)).await {
            Ok(_) => {
                puts.iter().for_each(|put| put.done(results));
                Ok(true)
            }
            // Somebody else may have been faster.
            Err(error) if is_of_data(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether there are no such records, if they are of one collection; of others it is not asked.
    async fn are_new(&self, puts: &[Put<'_>]) -> Result<bool> {
        // They are in order, of their collections first.
        let (Some(Put { address: first, .. }), Some(Put { address: last, .. })) = (puts.first(), puts.last())
        else {
            return Ok(false);
        };
        if first.collection != last.collection {
            return Ok(false);
        }
        let mut sql = Sql::prepared(&self.statements.absent);
        sql.value(first.collection.as_str());
        sql.value(first.key.as_str());
        sql.value(last.key.as_str());
        sql.value(puts.iter().map(|put| put.address.key.as_str()).collect::<Vec<_>>());
        let row = self.row(sql).await.map_err(undone)?;
        row.map_or(Ok(false), |row| row.try_get_unchecked(0)).map_err(damaged)
    }

    /// The statement that puts these records, in their order; with `new`, only if there are none of them.
    fn put_statement(&self, puts: &[Put<'_>], now: Timestamp, new: bool) -> Sql {
        let Statements { put_json, put_any, insert_json, insert_any, .. } = &self.statements;
        let (many_json, many) = if new { (insert_json, insert_any) } else { (put_json, put_any) };
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
                let mut sql = Sql::prepared(many_json);
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
                let one = puts.len() == 1;
                let mut sql = Sql::prepared(if one { &self.statements.put_one } else { many });
                sql.value(Time(now));
                if one {
                    rows.bind_first(&mut sql)
                } else {
                    rows.bind(&mut sql)
                }
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
