//! Filters, orders and pages.

use mongodb::bson::doc;
use serde_json::json;
use storage_core::{Count, ErrorKind, Filter, HealthStatus, Json, Mutation, Query, Test};
use storage_testkit::helpers::{address, expect_kind, keys_of, ok, put_json, write_ok};
use storage_testkit::queries;

use crate::{Own, name, trial};

/// Thousands of random filters over random documents find what the reference says, with indexes and without.
#[tokio::test(flavor = "multi_thread")]
async fn filters_mean_what_the_reference_says() {
    queries::filters_mean_what_the_reference_says(&*Own::open().await.backend, trial(4)).await;
}

/// Pages in random orders are those of the reference, one by one, with indexes and without.
#[tokio::test(flavor = "multi_thread")]
async fn orders_and_pages_are_those_of_the_reference() {
    queries::orders_and_pages_are_those_of_the_reference(&*Own::open().await.backend, trial(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn few_values_are_paged_by_key() {
    queries::few_values_are_paged_by_key(&*Own::open().await.backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_texts_compare_to_their_end() {
    queries::long_texts_compare_to_their_end(&*Own::open().await.backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_sorted_and_filtered_by_one_path() {
    queries::lists_are_sorted_and_filtered_by_one_path(&*Own::open().await.backend).await;
}

/// Numbers of which BSON has not all digits are found by their value, and come back with all digits.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_what_they_are_read_as() {
    queries::numbers_are_what_they_are_read_as(&*Own::open().await.backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_limited_in_bytes() {
    queries::pages_are_limited_in_bytes(&*Own::open().await.backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_wide_filters_are_answered() {
    queries::deep_and_wide_filters_are_answered(&*Own::open().await.backend).await;
}

/// Values, keys and names that look like MongoDB's operators, variables and paths are what they are.
#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_an_operator_is_a_value() {
    let own = Own::open().await;
    let (backend, collection) = (&*own.backend, name("injected"));
    for (key, document) in [
        ("plain", json!({"a": "x", "n": 1})),
        ("gt", json!({"a": {"$gt": ""}})),
        ("where", json!({"a": {"$where": "true"}, "$b": {"$c": 1}})),
        ("regex", json!({"a": ".*", "l": [{"$gt": ""}, "^"]})),
        ("dotted", json!({"a.b": 1, "a": {"b.c": 2, "": 3}, "%": "%2E"})),
        ("variable", json!({"a": "$$ROOT", "n": "$n"})),
    ] {
        put_json(backend, &collection, key, document).await;
    }
    for (filter, expected) in [
        (json!({"a": {"$eq": {"$gt": ""}}}), "gt"),
        (json!({"a": {"$in": [{"$gt": ""}, {"$where": "true"}]}}), "gt where"),
        (json!({"a": {"$nin": [{"$gt": ""}, {"$where": "true"}]}}), "dotted plain regex variable"),
        (json!({"a": {"$prefix": ".*"}}), "regex"),
        (json!({"a": {"$contains": "$"}}), "variable"),
        (json!({"l": {"$eq": {"$gt": ""}}}), "regex"),
        (json!({"l": "^"}), "regex"),
        (json!({"n": "$n"}), "variable"),
        (json!({"%": "%2E"}), "dotted"),
        (json!({"a.b": {"$exists": true}}), ""),
        (json!({"a": {"$eq": {"b.c": 2, "": 3}}}), "dotted"),
    ] {
        let filter = Filter::try_from(filter).expect("a filter");
        let found = ok(backend.query(&Query::new(collection.clone(), filter.clone())).await, "query");
        assert_eq!(keys_of(&found.items).join(" "), expected, "{}", filter.to_json());
    }
    let operator = Filter::eq("$b.$c".parse().expect("a path"), 1);
    let sort = vec!["$b.$c:desc".parse().expect("a sort")];
    let query = Query { sort, ..Query::new(collection.clone(), operator) };
    assert_eq!(keys_of(&ok(backend.query(&query).await, "query").items), ["where"]);
}

/// A filter that no command has room for, and a text that no regular expression has, are refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_a_command_is_refused() {
    let own = Own::open().await;
    let query = |filter: Filter| Query::new(name("c"), filter);
    let path = || "x".parse().expect("a path");
    let texts: Vec<_> = (0..20).map(|i| json!("x".repeat(1_000_000 + i))).collect();
    for filter in [
        Filter::Field(path(), Test::In(texts)),
        Filter::Field(path(), Test::Contains("(".repeat(20_000))),
        Filter::Field(path(), Test::Prefix("x".repeat(40_000))),
    ] {
        expect_kind(own.backend.query(&query(filter)).await, ErrorKind::TooLarge, "a filter too large");
    }
    assert_eq!(ok(own.backend.health().await, "health").status, HealthStatus::Up);
}

/// Records of other kinds match no filter, and what another program adds to a record does no harm.
#[tokio::test(flavor = "multi_thread")]
async fn only_json_matches() {
    let own = Own::open().await;
    let (backend, collection) = (&*own.backend, name("kinds"));
    put_json(backend, &collection, "json", json!({"n": 1})).await;
    put_json(backend, &collection, "null", json!(null)).await;
    write_ok(backend, Mutation::increment(address(&collection, "counters"), "n", 1)).await;
    write_ok(backend, Mutation::append(address(&collection, "list"), vec![Json::from(json!({"n": 1}))]))
        .await;
    let beside = own.beside("kinds").await;
    let extra = doc! {"$set": {"n": 1, "sort0": 7, "tags": ["x"]}};
    beside.update_many(doc! {}, extra).await.expect("fields of another program");
    for (filter, expected) in [("{}", "json null"), (r#"{"n": 1}"#, "json"), (r#"{"n": {"$ne": 1}}"#, "null")]
    {
        for sort in [vec![], vec!["n:desc".parse().expect("a sort")]] {
            let filter: Filter = filter.parse().expect("a filter");
            let query = Query { sort, ..Query::new(collection.clone(), filter.clone()) };
            assert_eq!(keys_of(&ok(backend.query(&query).await, "query").items).join(" "), expected);
            let count = Count { collection: collection.clone(), filter: Some(filter) };
            assert_eq!(ok(backend.count(&count).await, "count"), expected.split(' ').count() as u64);
        }
    }
    let count = Count { collection: collection.clone(), filter: None };
    assert_eq!(ok(backend.count(&count).await, "count"), 4);
}
