//! Writing batches.
//!
//! Puts, deletes and touches, also on conditions, are statements that the database decides about, many of which go in one
//! command. Increments and appends are one command for each record. What such a command did not do, and all else, goes the
//! general way: the record is read, the reference decides, and the outcome is stored on the condition that the record is
//! still what was read. Atomic batches are transactions.

mod append;
mod general;
pub(crate) mod header;
mod increment;
mod modify;
mod order;
mod results;
pub(crate) mod send;
pub(crate) mod statement;
mod transaction;

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use storage_core::apply::{Next, apply, unrepeated};
use storage_core::{
    Address, Atomicity, Batch, Change, Effect, Error, ErrorKind, Mutation, Precondition, Result, Timestamp,
    Value, Version, Written,
};

use crate::client::Client;
use crate::read::AT_ONCE;
use crate::write::append::Tail;
use crate::write::general::{Seen, nothing_done};
use crate::write::increment::Sum;
use crate::write::results::{Results, Step, not_sent};
use crate::write::statement::Statement;

/// A mutation and its position in the batch.
type Item<'m> = (usize, &'m Mutation);

/// How mutations can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// By a statement that only fails if it has to.
    Put,
    /// By a statement that tells whether it found its document.
    Statement,
    Increment,
    Append,
    /// By what the record is.
    General,
}

impl Class {
    fn of(mutation: &Mutation, now: Timestamp) -> Self {
        let lives = |expires_at: &Option<Timestamp>| expires_at.is_none_or(|at| at > now);
        let absent = mutation.precondition == Some(Precondition::Absent);
        match &mutation.change {
            Change::Put { value: Value::List { .. }, .. } => Self::General,
            Change::Put { expires_at, .. } if !lives(expires_at) => Self::General,
            Change::Put { .. } if mutation.precondition.is_none() => Self::Put,
            Change::Put { .. } => Self::Statement,
            Change::Delete if !absent => Self::Statement,
            Change::Touch { expires_at } if lives(expires_at) && !absent => Self::Statement,
            Change::Increment { expires_at, .. } if lives(expires_at) && mutation.precondition.is_none() => {
                Self::Increment
            }
            Change::Append { expires_at, .. } if lives(expires_at) && mutation.precondition.is_none() => {
                Self::Append
            }
            _ => Self::General,
        }
    }
}

