//! Touches without preconditions.

use std::collections::HashSet;

use sqlx::Row as _;
use storage_core::{Change, Effect, Result, Timestamp, Written};

use super::results::Results;
use super::{Item, by_record};
use crate::client::Client;
use crate::convert::{Time, damaged, version};
use crate::sql::Sql;

impl Client {
    /// Sets expiries by one statement.
    pub(super) async fn touch<'m>(
        &self,
        group: &[Item<'m>],
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> Result<()> {
        let records = by_record(group);
        let versions: Vec<Vec<i64>> =
            records.iter().map(|(_, items)| items.iter().map(|_| self.new_version()).collect()).collect();
        let last = |items: &Vec<Item<'m>>| match items.last().map(|(_, mutation)| &mutation.change) {
            Some(Change::Touch { expires_at }) => expires_at.map(Time),
            _ => None,
        };
        let mut sql = Sql::prepared(&self.statements.touch);
        sql.value(Time(now));
        sql.value(records.iter().map(|(address, _)| address.collection.as_str()).collect::<Vec<_>>());
        sql.value(records.iter().map(|(address, _)| address.key.as_str()).collect::<Vec<_>>());
        sql.value(versions.iter().filter_map(|of_record| of_record.last().copied()).collect::<Vec<i64>>());
        sql.value(records.iter().map(|(_, items)| last(items)).collect::<Vec<Option<Time>>>());
        let rows = self.rows(sql).await?;
        let mut found: HashSet<(&str, &str)> = HashSet::with_capacity(rows.len());
        for row in &rows {
            found.insert((
                row.try_get_unchecked(0).map_err(damaged)?,
                row.try_get_unchecked(1).map_err(damaged)?,
            ));
        }
        for ((address, items), versions) in records.iter().zip(&versions) {
            let found = found.contains(&(address.collection.as_str(), address.key.as_str()));
            for ((position, mutation), number) in items.iter().zip(versions) {
                let result = if found {
                    Ok(Written { version: Some(version(*number)), effect: Effect::Done })
                } else {
                    // The reference has the words for it.
                    storage_core::apply::apply(mutation, None, now, version(*number))
                        .map(|outcome| outcome.written)
                };
                results.set(*position, result);
            }
        }
        Ok(())
    }
}
