//! Appends without preconditions.

use std::collections::HashMap;

use sqlx::Row as _;
use storage_core::{Address, Change, Effect, Json, Result, Timestamp, Written};

use super::results::{Results, is_of_data};
use super::{Item, by_record};
use crate::client::Client;
use crate::convert::{StoredJson, Time, damaged, version};
use crate::sql::Sql;

/// The appends to one list, one after the other.
struct Tail<'m> {
    address: &'m Address,
    items: Vec<(Item<'m>, i64)>,
    added: Vec<&'m Json>,
    expires_at: Option<Timestamp>,
}

impl Client {
    /// Appends to lists by one statement.
    pub(super) async fn append<'m>(
        &self,
        group: &[Item<'m>],
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> Result<()> {
        let tails: Vec<Tail<'m>> =
            by_record(group).into_iter().map(|(address, items)| self.tail(address, items)).collect();
        let mut sql = Sql::prepared(&self.statements.append);
        sql.value(Time(now));
        sql.value(tails.iter().map(|tail| tail.address.collection.as_str()).collect::<Vec<_>>());
        sql.value(tails.iter().map(|tail| tail.address.key.as_str()).collect::<Vec<_>>());
        sql.value(
            tails
                .iter()
                .filter_map(|tail| tail.items.last().map(|(_, number)| *number))
                .collect::<Vec<i64>>(),
        );
        sql.value(tails.iter().map(|tail| tail.expires_at.map(Time)).collect::<Vec<Option<Time>>>());
        sql.value(tails.iter().map(|tail| as_i64(tail.added.len())).collect::<Vec<i64>>());
        let each =
            || tails.iter().flat_map(|tail| (1..=tail.added.len()).rev().map(move |back| (tail, back)));
        sql.value(each().map(|(tail, _)| tail.address.collection.as_str()).collect::<Vec<_>>());
        sql.value(each().map(|(tail, _)| tail.address.key.as_str()).collect::<Vec<_>>());
        sql.value(each().map(|(_, back)| as_i64(back)).collect::<Vec<i64>>());
        let stored: Vec<StoredJson<'_>> =
            tails.iter().flat_map(|tail| tail.added.iter().map(|json| StoredJson::new(json))).collect();
        sql.value(stored.iter().map(|json| &*json.text).collect::<Vec<_>>());
        sql.value(stored.iter().map(|json| json.exact).collect::<Vec<_>>());
        let rows = match self.rows(sql).await {
            Ok(rows) => rows,
            Err(error) if is_of_data(&error) => {
                tails.iter().for_each(|tail| tail.leave(results));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut done: HashMap<(&str, &str), i64> = HashMap::with_capacity(rows.len());
        for row in &rows {
            let names =
                (row.try_get_unchecked(0).map_err(damaged)?, row.try_get_unchecked(1).map_err(damaged)?);
            done.insert(names, row.try_get_unchecked(2).map_err(damaged)?);
        }
        for tail in tails {
            match done.get(&(tail.address.collection.as_str(), tail.address.key.as_str())) {
                Some(length) => tail.done(*length, results),
                // Another kind, or expired.
                None => tail.leave(results),
            }
        }
        Ok(())
    }

    fn tail<'m>(&self, address: &'m Address, items: Vec<Item<'m>>) -> Tail<'m> {
        let mut tail =
            Tail { address, items: Vec::with_capacity(items.len()), added: Vec::new(), expires_at: None };
        for (at, item) in items.into_iter().enumerate() {
            if let Change::Append { items, expires_at } = &item.1.change {
                if at == 0 {
                    // Only the append that makes the list gives it its expiry.
                    tail.expires_at = *expires_at;
                }
                tail.added.extend(items);
            }
            tail.items.push((item, self.new_version()));
        }
        tail
    }
}

impl<'m> Tail<'m> {
    fn leave(&self, results: &mut Results<'m>) {
        let items: Vec<Item<'m>> = self.items.iter().map(|(item, _)| *item).collect();
        results.leave(&items);
    }

    /// Tells each append the length after it, given that after the last.
    fn done(&self, after: i64, results: &mut Results<'m>) {
        let mut length = after - as_i64(self.added.len());
        for ((position, mutation), number) in &self.items {
            if let Change::Append { items, .. } = &mutation.change {
                length += as_i64(items.len());
            }
            let effect = Effect::Length(u64::try_from(length).unwrap_or(0));
            results.set(*position, Ok(Written { version: Some(version(*number)), effect }));
        }
    }
}

fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
