//! Writing batches.
//!
//! Mutations of one kind without preconditions are one statement, which is a transaction of its own. All others, and those
//! that such a statement could not do, go the general way: a transaction that reads, decides here and writes. Every statement
//! that locks more than one record does so in the order of their addresses, so no two of them wait for each other.

mod append;
mod conditional;
mod delete;
mod general;
mod increment;
mod order;
mod put;
mod results;
pub(crate) mod rows;
mod touch;

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use storage_core::apply::unrepeated;
use storage_core::{
    Address, Atomicity, Batch, Change, ErrorKind, Mutation, Result, Retry, Timestamp, Value, Written,
};

use crate::client::{Client, undone};
use crate::write::results::Results;

/// A mutation and its position in the batch.
type Item<'m> = (usize, &'m Mutation);

/// How mutations can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Put,
    Delete,
    Touch,
    Increment,
    Append,
    /// By a transaction.
    General,
}

/// Increments beyond are done one by one, so that those below can be added up without leaving 64 bits.
const SMALL: i64 = 1 << 61;

impl Class {
    fn of(mutation: &Mutation, now: Timestamp) -> Self {
        if mutation.precondition.is_some() {
            return Self::General;
        }
        let lives = |expires_at: &Option<Timestamp>| expires_at.is_none_or(|at| at > now);
        match &mutation.change {
            Change::Put { value: Value::List { .. }, .. } => Self::General,
            Change::Put { expires_at, .. } if lives(expires_at) => Self::Put,
            Change::Delete => Self::Delete,
            Change::Touch { expires_at } if lives(expires_at) => Self::Touch,
            Change::Increment { fields, expires_at }
                if lives(expires_at) && fields.values().all(|delta| (-SMALL..=SMALL).contains(delta)) =>
            {
                Self::Increment
            }
            Change::Append { expires_at, .. } if lives(expires_at) => Self::Append,
            _ => Self::General,
        }
    }
}

impl Client {
    pub(crate) async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        self.check_open()?;
        if batch.mutations.is_empty() {
            return Ok(Vec::new());
        }
        let now = Timestamp::now();
        let items: Vec<Item<'_>> = batch.mutations.iter().enumerate().collect();
        let results = match batch.atomicity {
            Atomicity::Independent => self.write_independent(&items, now).await?,
            Atomicity::Atomic => self.write_atomic(&items, now).await?,
        };
        let applied = results.iter().filter(|result| result.is_ok()).count();
        self.writes.fetch_add(applied as u64, Ordering::Relaxed);
        Ok(results)
    }

    async fn write_independent(&self, items: &[Item<'_>], now: Timestamp) -> Result<Vec<Result<Written>>> {
        let mut results = Results::new(items.len());
        let unique = self.unique_among(items).await.map_err(undone)?;
        if unique.is_empty() {
            self.write_part(items, now, &mut results).await;
            return results.finish();
        }
        for part in unrepeated(items) {
            if results.is_gone() {
                results.not_sent(part);
                continue;
            }
            match self.is_ordered(part, &unique, now).await {
                Ok(false) => self.write_part(part, now, &mut results).await,
                Ok(true) => {
                    for item in part {
                        self.write_part(std::slice::from_ref(item), now, &mut results).await;
                    }
                }
                // It was only read.
                Err(error) => results.fail(part, &undone(error)),
            }
        }
        results.finish()
    }

    async fn write_part<'m>(&self, part: &[Item<'m>], now: Timestamp, results: &mut Results<'m>) {
        for (class, group) in classify(part, now) {
            self.write_class(class, &group, now, results).await;
        }
        let mut left = results.take_left();
        if !left.is_empty() {
            left.sort_unstable_by_key(|(position, _)| *position);
            self.write_class(Class::General, &left, now, results).await;
        }
    }

    /// Mutations of one class. Those that it could not do are left for the general way.
    async fn write_class<'m>(
        &self,
        class: Class,
        group: &[Item<'m>],
        now: Timestamp,
        results: &mut Results<'m>,
    ) {
        if results.is_gone() {
            return results.not_sent(group);
        }
        let done = match class {
            Class::Put => self.put(group, now, results).await,
            Class::Delete => self.delete(group, now, results).await,
            Class::Touch => self.touch(group, now, results).await,
            Class::Increment => self.increment(group, now, results).await,
            Class::Append => self.append(group, now, results).await,
            Class::General => match group {
                [item] if self.is_conditional(item.1, now) => self.write_if(*item, now, results).await,
                _ => self.write_generally(group, now, results).await,
            },
        };
        match done {
            Ok(()) => {}
            // Others were in the way, and nothing was done: the general way tries again.
            Err(error)
                if class != Class::General
                    && error.kind() == ErrorKind::Conflict
                    && error.retry() == Retry::Safe =>
            {
                results.leave_rest(group);
            }
            Err(error) => results.fail(group, &error),
        }
    }

    async fn write_atomic(&self, items: &[Item<'_>], now: Timestamp) -> Result<Vec<Result<Written>>> {
        if let [_] = items {
            let mut results = self.write_independent(items, now).await?;
            return match results.pop() {
                Some(Err(error)) => Err(error),
                last => Ok(last.into_iter().collect()),
            };
        }
        let class = Class::of(items[0].1, now);
        let same = items.iter().all(|(_, mutation)| Class::of(mutation, now) == class);
        // One statement does all of it or nothing, and nothing that is there can stand in its way.
        let unique = self.unique_among(items).await.map_err(undone)?;
        let singly = !unique.is_empty()
            && (unrepeated(items).len() > 1 || self.is_ordered(items, &unique, now).await.map_err(undone)?);
        if same && class == Class::Put && !singly {
            if let Some(results) = self.put_at_once(items, now).await? {
                return Ok(results);
            }
        } else if same && class == Class::Delete {
            let mut results = Results::new(items.len());
            self.delete(items, now, &mut results).await?;
            return results.finish();
        }
        self.transact(items, now, singly).await
    }
}

/// Mutations by class, in order. Those of one record are in one class.
fn classify<'m>(items: &[Item<'m>], now: Timestamp) -> Vec<(Class, Vec<Item<'m>>)> {
    let classes: Vec<Class> = items.iter().map(|(_, mutation)| Class::of(mutation, now)).collect();
    if classes.iter().all(|class| *class == classes[0]) {
        return classes.first().map(|class| (*class, items.to_vec())).into_iter().collect();
    }
    let mut of_record: HashMap<&Address, Class> = HashMap::with_capacity(items.len());
    for ((_, mutation), class) in items.iter().zip(&classes) {
        let known = of_record.entry(&mutation.address).or_insert(*class);
        if known != class {
            *known = Class::General;
        }
    }
    let mut groups: Vec<(Class, Vec<Item<'m>>)> = Vec::new();
    for item in items {
        let class = of_record.get(&item.1.address).copied().unwrap_or(Class::General);
        match groups.iter_mut().find(|(known, _)| *known == class) {
            Some((_, group)) => group.push(*item),
            None => groups.push((class, vec![*item])),
        }
    }
    groups.sort_by_key(|(class, _)| *class);
    groups
}

/// The mutations of each record together, records in the order in which everybody locks them.
fn by_record<'m>(items: &[Item<'m>]) -> Vec<(&'m Address, Vec<Item<'m>>)> {
    let mut sorted = items.to_vec();
    // Stable: mutations of a record keep their order.
    sorted.sort_by(|(_, a), (_, b)| a.address.cmp(&b.address));
    let groups = sorted.chunk_by(|(_, a), (_, b)| a.address == b.address);
    groups.map(|group| (&group[0].1.address, group.to_vec())).collect()
}
