//! Group *lists*: items in the order in which they were appended.

use std::collections::BTreeMap;

use serde_json::{Value as Tree, json};
use storage_core::{
    Address, Backend, Effect, ErrorKind, Feature, Json, ListItems, ListRange, Mutation, Precondition, Value,
};

use crate::Cx;
use crate::helpers::{address, expect_kind, get_one, get_record, ok, put_json, write_ok, write_one};

fn append(address: &Address, items: impl IntoIterator<Item = Tree>) -> Mutation {
    Mutation::append(address.clone(), items.into_iter().map(Json::from).collect())
}

/// Appends, and returns the new length.
async fn add(backend: &dyn Backend, address: &Address, items: impl IntoIterator<Item = Tree>) -> u64 {
    match write_ok(backend, append(address, items)).await.effect {
        Effect::Length(length) => length,
        other => panic!("an append returned {other:?} instead of the new length"),
    }
}

async fn part(backend: &dyn Backend, address: &Address, start: u64, limit: u32) -> Option<ListItems> {
    let range = ListRange { address: address.clone(), start, limit };
    let part = ok(backend.list_range(&range).await, "list_range");
    if let Some(part) = &part {
        assert!(part.items.len() <= limit as usize, "{} items: the limit was {limit}", part.items.len());
        let begun = start.saturating_add(part.items.len() as u64);
        assert!(!part.items.is_empty() || begun >= part.length, "no items at {start} of {}", part.length);
    }
    part
}

/// The items of a range, in as many parts as the backend needs, and the length of the list.
async fn range(backend: &dyn Backend, address: &Address, start: u64, limit: u32) -> (Vec<Tree>, u64) {
    let mut items = Vec::new();
    loop {
        let from = start.saturating_add(items.len() as u64);
        let part = part(backend, address, from, limit - items.len() as u32).await;
        let part = part.unwrap_or_else(|| panic!("there is no list {address}"));
        let more = part.items.iter().map(|item| ok(item.tree(), "a stored item"));
        items.extend(more.collect::<Vec<_>>());
        if items.len() == limit as usize || start.saturating_add(items.len() as u64) >= part.length {
            return (items, part.length);
        }
    }
}

/// The first append makes the list, and returns its length as each after it does.
pub async fn append_creates(cx: Cx) {
    let (backend, at) = (cx.open().await, address(&cx.collection(), "l"));
    assert_eq!(part(&*backend, &at, 0, 10).await, None, "there is no list yet");
    let first = write_ok(&*backend, append(&at, [json!("a"), json!("b")])).await;
    assert_eq!(first.effect, Effect::Length(2));
    let record = get_record(&*backend, &at.collection, "l").await;
    assert_eq!(record.value, Value::List { length: 2 }, "the record carries the length");
    assert_eq!(Some(&record.version), first.version.as_ref());
    let second = write_ok(&*backend, append(&at, [json!("c")])).await;
    assert_eq!(second.effect, Effect::Length(3));
    assert_ne!(second.version, first.version, "an append gives the record a new version");
    if cx.has(Feature::Preconditions) {
        let stale = append(&at, [json!("d")]).on(Precondition::Version(record.version));
        expect_kind(write_one(&*backend, stale).await, ErrorKind::PreconditionFailed, "a stale append");
    }
    expect_kind(write_one(&*backend, append(&at, [])).await, ErrorKind::InvalidInput, "an append of nothing");
    let whole = Mutation::put(at.clone(), Value::List { length: 3 });
    expect_kind(write_one(&*backend, whole).await, ErrorKind::InvalidInput, "a put of a list");
    assert_eq!(range(&*backend, &at, 0, 10).await, (vec![json!("a"), json!("b"), json!("c")], 3));
}

/// Items keep their order and read back as they were, of every JSON type, equal ones included.
pub async fn order_kept(cx: Cx) {
    let (backend, at) = (cx.open().await, address(&cx.collection(), "l"));
    let items = [
        json!(3),
        json!(1),
        json!(2),
        json!(1),
        json!(null),
        json!(""),
        json!("é\u{0}😀"),
        json!([]),
        json!({}),
        json!({"b": [1, {"a": false}]}),
        json!(0.1),
        json!(u64::MAX),
        json!(i64::MIN),
        json!("3"),
        json!(true),
    ];
    for (i, pair) in items.chunks(2).enumerate() {
        assert_eq!(add(&*backend, &at, pair.iter().cloned()).await, (2 * i + pair.len()) as u64);
    }
    assert_eq!(range(&*backend, &at, 0, 100).await, (items.to_vec(), items.len() as u64));
}

/// A range begins at its start and has at most as many items as it asks for.
pub async fn range_start_count(cx: Cx) {
    let (backend, at) = (cx.open().await, address(&cx.collection(), "l"));
    add(&*backend, &at, (0..10).map(Tree::from)).await;
    for (start, limit, expected) in [
        (0, 1, 0..1),
        (0, 10, 0..10),
        (3, 4, 3..7),
        (9, 1, 9..10),
        (8, 5, 8..10),
        (0, 1_000, 0..10),
        (5, 5, 5..10),
    ] {
        let items: Vec<Tree> = expected.map(Tree::from).collect();
        assert_eq!(range(&*backend, &at, start, limit).await, (items, 10), "{limit} items from {start}");
    }
    let none = ListRange { address: at, start: 0, limit: 0 };
    expect_kind(backend.list_range(&none).await, ErrorKind::InvalidInput, "a range of no items");
}

