//! What the writer writes: lanes, each a sequence of steps of which one is under way at a time.
//!
//! A lane owns its records, and what they hold after step `n` is a function of `n` alone. So the records tell
//! which step was the last, and whether it was done whole; if `m` was the last step that was acknowledged, the
//! store has to hold exactly what step `m` or step `m + 1` left.

use std::fmt;

use serde_json::{Value as Tree, json};
use storage_core::{
    Address, AtomicScope, Backend, Batch, Capabilities, Feature, Json, ListRange, Mutation, Record, Result,
    Value,
};

/// Overwrites go round this many keys.
const PUT_KEYS: u64 = 8;
/// Records in a batch.
const BATCH_KEYS: u64 = 10;
/// A list begins anew after this many steps.
const LIST_STEPS: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One record at a time: overwritten, now and then deleted.
    Put,
    /// Independent batches over the same keys.
    Independent,
    /// Atomic batches of puts with the step's number and a delete, over two collections (one, if the backend has
    /// no wider batches).
    Atomic,
    /// Increments of a counter that all such lanes share, next to one of the lane's own.
    Counter,
    /// Two items to the end of a list.
    Append,
}

/// One sequence of writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    kind: Kind,
    number: u64,
    scope: AtomicScope,
}

/// Which step a lane's records are of: all of `low`, some perhaps of later ones up to `high`. Only independent
/// batches may be between steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) low: u64,
    pub(super) high: u64,
}

/// The lanes for a backend of these capabilities.
pub(super) fn lanes(capabilities: &Capabilities) -> Vec<Lane> {
    let scope =
        if capabilities.has(Feature::Atomic) { capabilities.atomic_scope } else { AtomicScope::Record };
    let several = |kind, count: u64| (0..count).map(move |number| Lane { kind, number, scope });
    let mut lanes: Vec<Lane> = several(Kind::Put, 3).chain(several(Kind::Independent, 1)).collect();
    if scope != AtomicScope::Record {
        lanes.extend(several(Kind::Atomic, 2));
    }
    if capabilities.has(Feature::Counters) {
        lanes.extend(several(Kind::Counter, 2));
    }
    if capabilities.has(Feature::Lists) {
        lanes.extend(several(Kind::Append, 2));
    }
    lanes
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Put => "put",
            Kind::Independent => "independent",
            Kind::Atomic => "atomic",
            Kind::Counter => "counter",
            Kind::Append => "append",
        };
        write!(f, "{kind}-{}", self.number)
    }
}

type Found<T> = Result<T, String>;

impl Lane {
    /// The write that is step `step`; the first is 1.
    pub(super) fn batch(&self, step: u64) -> Result<Batch> {
        match self.kind {
            Kind::Put if deletes(step) => {
                Ok(Batch::independent(vec![Mutation::delete(self.key("main", step % PUT_KEYS)?)]))
            }
            Kind::Put => Ok(Batch::independent(vec![self.put(self.key("main", step % PUT_KEYS)?, step)?])),
            Kind::Independent => {
                let puts = (0..BATCH_KEYS).map(|slot| self.put(self.key("main", slot)?, step));
                puts.collect::<Result<_>>().map(Batch::independent)
            }
            Kind::Atomic => self.atomic(step),
            Kind::Counter => {
                let (own, all) = (Mutation::increment(hot()?, self.to_string(), 1), "all".into());
                let mut both = own;
                if let storage_core::Change::Increment { fields, .. } = &mut both.change {
                    fields.insert(all, 1);
                }
                Ok(Batch::independent(vec![both]))
            }
            Kind::Append if self.restarts(step) => Ok(Batch::atomic(vec![
                Mutation::delete(self.key("lists", 0)?),
                self.put(self.key("lists", 1)?, step)?,
            ])),
            Kind::Append => {
                let items = (0..2).map(|part| self.item(step, part)).collect::<Result<_>>()?;
                Ok(Batch::independent(vec![Mutation::append(self.key("lists", 0)?, items)]))
            }
        }
    }

