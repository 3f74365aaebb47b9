//! Queries against the reference: random and nasty ones, for backends whose database answers them.
//!
//! They take longer than the cases of the suite's group *query*. Each needs an empty store, and panics where the backend
//! differs from the reference.

mod arbitrary;
mod unique;

pub use unique::writes_are_refused_as_by_the_reference;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::json;
use storage_core::query::Selection;
use storage_core::{
    Address, Backend, Batch, CollectionName, Count, Direction, Filter, IndexSpec, Json, Mutation, Page, Path,
    Query, Record, Sort, Timestamp, Value, Version,
};

use self::arbitrary::Arbitrary;
use crate::helpers::{address, keys_of, numbered, ok, write_all};

const DOCUMENTS: usize = 100;

/// How many random queries to try, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Collections of 100 documents to try them on.
    pub rounds: usize,
    /// Paths on which the backend takes an index whatever the documents.
    pub indexable: fn(&Path) -> bool,
    /// Names of fields, spellings of numbers, and letters of long texts that are left out, since the server that is tested
    /// on is known to take them for others.
    pub without: &'static [&'static str],
}

impl Trial {
    /// With everything that is nasty.
    pub fn of(rounds: usize) -> Self {
        Self { rounds, indexable: |_| true, without: &[] }
    }
}

/// Random values, the same in each run.
fn generate<S: Strategy>(runner: &mut TestRunner, strategy: &S, n: usize) -> Vec<S::Value> {
    let mut one = || strategy.new_tree(runner).expect("a strategy that rejects little").current();
    (0..n).map(|_| one()).collect()
}

/// Random documents such as the queries here are tried on, the same in each run.
pub fn random_documents(n: usize) -> Vec<Json> {
    generate(&mut TestRunner::deterministic(), &Arbitrary::without(&[]).document(), n)
}

fn name(text: &str) -> CollectionName {
    CollectionName::new(text).expect("a name")
}

async fn put_all(backend: &dyn Backend, collection: &CollectionName, documents: &[(String, Json)]) {
    let puts = documents.iter().map(|(key, json)| Mutation::put(address(collection, key), json.clone()));
    write_all(backend, Batch::independent(puts.collect())).await;
}

async fn make_index(backend: &dyn Backend, collection: &CollectionName, path: Path) {
    ok(backend.ensure_index(&IndexSpec::new(collection.clone(), path)).await, "ensure_index");
}

fn documents(runner: &mut TestRunner, arbitrary: &Arbitrary) -> Vec<(String, Json)> {
    let documents = generate(runner, &arbitrary.document(), DOCUMENTS);
    // The order of keys is another than that of making them.
    documents.into_iter().enumerate().map(|(i, json)| (numbered(i * 37 % DOCUMENTS), json)).collect()
}

/// Thousands of random filters over random documents find what the reference says, with indexes and without.
pub async fn filters_mean_what_the_reference_says(backend: &dyn Backend, trial: Trial) {
    let arbitrary = Arbitrary::without(trial.without);
    let mut runner = TestRunner::deterministic();
    let (mut found, mut tried) = (0, 0);
    for round in 0..trial.rounds {
        let collection = name(&format!("c{round}"));
        let documents = documents(&mut runner, &arbitrary);
        put_all(backend, &collection, &documents).await;
        if round % 4 == 3 {
            for path in generate(&mut runner, &arbitrary.path(), 6).into_iter().filter(trial.indexable) {
                make_index(backend, &collection, path).await;
            }
        }
        let trees: Vec<_> =
            documents.iter().map(|(key, json)| (key, ok(json.tree(), "a document"))).collect();
        for filter in generate(&mut runner, &arbitrary.filter(), 150) {
            let query = Query { limit: 1_000, ..Query::new(collection.clone(), filter.clone()) };
            let page = ok(backend.query(&query).await, &filter.to_json().to_string());
            let keys = keys_of(&page.items);
            for (key, tree) in &trees {
                let (is, should) = (keys.contains(key), filter.matches(tree));
                assert_eq!(is, should, "whether the filter {} finds {tree}", filter.to_json());
            }
            let count = Count { collection: collection.clone(), filter: Some(filter) };
            assert_eq!(ok(backend.count(&count).await, "count"), keys.len() as u64);
            found += keys.len();
            tried += trees.len();
        }
    }
    assert!(found > tried / 10 && found < tried * 9 / 10, "{found} of {tried}: most filters tell nothing");
}

