//! One example of each request and reply, with all that it can hold.

use std::time::Duration;

use semver::Version as Semver;
use serde_json::json;
use smol_str::SmolStr;
use storage_core::{
    Address, BackendInfo, Batch, Blob, Capabilities, ChangeEvent, Changes, CollectionName, Count, Cursor,
    Effect, Error, ErrorKind, Feature, Filter, Health, HealthStatus, IndexSpec, Json, Key, ListItems,
    ListRange, MEMORY, Maintenance, MaintenanceReport, Mutation, Page, Precondition, Query, Record, Result,
    Retry, Scan, Stats, Timestamp, TypeDescriptor, Value, Version, Written,
};
use storage_plugin::wire::{self, Call, Description, Opened, StoreCall, Wire};
use storage_plugin::{Incoming, Outgoing};

/// A message, and how it is read and written again.
pub(crate) struct Example {
    pub(crate) name: &'static str,
    pub(crate) message: Outgoing,
    pub(crate) again: fn(Incoming) -> Result<Outgoing>,
}

pub(crate) fn all() -> Vec<Example> {
    let mut all = requests();
    all.extend(replies());
    all
}

pub(crate) fn requests() -> Vec<Example> {
    let mut requests = vec![
        request("config_from_url", wire::config_from_url("memory://main?size=1")),
        request("validate", wire::validate(&json!({"size": 1}))),
        request("open", wire::open(&json!({"size": 1}))),
    ];
    requests
        .extend(calls().into_iter().map(|call| request(call.operation(), wire::request(&call.request()))));
    requests
}

pub(crate) fn calls() -> Vec<StoreCall> {
    let scan = Scan { prefix: "a/".to_owned(), after: Some(cursor()), limit: 300, ..Scan::new(users()) };
    vec![
        StoreCall::Get(vec![ada(), Address::new("users", "bob").unwrap()]),
        StoreCall::Write(batch()),
        StoreCall::Scan(Box::new(scan.clone())),
        StoreCall::Keys(Box::new(scan)),
        StoreCall::Query(Box::new(Query {
            sort: vec!["age:desc".parse().unwrap(), "name".parse().unwrap(), "a:b:asc".parse().unwrap()],
            after: Some(cursor()),
            ..Query::new(users(), filter())
        })),
        StoreCall::ListRange(Box::new(ListRange { address: ada(), start: 7, limit: 70_000 })),
        StoreCall::Count(Box::new(Count { collection: users(), filter: Some(filter()) })),
        StoreCall::Collections,
        StoreCall::Clear(users()),
        StoreCall::EnsureIndex(Box::new(IndexSpec { unique: true, ..index() })),
        StoreCall::ListIndexes(users()),
        StoreCall::DropIndex(Box::new((users(), index().path))),
        StoreCall::Changes(Box::new(Changes {
            collection: Some(users()),
            after: Some(cursor()),
            limit: 10,
            wait: Duration::from_millis(1500),
        })),
        StoreCall::Health,
        StoreCall::Stats,
        StoreCall::Maintain(Maintenance::Compact),
        StoreCall::Close,
    ]
}

pub(crate) fn replies() -> Vec<Example> {
    vec![
        reply("init", description()),
        reply("config_from_url", json!({"size": 1})),
        reply("validate", ()),
        reply("open", Opened { store: 5, info: info() }),
        reply("get", records()),
        reply("write", outcomes()),
        reply("scan", Page { items: records().into_iter().flatten().collect(), next: Some(cursor()) }),
        reply("keys", Page { items: vec![Key::new("ada").unwrap()], next: Some(cursor()) }),
        reply("query", Page { items: vec![record(Value::List { length: 300 })], next: None }),
        reply("list_range", Some(ListItems { items: vec![json("1"), json("\"two\"")], length: 9 })),
        reply("list_range of nothing", None::<ListItems>),
        reply("count", 65_536_u64),
        reply("collections", vec![users()]),
        reply("clear", 3_u64),
        reply("ensure_index", true),
        reply("list_indexes", vec![index(), IndexSpec { unique: true, ..index() }]),
        reply("drop_index", false),
        reply("changes", events()),
        reply("health", health()),
        reply("stats", stats()),
        reply("maintain", MaintenanceReport { problems: vec!["a gap".to_owned()], ..report() }),
        reply("close", ()),
        failure("error", wire::error(&error())),
        failure("panicked", wire::panicked("get", "index out of bounds")),
        // Read as an internal error, so that it would be written as one.
        Example { again: |_| Ok(wire::cancelled("get")), ..failure("cancelled", wire::cancelled("get")) },
    ]
}

fn request(name: &'static str, message: Outgoing) -> Example {
    fn again(message: Incoming) -> Result<Outgoing> {
        Ok(match wire::call(message)? {
            Call::ConfigFromUrl { url } => wire::config_from_url(&url),
            Call::Validate { config } => wire::validate(&config),
            Call::Open { config } => wire::open(&config),
            Call::Store(call) => wire::request(&call.request()),
        })
    }
    Example { name, message, again }
}

fn reply<T: Wire>(name: &'static str, answer: T) -> Example {
    fn again<T: Wire>(message: Incoming) -> Result<Outgoing> {
        wire::reply::<T>(message).map(|answer| wire::ok(&answer)).map_err(|failure| failure.error)
    }
    Example { name, message: wire::ok(&answer), again: again::<T> }
}