/// Mutations that are done by one command, or one after the other.
enum Unit<'m> {
    Statements(Vec<Planned<'m>>),
    Increments(Sum<'m>),
    Appends(Tail<'m>),
    OneByOne(Vec<Item<'m>>, Seen),
}

/// A mutation as a statement.
struct Planned<'m> {
    item: Item<'m>,
    version: Version,
    statement: Statement,
}

impl Client {
    pub(crate) async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        self.check_open()?;
        if batch.mutations.is_empty() {
            return Ok(Vec::new());
        }
        let now = Timestamp::now();
        self.expect_expiry(batch).await?;
        let items: Vec<Item<'_>> = batch.mutations.iter().enumerate().collect();
        let results = match (batch.atomicity, items.as_slice()) {
            (Atomicity::Atomic, [_]) => {
                let mut results = self.write_independent(&items, now).await?;
                results.pop().transpose()?.map(Ok).into_iter().collect()
            }
            (Atomicity::Atomic, _) => self.transact(&items, now).await?,
            (Atomicity::Independent, _) => self.write_independent(&items, now).await?,
        };
        let applied = results.iter().filter(|result| result.is_ok()).count();
        self.writes.fetch_add(applied as u64, Ordering::Relaxed);
        Ok(results)
    }

    /// Sees to it that records go by themselves that a batch gives an expiry.
    async fn expect_expiry(&self, batch: &Batch) -> Result<()> {
        for mutation in &batch.mutations {
            if let Change::Put { expires_at: Some(_), .. }
            | Change::Touch { expires_at: Some(_) }
            | Change::Increment { expires_at: Some(_), .. }
            | Change::Append { expires_at: Some(_), .. } = mutation.change
            {
                self.ensure_expiry(&mutation.address.collection).await.map_err(nothing_done)?;
            }
        }
        Ok(())
    }

    async fn write_independent(&self, items: &[Item<'_>], now: Timestamp) -> Result<Vec<Result<Written>>> {
        let mut results = Results::new(items.len());
        let unique = self.unique_among(items).await.map_err(nothing_done)?;
        if unique.is_empty() {
            self.write_part(items, now, &mut results).await;
            return results.finish();
        }
        for part in unrepeated(items) {
            let is_ordered = match results.gone() {
                Some(error) => Err(error),
                None => self.is_ordered(part, &unique).await,
            };
            match is_ordered {
                Ok(false) => self.write_part(part, now, &mut results).await,
                Ok(true) => {
                    for item in part {
                        self.write_part(std::slice::from_ref(item), now, &mut results).await;
                    }
                }
                Err(error) => {
                    for item in part {
                        results.take(*item, Step::Settled(Err(not_sent(&error))));
                    }
                }
            }
        }
        results.finish()
    }

    /// Mutations of which nobody sees in which order they are done, but for those of one record.
    async fn write_part<'m>(&self, part: &[Item<'m>], now: Timestamp, results: &mut Results<'m>) {
        let (units, at_once) = self.units(part, now, results);
        self.run(units, at_once, now, results).await;
        let left = self.settle_overwritten(part, results);
        if !left.is_empty() {
            let units = self.look(left, now, results).await;
            self.run(units, AT_ONCE, now, results).await;
        }
    }

    /// Takes the mutations that were left, but for puts of which the batch has a later one of the same record that is done:
    /// they come just before it, where nobody sees them.
    fn settle_overwritten<'m>(&self, items: &[Item<'m>], results: &mut Results<'m>) -> Vec<Item<'m>> {
        let mut left = results.take_left();
        left.retain(|(position, mutation)| {
            let later = items
                .iter()
                .filter(|(later, other)| later > position && other.address == mutation.address)
                .find(|(later, _)| results.is_done(*later));
            if later.is_some() {
                let version = Some(self.new_version());
                let written = Written { version, effect: Effect::Done };
                results.take((*position, *mutation), Step::Settled(Ok(written)));
            }
            later.is_none()
        });
        left
    }

    /// What a batch is done by, and how many of those at once. Mutations of one record are in one, unless they are puts.
    fn units<'m>(
        &self,
        items: &[Item<'m>],
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> (Vec<Unit<'m>>, usize) {
        let (classes, repeated) = classify(items, now);
        let (mut units, mut statements) = (Vec::new(), Vec::new());
        let mut groups: HashMap<&'m Address, usize> = HashMap::new();
        let mut grouped: Vec<(Class, Vec<Item<'m>>)> = Vec::new();
        for (item, class) in items.iter().zip(classes) {
            match class {
                Class::Put | Class::Statement if items.len() > 1 => statements.push(*item),
                _ => {
                    let at = *groups.entry(&item.1.address).or_insert(grouped.len());
                    match grouped.get_mut(at) {
                        Some((_, group)) => group.push(*item),
                        None => grouped.push((class, vec![*item])),
                    }
                }
            }
        }
        let at_once = if repeated && statements.len() > 1 { 1 } else { AT_ONCE };
        match statements.as_slice() {
            [only] => grouped.push((Class::General, vec![*only])),
            _ => self.plan(statements, now, &mut units, results),
        }
        let numbered =
            |group: Vec<Item<'m>>| group.into_iter().map(|item| (item, self.new_version())).collect();
        for (class, group) in grouped {
            let address = &group[0].1.address;
            units.push(match class {
                Class::Append => Unit::Appends(Tail::new(address, numbered(group))),
                Class::Increment => match Sum::new(address, numbered(group.clone())) {
                    Some(sum) => Unit::Increments(sum),
                    None => Unit::OneByOne(group, Seen::Nothing),
                },
                _ => Unit::OneByOne(group, Seen::Nothing),
            });
        }
        (units, at_once)
    }

    /// Cuts statements into commands.
    fn plan<'m>(
        &self,
        items: Vec<Item<'m>>,
        now: Timestamp,
        units: &mut Vec<Unit<'m>>,
        results: &mut Results<'m>,
    ) {
        let mut planned = Vec::with_capacity(items.len());
        for item in items {
            let version = self.new_version();
            match self.statement(item.1, &version, now) {
                Ok(statement) => planned.push(Planned { item, version, statement }),
                Err(error) => results.take(item, Step::Settled(Err(error))),
            }
        }
        while !planned.is_empty() {
            let count = self.fit(planned.iter().map(|planned| &planned.statement), false);
            let rest = planned.split_off(count);
            units.push(Unit::Statements(std::mem::replace(&mut planned, rest)));
        }
    }

    /// Runs units, so many at once, in their order. Once the database does not answer, no more are begun.
    async fn run<'m>(&self, units: Vec<Unit<'m>>, at_once: usize, now: Timestamp, results: &mut Results<'m>) {
        let mut units = units.into_iter();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < at_once
                && let Some(unit) = units.next()
            {
                match results.gone() {
                    Some(error) => {
                        for item in unit.items() {
                            results.take(item, Step::Settled(Err(error.clone())));
                        }
                    }
                    None => running.push(self.run_unit(unit, now)),
                }
            }
            let Some(steps) = running.next().await else { return };
            for (item, step) in steps {
                results.take(item, step);
            }
        }
    }

    async fn run_unit<'m>(&self, unit: Unit<'m>, now: Timestamp) -> Vec<(Item<'m>, Step)> {
        match unit {
            Unit::OneByOne(items, seen) => self.one_by_one(items, seen, now).await,
            Unit::Increments(sum) => together(self.increment(&sum, now).await, &sum.items),
            Unit::Appends(tail) => together(self.append(&tail, now).await, &tail.items),
            Unit::Statements(planned) => self.run_statements(planned, now).await,
        }
    }

    async fn run_statements<'m>(&self, planned: Vec<Planned<'m>>, now: Timestamp) -> Vec<(Item<'m>, Step)> {
        let (mut items, mut statements) =
            (Vec::with_capacity(planned.len()), Vec::with_capacity(planned.len()));
        for Planned { item, version, statement } in planned {
            items.push((item, version));
            statements.push(statement);
        }
        let replies = match self.send(statements, None).await {
            Ok(replies) => replies,
            // Others were in the way of all.
            Err(error)
                if error.kind() == ErrorKind::Conflict && error.retry() == storage_core::Retry::Safe =>
            {
                return items.into_iter().map(|(item, _)| (item, Step::Left)).collect();
            }
            Err(error) => {
                let failed = |(item, _)| (item, Step::Settled(Err(error.clone())));
                return items.into_iter().map(failed).collect();
            }
        };
        let mut steps = Vec::with_capacity(items.len());
        for ((item, version), reply) in items.into_iter().zip(replies) {
            let settled = self.settle(item.1, version, reply, now).await;
            steps.push((item, settled.unwrap_or_else(|error| Step::Settled(Err(error)))));
        }
        steps
    }

    /// Looks at the records of mutations that were left, and says what they need.
    async fn look<'m>(
        &self,
        left: Vec<Item<'m>>,
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> Vec<Unit<'m>> {
        let mut groups: HashMap<&'m Address, Vec<Item<'m>>> = HashMap::new();
        for item in left {
            groups.entry(&item.1.address).or_default().push(item);
        }
        let mut headers = match self.headers(groups.keys().copied(), None).await {
            Ok(headers) => headers,
            Err(error) => {
                for item in groups.into_values().flatten() {
                    results.take(item, Step::Settled(Err(not_sent(&error))));
                }
                return Vec::new();
            }
        };
        let mut units = Vec::new();
        for (address, group) in groups {
            let header = headers.remove(address);
            let [item] = group.as_slice() else {
                units.push(Unit::OneByOne(group, Seen::Nothing));
                continue;
            };
            let record = header.as_ref().map(|header| &header.record);
            match apply(item.1, record, now, self.new_version()) {
                Err(error) => results.take(*item, Step::Settled(Err(error))),
                Ok(outcome)
                    if outcome.next == Next::Keep
                        || outcome.written.effect == (Effect::Deleted { existed: false }) =>
                {
                    results.take(*item, Step::Settled(Ok(outcome.written)));
                }
                Ok(_) => units.push(Unit::OneByOne(group, Seen::Record(header.map(Box::new)))),
            }
        }
        units
    }
}