/// A start at the end or past it, however far, gives no items and the length.
pub async fn range_past_end(cx: Cx) {
    let (backend, at) = (cx.open().await, address(&cx.collection(), "l"));
    add(&*backend, &at, (0..3).map(Tree::from)).await;
    for start in [3, 4, 1 << 31, u64::from(u32::MAX), 1 << 53, i64::MAX as u64, u64::MAX] {
        let past = part(&*backend, &at, start, 10).await;
        assert_eq!(past, Some(ListItems { items: Vec::new(), length: 3 }), "from {start}");
    }
}

/// Appends by many at once are all there, the items of each call together and of each writer in order.
pub async fn concurrent_append_no_loss(cx: Cx) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 20;
    let (backend, at) = (cx.open().await, address(&cx.collection(), "l"));
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (backend, at) = (backend.clone(), at.clone());
        tasks.push(tokio::spawn(async move {
            for i in 0..EACH {
                add(&*backend, &at, [json!([writer, i, "first"]), json!([writer, i, "second"])]).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("a writer");
    }
    let (items, length) = range(&*backend, &at, 0, 1_000).await;
    assert_eq!(
        (items.len() as u64, length),
        (WRITERS * EACH * 2, WRITERS * EACH * 2),
        "nothing is lost or double"
    );
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for pair in items.chunks(2) {
        let writer = pair[0][0].as_u64().expect("an item of a writer");
        let turn = next.entry(writer).or_default();
        let expected = [json!([writer, *turn, "first"]), json!([writer, *turn, "second"])];
        assert_eq!(pair, expected, "the items of a call are together, the calls of a writer in order");
        *turn += 1;
    }
}

/// A long list is read in parts, each item once and in order.
pub async fn large_list_pages(cx: Cx) {
    const ITEMS: u64 = 5_000;
    let (backend, at) = (cx.open().await, address(&cx.collection(), "l"));
    for first in (0..ITEMS).step_by(500) {
        add(&*backend, &at, (first..first + 500).map(|i| json!({"i": i, "text": "x".repeat(200)}))).await;
    }
    let page = cx.limits().page_len.min(700);
    let mut read = 0;
    while read < ITEMS {
        let part = part(&*backend, &at, read, page).await.expect("the list is there");
        assert_eq!(part.length, ITEMS);
        for item in &part.items {
            assert_eq!(ok(item.tree(), "a stored item")["i"], json!(read), "item {read}");
            read += 1;
        }
    }
    assert_eq!(get_record(&*backend, &at.collection, "l").await.value, Value::List { length: ITEMS });
}

/// A deleted or overwritten list leaves nothing behind: the next one begins empty.
pub async fn clear_list(cx: Cx) {
    let (backend, collection) = (cx.open().await, cx.collection());
    let at = address(&collection, "l");
    add(&*backend, &at, [json!(1), json!(2)]).await;
    write_ok(&*backend, Mutation::delete(at.clone())).await;
    assert_eq!(part(&*backend, &at, 0, 10).await, None, "a deleted list is gone");
    assert_eq!(get_one(&*backend, &collection, "l").await, None);
    assert_eq!(add(&*backend, &at, [json!("new")]).await, 1, "after a delete");
    put_json(&*backend, &collection, "l", json!("no list")).await;
    write_ok(&*backend, Mutation::delete(at.clone())).await;
    assert_eq!(add(&*backend, &at, [json!("newer")]).await, 1, "after a put and a delete");
    if cx.has(Feature::Clear) {
        ok(backend.clear(&collection).await, "clear");
        assert_eq!(part(&*backend, &at, 0, 10).await, None, "cleared with its collection");
        assert_eq!(add(&*backend, &at, [json!("newest")]).await, 1, "after the collection was cleared");
    }
    let (items, length) = range(&*backend, &at, 0, 10).await;
    assert_eq!((items.len(), length), (1, 1));
}

/// Only lists can be appended to and read by range; a record of another kind stays what it is.
pub async fn on_json_value_is_type_error(cx: Cx) {
    let (backend, collection) = (cx.open().await, cx.collection());
    let mut keys = vec!["json", "array"];
    put_json(&*backend, &collection, "json", json!({"a": 1})).await;
    put_json(&*backend, &collection, "array", json!([1, 2])).await;
    if cx.has(Feature::Bytes) {
        write_ok(&*backend, Mutation::put(address(&collection, "bytes"), Value::bytes(&b"[]"[..]))).await;
        keys.push("bytes");
    }
    if cx.has(Feature::Counters) {
        write_ok(&*backend, Mutation::increment(address(&collection, "counters"), "n", 1)).await;
        keys.push("counters");
    }
    for key in keys {
        let before = get_record(&*backend, &collection, key).await;
        let at = address(&collection, key);
        let refused = write_one(&*backend, append(&at, [json!(1)])).await;
        expect_kind(refused, ErrorKind::TypeMismatch, &format!("an append to {key}"));
        let refused = backend.list_range(&ListRange { address: at, start: 0, limit: 1 }).await;
        expect_kind(refused, ErrorKind::TypeMismatch, &format!("a range of {key}"));
        assert_eq!(get_record(&*backend, &collection, key).await, before);
    }
}
