//! The general way: a transaction that locks, reads, decides by the reference semantics and writes.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use sqlx::Row as _;
use storage_core::apply::{Next, apply};
use storage_core::{
    Address, Change, Error, ErrorKind, Json, Precondition, Record, Result, Retry, Timestamp, Value, Written,
};

use super::results::{Results, is_of_data};
use super::rows::{Rows, check};
use super::{Item, by_record};
use crate::client::{Client, Transaction};
use crate::convert::{RECORD_WIDTH, StoredJson, Time, damaged, record, version, version_number};
use crate::error::code;
use crate::sql::Sql;

/// How often a transaction is begun that others get in the way of.
const ATTEMPTS: u32 = 6;

/// A record while its mutations are applied.
#[derive(Default)]
struct State<'m> {
    /// Whether there is a row, be it of what has expired or of a place that was claimed.
    row: bool,
    current: Option<Record>,
    list_id: i64,
    /// Items that are to be added, with their positions.
    added: Vec<(i64, &'m Json)>,
    changed: bool,
}

type States<'m> = HashMap<&'m Address, State<'m>>;

/// How the mutations of a transaction hang together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// One that fails has its error, the others are done.
    Independent,
    /// One that fails undoes all.
    Atomic,
    /// As `Atomic`, each written at once: so it shows which of them the database does not take.
    Singly,
}