    fn atomic(&self, step: u64) -> Result<Batch> {
        let mut mutations = Vec::new();
        for slot in 0..BATCH_KEYS {
            mutations.push(self.put(self.key(self.side(slot), slot)?, step)?);
        }
        // A record that moves from key to key.
        mutations.push(self.put(self.key("main", BATCH_KEYS + step % 3)?, step)?);
        mutations.push(Mutation::delete(self.key("main", BATCH_KEYS + (step + 2) % 3)?));
        Ok(Batch::atomic(mutations))
    }

    fn side(&self, slot: u64) -> &'static str {
        if self.scope == AtomicScope::Store && slot % 2 == 1 { "other" } else { "main" }
    }

    fn restarts(&self, step: u64) -> bool {
        self.scope != AtomicScope::Record && step.is_multiple_of(LIST_STEPS)
    }

    fn key(&self, collection: &str, slot: u64) -> Result<Address> {
        Address::new(format!("crash-{collection}"), format!("{self}/{slot:02}"))
    }

    fn put(&self, address: Address, step: u64) -> Result<Mutation> {
        let value = Json::encode(&self.value(address.key.as_str(), step))?;
        Ok(Mutation::put(address, value))
    }

    /// Most values are small; some take several pages of the file.
    fn value(&self, key: &str, step: u64) -> Tree {
        let length = if step % 61 == 7 { 20_000 } else { step * 37 % 400 };
        json!({"lane": self.to_string(), "key": key, "step": step, "text": "x".repeat(length as usize)})
    }

    fn item(&self, step: u64, part: u64) -> Result<Json> {
        Json::encode(&json!({"lane": self.to_string(), "step": step, "part": part}))
    }

    /// Reads all records of the lane, checks them against each other, and says of which step they are.
    pub(super) async fn position(&self, backend: &dyn Backend) -> Found<Position> {
        let position = match self.kind {
            Kind::Put => self.put_position(backend).await,
            Kind::Independent => self.independent_position(backend).await,
            Kind::Atomic => self.atomic_position(backend).await,
            Kind::Counter => counter(backend, &self.to_string()).await.map(exactly),
            Kind::Append => self.append_position(backend).await,
        };
        position.map_err(|problem| format!("{self}: {problem}"))
    }

    async fn put_position(&self, backend: &dyn Backend) -> Found<Position> {
        let steps = self.steps(backend, (0..PUT_KEYS).map(|slot| self.key("main", slot))).await?;
        let top = steps.iter().copied().flatten().max().unwrap_or(0);
        let expected = |last: u64, slot: u64| {
            let back = (last + PUT_KEYS - slot) % PUT_KEYS;
            last.checked_sub(back).filter(|step| *step > 0 && !deletes(*step))
        };
        // The last step may have been a delete, which leaves no number.
        for last in [top, top + 1] {
            if (0..).zip(&steps).all(|(slot, found)| *found == expected(last, slot)) {
                return Ok(exactly(last));
            }
        }
        let wanted: Vec<_> = (0..PUT_KEYS).map(|slot| expected(top, slot)).collect();
        Err(format!("its keys hold the steps {steps:?}, and after step {top} they should hold {wanted:?}"))
    }

    async fn independent_position(&self, backend: &dyn Backend) -> Found<Position> {
        let steps = self.steps(backend, (0..BATCH_KEYS).map(|slot| self.key("main", slot))).await?;
        let all = || steps.iter().map(|step| step.unwrap_or(0));
        Ok(Position { low: all().min().unwrap_or(0), high: all().max().unwrap_or(0) })
    }

    async fn atomic_position(&self, backend: &dyn Backend) -> Found<Position> {
        let steps = self.steps(backend, (0..BATCH_KEYS).map(|slot| self.key(self.side(slot), slot))).await?;
        let moving = self.steps(backend, (0..3).map(|slot| self.key("main", BATCH_KEYS + slot))).await?;
        let step = steps[0];
        let mut wanted = [None; 3];
        if let Some(step) = step {
            wanted[(step % 3) as usize] = Some(step);
        }
        if steps.iter().any(|other| *other != step) || moving != wanted {
            return Err(format!("a torn batch: its keys hold the steps {steps:?} and {moving:?}"));
        }
        Ok(exactly(step.unwrap_or(0)))
    }

    async fn append_position(&self, backend: &dyn Backend) -> Found<Position> {
        let start = self.steps(backend, [self.key("lists", 1)]).await?[0].unwrap_or(0);
        let address = self.key("lists", 0).map_err(text)?;
        let mut items = Vec::new();
        loop {
            let range = ListRange { address: address.clone(), start: items.len() as u64, limit: 1000 };
            let Some(page) = backend.list_range(&range).await.map_err(text)? else { break };
            let done = page.items.is_empty();
            items.extend(page.items);
            if items.len() as u64 == page.length {
                break;
            }
            if done {
                return Err(format!("its list should have {} items and has {}", page.length, items.len()));
            }
        }
        for (item, at) in items.iter().zip(0u64..) {
            let wanted = self.item(start + 1 + at / 2, at % 2).map_err(text)?;
            if item.tree().map_err(text)? != wanted.tree().map_err(text)? {
                return Err(format!(
                    "item {at} of its list is {}, and should be {}",
                    item.as_str(),
                    wanted.as_str()
                ));
            }
        }
        if items.len() % 2 == 1 {
            return Err(format!("half an append: its list has {} items", items.len()));
        }
        Ok(exactly(start + items.len() as u64 / 2))
    }

    /// The steps that wrote these records, whose values must be whole.
    async fn steps(
        &self,
        backend: &dyn Backend,
        keys: impl IntoIterator<Item = Result<Address>>,
    ) -> Found<Vec<Option<u64>>> {
        let keys = keys.into_iter().collect::<Result<Vec<_>>>().map_err(text)?;
        let records = backend.get(&keys).await.map_err(text)?;
        records.iter().map(|record| record.as_ref().map(|record| self.step(record)).transpose()).collect()
    }

    fn step(&self, record: &Record) -> Found<u64> {
        let Value::Json(json) = &record.value else {
            return Err(format!("{} is {}", record.address, record.value.kind()));
        };
        let tree = json.tree().map_err(text)?;
        let step = tree["step"].as_u64().ok_or_else(|| format!("{} has no step", record.address))?;
        if tree != self.value(record.address.key.as_str(), step) {
            return Err(format!("{} is not what step {step} wrote: {:.200}", record.address, json.as_str()));
        }
        Ok(step)
    }
}