/// Pages in random orders are those of the reference, one by one, with indexes and without.
pub async fn orders_and_pages_are_those_of_the_reference(backend: &dyn Backend, trial: Trial) {
    let arbitrary = Arbitrary::without(trial.without);
    let mut runner = TestRunner::deterministic();
    for round in 0..trial.rounds {
        let collection = name(&format!("c{round}"));
        let documents = documents(&mut runner, &arbitrary);
        put_all(backend, &collection, &documents).await;
        let records = records(&collection, &documents);
        if round % 2 == 1 {
            let paths = generate(&mut runner, &arbitrary.path(), 4).into_iter().filter(trial.indexable);
            for path in paths.chain(["a", "b"].map(|path| path.parse().expect("a path"))) {
                make_index(backend, &collection, path).await;
            }
        }
        for (sort, filter) in generate(&mut runner, &(arbitrary.sort(), arbitrary.filter()), 40) {
            for (filter, limit) in [(Filter::all(), 9), (filter, 100)] {
                let query = Query { sort: sort.clone(), limit, ..Query::new(collection.clone(), filter) };
                pages(backend, query, &records).await;
            }
        }
    }
}

/// The documents as records, by key.
fn records(collection: &CollectionName, documents: &[(String, Json)]) -> Vec<Record> {
    let record = |(key, json): &(String, Json)| Record {
        address: address(collection, key),
        value: Value::Json(json.clone()),
        version: Version::from_sequence(0),
        created_at: Timestamp::from_millis(0),
        updated_at: Timestamp::from_millis(0),
        expires_at: None,
    };
    let mut records: Vec<Record> = documents.iter().map(record).collect();
    records.sort_by(|a, b| a.address.cmp(&b.address));
    records
}

/// Reads all pages; each is that of the reference.
async fn pages(backend: &dyn Backend, mut query: Query, records: &[Record]) {
    loop {
        let page = ok(backend.query(&query).await, "query");
        let expected = reference(&query, records);
        assert_eq!(keys_of(&page.items), keys_of(&expected.items), "a page of {query:?}");
        assert_eq!(page.next.is_some(), expected.next.is_some(), "whether more follow {query:?}");
        query.after = page.next;
        if query.after.is_none() {
            return;
        }
    }
}

fn reference(query: &Query, records: &[Record]) -> Page<Record> {
    let mut selection = ok(Selection::new(query), "a selection");
    for record in records {
        if !ok(selection.offer(record.clone()), "a record") {
            break;
        }
    }
    ok(selection.finish(), "a page")
}

