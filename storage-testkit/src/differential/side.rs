//! One backend in a run: puts its own versions into the symbols and makes its replies comparable.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use storage_core::layer::{Around, Guard};
use storage_core::{
    Address, Atomicity, Backend, Batch, Change, Count, Cursor, Effect, Error, Feature, IndexSpec, Key,
    ListRange, Maintenance, Mutation, Page, Precondition, Query, Record, Result, Scan, Timestamp, Version,
    Written,
};

use super::reply::{Failure, Outcome, Reply, Seen};
use super::step::{Condition, Names, Place, Planned, Slot, Step, Which};

/// More pages than any run has records: a cursor that goes round in circles.
const TOO_MANY_PAGES: usize = 1_000;

/// A backend and what it has told of itself so far.
pub(super) struct Side {
    pub(super) backend: Arc<dyn Backend>,
    names: Names,
    histories: HashMap<Place, History>,
    /// Collections in which something was written that had expired: they may stay listed until a sweep.
    expired_in: BTreeSet<Slot>,
    /// How many steps were run.
    steps: usize,
}

/// What a side has told of one record.
#[derive(Default)]
struct History {
    /// Every version, in the order of first sight.
    versions: Vec<Version>,
    latest: Option<Version>,
    /// When the record that is there now was made, once it was read.
    created_at: Option<Timestamp>,
    /// When the version that was last read was written.
    updated_at: Option<(Version, Timestamp)>,
    /// The steps in which the record that is there now was made, and last written.
    made: Option<(usize, usize)>,
}

/// A broken promise that shows without a reference, as a sentence.
type Broken = String;

impl Side {
    pub(super) fn new(backend: Arc<dyn Backend>, names: Names) -> Self {
        Self {
            backend: guarded(backend),
            names,
            histories: HashMap::new(),
            expired_in: BTreeSet::new(),
            steps: 0,
        }
    }

    /// Goes on with the same store, opened again.
    pub(super) fn reopened(&mut self, backend: Arc<dyn Backend>) {
        self.backend = guarded(backend);
    }

    /// The version of this side that a symbol stands for, if it has one. The version of another record does
    /// not count if it happens to be one of this record's too, which it may.
    pub(super) fn resolve(&self, place: &Place, which: &Which) -> Option<Version> {
        let history = self.histories.get(place);
        match which {
            Which::Latest => history?.latest.clone(),
            Which::Earlier(n) => {
                let versions = &history?.versions;
                versions.get(n.checked_rem(versions.len())?).cloned()
            }
            Which::OfAnother(other) => {
                let version = self.histories.get(other)?.latest.clone()?;
                let known = history.is_some_and(|history| history.versions.contains(&version));
                (!known).then_some(version)
            }
            Which::NeverGiven => None,
        }
    }

    /// Runs one step, with these versions for its mutations; where there is none, one never given.
    pub(super) async fn run(&mut self, step: &Step, versions: &[Option<Version>]) -> Result<Reply, Broken> {
        self.steps += 1;
        let reply = self.attempt(step, versions).await?;
        let many = matches!(step, Step::Write { mutations, .. } if mutations.len() > 1);
        Ok(reply.unwrap_or_else(|error| Reply::Failed(Failure::new(&error, many))))
    }

