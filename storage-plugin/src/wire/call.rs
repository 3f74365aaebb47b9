//! Requests, as the plugin reads and serves them.

use serde_json::Value as Tree;
use storage_core::{
    Address, Backend, Batch, Changes, CollectionName, Count, Error, IndexSpec, ListRange, Maintenance, Path,
    Query, Request, Result, Scan,
};

use super::malformed::Shown;
use super::{Elements, Reader, Wire, answer};
use crate::{Incoming, Outgoing, Received};

/// A request that was received.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `config_from_url`.
    ConfigFromUrl {
        /// The URL.
        url: String,
    },
    /// `validate`.
    Validate {
        /// The configuration to check.
        config: Tree,
    },
    /// `open`.
    Open {
        /// The configuration of the store.
        config: Tree,
    },
    /// A request to a store.
    Store(StoreCall),
}

impl Call {
    /// The operation's name.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::ConfigFromUrl { .. } => "config_from_url",
            Self::Validate { .. } => "validate",
            Self::Open { .. } => "open",
            Self::Store(call) => call.operation(),
        }
    }
}

/// A request to a store: [`Request`] with what it refers to. What is larger than a list is boxed, as calls are moved.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreCall {
    /// `get`.
    Get(Vec<Address>),
    /// `write`.
    Write(Batch),
    /// `scan`.
    Scan(Box<Scan>),
    /// `keys`.
    Keys(Box<Scan>),
    /// `query`.
    Query(Box<Query>),
    /// `list_range`.
    ListRange(Box<ListRange>),
    /// `count`.
    Count(Box<Count>),
    /// `collections`.
    Collections,
    /// `clear`.
    Clear(CollectionName),
    /// `ensure_index`.
    EnsureIndex(Box<IndexSpec>),
    /// `list_indexes`.
    ListIndexes(CollectionName),
    /// `drop_index`.
    DropIndex(Box<(CollectionName, Path)>),
    /// `changes`.
    Changes(Box<Changes>),
    /// `health`.
    Health,
    /// `stats`.
    Stats,
    /// `maintain`.
    Maintain(Maintenance),
    /// `close`.
    Close,
}

impl StoreCall {
    /// The request that refers to this one's parts.
    pub fn request(&self) -> Request<'_> {
        match self {
            Self::Get(keys) => Request::Get(keys),
            Self::Write(batch) => Request::Write(batch),
            Self::Scan(scan) => Request::Scan(scan),
            Self::Keys(scan) => Request::Keys(scan),
            Self::Query(query) => Request::Query(query),
            Self::ListRange(range) => Request::ListRange(range),
            Self::Count(count) => Request::Count(count),
            Self::Collections => Request::Collections,
            Self::Clear(collection) => Request::Clear(collection),
            Self::EnsureIndex(index) => Request::EnsureIndex(index),
            Self::ListIndexes(collection) => Request::ListIndexes(collection),
            Self::DropIndex(index) => Request::DropIndex(&index.0, &index.1),
            Self::Changes(changes) => Request::Changes(changes),
            Self::Health => Request::Health,
            Self::Stats => Request::Stats,
            Self::Maintain(task) => Request::Maintain(*task),
            Self::Close => Request::Close,
        }
    }

    /// The operation's name: the method's.
    pub fn operation(&self) -> &'static str {
        self.request().operation()
    }

    /// Calls the method of `backend` and gives the reply.
    pub async fn run(&self, backend: &dyn Backend) -> Outgoing {
        match self {
            Self::Get(keys) => answer(backend.get(keys).await),
            Self::Write(batch) => answer(backend.write(batch).await),
            Self::Scan(scan) => answer(backend.scan(scan).await),
            Self::Keys(scan) => answer(backend.keys(scan).await),
            Self::Query(query) => answer(backend.query(query).await),
            Self::ListRange(range) => answer(backend.list_range(range).await),
            Self::Count(count) => answer(backend.count(count).await),
            Self::Collections => answer(backend.collections().await),
            Self::Clear(collection) => answer(backend.clear(collection).await),
            Self::EnsureIndex(index) => answer(backend.ensure_index(index).await),
            Self::ListIndexes(collection) => answer(backend.list_indexes(collection).await),
            Self::DropIndex(index) => answer(backend.drop_index(&index.0, &index.1).await),
            Self::Changes(changes) => answer(backend.changes(changes).await),
            Self::Health => answer(backend.health().await),
            Self::Stats => answer(backend.stats().await),
            Self::Maintain(task) => answer(backend.maintain(*task).await),
            Self::Close => answer(backend.close().await),
        }
    }
}

