//! A request as data: what layers look at.

use crate::{
    Address, Batch, Capabilities, Change, Changes, CollectionName, Count, Error, ErrorKind, Feature,
    IndexSpec, Limits, ListRange, Maintenance, Mutation, Path, Query, Result, Scan, Value,
};

/// One call of a [`Backend`](crate::Backend) method with its arguments.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Request<'a> {
    /// `get`.
    Get(&'a [Address]),
    /// `write`.
    Write(&'a Batch),
    /// `scan`.
    Scan(&'a Scan),
    /// `keys`.
    Keys(&'a Scan),
    /// `query`.
    Query(&'a Query),
    /// `list_range`.
    ListRange(&'a ListRange),
    /// `count`.
    Count(&'a Count),
    /// `collections`.
    Collections,
    /// `clear`.
    Clear(&'a CollectionName),
    /// `ensure_index`.
    EnsureIndex(&'a IndexSpec),
    /// `list_indexes`.
    ListIndexes(&'a CollectionName),
    /// `drop_index`.
    DropIndex(&'a CollectionName, &'a Path),
    /// `changes`.
    Changes(&'a Changes),
    /// `health`.
    Health,
    /// `stats`.
    Stats,
    /// `maintain`.
    Maintain(Maintenance),
    /// `close`.
    Close,
}

impl<'a> Request<'a> {
    /// The operation's stable name, such as `get`: the method's.
    pub const fn operation(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::Write(_) => "write",
            Self::Scan(_) => "scan",
            Self::Keys(_) => "keys",
            Self::Query(_) => "query",
            Self::ListRange(_) => "list_range",
            Self::Count(_) => "count",
            Self::Collections => "collections",
            Self::Clear(_) => "clear",
            Self::EnsureIndex(_) => "ensure_index",
            Self::ListIndexes(_) => "list_indexes",
            Self::DropIndex(..) => "drop_index",
            Self::Changes(_) => "changes",
            Self::Health => "health",
            Self::Stats => "stats",
            Self::Maintain(_) => "maintain",
            Self::Close => "close",
        }
    }

    /// The collection, if the request has just one.
    pub fn collection(&self) -> Option<&'a CollectionName> {
        match *self {
            Self::Get(keys) => one(keys.iter().map(|address| &address.collection)),
            Self::Write(batch) => one(batch.mutations.iter().map(|mutation| &mutation.address.collection)),
            Self::Scan(scan) | Self::Keys(scan) => Some(&scan.collection),
            Self::Query(query) => Some(&query.collection),
            Self::ListRange(range) => Some(&range.address.collection),
            Self::Count(count) => Some(&count.collection),
            Self::Clear(collection) | Self::ListIndexes(collection) | Self::DropIndex(collection, _) => {
                Some(collection)
            }
            Self::EnsureIndex(index) => Some(&index.collection),
            Self::Changes(changes) => changes.collection.as_ref(),
            Self::Collections | Self::Health | Self::Stats | Self::Maintain(_) | Self::Close => None,
        }
    }

    /// The number of keys or mutations in a batch; `None` for other requests.
    pub fn batch_len(&self) -> Option<usize> {
        match self {
            Self::Get(keys) => Some(keys.len()),
            Self::Write(batch) => Some(batch.mutations.len()),
            _ => None,
        }
    }

    /// Whether sending it twice leaves the same state and tells the caller the truth.
    pub fn is_idempotent(&self) -> bool {
        match self {
            Self::Write(batch) => batch.is_idempotent(),
            // The number of removed records would be wrong.
            Self::Clear(_) => false,
            _ => true,
        }
    }

    /// Whether the request changes data.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Write(_) | Self::Clear(_) | Self::EnsureIndex(_) | Self::DropIndex(..))
    }

    /// Checks the request against what a backend offers and its limits.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported), [`TooLarge`](ErrorKind::TooLarge), or
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a page of no records.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        let limits = &capabilities.limits;
        match *self {
            Self::Get(keys) => {
                capabilities.require(Feature::Get)?;
                within("keys in one get", keys.len(), limits.batch_len)
            }
            Self::Write(batch) => check_batch(batch, capabilities),
            Self::Scan(scan) | Self::Keys(scan) => {
                capabilities.require(Feature::Scan)?;
                page(scan.limit, limits)
            }
            Self::Query(query) => {
                capabilities.require(Feature::Query)?;
                if !query.sort.is_empty() {
                    capabilities.require(Feature::Sort)?;
                }
                page(query.limit, limits)
            }
            Self::ListRange(range) => {
                capabilities.require(Feature::Lists)?;
                page(range.limit, limits)
            }
            Self::Count(count) => {
                capabilities.require(Feature::Count)?;
                if count.filter.is_some() { capabilities.require(Feature::Query) } else { Ok(()) }
            }
            Self::Collections => capabilities.require(Feature::Collections),
            Self::Clear(_) => capabilities.require(Feature::Clear),
            Self::EnsureIndex(index) => {
                capabilities.require(Feature::Indexes)?;
                if index.unique { capabilities.require(Feature::UniqueIndexes) } else { Ok(()) }
            }
            Self::ListIndexes(_) | Self::DropIndex(..) => capabilities.require(Feature::Indexes),
            Self::Changes(changes) => {
                capabilities.require(Feature::Changes)?;
                page(changes.limit, limits)
            }
            Self::Maintain(task) => capabilities.require(match task {
                Maintenance::Sweep => Feature::Sweep,
                Maintenance::Analyse => Feature::Analyse,
                Maintenance::Compact => Feature::Compact,
                Maintenance::Verify => Feature::Verify,
            }),
            Self::Health | Self::Stats | Self::Close => Ok(()),
        }
    }
}

fn one<'a>(mut names: impl Iterator<Item = &'a CollectionName>) -> Option<&'a CollectionName> {
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

fn within(what: &str, size: usize, limit: usize) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    Err(Error::new(ErrorKind::TooLarge, format!("{size} {what}: the limit of this backend is {limit}")))
}

fn page(limit: u32, limits: &Limits) -> Result<()> {
    if limit == 0 {
        return Err(Error::invalid("the limit of a page is 0: it is at least 1"));
    }
    within("records in one page", limit as usize, limits.page_len as usize)
}

fn check_batch(batch: &Batch, capabilities: &Capabilities) -> Result<()> {
    use crate::Atomicity;

    let limits = &capabilities.limits;
    capabilities.require(Feature::Put)?;
    if batch.atomicity == Atomicity::Atomic && batch.mutations.len() > 1 {
        capabilities.require(Feature::Atomic)?;
        check_scope(batch, capabilities)?;
        within("mutations in one atomic batch", batch.mutations.len(), limits.atomic_len)?;
        within("bytes in one atomic batch", batch.size(), limits.atomic_bytes)?;
    }
    within("mutations in one batch", batch.mutations.len(), limits.batch_len)?;
    within("bytes in one batch", batch.size(), limits.batch_bytes)?;
    let many = batch.mutations.len() > 1;
    for (position, mutation) in batch.mutations.iter().enumerate() {
        check_mutation(mutation, capabilities)
            .map_err(|error| if many { error.mutation(position) } else { error })?;
    }
    Ok(())
}

/// Checks one mutation of a write against what a backend offers and its limits.
pub(crate) fn check_mutation(mutation: &Mutation, capabilities: &Capabilities) -> Result<()> {
    if mutation.precondition.is_some() {
        capabilities.require(Feature::Preconditions)?;
    }
    check_change(&mutation.change, capabilities)
}

fn check_scope(batch: &Batch, capabilities: &Capabilities) -> Result<()> {
    use crate::AtomicScope;

    let mut addresses = batch.mutations.iter().map(|mutation| &mutation.address);
    let Some(first) = addresses.next() else { return Ok(()) };
    let (fits, scope) = match capabilities.atomic_scope {
        AtomicScope::Store => return Ok(()),
        AtomicScope::Collection => (addresses.all(|a| a.collection == first.collection), "one collection"),
        AtomicScope::Record => (addresses.all(|a| a == first), "one record"),
    };
    if fits {
        return Ok(());
    }
    Err(Error::unsupported(format_args!("an atomic batch over more than {scope}")))
}

fn check_change(change: &Change, capabilities: &Capabilities) -> Result<()> {
    let limits = &capabilities.limits;
    let expiry = match change {
        Change::Put { value, expires_at } => {
            check_value(value, capabilities)?;
            expires_at.is_some()
        }
        Change::Increment { fields, expires_at } => {
            capabilities.require(Feature::Counters)?;
            check_fields(fields.keys().map(smol_str::SmolStr::as_str), limits)?;
            expires_at.is_some()
        }
        Change::Append { items, expires_at } => {
            capabilities.require(Feature::Lists)?;
            if items.is_empty() {
                return Err(Error::invalid("append without items: name at least one"));
            }
            for item in items {
                within("bytes in one list item", item.size(), limits.value_bytes)?;
                check_depth(item, limits)?;
            }
            expires_at.is_some()
        }
        Change::Touch { .. } => true,
        Change::Delete | Change::Check => false,
    };
    if expiry { capabilities.require(Feature::Expiry) } else { Ok(()) }
}

fn check_value(value: &Value, capabilities: &Capabilities) -> Result<()> {
    let limits = &capabilities.limits;
    within("bytes in one value", value.size(), limits.value_bytes)?;
    match value {
        Value::Json(json) => check_depth(json, limits),
        Value::Bytes(_) => capabilities.require(Feature::Bytes),
        Value::Counters(fields) => {
            capabilities.require(Feature::Counters)?;
            check_fields(fields.keys().map(smol_str::SmolStr::as_str), limits)
        }
        Value::List { .. } => Err(Error::invalid("a list cannot be put: append its items")),
    }
}

fn check_depth(json: &crate::Json, limits: &Limits) -> Result<()> {
    // Cheap texts cannot be deep: each level takes two bytes.
    if json.size() / 2 <= limits.json_depth || limits.json_depth >= crate::MAX_JSON_DEPTH {
        return Ok(());
    }
    within("levels of nested JSON", json.depth(), limits.json_depth)
}

fn check_fields<'a>(names: impl ExactSizeIterator<Item = &'a str>, limits: &Limits) -> Result<()> {
    if names.len() == 0 {
        return Err(Error::invalid("no counter fields: name at least one"));
    }
    within("fields in one counters record", names.len(), limits.counter_fields)?;
    for name in names {
        if name.is_empty() || name.len() > 256 || name.contains('\0') {
            return Err(Error::invalid(format!(
                "counter field {} is not valid: 1 to 256 bytes, no NUL",
                crate::name::shown(name)
            )));
        }
    }
    Ok(())
}
