//! Random sequences of steps that a backend's capabilities allow.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use smol_str::SmolStr;
use storage_core::{
    AtomicScope, Blob, Capabilities, Change, Feature, Filter, Json, Key, Maintenance, Path, Timestamp, Value,
};

use super::arbitrary::{document, filter, path, sort, text};
use super::step::{COLLECTIONS, Condition, Place, Planned, Slot, Step, Which};

/// The most steps of a sequence.
const STEPS: usize = 40;

/// Keys that meet often, and among them some that tempt.
const PLAIN: [&str; 3] = ["k", "k1", "k2"];
const AWKWARD: [&str; 12] =
    ["K", "k%", "k_", "k*", "é", "e\u{301}", "\u{ffff}", "😀", " ", "k/../k", "'\";--", "\n\\"];

/// Prefixes of those.
const PREFIXES: [&str; 8] = ["", "", "k", "k1", "K", "k%", "e", "none"];

/// The years 2001, 2096 and 2099: so far from now that it does not matter when a step runs.
const PAST: i64 = 1_000_000_000_000;
const FUTURE: [i64; 2] = [4_000_000_000_000, 4_100_000_000_001];

/// Sequences for a backend of these capabilities; `reopens` if closing it loses nothing.
pub(super) fn sequences(capabilities: &Capabilities, reopens: bool) -> BoxedStrategy<Vec<Step>> {
    let has = |feature| capabilities.has(feature);
    let mut steps: Vec<(u32, BoxedStrategy<Step>)> = Vec::new();
    if has(Feature::Get) {
        steps.push((4, vec(place(), 1..5).prop_map(Step::Get).boxed()));
    }
    if has(Feature::Put) {
        steps.push((9, writes(capabilities)));
    }
    if has(Feature::Atomic) {
        steps.push((5, atomic_writes(capabilities)));
    }
    if has(Feature::Scan) {
        let scan = (slot(), select(&PREFIXES[..]), limit());
        steps.push((
            2,
            scan.clone().prop_map(|(slot, p, limit)| Step::Scan { slot, prefix: p.into(), limit }).boxed(),
        ));
        steps.push((
            1,
            scan.prop_map(|(slot, p, limit)| Step::Keys { slot, prefix: p.into(), limit }).boxed(),
        ));
    }
    if has(Feature::Query) {
        steps.push((3, queries(has(Feature::Sort))));
    }
    if has(Feature::Lists) {
        let range = (prop_oneof![common_place(), place()], start(), limit());
        steps.push((
            2,
            range.prop_map(|(place, start, limit)| Step::ListRange { place, start, limit }).boxed(),
        ));
    }
    if has(Feature::Count) {
        let condition: BoxedStrategy<Option<Filter>> =
            if has(Feature::Query) { proptest::option::of(filter()).boxed() } else { Just(None).boxed() };
        steps.push((1, (slot(), condition).prop_map(|(slot, filter)| Step::Count { slot, filter }).boxed()));
    }
    if has(Feature::Collections) {
        steps.push((1, Just(Step::Collections).boxed()));
    }
    if has(Feature::Clear) {
        steps.push((1, slot().prop_map(Step::Clear).boxed()));
    }
    if has(Feature::Indexes) {
        steps.push((3, indexing(has(Feature::UniqueIndexes))));
    }
    let chores = [
        (Feature::Sweep, Maintenance::Sweep),
        (Feature::Analyse, Maintenance::Analyse),
        (Feature::Compact, Maintenance::Compact),
        (Feature::Verify, Maintenance::Verify),
    ];
    let chores: Vec<Step> = chores
        .into_iter()
        .filter(|(feature, _)| has(*feature))
        .map(|(_, task)| Step::Maintain(task))
        .collect();
    if !chores.is_empty() {
        steps.push((1, select(chores).boxed()));
    }
    if reopens {
        steps.push((1, Just(Step::Reopen).boxed()));
    }
    vec(Union::new_weighted(steps), 1..=STEPS).boxed()
}

fn slot() -> impl Strategy<Value = Slot> + Clone {
    prop_oneof![4 => Just(0), 1 => 1..COLLECTIONS.len()]
}

fn place() -> impl Strategy<Value = Place> + Clone {
    let key = prop_oneof![
        6 => select(&PLAIN[..]).prop_map(str::to_owned),
        3 => select(&AWKWARD[..]).prop_map(str::to_owned),
        1 => Just("k".repeat(storage_core::MAX_KEY_BYTES)),
    ];
    let key = key.prop_filter_map("a key that is not valid", |key| Key::new(key).ok());
    (slot(), key).prop_map(|(slot, key)| Place { slot, key })
}

/// One of the places where most happens.
fn common_place() -> impl Strategy<Value = Place> + Clone {
    let key = select(&PLAIN[..]).prop_filter_map("a key that is not valid", |key| Key::new(key).ok());
    key.prop_map(|key| Place { slot: 0, key })
}

fn limit() -> impl Strategy<Value = u32> + Clone {
    prop_oneof![1_u32..4, Just(100)]
}

fn start() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..6, 1 => Just(i64::MAX as u64), 1 => Just(u64::MAX)]
}

fn queries(sorted: bool) -> BoxedStrategy<Step> {
    let order = if sorted { proptest::option::of(sort()).boxed() } else { Just(None).boxed() };
    let condition = prop_oneof![3 => filter(), 1 => Just(Filter::all())];
    (slot(), condition, order, limit())
        .prop_map(|(slot, filter, sort, limit)| Step::Query {
            slot,
            filter,
            sort: sort.unwrap_or_default(),
            limit,
        })
        .boxed()
}