/// Records of few values come by key within each, in both directions, however the pages fall, with an index.
pub async fn few_values_are_paged_by_key(backend: &dyn Backend) {
    let collection = name("few");
    let values = ["null", "false", "true", "0", "1", "1.0", "\"a\"", "\"b\"", "[1]", "{}", "{\"k\": 1}"];
    let document = |i: usize| match values.get(i % (values.len() + 1)) {
        Some(value) => format!(r#"{{"g": {value}, "one": 1}}"#),
        None => "{}".to_owned(),
    };
    let documents: Vec<_> =
        (0..70).map(|i| (numbered(i * 31 % 70), Json::parse(document(i)).expect("valid JSON"))).collect();
    put_all(backend, &collection, &documents).await;
    let records = records(&collection, &documents);
    for path in ["g", "one"] {
        make_index(backend, &collection, path.parse().expect("a path")).await;
    }
    for order in ["g", "g:desc", "one", "one:desc"] {
        for limit in [1, 3, 7, 100] {
            let sort = vec![order.parse().expect("a sort")];
            pages(backend, Query { sort, limit, ..Query::new(collection.clone(), Filter::all()) }, &records)
                .await;
        }
    }
}

/// Texts that are equal over more than an index has of them are told apart, and order by what follows.
pub async fn long_texts_compare_to_their_end(backend: &dyn Backend) {
    let collection = name("long");
    // The last of these are as long as what an index has, and a little shorter and longer.
    let texts: Vec<String> = ["", "a", "b", "ba", "é", "z", "\0"]
        .iter()
        .flat_map(|end| ["x", "é", "\u{1f600}"].map(|unit| format!("{}{end}", unit.repeat(256))))
        .chain([255, 256, 257, 300].map(|length| "y".repeat(length)))
        .collect();
    let documents: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| (numbered(i * 7 % texts.len()), Json::from(json!({"t": text, "l": [text]}))))
        .collect();
    put_all(backend, &collection, &documents).await;
    let mut sorted: Vec<&str> = texts.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    for indexed in [false, true] {
        if indexed {
            for path in ["t", "l"] {
                make_index(backend, &collection, path.parse().expect("a path")).await;
            }
        }
        for (order, expected) in
            [("t", sorted.clone()), ("t:desc", sorted.iter().rev().copied().collect::<Vec<_>>())]
        {
            for limit in [3, 100] {
                let sort = vec![order.parse().expect("a sort")];
                let mut query = Query { sort, limit, ..Query::new(collection.clone(), Filter::all()) };
                let mut found = Vec::new();
                loop {
                    let page = ok(backend.query(&query).await, "query");
                    let trees = page.items.iter().map(|item| item.value.as_json().expect("JSON").tree());
                    found.extend(
                        trees.map(|tree| tree.expect("a tree")["t"].as_str().expect("text").to_owned()),
                    );
                    query.after = page.next;
                    if query.after.is_none() {
                        break;
                    }
                }
                assert!(found == expected, "by {order} in pages of {limit}");
            }
        }
        for (path, text) in ["t", "l"].iter().flat_map(|path| texts.iter().map(move |text| (path, text))) {
            for (operator, holds) in [
                ("$eq", (|a, b| a == b) as fn(&str, &str) -> bool),
                ("$lt", |a, b| a < b),
                ("$lte", |a, b| a <= b),
                ("$gt", |a, b| a > b),
                ("$gte", |a, b| a >= b),
                ("$prefix", |a, b| a.starts_with(b)),
                ("$contains", |a, b| a.contains(b)),
            ] {
                let filter = Filter::try_from(json!({ *path: {operator: text} })).expect("a filter");
                let query = Query::new(collection.clone(), filter);
                let found = ok(backend.query(&query).await, "query").items.len();
                let expected = texts.iter().filter(|other| holds(other, text)).count();
                assert_eq!(found, expected, "{path} {operator} a text of {} bytes", text.len());
            }
        }
    }
}

/// What the path finds by name and by position comes once, in the order of the one value that is sorted by.
pub async fn lists_are_sorted_and_filtered_by_one_path(backend: &dyn Backend) {
    let collection = name("lists");
    let documents = [
        ("a", json!({"l": [5, 1]})),
        ("b", json!({"l": [2]})),
        ("c", json!({"l": {"0": 3}})),
        ("d", json!({"l": [{"0": 9}]})),
        ("e", json!({"l": []})),
        ("f", json!({"l": [[7]]})),
    ];
    let documents = documents.map(|(key, tree)| (key.to_owned(), Json::from(tree)));
    put_all(backend, &collection, &documents).await;
    for indexed in [false, true] {
        if indexed {
            make_index(backend, &collection, "l.0".parse().expect("a path")).await;
        }
        for (order, expected) in [("l.0", "b c a d f"), ("l.0:desc", "d f a c b")] {
            for limit in [1, 2, 100] {
                let filter = r#"{"l.0": {"$gt": 1}}"#.parse().expect("a filter");
                let sort = vec![order.parse().expect("a sort")];
                let mut query = Query { sort, limit, ..Query::new(collection.clone(), filter) };
                let mut found = Vec::new();
                loop {
                    let page = ok(backend.query(&query).await, "query");
                    found.extend(keys_of(&page.items));
                    query.after = page.next;
                    if query.after.is_none() {
                        break;
                    }
                }
                assert_eq!(found.join(" "), expected, "by {order} in pages of {limit}");
            }
        }
    }
}

