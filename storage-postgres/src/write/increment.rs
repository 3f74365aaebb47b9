//! Increments without preconditions.

use std::collections::{BTreeMap, HashMap};

use smol_str::SmolStr;
use sqlx::Row as _;
use storage_core::{Address, Change, Effect, Error, Result, Timestamp, Written};

use super::results::{Results, is_of_data};
use super::{Item, SMALL, by_record};
use crate::client::Client;
use crate::convert::{Time, counters, counters_text, damaged, version};
use crate::sql::Sql;

/// Counters by name.
type Counts = BTreeMap<SmolStr, i64>;

/// The increments of one record, added up.
struct Sum<'m> {
    address: &'m Address,
    items: Vec<(Item<'m>, i64)>,
    totals: Counts,
    expires_at: Option<Timestamp>,
}

impl Client {
    /// Adds to counters by one statement, one row for each record however many increments it has.
    pub(super) async fn increment<'m>(
        &self,
        group: &[Item<'m>],
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> Result<()> {
        let mut sums = Vec::new();
        for (address, items) in by_record(group) {
            match self.sum(address, &items) {
                Some(sum) => sums.push(sum),
                None => results.leave(&items),
            }
        }
        if sums.is_empty() {
            return Ok(());
        }
        let single = match sums.as_slice() {
            [sum] if sum.totals.len() == 1 => sum.totals.first_key_value(),
            _ => None,
        };
        let added = match single {
            Some((name, total)) => {
                self.add_one(&sums[0], name, *total, now).await.map(|after| vec![after.map(Ok)])
            }
            None => self.add(&sums, now).await,
        };
        let added = match added {
            Err(error) if is_of_data(&error) => sums.iter().map(|_| None).collect(),
            added => added?,
        };
        for (sum, after) in sums.into_iter().zip(added) {
            match after {
                Some(Ok(after)) => sum.done(&after, results),
                Some(Err(error)) => sum.fail(&error, results),
                // Another kind, expired, or near the end of the range.
                None => sum.leave(results),
            }
        }
        Ok(())
    }

    /// Adds to one counter of one record, and returns what it counts then, if it was done.
    async fn add_one(
        &self,
        sum: &Sum<'_>,
        name: &SmolStr,
        total: i64,
        now: Timestamp,
    ) -> Result<Option<Counts>> {
        let mut sql = Sql::prepared(&self.statements.increment_one);
        sql.value(sum.address.collection.as_str());
        sql.value(sum.address.key.as_str());
        sql.value(sum.version());
        sql.value(Time(now));
        sql.value(sum.expires_at.map(Time));
        sql.value(name.as_str());
        sql.value(total);
        let Some(row) = self.row(sql).await? else { return Ok(None) };
        let after: i64 = row.try_get_unchecked(0).map_err(damaged)?;
        Ok(Some(Counts::from([(name.clone(), after)])))
    }

    /// Adds to counters, and returns those of each record after it, if it was done.
    async fn add(&self, sums: &[Sum<'_>], now: Timestamp) -> Result<Vec<Option<Result<Counts>>>> {
        let mut sql = Sql::prepared(&self.statements.increment);
        sql.value(Time(now));
        sql.value(sums.iter().map(|sum| sum.address.collection.as_str()).collect::<Vec<_>>());
        sql.value(sums.iter().map(|sum| sum.address.key.as_str()).collect::<Vec<_>>());
        sql.value(sums.iter().map(Sum::version).collect::<Vec<i64>>());
        sql.value(sums.iter().map(|sum| sum.expires_at.map(Time)).collect::<Vec<Option<Time>>>());
        sql.value(sums.iter().map(|sum| counters_text(&sum.totals)).collect::<Vec<String>>());
        let rows = self.rows(sql).await?;
        let mut done: HashMap<(&str, &str), &str> = HashMap::with_capacity(rows.len());
        for row in &rows {
            let names =
                (row.try_get_unchecked(0).map_err(damaged)?, row.try_get_unchecked(1).map_err(damaged)?);
            done.insert(names, row.try_get_unchecked(2).map_err(damaged)?);
        }
        let after = |sum: &Sum<'_>| {
            let text = done.get(&(sum.address.collection.as_str(), sum.address.key.as_str()));
            text.map(|text| counters(text))
        };
        Ok(sums.iter().map(after).collect())
    }

    /// Adds up the increments of a record; `None` if that leaves the range in which order does not matter.
    fn sum<'m>(&self, address: &'m Address, items: &[Item<'m>]) -> Option<Sum<'m>> {
        let mut sum = Sum {
            address,
            items: Vec::with_capacity(items.len()),
            totals: BTreeMap::new(),
            expires_at: None,
        };
        for (at, item) in items.iter().enumerate() {
            let Change::Increment { fields, expires_at } = &item.1.change else { return None };
            if at == 0 {
                // Only the increment that makes the record gives it its expiry.
                sum.expires_at = *expires_at;
            }
            for (name, delta) in fields {
                let total = sum.totals.entry(name.clone()).or_insert(0);
                *total = total.checked_add(*delta).filter(|total| (-SMALL..=SMALL).contains(total))?;
            }
            sum.items.push((*item, self.new_version()));
        }
        Some(sum)
    }
}

impl<'m> Sum<'m> {
    /// The version after the last of them.
    fn version(&self) -> i64 {
        self.items.last().map_or(0, |(_, number)| *number)
    }

    fn items(&self) -> Vec<Item<'m>> {
        self.items.iter().map(|(item, _)| *item).collect()
    }

    fn leave(&self, results: &mut Results<'m>) {
        results.leave(&self.items());
    }

    fn fail(&self, error: &Error, results: &mut Results<'m>) {
        results.fail(&self.items(), error);
    }

    /// Tells each increment the values after it, given those after the last.
    fn done(&self, after: &Counts, results: &mut Results<'m>) {
        let mut running: BTreeMap<&SmolStr, i64> = self
            .totals
            .iter()
            .map(|(name, total)| (name, after.get(name).copied().unwrap_or(0).wrapping_sub(*total)))
            .collect();
        for ((position, mutation), number) in &self.items {
            let Change::Increment { fields, .. } = &mutation.change else { continue };
            let mut values = BTreeMap::new();
            for (name, delta) in fields {
                let value = running.entry(name).or_insert(0);
                *value = value.wrapping_add(*delta);
                values.insert(name.clone(), *value);
            }
            let effect = Effect::Counters(values);
            results.set(*position, Ok(Written { version: Some(version(*number)), effect }));
        }
    }
}
