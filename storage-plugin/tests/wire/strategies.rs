//! Random values of every type that messages carry.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use semver::Version as Semver;
use serde_json::Value as Tree;
use smol_str::SmolStr;
use storage_core::*;
use storage_plugin::wire::{Description, Opened, StoreCall};

pub(crate) fn collection() -> impl Strategy<Value = CollectionName> {
    "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}".prop_map(|name| CollectionName::new(name).unwrap())
}

pub(crate) fn key() -> impl Strategy<Value = Key> {
    "[^\\x00]{1,128}".prop_map(|key| Key::new(key).unwrap())
}

pub(crate) fn address() -> impl Strategy<Value = Address> {
    (collection(), key()).prop_map(|(collection, key)| Address { collection, key })
}

fn version() -> impl Strategy<Value = Version> {
    "[A-Za-z0-9_.:=+/-]{1,128}".prop_map(|version| Version::new(version).unwrap())
}

fn cursor() -> impl Strategy<Value = Cursor> {
    "[A-Za-z0-9_-]{1,70}".prop_map(|cursor| Cursor::new(cursor).unwrap())
}

fn path() -> impl Strategy<Value = Path> {
    "[a-z:]{1,5}(\\.[a-z0-9: ]{1,5}){0,3}".prop_map(|path| Path::new(path).unwrap())
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn scalar() -> impl Strategy<Value = Tree> {
    prop_oneof![
        any::<bool>().prop_map(Tree::from),
        any::<i64>().prop_map(Tree::from),
        any::<u64>().prop_map(Tree::from),
        prop::num::f64::NORMAL.prop_map(Tree::from),
        ".{0,20}".prop_map(Tree::from),
    ]
}

pub(crate) fn tree() -> impl Strategy<Value = Tree> {
    prop_oneof![Just(Tree::Null), scalar()].prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Tree::from),
            btree_map(".{0,8}", inner, 0..4).prop_map(|pairs| Tree::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Most are small; a few are so large that they are shared with their message.
fn json() -> impl Strategy<Value = Json> {
    let large = (5_000_usize..9_000).prop_map(|size| Json::from(Tree::from("x".repeat(size))));
    prop_oneof![9 => tree().prop_map(Json::from), 1 => large]
}

fn data() -> impl Strategy<Value = Bytes> {
    prop_oneof![9 => vec(any::<u8>(), 0..50), 1 => vec(any::<u8>(), 4_000..5_000)].prop_map(Bytes::from)
}

fn counters() -> impl Strategy<Value = BTreeMap<SmolStr, i64>> {
    btree_map(".{1,40}".prop_map(SmolStr::from), any::<i64>(), 0..20)
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    let media_type = prop_oneof![Just(Blob::OCTET_STREAM.to_owned()), "[a-z]{1,20}/[a-z+]{1,20}"];
    prop_oneof![
        json().prop_map(Value::Json),
        (media_type, data()).prop_map(|(kind, data)| Value::Bytes(Blob::new(data).with_media_type(kind))),
        counters().prop_map(Value::Counters),
        any::<u64>().prop_map(|length| Value::List { length }),
    ]
}

pub(crate) fn record() -> impl Strategy<Value = Record> {
    (address(), value(), version(), time(), time(), option::of(time())).prop_map(
        |(address, value, version, created_at, updated_at, expires_at)| Record {
            address,
            value,
            version,
            created_at,
            updated_at,
            expires_at,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    let expiry = || option::of(time());
    prop_oneof![
        (value(), expiry()).prop_map(|(value, expires_at)| Change::Put { value, expires_at }),
        Just(Change::Delete),
        expiry().prop_map(|expires_at| Change::Touch { expires_at }),
        (counters(), expiry()).prop_map(|(fields, expires_at)| Change::Increment { fields, expires_at }),
        (vec(json(), 0..5), expiry()).prop_map(|(items, expires_at)| Change::Append { items, expires_at }),
        Just(Change::Check),
    ]
}

pub(crate) fn batch() -> impl Strategy<Value = Batch> {
    let precondition = prop_oneof![
        Just(Precondition::Absent),
        Just(Precondition::Present),
        version().prop_map(Precondition::Version),
    ];
    let mutation = (address(), option::of(precondition), change())
        .prop_map(|(address, precondition, change)| Mutation { address, precondition, change });
    (select(&[Atomicity::Independent, Atomicity::Atomic]), vec(mutation, 0..20))
        .prop_map(|(atomicity, mutations)| Batch { atomicity, mutations })
}

pub(crate) fn written() -> impl Strategy<Value = Written> {
    let effect = prop_oneof![
        Just(Effect::Done),
        any::<bool>().prop_map(|existed| Effect::Deleted { existed }),
        counters().prop_map(Effect::Counters),
        any::<u64>().prop_map(Effect::Length),
    ];
    (option::of(version()), effect).prop_map(|(version, effect)| Written { version, effect })
}

pub(crate) fn page<T: std::fmt::Debug>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Page<T>> {
    (vec(item, 0..20), option::of(cursor())).prop_map(|(items, next)| Page { items, next })
}

pub(crate) fn list_items() -> impl Strategy<Value = Option<ListItems>> {
    option::of((vec(json(), 0..20), any::<u64>()).prop_map(|(items, length)| ListItems { items, length }))
}

pub(crate) fn event() -> impl Strategy<Value = ChangeEvent> {
    (address(), time(), option::of(record())).prop_map(|(address, at, record)| ChangeEvent {
        address,
        at,
        record,
    })
}

pub(crate) fn index() -> impl Strategy<Value = IndexSpec> {
    (collection(), path(), any::<bool>()).prop_map(|(collection, path, unique)| IndexSpec {
        collection,
        path,
        unique,
    })
}

pub(crate) fn health() -> impl Strategy<Value = Health> {
    let status = select(&[HealthStatus::Up, HealthStatus::Degraded, HealthStatus::Down]);
    (status, any::<u64>(), ".{0,40}").prop_map(|(status, micros, detail)| Health {
        status,
        latency: Duration::from_micros(micros),
        detail,
    })
}

pub(crate) fn stats() -> impl Strategy<Value = Stats> {
    let details = btree_map(".{0,10}".prop_map(SmolStr::from), tree(), 0..4);
    (any::<u64>(), any::<u64>(), option::of(any::<u64>()), option::of(any::<u64>()), details)
        .prop_map(|(reads, writes, records, bytes, details)| Stats { reads, writes, records, bytes, details })
}

pub(crate) fn report() -> impl Strategy<Value = MaintenanceReport> {
    (any::<u64>(), any::<u64>(), any::<u64>(), vec(".{0,40}", 0..3)).prop_map(
        |(examined, removed, freed_bytes, problems)| MaintenanceReport {
            examined,
            removed,
            freed_bytes,
            problems,
        },
    )
}

pub(crate) fn capabilities() -> impl Strategy<Value = Capabilities> {
    let support =
        prop_oneof![Just(Support::Native), ".{0,40}".prop_map(|cost| Support::Emulated(cost.into()))];
    let features = btree_map(select(&Feature::ALL), support, 0..22);
    let scope = select(&[AtomicScope::Record, AtomicScope::Collection, AtomicScope::Store]);
    let coalescing = || select(&[Coalescing::Pays, Coalescing::Idle]);
    let limits =
        (any::<[usize; 6]>(), 0..=MAX_JSON_DEPTH, any::<u32>()).prop_map(|(sizes, json_depth, page_len)| {
            let [batch_len, batch_bytes, atomic_len, atomic_bytes, value_bytes, counter_fields] = sizes;
            Limits {
                batch_len,
                batch_bytes,
                atomic_len,
                atomic_bytes,
                value_bytes,
                json_depth,
                page_len,
                counter_fields,
            }
        });
    (features, scope, coalescing(), coalescing(), limits).prop_map(
        |(features, atomic_scope, coalesce_reads, coalesce_writes, limits)| Capabilities {
            features,
            atomic_scope,
            coalesce_reads,
            coalesce_writes,
            limits,
        },
    )
}

fn semver() -> impl Strategy<Value = Semver> {
    "(0|[1-9][0-9]{0,5})\\.(0|[1-9][0-9]{0,5})\\.(0|[1-9][0-9]{0,5})(-rc\\.[1-9])?(\\+[a-z]{1,5})?"
        .prop_map(|text| text.parse().unwrap())
}

pub(crate) fn info() -> impl Strategy<Value = BackendInfo> {
    ("[a-z][a-z0-9-]{0,31}", semver(), ".{0,40}", capabilities()).prop_map(
        |(name, version, location, capabilities)| BackendInfo {
            name: name.into(),
            version,
            location,
            capabilities,
        },
    )
}

pub(crate) fn opened() -> impl Strategy<Value = Opened> {
    (1..=u64::MAX, info()).prop_map(|(store, info)| Opened { store, info })
}

pub(crate) fn description() -> impl Strategy<Value = Description> {
    ("[a-z][a-z0-9-]{0,31}", semver(), ".{0,40}", vec("[a-z]{1,10}", 0..3), capabilities(), tree()).prop_map(
        |(name, version, summary, schemes, capabilities, config_schema)| Description {
            name: name.into(),
            version,
            summary,
            schemes,
            capabilities,
            config_schema,
        },
    )
}

fn filter() -> impl Strategy<Value = Filter> {
    let test = prop_oneof![
        tree().prop_map(Test::Eq),
        tree().prop_map(Test::Ne),
        scalar().prop_map(Test::Gt),
        scalar().prop_map(Test::Gte),
        scalar().prop_map(Test::Lt),
        scalar().prop_map(Test::Lte),
        vec(tree(), 0..3).prop_map(Test::In),
        vec(tree(), 0..3).prop_map(Test::Nin),
        any::<bool>().prop_map(Test::Exists),
        ".{0,10}".prop_map(Test::Prefix),
        ".{0,10}".prop_map(Test::Contains),
    ];
    let field = (path(), test).prop_map(|(path, test)| Filter::Field(path, test));
    field.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Filter::And),
            vec(inner.clone(), 0..3).prop_map(Filter::Or),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

fn scan() -> impl Strategy<Value = Scan> {
    (collection(), ".{0,40}", option::of(cursor()), any::<u32>())
        .prop_map(|(collection, prefix, after, limit)| Scan { collection, prefix, after, limit })
}

fn query() -> impl Strategy<Value = Query> {
    let sort = (path(), select(&[Direction::Asc, Direction::Desc]))
        .prop_map(|(path, direction)| Sort { path, direction });
    (collection(), filter(), vec(sort, 0..3), option::of(cursor()), any::<u32>())
        .prop_map(|(collection, filter, sort, after, limit)| Query { collection, filter, sort, after, limit })
}

fn changes() -> impl Strategy<Value = Changes> {
    (option::of(collection()), option::of(cursor()), any::<u32>(), any::<u64>()).prop_map(
        |(collection, after, limit, millis)| Changes {
            collection,
            after,
            limit,
            wait: Duration::from_millis(millis),
        },
    )
}

pub(crate) fn call() -> impl Strategy<Value = StoreCall> {
    let tasks = [Maintenance::Sweep, Maintenance::Analyse, Maintenance::Compact, Maintenance::Verify];
    prop_oneof![
        vec(address(), 0..40).prop_map(StoreCall::Get),
        batch().prop_map(StoreCall::Write),
        scan().prop_map(|scan| StoreCall::Scan(Box::new(scan))),
        scan().prop_map(|scan| StoreCall::Keys(Box::new(scan))),
        query().prop_map(|query| StoreCall::Query(Box::new(query))),
        (address(), any::<u64>(), any::<u32>()).prop_map(|(address, start, limit)| StoreCall::ListRange(
            Box::new(ListRange { address, start, limit })
        )),
        (collection(), option::of(filter()))
            .prop_map(|(collection, filter)| StoreCall::Count(Box::new(Count { collection, filter }))),
        Just(StoreCall::Collections),
        collection().prop_map(StoreCall::Clear),
        index().prop_map(|index| StoreCall::EnsureIndex(Box::new(index))),
        collection().prop_map(StoreCall::ListIndexes),
        (collection(), path()).prop_map(|index| StoreCall::DropIndex(Box::new(index))),
        changes().prop_map(|changes| StoreCall::Changes(Box::new(changes))),
        select(vec![StoreCall::Health, StoreCall::Stats, StoreCall::Close]),
        select(tasks.to_vec()).prop_map(StoreCall::Maintain),
    ]
}

pub(crate) fn error() -> impl Strategy<Value = Error> {
    let kind =
        select(&[ErrorKind::InvalidInput, ErrorKind::Conflict, ErrorKind::Timeout, ErrorKind::Internal]);
    let retry = select(&[Retry::Never, Retry::Safe, Retry::IfIdempotent]);
    let place = ("[a-z_]{0,30}", "[a-z]{0,30}", option::of(0..100_usize));
    (kind, ".{0,60}", option::of(retry), place, vec(".{0,30}", 0..4)).prop_map(
        |(kind, message, retry, (operation, backend, mutation), sources)| {
            let mut error = Error::new(kind, message).operation(operation).backend(backend);
            if let Some(retry) = retry {
                error = error.with_retry(retry);
            }
            if let Some(position) = mutation {
                error = error.mutation(position);
            }
            let chain = sources.into_iter().rev().fold(None, |inner: Option<Error>, text| {
                let outer = Error::invalid(text);
                Some(if let Some(inner) = inner { outer.with_source(inner) } else { outer })
            });
            if let Some(chain) = chain { error.with_source(chain) } else { error }
        },
    )
}