/// Reads a request.
///
/// # Errors
/// [`Unsupported`](storage_core::ErrorKind::Unsupported) for an operation that this version does not know,
/// [`Internal`](storage_core::ErrorKind::Internal) for a malformed message.
pub fn call(message: Incoming) -> Result<Call> {
    let message = Received::from(message);
    let mut from = Reader::new(&message);
    let call = from.elements(|elements| {
        let operation = elements.reader()?.str()?;
        read_call(operation, elements).map_err(|error| error.operation(operation))
    })?;
    from.finish()?;
    Ok(call)
}

fn read_call(operation: &str, elements: &mut Elements<'_, '_>) -> Result<Call> {
    let call = match operation {
        "get" => StoreCall::Get(argument(elements, "keys")?),
        "write" => StoreCall::Write(elements.read()?),
        "scan" => StoreCall::Scan(Box::new(elements.read()?)),
        "keys" => StoreCall::Keys(Box::new(elements.read()?)),
        "query" => StoreCall::Query(Box::new(elements.read()?)),
        "list_range" => StoreCall::ListRange(Box::new(elements.read()?)),
        "count" => StoreCall::Count(Box::new(elements.read()?)),
        "collections" => StoreCall::Collections,
        "clear" => StoreCall::Clear(argument(elements, "collection")?),
        "ensure_index" => StoreCall::EnsureIndex(Box::new(elements.read()?)),
        "list_indexes" => StoreCall::ListIndexes(argument(elements, "collection")?),
        "drop_index" => {
            let IndexAt { collection, path } = elements.read()?;
            StoreCall::DropIndex(Box::new((collection, path)))
        }
        "changes" => StoreCall::Changes(Box::new(elements.read()?)),
        "health" => StoreCall::Health,
        "stats" => StoreCall::Stats,
        "maintain" => StoreCall::Maintain(argument(elements, "task")?),
        "close" => StoreCall::Close,
        "config_from_url" => return Ok(Call::ConfigFromUrl { url: argument(elements, "url")? }),
        "validate" => return Ok(Call::Validate { config: argument(elements, "config")? }),
        "open" => return Ok(Call::Open { config: argument(elements, "config")? }),
        other => return Err(Error::unsupported(format_args!("the operation {}", Shown(other.as_bytes())))),
    };
    Ok(Call::Store(call))
}

/// The arguments of `drop_index`.
struct IndexAt {
    collection: CollectionName,
    path: Path,
}

wire_map!(IndexAt {
    required collection: "collection",
    required path: "path",
});

/// A map of which one key matters.
#[inline]
fn argument<T: Wire>(elements: &mut Elements<'_, '_>, name: &str) -> Result<T> {
    let from = elements.reader()?;
    let at = from.position();
    // Nearly always it is the only one.
    if from.enter_map()? == 1 && from.is_text(name) {
        let argument = from.read();
        from.leave();
        return argument;
    }
    from.back_to_map(at);
    search(from, name)
}

#[cold]
fn search<T: Wire>(from: &mut Reader<'_>, name: &str) -> Result<T> {
    let at = from.position();
    let mut argument = None;
    from.map(|from| {
        if from.name()? == name.as_bytes() {
            argument = Some(from.read()?);
            return Ok(());
        }
        from.skip()
    })?;
    argument.ok_or_else(|| from.missing(at, name))
}