impl Client {
    /// Mutations that stand alone, in as few transactions as it takes: where what some carry is not taken, halves find out
    /// which, in their order.
    pub(super) async fn write_generally<'m>(
        &self,
        group: &[Item<'m>],
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> Result<()> {
        let mut parts = vec![group];
        let mut swept = false;
        while let Some(part) = parts.pop() {
            let error = match self.attempt(part, now, Mode::Independent).await {
                Ok(written) => {
                    let positions = part.iter().map(|(position, _)| *position);
                    positions.zip(written).for_each(|(position, result)| results.set(position, result));
                    continue;
                }
                Err(error) if is_of_data(&error) => error,
                Err(error) => return Err(error),
            };
            let taken = code(&error) == Some("23505");
            if taken && !std::mem::replace(&mut swept, true) && self.sweep_some(now).await? > 0 {
                parts.push(part);
                continue;
            }
            match part {
                [(position, _)] => results.set(*position, Err(error)),
                _ => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        Ok(())
    }

    /// All mutations or none, with `singly` each written at once.
    pub(super) async fn transact(
        &self,
        items: &[Item<'_>],
        now: Timestamp,
        singly: bool,
    ) -> Result<Vec<Result<Written>>> {
        let mode = if singly { Mode::Singly } else { Mode::Atomic };
        match self.attempt(items, now, mode).await {
            Err(error) if is_of_data(&error) => {
                if code(&error) == Some("23505") {
                    self.sweep_some(now).await?;
                }
                // Once more, without what has expired, and to learn which of them it is.
                self.attempt(items, now, Mode::Singly).await
            }
            done => done,
        }
    }

    /// One transaction, again while others get in its way. An error says that nothing was done, unless it says otherwise.
    async fn attempt(&self, items: &[Item<'_>], now: Timestamp, mode: Mode) -> Result<Vec<Result<Written>>> {
        for attempt in 1.. {
            match self.try_once(items, now, mode).await {
                Err(error)
                    if attempt < ATTEMPTS
                        && error.kind() == ErrorKind::Conflict
                        && error.retry() == Retry::Safe =>
                {
                    let most = 1_u64 << attempt.min(6);
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=most))).await;
                }
                done => return done,
            }
        }
        Err(Error::new(ErrorKind::Conflict, "others are in the way again and again"))
    }

    async fn try_once(&self, items: &[Item<'_>], now: Timestamp, mode: Mode) -> Result<Vec<Result<Written>>> {
        let mut transaction = self.begin().await?;
        match self.run(&mut transaction, items, now, mode).await {
            Ok((results, true)) => transaction.commit().await.map(|()| results),
            Ok((results, false)) => {
                transaction.rollback().await;
                Ok(results)
            }
            Err(error) => {
                transaction.rollback().await;
                Err(error)
            }
        }
    }

    /// Applies mutations; returns the results, and whether anything changed.
    async fn run(
        &self,
        transaction: &mut Transaction<'_>,
        items: &[Item<'_>],
        now: Timestamp,
        mode: Mode,
    ) -> Result<(Vec<Result<Written>>, bool)> {
        let mut states = self.load(transaction, items).await?;
        let mut results = Vec::with_capacity(items.len());
        let mut changed = false;
        let at =
            |error: Error, position: usize| if items.len() > 1 { error.mutation(position) } else { error };
        for (position, mutation) in items {
            let state = states.entry(&mutation.address).or_default();
            let number = self.new_version();
            let result = state.apply(mutation, now, number);
            changed |= state.changed;
            match (mode, result) {
                (Mode::Independent, result) | (_, result @ Ok(_)) => results.push(result),
                (_, Err(error)) => {
                    // One before it may be what the database does not take: that would be the error then.
                    if changed {
                        self.store_rows(transaction, &mut states, true).await?;
                    }
                    return Err(at(error, *position));
                }
            }
            if mode == Mode::Singly {
                let stored = self.store_rows(transaction, &mut states, true).await;
                stored.map_err(|error| at(error, *position))?;
            }
        }
        if changed {
            // What records that go held in unique indexes is free for those that come.
            self.remove_rows(transaction, &states).await?;
            self.store_rows(transaction, &mut states, false).await?;
        }
        Ok((results, changed))
    }

    /// Locks the records in order, and reads them. Where one may be made, its place is locked too.
    async fn load<'m>(&self, transaction: &mut Transaction<'_>, items: &[Item<'m>]) -> Result<States<'m>> {
        let records = by_record(items);
        let places = |statement| {
            let mut sql = Sql::prepared(statement);
            sql.value(records.iter().map(|(address, _)| address.collection.as_str()).collect::<Vec<_>>());
            sql.value(records.iter().map(|(address, _)| address.key.as_str()).collect::<Vec<_>>());
            sql
        };
        let may_make = items.iter().any(|(_, mutation)| {
            matches!(mutation.change, Change::Put { .. } | Change::Increment { .. } | Change::Append { .. })
                && !matches!(mutation.precondition, Some(Precondition::Present | Precondition::Version(_)))
                || mutation.precondition == Some(Precondition::Absent)
        });
        let rows = if may_make {
            transaction.execute(places(&self.statements.claim)).await?;
            transaction.rows(places(&self.statements.claimed)).await?
        } else {
            transaction.rows(places(&self.statements.lock)).await?
        };
        let addresses: HashMap<(&str, &str), &'m Address> = records
            .iter()
            .map(|(address, _)| ((address.collection.as_str(), address.key.as_str()), *address))
            .collect();
        let mut states = HashMap::with_capacity(records.len());
        for row in &rows {
            let names =
                (row.try_get_unchecked(0).map_err(damaged)?, row.try_get_unchecked(1).map_err(damaged)?);
            let Some(address) = addresses.get(&names) else { continue };
            let list_id: Option<i64> = row.try_get_unchecked(RECORD_WIDTH).map_err(damaged)?;
            let record = record(row)?;
            let claimed =
                record.version == version(0) && record.expires_at == Some(Timestamp::from_millis(i64::MIN));
            let state = State {
                row: true,
                current: Some(record).filter(|_| !claimed),
                list_id: list_id.unwrap_or(0),
                ..State::default()
            };
            states.insert(*address, state);
        }
        Ok(states)
    }

    /// Writes the records that changed, and the items that were added. With `vacate`, the rows of records that are gone
    /// become places without a value, since others may come there before the end.
    async fn store_rows(
        &self,
        transaction: &mut Transaction<'_>,
        states: &mut States<'_>,
        vacate: bool,
    ) -> Result<()> {
        let nothing = Value::bytes(Bytes::new());
        let long_ago = Timestamp::from_millis(i64::MIN);
        let mut rows = Rows::default();
        let (mut created, mut updated) = (Vec::new(), Vec::new());
        let (mut lists, mut positions, mut items) = (Vec::new(), Vec::new(), Vec::new());
        for (address, state) in states.iter().filter(|(_, state)| state.changed) {
            let Some(record) = &state.current else {
                if vacate && state.row {
                    rows.push(address, &nothing, 0, Some(long_ago), 0);
                    created.push(Time(long_ago));
                    updated.push(Time(long_ago));
                }
                continue;
            };
            let number = version_number(&record.version).unwrap_or_default();
            rows.push(&record.address, &record.value, number, record.expires_at, state.list_id);
            created.push(Time(record.created_at));
            updated.push(Time(record.updated_at));
            for (position, item) in &state.added {
                lists.push(state.list_id);
                positions.push(*position);
                items.push(StoredJson::new(item));
            }
        }
        if !rows.is_empty() {
            let mut sql = Sql::prepared(&self.statements.store);
            rows.bind(&mut sql);
            sql.value(created);
            sql.value(updated);
            transaction.execute(sql).await?;
        }
        if !items.is_empty() {
            let mut sql = Sql::prepared(&self.statements.add_items);
            sql.value(lists);
            sql.value(positions);
            sql.value(items.iter().map(|json| &*json.text).collect::<Vec<_>>());
            sql.value(items.iter().map(|json| json.exact).collect::<Vec<_>>());
            transaction.execute(sql).await?;
        }
        for state in states.values_mut() {
            state.changed = false;
            state.added.clear();
        }
        Ok(())
    }

    /// Removes the rows of records that are gone, and of places that were claimed in vain.
    async fn remove_rows(&self, transaction: &mut Transaction<'_>, states: &States<'_>) -> Result<()> {
        let gone = || states.iter().filter(|(_, state)| state.row && state.current.is_none());
        if gone().next().is_none() {
            return Ok(());
        }
        let mut sql = Sql::prepared(&self.statements.remove);
        sql.value(gone().map(|(address, _)| address.collection.as_str()).collect::<Vec<_>>());
        sql.value(gone().map(|(address, _)| address.key.as_str()).collect::<Vec<_>>());
        transaction.execute(sql).await.map(drop)
    }
}

impl<'m> State<'m> {
    fn apply(
        &mut self,
        mutation: &'m storage_core::Mutation,
        now: Timestamp,
        number: i64,
    ) -> Result<Written> {
        if let Change::Put { value, .. } = &mutation.change {
            check(value)?;
        }
        let outcome = apply(mutation, self.current.as_ref(), now, version(number))?;
        match outcome.next {
            Next::Keep => {}
            Next::Remove => {
                self.current = None;
                self.added.clear();
                self.changed = true;
            }
            Next::Store { record, drops_items } => {
                if drops_items {
                    self.added.clear();
                    self.list_id = number;
                }
                if let (Change::Append { items, .. }, Value::List { length }) =
                    (&mutation.change, &record.value)
                {
                    let first = length.saturating_sub(items.len() as u64);
                    let positions = (first..).map(|position| i64::try_from(position).unwrap_or(i64::MAX));
                    self.added.extend(positions.zip(items));
                }
                self.current = Some(record);
                self.changed = true;
            }
        }
        Ok(outcome.written)
    }
}