    async fn attempt(&mut self, step: &Step, versions: &[Option<Version>]) -> Result<Result<Reply>, Broken> {
        let backend = Arc::clone(&self.backend);
        Ok(match step {
            Step::Get(places) => {
                let keys: Vec<Address> = places.iter().map(|place| self.names.address(place)).collect();
                match backend.get(&keys).await {
                    Ok(records) => Ok(self.got(&keys, records)?),
                    Err(error) => Err(error),
                }
            }
            Step::Write { atomic, mutations } => {
                let batch = self.batch(*atomic, mutations, versions);
                match backend.write(&batch).await {
                    Ok(results) => Ok(self.written(mutations, results)?),
                    Err(error) => Err(error),
                }
            }
            Step::Scan { .. } | Step::Keys { .. } | Step::Query { .. } => self.pages(step).await?,
            Step::ListRange { place, start, limit } => {
                list_range(&*backend, self.names.address(place), *start, *limit).await?
            }
            Step::Count { slot, filter } => {
                let count = Count { collection: self.names.collection(*slot), filter: filter.clone() };
                backend.count(&count).await.map(Reply::Number)
            }
            Step::Collections => self.collections().await,
            Step::Clear(slot) => {
                for (_, history) in self.histories.iter_mut().filter(|(place, _)| place.slot == *slot) {
                    (history.created_at, history.made) = (None, None);
                }
                backend.clear(&self.names.collection(*slot)).await.map(Reply::Number)
            }
            Step::EnsureIndex { slot, path, unique } => {
                let collection = self.names.collection(*slot);
                let index = IndexSpec { collection, path: path.clone(), unique: *unique };
                backend.ensure_index(&index).await.map(Reply::Yes)
            }
            Step::ListIndexes(slot) => {
                let indexes = backend.list_indexes(&self.names.collection(*slot)).await;
                let shown = |index: IndexSpec| (index.path.to_string(), index.unique);
                indexes.map(|indexes| Reply::Indexes(indexes.into_iter().map(shown).collect()))
            }
            Step::DropIndex { slot, path } => {
                backend.drop_index(&self.names.collection(*slot), path).await.map(Reply::Yes)
            }
            Step::Maintain(task) => self.maintain(*task).await,
            Step::Reopen => Ok(Reply::Nothing),
        })
    }

    /// Only what goes wrong is compared: what a chore finds to do depends on how the backend keeps house.
    async fn maintain(&self, task: Maintenance) -> Result<Reply> {
        let feature = match task {
            Maintenance::Sweep => Feature::Sweep,
            Maintenance::Analyse => Feature::Analyse,
            Maintenance::Compact => Feature::Compact,
            Maintenance::Verify => Feature::Verify,
        };
        if !self.backend.info().capabilities.has(feature) {
            return Ok(Reply::Problems(Vec::new()));
        }
        self.backend.maintain(task).await.map(|report| Reply::Problems(report.problems))
    }

    fn batch(&self, atomic: bool, mutations: &[Planned], versions: &[Option<Version>]) -> Batch {
        let mutation = |(planned, version): (&Planned, &Option<Version>)| Mutation {
            address: self.names.address(&planned.place),
            precondition: planned.on.as_ref().map(|condition| match condition {
                Condition::Absent => Precondition::Absent,
                Condition::Present => Precondition::Present,
                Condition::Version(_) => Precondition::Version(version.clone().unwrap_or_else(never_given)),
            }),
            change: planned.change.clone(),
        };
        let atomicity = if atomic { Atomicity::Atomic } else { Atomicity::Independent };
        Batch { atomicity, mutations: mutations.iter().zip(versions).map(mutation).collect() }
    }

    fn got(&mut self, keys: &[Address], records: Vec<Option<Record>>) -> Result<Reply, Broken> {
        if records.len() != keys.len() {
            return Err(format!("get of {} keys gave {} entries", keys.len(), records.len()));
        }
        let mut seen = Vec::with_capacity(records.len());
        for (address, record) in keys.iter().zip(records) {
            if let Some(record) = &record
                && record.address != *address
            {
                return Err(format!("get of {address} gave the record {}", record.address));
            }
            seen.push(record.map(|record| self.see(record)).transpose()?);
        }
        Ok(Reply::Records(seen))
    }