fn deletes(step: u64) -> bool {
    step > PUT_KEYS && step % 24 == 3
}

fn exactly(step: u64) -> Position {
    Position { low: step, high: step }
}

fn text(error: storage_core::Error) -> String {
    format!("{error} ({})", error.kind())
}

fn hot() -> Result<Address> {
    Address::new("crash-counters", "hot")
}

async fn counters(backend: &dyn Backend) -> Found<std::collections::BTreeMap<String, i64>> {
    let records = backend.get(&[hot().map_err(text)?]).await.map_err(text)?;
    match records.into_iter().next().flatten().map(|record| record.value) {
        None => Ok(Default::default()),
        Some(Value::Counters(fields)) => {
            Ok(fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
        }
        Some(other) => Err(format!("the counters are {}", other.kind())),
    }
}

async fn counter(backend: &dyn Backend, field: &str) -> Found<u64> {
    let value = counters(backend).await?.get(field).copied().unwrap_or(0);
    u64::try_from(value).map_err(|_| format!("the counter {field} is {value}"))
}

/// Whether the counter that lanes share is the sum of their own.
pub(super) async fn shared_counter(backend: &dyn Backend) -> Found<()> {
    let mut fields = counters(backend).await?;
    let all = fields.remove("all").unwrap_or(0);
    let sum: i64 = fields.values().sum();
    if all == sum {
        Ok(())
    } else {
        Err(format!("the shared counter is {all}, and its parts add up to {sum}"))
    }
}