fn failure(name: &'static str, message: Outgoing) -> Example {
    fn again(message: Incoming) -> Result<Outgoing> {
        let Err(failure) = wire::reply::<()>(message) else { panic!("the reply is an error") };
        if failure.error.message().starts_with("malformed message") {
            return Err(failure.error);
        }
        let mut to = wire::Writer::new();
        to.tuple("error", 1);
        failure.write(&mut to);
        Ok(to.into_message())
    }
    Example { name, message, again }
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).unwrap()
}

fn users() -> CollectionName {
    CollectionName::new("users").unwrap()
}

fn ada() -> Address {
    Address::new("users", "ada").unwrap()
}

fn cursor() -> Cursor {
    Cursor::new("AbC-_9").unwrap()
}

fn filter() -> Filter {
    r#"{"$or":[{"age":{"$gte":18}},{"name":"Ada"}]}"#.parse().unwrap()
}

fn index() -> IndexSpec {
    IndexSpec::new(users(), "address.city".parse().unwrap())
}

fn counters() -> [(SmolStr, i64); 2] {
    [(SmolStr::new("hits"), i64::MIN), (SmolStr::new("misses"), -1)]
}

fn record(value: Value) -> Record {
    Record {
        address: ada(),
        value,
        version: Version::from_sequence(0xa7),
        created_at: Timestamp::from_millis(1_700_000_000_000),
        updated_at: Timestamp::from_millis(-1),
        expires_at: Some(Timestamp::from_millis(127)),
    }
}

fn records() -> Vec<Option<Record>> {
    vec![
        Some(record(json(r#"{"name":"Ada"}"#).into())),
        None,
        Some(Record { expires_at: None, ..record(Value::bytes(&b"\x00\xff"[..])) }),
        Some(record(Value::Bytes(Blob::new(&b"<p>"[..]).with_media_type("text/html")))),
        Some(record(Value::Counters(counters().into()))),
        Some(record(Value::List { length: 300 })),
    ]
}

fn batch() -> Batch {
    let later = Some(Timestamp::from_millis(1_700_000_000_000));
    Batch::atomic(vec![
        Mutation::put(ada(), json("[1]")).on(Precondition::Absent),
        Mutation::put(ada(), Value::bytes(&b"\x00"[..])).expiring(later).on(Precondition::Present),
        Mutation::put(ada(), Value::Counters(counters().into())),
        Mutation::delete(ada()).on(Precondition::Version(Version::from_sequence(0xa7))),
        Mutation::touch(ada(), None),
        Mutation::touch(ada(), later),
        Mutation::increment(ada(), "hits", 300).expiring(later),
        Mutation::append(ada(), vec![json("1"), json("null")]),
        Mutation::check(ada(), Precondition::Present),
    ])
}

fn outcomes() -> Vec<Result<Written>> {
    let version = Some(Version::from_sequence(0xa8));
    vec![
        Ok(Written { version: version.clone(), effect: Effect::Done }),
        Ok(Written { version: None, effect: Effect::Deleted { existed: true } }),
        Ok(Written { version: version.clone(), effect: Effect::Counters(counters().into()) }),
        Ok(Written { version, effect: Effect::Length(70_000) }),
        Err(error()),
    ]
}

fn events() -> Page<ChangeEvent> {
    let event = ChangeEvent { address: ada(), at: Timestamp::from_millis(1), record: None };
    let made = ChangeEvent { record: Some(record(json("1").into())), ..event.clone() };
    Page { items: vec![made, event], next: Some(cursor()) }
}

fn description() -> Description {
    let BackendInfo { name, version, capabilities, .. } = info();
    Description {
        name,
        version,
        summary: "In memory".to_owned(),
        schemes: vec!["memory".to_owned(), "mem".to_owned()],
        capabilities,
        config_schema: json!({"additionalProperties": false, "type": "object"}),
    }
}

fn info() -> BackendInfo {
    let capabilities = Capabilities::none()
        .native([Feature::Get, Feature::OrderedScan])
        .emulated(Feature::Query, "reads the whole collection");
    BackendInfo {
        name: "memory".into(),
        version: Semver::parse("1.2.3-rc.1+b").unwrap(),
        location: "memory://main".to_owned(),
        capabilities: Capabilities {
            atomic_scope: storage_core::AtomicScope::Collection,
            coalesce_writes: storage_core::Coalescing::Pays,
            limits: storage_core::Limits { page_len: 500, ..Default::default() },
            ..capabilities
        },
    }
}

fn health() -> Health {
    let latency = Duration::from_micros(1_234);
    Health { status: HealthStatus::Degraded, latency, detail: "read-only".to_owned() }
}

fn stats() -> Stats {
    let details = [("pool".into(), json!({"idle": 1, "ratio": 0.5}))].into();
    Stats { reads: u64::MAX, writes: 2, records: Some(3), bytes: Some(4), details }
}

fn report() -> MaintenanceReport {
    MaintenanceReport { examined: 1, removed: 2, freed_bytes: 3, problems: Vec::new() }
}

/// An error with everything that an error can have.
pub(crate) fn error() -> Error {
    let inner = std::io::Error::other("connection reset");
    let outer = Error::new(ErrorKind::Unavailable, "the server went away").with_source(inner);
    Error::new(ErrorKind::Conflict, "another writer was quicker")
        .with_retry(Retry::IfIdempotent)
        .operation("write")
        .backend("memory")
        .mutation(2)
        .with_source(outer)
}

#[test]
fn the_descriptor_is_described() {
    let description = Description::of(&MEMORY);
    assert_eq!(description.name, MEMORY.name());
    assert_eq!(description.version, MEMORY.version());
    assert_eq!(description.schemes, MEMORY.schemes());
    assert_eq!(description.config_schema, MEMORY.config_schema());
}