    /// Takes note of a record that was read.
    fn see(&mut self, record: Record) -> Result<Seen, Broken> {
        let Record { address, value, version, created_at, updated_at, expires_at } = record;
        let Some(slot) = self.names.slot(&address.collection) else {
            return Err(format!("a record of the foreign collection {}", address.collection));
        };
        let place = Place { slot, key: address.key };
        let history = self.histories.entry(place.clone()).or_default();
        if history.created_at.is_some_and(|before| before != created_at) {
            return Err(format!("created_at of {place:?} has changed, although the record was never gone"));
        }
        history.created_at = Some(created_at);
        if let Some((same, before)) = &history.updated_at
            && *same == version
            && *before != updated_at
        {
            return Err(format!("updated_at of {place:?} has changed, although its version has not"));
        }
        history.updated_at = Some((version.clone(), updated_at));
        if history.made.is_some_and(|(first, last)| first < last) && created_at >= updated_at {
            return Err(format!(
                "{place:?} was written again after it was made, but its times do not say so"
            ));
        }
        let version = history.number(version);
        Ok(Seen { place, value, version, expires_at: expires_at.map(Timestamp::as_millis) })
    }

    fn written(&mut self, mutations: &[Planned], results: Vec<Result<Written>>) -> Result<Reply, Broken> {
        if results.len() != mutations.len() {
            return Err(format!("write of {} mutations gave {} results", mutations.len(), results.len()));
        }
        let each = mutations.iter().zip(results).map(|(planned, result)| match result {
            Ok(written) => Ok(self.wrote(planned, written)),
            // The position in the reply says already which mutation failed.
            Err(error) => Err(Failure::new(&error, false)),
        });
        Ok(Reply::Written(each.collect()))
    }

    /// Takes note of a mutation that was applied.
    fn wrote(&mut self, planned: &Planned, written: Written) -> Outcome {
        let past = |at: &Option<Timestamp>| at.is_some_and(|at| at <= Timestamp::now());
        match &planned.change {
            Change::Put { expires_at, .. }
            | Change::Touch { expires_at }
            | Change::Increment { expires_at, .. }
            | Change::Append { expires_at, .. }
                if past(expires_at) =>
            {
                self.expired_in.insert(planned.place.slot);
            }
            _ => {}
        }
        let history = self.histories.entry(planned.place.clone()).or_default();
        let gone = written.version.is_none() || matches!(written.effect, Effect::Deleted { .. });
        if gone {
            (history.created_at, history.made) = (None, None);
        } else if !matches!(planned.change, Change::Check) {
            let first = history.made.map_or(self.steps, |(first, _)| first);
            history.made = Some((first, self.steps));
        }
        Outcome { version: written.version.map(|version| history.number(version)), effect: written.effect }
    }

    /// Reads all pages of a scan, of keys or of a query.
    async fn pages(&mut self, step: &Step) -> Result<Result<Reply>, Broken> {
        let (mut records, mut keys): (Vec<Record>, Vec<Key>) = (Vec::new(), Vec::new());
        let mut after: Option<Cursor> = None;
        for _ in 0..TOO_MANY_PAGES {
            let read = match step {
                Step::Keys { slot, prefix, limit } => {
                    let page = self.backend.keys(&self.scan(*slot, prefix, *limit, after)).await;
                    page.map(|page| turn(page, *limit, &mut keys))
                }
                Step::Scan { slot, prefix, limit } => {
                    let page = self.backend.scan(&self.scan(*slot, prefix, *limit, after)).await;
                    page.map(|page| turn(page, *limit, &mut records))
                }
                Step::Query { slot, filter, sort, limit } => {
                    let collection = self.names.collection(*slot);
                    let (filter, sort) = (filter.clone(), sort.clone());
                    let query = Query { collection, filter, sort, after, limit: *limit };
                    self.backend.query(&query).await.map(|page| turn(page, *limit, &mut records))
                }
                _ => return Ok(Ok(Reply::Nothing)),
            };
            after = match read {
                Ok(next) => next?,
                Err(error) => return Ok(Err(error)),
            };
            if after.is_none() {
                return self.paged(step, records, keys).map(Ok);
            }
        }
        Err(format!("more than {TOO_MANY_PAGES} pages: the cursor goes round in circles"))
    }