impl<'m> Unit<'m> {
    fn items(self) -> Vec<Item<'m>> {
        let first = |(item, _): (Item<'m>, Version)| item;
        match self {
            Self::Statements(planned) => planned.into_iter().map(|planned| planned.item).collect(),
            Self::Increments(sum) => sum.items.into_iter().map(first).collect(),
            Self::Appends(tail) => tail.items.into_iter().map(first).collect(),
            Self::OneByOne(items, _) => items,
        }
    }
}

/// The class of each mutation, and whether several are of one record. Those of one record have the same: they are done one by
/// one unless they are all of a kind.
fn classify(items: &[Item<'_>], now: Timestamp) -> (Vec<Class>, bool) {
    let mut classes: Vec<Class> = items.iter().map(|(_, mutation)| Class::of(mutation, now)).collect();
    if items.len() < 2 {
        return (classes, false);
    }
    let mut of_record: HashMap<&Address, Class> = HashMap::with_capacity(items.len());
    for ((_, mutation), class) in items.iter().zip(&classes) {
        let known = of_record.entry(&mutation.address);
        let mixed = |known: &mut Class| {
            // Two deletes, say: the second counts on what the first did.
            if known != class || *known == Class::Statement {
                *known = Class::General;
            }
        };
        known.and_modify(mixed).or_insert(*class);
    }
    let repeated = of_record.len() < items.len();
    if repeated {
        for ((_, mutation), class) in items.iter().zip(&mut classes) {
            *class = of_record.get(&mutation.address).copied().unwrap_or(Class::General);
        }
    }
    (classes, repeated)
}

/// The results of mutations that are one command.
fn together<'m>(
    written: Result<Option<Vec<Written>>>,
    items: &[(Item<'m>, Version)],
) -> Vec<(Item<'m>, Step)> {
    let step = |error: &Error| {
        // What is too large together may not be so one by one.
        let apart = error.kind() == ErrorKind::TooLarge && items.len() > 1;
        if apart { Step::Left } else { Step::Settled(Err(error.clone())) }
    };
    match written {
        Ok(Some(written)) => items
            .iter()
            .zip(written)
            .map(|((item, _), written)| (*item, Step::Settled(Ok(written))))
            .collect(),
        Ok(None) => items.iter().map(|(item, _)| (*item, Step::Left)).collect(),
        Err(error) => items.iter().map(|(item, _)| (*item, step(&error))).collect(),
    }
}