fn indexing(unique: bool) -> BoxedStrategy<Step> {
    let plain = (slot(), path()).prop_map(|(slot, path)| Step::EnsureIndex { slot, path, unique: false });
    let own = || Just("u").prop_filter_map("a path that is not valid", |path| Path::new(path).ok());
    let strict = (slot(), own()).prop_map(move |(slot, path)| Step::EnsureIndex { slot, path, unique });
    let any_path = prop_oneof![path().boxed(), own().boxed()];
    prop_oneof![
        2 => plain,
        2 => strict,
        1 => slot().prop_map(Step::ListIndexes),
        2 => (slot(), any_path).prop_map(|(slot, path)| Step::DropIndex { slot, path }),
    ]
    .boxed()
}

fn writes(capabilities: &Capabilities) -> BoxedStrategy<Step> {
    let mutations = prop_oneof![3 => vec(planned(capabilities), 1..2), 1 => vec(planned(capabilities), 1..7)];
    mutations.prop_map(|mutations| Step::Write { atomic: false, mutations }).boxed()
}

/// Atomic batches within the backend's scope, which narrows the places.
fn atomic_writes(capabilities: &Capabilities) -> BoxedStrategy<Step> {
    let scope = capabilities.atomic_scope;
    vec(planned(capabilities), 1..6)
        .prop_map(move |mut mutations| {
            let first = mutations[0].place.clone();
            for planned in &mut mutations {
                match scope {
                    AtomicScope::Store => {}
                    AtomicScope::Collection => planned.place.slot = first.slot,
                    AtomicScope::Record => planned.place = first.clone(),
                }
            }
            Step::Write { atomic: true, mutations }
        })
        .boxed()
}

fn planned(capabilities: &Capabilities) -> BoxedStrategy<Planned> {
    let on = if capabilities.has(Feature::Preconditions) {
        prop_oneof![2 => Just(None), 1 => condition().prop_map(Some)].boxed()
    } else {
        Just(None).boxed()
    };
    (place(), on, change(capabilities)).prop_map(|(place, on, change)| Planned { place, on, change }).boxed()
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        3 => Just(Condition::Absent),
        3 => Just(Condition::Present),
        5 => Just(Condition::Version(Which::Latest)),
        2 => (0_usize..6).prop_map(|n| Condition::Version(Which::Earlier(n))),
        1 => place().prop_map(|other| Condition::Version(Which::OfAnother(other))),
        1 => Just(Condition::Version(Which::NeverGiven)),
    ]
}

fn expiry(capabilities: &Capabilities) -> BoxedStrategy<Option<Timestamp>> {
    if !capabilities.has(Feature::Expiry) {
        return Just(None).boxed();
    }
    let at = prop_oneof![
        6 => Just(None),
        3 => select(&FUTURE[..]).prop_map(Some),
        1 => Just(Some(PAST)),
    ];
    at.prop_map(|at| at.map(Timestamp::from_millis)).boxed()
}

fn change(capabilities: &Capabilities) -> BoxedStrategy<Change> {
    let expiry = || expiry(capabilities);
    let put =
        (value(capabilities), expiry()).prop_map(|(value, expires_at)| Change::Put { value, expires_at });
    let mut changes =
        vec![(8, put.boxed()), (3, Just(Change::Delete).boxed()), (1, Just(Change::Check).boxed())];
    if capabilities.has(Feature::Expiry) {
        changes.push((2, expiry().prop_map(|expires_at| Change::Touch { expires_at }).boxed()));
    }
    if capabilities.has(Feature::Counters) {
        let increment = (counters(), expiry());
        changes.push((
            3,
            increment.prop_map(|(fields, expires_at)| Change::Increment { fields, expires_at }).boxed(),
        ));
    }
    if capabilities.has(Feature::Lists) {
        let append = (vec(document().prop_map(Json::from), 1..6), expiry());
        changes
            .push((3, append.prop_map(|(items, expires_at)| Change::Append { items, expires_at }).boxed()));
    }
    Union::new_weighted(changes).boxed()
}

fn value(capabilities: &Capabilities) -> BoxedStrategy<Value> {
    let mut values = vec![(8, document().prop_map(|tree| Value::Json(Json::from(tree))).boxed())];
    if capabilities.has(Feature::Bytes) {
        let media_type = select(&[Blob::OCTET_STREAM, "text/plain; charset=utf-8"][..]);
        let blob = (vec(any::<u8>(), 0..6), media_type);
        values
            .push((1, blob.prop_map(|(data, of)| Value::Bytes(Blob::new(data).with_media_type(of))).boxed()));
    }
    if capabilities.has(Feature::Counters) {
        values.push((1, counters().prop_map(Value::Counters).boxed()));
    }
    Union::new_weighted(values).boxed()
}

fn counters() -> impl Strategy<Value = BTreeMap<SmolStr, i64>> {
    let name = prop_oneof![
        4 => select(&["a", "b"][..]).prop_map(str::to_owned),
        1 => text().prop_filter("not the name of a field", |name| !name.is_empty() && !name.contains('\0')),
    ];
    let number = prop_oneof![4 => -3_i64..5, 1 => select(&[i64::MAX, i64::MIN, 1 << 53][..])];
    btree_map(name.prop_map(SmolStr::from), number, 1..3)
}
