//! Order, limits and paging.

use std::collections::BTreeMap;

use serde_json::json;
use storage_core::{Count, ErrorKind, Feature, Mutation, Query};

use super::Table;
use crate::Cx;
use crate::helpers::{address, expect_kind, keys_of, numbered, ok, put_json, query_all, sorted, write_ok};

/// Missing, null, booleans, numbers, strings, the rest; ties by key, whatever the direction.
pub async fn sort_asc_desc(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "a": {"g": 1, "n": 2}, "b": {"g": 1, "n": 10}, "c": {"g": 2, "n": 1}, "d": {"g": 2},
            "e": {"g": "x", "n": -1}, "f": {"n": 5, "l": [3]}, "h": {"g": 2.0, "n": 1.5, "l": [1, 9]},
            "i": {"g": [0], "n": 9_007_199_254_740_993_u64, "l": {"0": 2}},
            "j": {"g": {"a": 1}, "n": 9_007_199_254_740_992_u64}, "k": {"g": true, "n": 1e300},
            "m": {"g": false, "n": u64::MAX}, "z": {"g": null, "n": i64::MIN},
        }),
    )
    .await;
    table
        .orders(&[
            ("n", "d z e c h a f b j i m k"),
            ("n:desc", "k m i j b f a h c e z d"),
            ("g", "f z m k a b c d h e i j"),
            ("g:desc", "i j e c d h a b k m z f"),
            ("g n:desc", "f z m k b a h c d e i j"),
            ("g:desc n", "j i e d c h a b k m z f"),
            ("l.0", "a b c d e j k m z h i f"),
            ("nowhere:desc", "a b c d e f h i j k m z"),
        ])
        .await;
}

/// Records of equal sort keys come by key, each once, however the pages fall.
pub async fn sort_ties_stable_over_pages(cx: Cx) {
    let (backend, collection) = (cx.open().await, cx.collection());
    let mut groups: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for i in 0..25 {
        put_json(&*backend, &collection, &numbered(i), json!({"g": i % 3})).await;
        groups.entry(i % 3).or_default().push(numbered(i));
    }
    let ascending: Vec<String> = groups.values().flatten().cloned().collect();
    let descending: Vec<String> = groups.values().rev().flatten().cloned().collect();
    for (order, expected) in [("g:asc", ascending), ("g:desc", descending)] {
        for limit in [1, 4, 8, 25] {
            let mut query = Query::new(collection.clone(), storage_core::Filter::all());
            query.sort = vec![order.parse().expect("a sort")];
            query.limit = limit;
            let found = keys_of(&query_all(&*backend, query).await);
            assert_eq!(found, expected, "sorted by {order} in pages of {limit}");
        }
    }
}

/// A page has at least one record and at most the backend's limit, and its cursor continues only its query.
pub async fn limit_edges(cx: Cx) {
    let table = Table::new(&cx, json!({"a": {"v": 1}, "b": {"v": 1}, "c": {"v": 1}, "d": {"v": 2}})).await;
    let most = cx.limits().page_len;
    for limit in [1, 2, 3, 4, most] {
        assert_eq!(table.keys(r#"{"v":1}"#, limit).await, ["a", "b", "c"], "in pages of {limit}");
    }
    let none = Query { limit: 0, ..table.query("{}") };
    expect_kind(table.backend.query(&none).await, ErrorKind::InvalidInput, "a page of no records");
    if let Some(limit) = most.checked_add(1) {
        let query = Query { limit, ..table.query("{}") };
        let error =
            expect_kind(table.backend.query(&query).await, ErrorKind::TooLarge, "a page beyond the limit");
        assert!(error.message().contains(&most.to_string()), "the error names the limit {most}: {error}");
    }
    let (first, other) = (Query { limit: 1, ..table.query("{}") }, table.query(r#"{"v":1}"#));
    let cursor = ok(table.backend.query(&first).await, "the first page").next.expect("three more follow");
    let foreign = table.backend.query(&Query { after: Some(cursor), ..other }).await;
    expect_kind(foreign, ErrorKind::InvalidInput, "a cursor of another query");
}

/// Paging finds each record that stays put exactly once, while others come, change and go.
pub async fn paging_exactly_once(cx: Cx) {
    let mut orders = vec![Vec::new()];
    if cx.has(Feature::Sort) {
        orders.extend([vec!["n:asc".parse().expect("a sort")], vec!["n:desc".parse().expect("a sort")]]);
    }
    let backend = cx.open().await;
    for sort in orders {
        let collection = cx.collection();
        for i in 0..60 {
            put_json(&*backend, &collection, &numbered(2 * i), json!({"n": i % 7, "match": i % 3 != 0}))
                .await;
        }
        let stable: Vec<String> = (0..60).filter(|i| i % 3 != 0).map(|i| numbered(2 * i)).collect();
        let filter = storage_core::Filter::eq("match".parse().expect("a path"), true);
        let mut query = Query { sort, limit: 7, ..Query::new(collection.clone(), filter) };
        let mut found = Vec::new();
        for page_number in 0.. {
            assert!(page_number < 1_000, "the query does not end");
            let page = ok(backend.query(&query).await, "query");
            found.extend(keys_of(&page.items));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
            // New matches between those that are there, and again gone; and a change of one without a match.
            let unstable = numbered(2 * (page_number * 5 % 60) + 1);
            put_json(&*backend, &collection, &unstable, json!({"n": page_number % 7, "match": true})).await;
            put_json(&*backend, &collection, &numbered(0), json!({"n": page_number, "match": false})).await;
            if page_number % 2 == 1 {
                write_ok(&*backend, Mutation::delete(address(&collection, &unstable))).await;
            }
        }
        found.retain(|key| stable.contains(key));
        assert_eq!(sorted(found), stable, "sorted by {:?}", query.sort);
    }
}

/// A count with a filter is the number of records that the query finds; one without is of all kinds.
pub async fn count_agrees_with_query(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({"a": {"v": 1}, "b": {"v": 1, "w": null}, "c": {"v": [1, 2]}, "d": {"v": "1"}, "e": 1}),
    )
    .await;
    let count = async |filter: Option<&str>| {
        let filter = filter.map(|filter| filter.parse().expect("the case's filter"));
        let count = Count { collection: table.collection.clone(), filter };
        ok(table.backend.count(&count).await, "count")
    };
    for (filter, expected) in [
        ("{}", 5),
        (r#"{"v":1}"#, 3),
        (r#"{"v":{"$ne":1}}"#, 2),
        (r#"{"v":{"$exists":true}}"#, 4),
        (r#"{"w":null}"#, 1),
        (r#"{"$or":[]}"#, 0),
        (r#"{"v":{"$prefix":""}}"#, 1),
    ] {
        assert_eq!(count(Some(filter)).await, expected, "the count of {filter}");
        assert_eq!(table.keys(filter, 100).await.len() as u64, expected, "what {filter} finds");
    }
    let mut all = 5;
    if cx.has(Feature::Counters) {
        let counters = address(&table.collection, "counters");
        write_ok(&*table.backend, Mutation::increment(counters, "v", 1)).await;
        all += 1;
    }
    assert_eq!(count(None).await, all, "records of every kind count");
    assert_eq!(count(Some("{}")).await, 5, "a filter finds only JSON");
    write_ok(&*table.backend, Mutation::delete(address(&table.collection, "a"))).await;
    assert_eq!((count(None).await, count(Some(r#"{"v":1}"#)).await), (all - 1, 2), "after a delete");
}