/// Numbers that one record holds in a way that the database would read differently are found by their value.
pub async fn numbers_are_what_they_are_read_as(backend: &dyn Backend) {
    let collection = name("numbers");
    let spelt = [
        ("a", "1152921504606846976"),
        ("b", "1.152921504606847e18"),
        ("c", "1152921504606847000.0"),
        ("d", "1152921504606847000"),
        ("e", "0.1000000000000000055511151231257827"),
        ("f", "1e-400"),
        ("g", "123456789012345678901234567890"),
    ];
    let documents =
        spelt.map(|(key, number)| (key.to_owned(), Json::parse(format!("[{number}]")).expect("valid JSON")));
    put_all(backend, &collection, &documents).await;
    for (filter, expected) in [
        (r#"{"0": 1152921504606846976}"#, "a b c"),
        (r#"{"0": 1152921504606847000}"#, "d"),
        (r#"{"0": {"$gt": 1152921504606846976.0, "$lt": 2e18}}"#, "d"),
        (r#"{"0": 0.1}"#, "e"),
        (r#"{"0": 0}"#, "f"),
        (r#"{"0": 123456789012345678901234567891}"#, "g"),
    ] {
        let query = Query::new(collection.clone(), filter.parse().expect("a filter"));
        let page = ok(backend.query(&query).await, "query");
        assert_eq!(keys_of(&page.items).join(" "), expected, "{filter}");
    }
    let addresses: Vec<_> =
        documents.iter().map(|(key, _)| Address::new("numbers", key).expect("one")).collect();
    for (read, (_, sent)) in ok(backend.get(&addresses).await, "get").into_iter().zip(&documents) {
        let read = read.expect("a record").value;
        assert!(
            read.as_json() == Some(sent),
            "{} came back as {:?}",
            sent.as_str(),
            read.as_json().map(Json::as_str)
        );
    }
}

/// A page ends where it gets large, and the next goes on from there, in any order.
pub async fn pages_are_limited_in_bytes(backend: &dyn Backend) {
    let collection = name("large");
    // Text that the database does not compress by much.
    let mut state = 1_u64;
    let mut text = || -> String {
        let mut letter = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b' ' + (state >> 33) as u8 % 64 + 32)
        };
        (0..1_500_000).map(&mut letter).collect()
    };
    let documents: Vec<_> =
        (0..8).map(|i| (numbered(i), Json::from(json!({"n": 8 - i, "text": text()})))).collect();
    put_all(backend, &collection, &documents).await;
    for sort in [vec![], vec!["n".parse().expect("a sort")], vec!["text:desc".parse().expect("a sort")]] {
        let mut query = Query { sort, ..Query::new(collection.clone(), Filter::all()) };
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let page = ok(backend.query(&query).await, "query");
            assert!((1..=5).contains(&page.items.len()), "{} records on a page", page.items.len());
            found.extend(keys_of(&page.items));
            pages += 1;
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        assert!(pages > 1, "one page has it all");
        found.sort();
        assert_eq!(found, (0..8).map(numbered).collect::<Vec<_>>());
    }
}

/// A path of many positions and a filter of many parts are answered.
pub async fn deep_and_wide_filters_are_answered(backend: &dyn Backend) {
    let collection = name("deep");
    let nested = format!("{}7{}", "[".repeat(32), "]".repeat(32));
    put_all(backend, &collection, &[("k".to_owned(), Json::parse(nested).expect("valid JSON"))]).await;
    let path: Path = vec!["0"; 32].join(".").parse().expect("a path");
    let find = async |filter: Filter, what: &str| {
        let sort = vec![Sort { path: path.clone(), direction: Direction::Desc }];
        let query = Query { sort, ..Query::new(collection.clone(), filter) };
        ok(backend.query(&query).await, what).items.len()
    };
    assert_eq!(find(Filter::eq(path.clone(), 7), "a deep path").await, 1);
    assert_eq!(find(Filter::eq(path.clone(), 8), "a deep path").await, 0);
    let wide = Filter::Or((0..500).map(|i| Filter::eq("x".parse().expect("a path"), i)).collect());
    assert_eq!(find(wide, "a wide filter").await, 0);
    let list = json!({"0": {"$in": (0..50_000).collect::<Vec<i32>>()}});
    assert_eq!(find(Filter::try_from(list).expect("a filter"), "a long list").await, 0);
    let inward = (0..100).fold(Filter::eq(path.clone(), 7), |inner, _| Filter::Not(Box::new(inner)));
    assert_eq!(find(inward, "a hundred negations").await, 1);
}