    fn scan(&self, slot: Slot, prefix: &str, limit: u32, after: Option<Cursor>) -> Scan {
        Scan { collection: self.names.collection(slot), prefix: prefix.to_owned(), after, limit }
    }

    fn paged(&mut self, step: &Step, mut records: Vec<Record>, mut keys: Vec<Key>) -> Result<Reply, Broken> {
        let in_order = match step {
            Step::Query { sort, .. } => !sort.is_empty(),
            _ => self.backend.info().capabilities.has(Feature::OrderedScan),
        };
        if !in_order {
            records.sort_by(|a, b| a.address.cmp(&b.address));
            keys.sort();
        }
        if matches!(step, Step::Keys { .. }) {
            return Ok(Reply::Keys(keys.iter().map(Key::to_string).collect()));
        }
        let seen: Result<Vec<_>, Broken> =
            records.into_iter().map(|record| self.see(record).map(Some)).collect();
        seen.map(Reply::Records)
    }

    async fn collections(&self) -> Result<Reply> {
        let mut slots = Vec::new();
        for slot in self.backend.collections().await?.iter().filter_map(|name| self.names.slot(name)) {
            let collection = self.names.collection(slot);
            if !self.expired_in.contains(&slot) || self.holds_something(collection).await? {
                slots.push(slot);
            }
        }
        Ok(Reply::Collections(slots))
    }

    async fn holds_something(&self, collection: storage_core::CollectionName) -> Result<bool> {
        if self.backend.info().capabilities.has(Feature::Count) {
            return Ok(self.backend.count(&Count { collection, filter: None }).await? > 0);
        }
        let mut scan = Scan::new(collection);
        loop {
            let page = self.backend.keys(&scan).await?;
            if !page.items.is_empty() || page.next.is_none() {
                return Ok(!page.items.is_empty());
            }
            scan.after = page.next;
        }
    }
}

impl History {
    /// The number of a version: how many others of its record were seen before it first was.
    fn number(&mut self, version: Version) -> usize {
        self.latest = Some(version.clone());
        match self.versions.iter().position(|known| *known == version) {
            Some(number) => number,
            None => {
                self.versions.push(version);
                self.versions.len() - 1
            }
        }
    }
}

/// As every store does it.
fn guarded(backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
    Arc::new(Around::new(Guard, backend))
}

/// Well formed, but of no backend's making.
fn never_given() -> Version {
    Version::from_sequence(u64::MAX)
}

/// Adds a page to what was read before.
fn turn<T>(page: Page<T>, limit: u32, read: &mut Vec<T>) -> Result<Option<Cursor>, Broken> {
    if page.items.len() > limit as usize {
        return Err(format!("a page of {} items: the limit was {limit}", page.items.len()));
    }
    read.extend(page.items);
    Ok(page.next)
}

/// Reads `limit` items, in as many calls as the backend needs.
async fn list_range(
    backend: &dyn Backend,
    address: Address,
    start: u64,
    limit: u32,
) -> Result<Result<Reply>, Broken> {
    let mut items = Vec::new();
    loop {
        let (begun, left) = (items.len() as u64, limit - items.len() as u32);
        let range = ListRange { address: address.clone(), start: start.saturating_add(begun), limit: left };
        let part = match backend.list_range(&range).await {
            Ok(Some(part)) => part,
            Ok(None) => return Ok(Ok(Reply::Items(None))),
            Err(error) => return Ok(Err::<Reply, Error>(error)),
        };
        if part.items.len() > left as usize {
            return Err(format!("{} items of a list: the limit was {left}", part.items.len()));
        }
        let ended = part.items.is_empty();
        items.extend(part.items);
        if ended || items.len() == limit as usize || start + items.len() as u64 >= part.length {
            return Ok(Ok(Reply::Items(Some((items, part.length)))));
        }
    }
}
