//! Increments of counters.

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document, doc};
use smol_str::SmolStr;
use storage_core::{Address, Change, Effect, Result, Timestamp, Version, Written};

use super::Item;
use super::modify::Modify;
use super::send::{Reply, number};
use crate::client::Client;
use crate::convert::damaged;
use crate::layout::{date, field, live};
use crate::names::field_name;

/// The increments of one record, added up.
pub(super) struct Sum<'m> {
    address: &'m Address,
    pub(super) items: Vec<(Item<'m>, Version)>,
    totals: BTreeMap<&'m SmolStr, Total>,
    expires_at: Option<Timestamp>,
}

/// How far a counter goes up and down on its way.
#[derive(Clone, Copy, Default)]
struct Total {
    up: i64,
    down: i64,
}

impl<'m> Sum<'m> {
    /// `None` if the sums leave 64 bits.
    pub(super) fn new(address: &'m Address, items: Vec<(Item<'m>, Version)>) -> Option<Self> {
        let mut totals: BTreeMap<&'m SmolStr, Total> = BTreeMap::new();
        let mut initial_expiry = None;
        for ((_, mutation), _) in &items {
            let Change::Increment { fields, expires_at } = &mutation.change else { return None };
            // Only the increment that makes the record gives it its expiry.
            initial_expiry.get_or_insert(*expires_at);
            for (name, delta) in fields {
                let total = totals.entry(name).or_default();
                let way = if *delta > 0 { &mut total.up } else { &mut total.down };
                *way = way.checked_add(*delta)?;
            }
        }
        Some(Self { address, items, totals, expires_at: initial_expiry.flatten() })
    }

    /// Which records can be incremented without any step of it leaving 64 bits, among those that have not expired.
    fn query(&self, now: Timestamp) -> Document {
        let mut out_of_range = Vec::new();
        for (name, total) in &self.totals {
            if total.up > 0 {
                out_of_range.push(doc! {counter(name): {"$gt": i64::MAX - total.up}});
            }
            if total.down < 0 {
                out_of_range.push(doc! {counter(name): {"$lt": i64::MIN - total.down}});
            }
        }
        let mut query = doc! {
            field::ID: self.address.key.as_str(), field::EXPIRES_AT: live(now), field::COUNTERS: {"$exists": true},
        };
        if !out_of_range.is_empty() {
            query.insert("$nor", out_of_range);
        }
        query
    }

    /// What each increment is told, given the counters after the last.
    fn written(&self, after: &Document) -> Vec<Written> {
        let before = |(name, total): (&&'m SmolStr, &Total)| {
            // The steps up and down do not leave 64 bits, their difference may for a moment.
            let after = number(after, &field_name(name));
            (*name, after.wrapping_sub(total.up).wrapping_sub(total.down))
        };
        let mut running: BTreeMap<&SmolStr, i64> = self.totals.iter().map(before).collect();
        let mut written = Vec::with_capacity(self.items.len());
        for ((_, mutation), version) in &self.items {
            let mut values = BTreeMap::new();
            if let Change::Increment { fields, .. } = &mutation.change {
                for (name, delta) in fields {
                    let value = running.entry(name).or_insert(0);
                    *value = value.wrapping_add(*delta);
                    values.insert(name.clone(), *value);
                }
            }
            written.push(Written { version: Some(version.clone()), effect: Effect::Counters(values) });
        }
        written
    }
}

impl Client {
    /// Adds to counters by one command, however many increments it is, and makes them by another; `None` if the record has to
    /// be looked at: it is of another kind, has expired, or is near the end of the range.
    pub(super) async fn increment(&self, sum: &Sum<'_>, now: Timestamp) -> Result<Option<Vec<Written>>> {
        let Some((_, version)) = sum.items.last() else { return Ok(Some(Vec::new())) };
        let step = |name: String, total: &Total| (name, Bson::Int64(total.up.wrapping_add(total.down)));
        let steps = |named: fn(&str) -> String| -> Document {
            sum.totals.iter().map(|(name, total)| step(named(name), total)).collect()
        };
        let mut set = doc! {field::VERSION: version.as_str(), field::UPDATED_AT: date(now)};
        let update = doc! {"$inc": steps(counter), "$set": set.clone()};
        let fields = sum.totals.keys().map(|name| (counter(name), Bson::Int32(1))).collect();
        let modify = Modify { query: sum.query(now), update: Some(update), fields, after: true };
        match self.modify(&sum.address.collection, modify).await {
            Ok(Some(document)) => {
                let counters = document.get_document(field::COUNTERS).map_err(damaged)?;
                return Ok(Some(sum.written(counters)));
            }
            Ok(None) => {}
            Err(refusal) if refusal.is_of_others() => return Ok(None),
            Err(refusal) => return Err(refusal.error),
        }
        let counters = steps(|name| field_name(name).into_owned());
        set.extend(doc! {field::CREATED_AT: date(now), field::COUNTERS: counters.clone()});
        set.extend(sum.expires_at.map(|at| (field::EXPIRES_AT.to_owned(), Bson::DateTime(date(at)))));
        let size = sum.totals.keys().map(|name| name.len() + 8).sum();
        match self.make(sum.address, doc! {"$set": set}, size).await? {
            Reply::Found => Ok(Some(sum.written(&counters))),
            Reply::Refused(refusal) if !refusal.is_of_key() && !refusal.is_of_others() => Err(refusal.error),
            Reply::Refused(_) | Reply::NotFound => Ok(None),
        }
    }
}

/// The path of a counter.
fn counter(name: &str) -> String {
    format!("{}.{}", field::COUNTERS, field_name(name))
}
