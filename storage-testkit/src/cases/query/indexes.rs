//! Secondary indexes: they come and go, change no result, and unique ones refuse.

use serde_json::json;
use storage_core::{
    AtomicScope, Backend, Batch, CollectionName, ErrorKind, Feature, IndexSpec, Mutation, Path, Precondition,
    Retry,
};

use super::Table;
use crate::Cx;
use crate::helpers::{address, expect_kind, get_json, ok, put, put_json, write_all, write_ok, write_one};

fn index(collection: &CollectionName, path: &str, unique: bool) -> IndexSpec {
    let path = Path::new(path).expect("the case's path");
    IndexSpec { unique, ..IndexSpec::new(collection.clone(), path) }
}

async fn listed(backend: &dyn Backend, collection: &CollectionName) -> Vec<(String, bool)> {
    let indexes = ok(backend.list_indexes(collection).await, "list_indexes");
    indexes
        .into_iter()
        .map(|index| {
            assert_eq!(index.collection, *collection, "the indexes of one collection");
            (index.path.to_string(), index.unique)
        })
        .collect()
}

/// Filters find the same with an index as without, before and after writes that the index must follow.
pub async fn indexed_and_unindexed_agree(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "a": {"v": 1, "s": "x"}, "b": {"v": 1.0}, "c": {"v": "1"}, "d": {"v": null}, "e": {}, "f": {"v": [1, "y"]},
            "g": {"v": {"k": 1}}, "h": {"v": true}, "i": {"v": [{"k": 1}, {"k": 2}]}, "j": {"v": "\u{10000}"},
            "k": {"v": 9_007_199_254_740_993_u64},
        }),
    )
    .await;
    let before = [
        (r#"{"v":1}"#, "a b f"),
        (r#"{"v":"1"}"#, "c"),
        (r#"{"v":null}"#, "d"),
        (r#"{"v":true}"#, "h"),
        (r#"{"v":{"$ne":1}}"#, "c d e g h i j k"),
        (r#"{"v":{"$gte":1}}"#, "a b f k"),
        (r#"{"v":9007199254740992}"#, ""),
        (r#"{"v":{"$gt":"1"}}"#, "f j"),
        (r#"{"v":{"$prefix":"y"}}"#, "f"),
        (r#"{"v":{"$in":[2,"1",null]}}"#, "c d"),
        (r#"{"v":{"$exists":false}}"#, "e"),
        (r#"{"v.k":1}"#, "g i"),
        (r#"{"v":{"k":1}}"#, "g i"),
        (r#"{"v":[1,"y"]}"#, "f"),
        (r#"{"v":1,"s":"x"}"#, "a"),
    ];
    table.finds(&before).await;
    for path in ["v", "v.k", "s", "never.there"] {
        assert!(ok(table.backend.ensure_index(&index(&table.collection, path, false)).await, "ensure_index"));
    }
    table.finds(&before).await;

    let (backend, collection) = (&*table.backend, &table.collection);
    put_json(backend, collection, "a", json!({"v": 2})).await;
    put_json(backend, collection, "new", json!({"v": [1, 2], "s": "x"})).await;
    write_ok(backend, Mutation::delete(address(collection, "b"))).await;
    put_json(backend, collection, "g", json!("no object")).await;
    table
        .finds(&[
            (r#"{"v":1}"#, "f new"),
            (r#"{"v":2}"#, "a new"),
            (r#"{"v":{"$exists":false}}"#, "e g"),
            (r#"{"v.k":1}"#, "i"),
            (r#"{"s":"x"}"#, "new"),
        ])
        .await;
    ok(backend.drop_index(collection, &"v".parse().expect("a path")).await, "drop_index");
    table.finds(&[(r#"{"v":1}"#, "f new"), (r#"{"v":2}"#, "a new")]).await;
}

/// An index is made once, listed by path, kept by `clear` and over closing, and dropped once.
pub async fn index_lifecycle(cx: Cx) {
    let (mut backend, collection, other) = (cx.open().await, cx.collection(), cx.collection());
    assert_eq!(listed(&*backend, &collection).await, [], "no index at first");
    put_json(&*backend, &collection, "a", json!({"n": 1})).await;
    for (path, new) in [("n", true), ("n", false), ("b.c", true), ("n", false)] {
        let made = ok(backend.ensure_index(&index(&collection, path, false)).await, "ensure_index");
        assert_eq!(made, new, "whether the index on {path} is new");
    }
    let both = [("b.c".to_owned(), false), ("n".to_owned(), false)];
    assert_eq!(listed(&*backend, &collection).await, both, "by path");
    assert_eq!(listed(&*backend, &other).await, [], "indexes belong to one collection");
    if cx.has(Feature::Clear) {
        ok(backend.clear(&collection).await, "clear");
        assert_eq!(listed(&*backend, &collection).await, both, "clearing keeps indexes");
    }
    if cx.fixture().persistent() {
        ok(backend.close().await, "close");
        backend = cx.open().await;
        assert_eq!(listed(&*backend, &collection).await, both, "closing keeps indexes");
    }
    let path: Path = "n".parse().expect("a path");
    for there in [true, false] {
        let dropped = ok(backend.drop_index(&collection, &path).await, "drop_index");
        assert_eq!(dropped, there, "whether there was an index to drop");
    }
    assert_eq!(listed(&*backend, &collection).await, both[..1], "the other index stays");
    let again = ok(backend.ensure_index(&index(&collection, "n", false)).await, "ensure_index");
    assert!(again, "a dropped index can be made again");
}

/// A unique index refuses a second record with the same scalar, whole and without a trace.
pub async fn unique_index_conflicts(cx: Cx) {
    let (backend, collection, other) = (cx.open().await, cx.collection(), cx.collection());
    let backend = &*backend;
    let unique = index(&collection, "u", true);
    let at = |key: &str| address(&collection, key);
    put_json(backend, &collection, "a", json!({"u": "x"})).await;
    put_json(backend, &collection, "b", json!({"u": "x"})).await;
    expect_kind(backend.ensure_index(&unique).await, ErrorKind::Conflict, "a unique index over duplicates");
    assert_eq!(listed(backend, &collection).await, [], "an index that failed is not there");

    put_json(backend, &collection, "b", json!({"u": "y"})).await;
    assert!(ok(backend.ensure_index(&unique).await, "ensure_index"), "now there are none");
    assert_eq!(listed(backend, &collection).await, [("u".to_owned(), true)]);

    let clash = write_one(backend, put(&collection, "c", json!({"u": "x"}))).await;
    let error = expect_kind(clash, ErrorKind::Conflict, "a second record with the same value");
    assert_eq!(error.retry(), Retry::Never, "repeating it does not help");
    assert_eq!(get_json(backend, &collection, "c").await, None, "the refused record is not there");
    let clash = write_one(backend, put(&collection, "b", json!({"u": "x", "n": 1}))).await;
    expect_kind(clash, ErrorKind::Conflict, "a change to a value that is taken");
    assert_eq!(get_json(backend, &collection, "b").await, Some(json!({"u": "y"})), "it keeps what it held");

    put_json(backend, &collection, "a", json!({"u": "x", "n": 2})).await;
    put_json(backend, &other, "a", json!({"u": "x"})).await;
    for key in ["none", "nor-this"] {
        put_json(backend, &collection, key, json!({"n": 1})).await;
    }
    put_json(backend, &collection, "one", json!({"u": 1})).await;
    put_json(backend, &collection, "text", json!({"u": "1"})).await;
    let clash = write_one(backend, put(&collection, "float", json!({"u": 1.0}))).await;
    expect_kind(clash, ErrorKind::Conflict, "an equal number spelt otherwise");
    put_json(backend, &collection, "null", json!({"u": null})).await;
    let clash = write_one(backend, put(&collection, "null-too", json!({"u": null}))).await;
    expect_kind(clash, ErrorKind::Conflict, "a second null");
    let plain = backend.ensure_index(&index(&collection, "u", false)).await;
    expect_kind(plain, ErrorKind::Conflict, "a plain index where a unique one is");

    let mixed = vec![
        put(&collection, "d", json!({"u": "d"})),
        put(&collection, "e", json!({"u": "x"})),
        put(&collection, "f", json!({"u": "f"})),
    ];
    let results = ok(backend.write(&Batch::independent(mixed.clone())).await, "an independent batch");
    let kinds: Vec<_> =
        results.iter().map(|result| result.as_ref().err().map(storage_core::Error::kind)).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::Conflict), None], "only the clash fails");

    write_all(backend, Batch::independent(vec![Mutation::delete(at("d")), Mutation::delete(at("f"))])).await;
    if cx.has(Feature::Atomic) && cx.capabilities().atomic_scope != AtomicScope::Record {
        let failed = backend.write(&Batch::atomic(mixed)).await;
        let error = expect_kind(failed, ErrorKind::Conflict, "an atomic batch with a clash");
        assert_eq!(error.failed_mutation(), Some(1), "the error says which: {error}");
        assert_eq!(get_json(backend, &collection, "d").await, None, "nothing of the batch is there");
    }

    write_ok(backend, Mutation::delete(at("a"))).await;
    put_json(backend, &collection, "c", json!({"u": "x"})).await;
    ok(backend.drop_index(&collection, &unique.path).await, "drop_index");
    put_json(backend, &collection, "free", json!({"u": "x"})).await;
}

/// Under a unique index the mutations of an independent batch give back and take values in their order, also where a backend
/// does them by kind, or several at once.
pub async fn unique_values_pass_in_order(cx: Cx) {
    const CONFLICT: Option<ErrorKind> = Some(ErrorKind::Conflict);

    let backend = &*cx.open().await;
    let numbered = |collection: &CollectionName, key: &str, n: i64| put(collection, key, json!({"u": n}));
    type Mutations = fn(&CollectionName, &dyn Fn(&CollectionName, &str, i64) -> Mutation) -> Vec<Mutation>;
    let batches: [(&str, Mutations, &[Option<ErrorKind>]); 8] = [
        (
            "put, given back and taken",
            |of, put| vec![put(of, "c", 3), Mutation::delete(address(of, "c")), put(of, "d", 3)],
            &[None, None, None],
        ),
        (
            "put twice, the first value taken",
            |of, put| vec![put(of, "c", 3), put(of, "c", 4), put(of, "d", 3)],
            &[None, None, None],
        ),
        (
            "put twice, the second value taken",
            |of, put| vec![put(of, "c", 3), put(of, "c", 4), put(of, "d", 4)],
            &[None, None, CONFLICT],
        ),
        (
            "given back by a delete",
            |of, put| vec![Mutation::delete(address(of, "a")), put(of, "d", 1)],
            &[None, None],
        ),
        (
            "not given back yet",
            |of, put| vec![put(of, "d", 1), Mutation::delete(address(of, "a")), put(of, "e", 1)],
            &[CONFLICT, None, None],
        ),
        (
            "wanted by two, one of them on a condition",
            |of, put| vec![put(of, "c", 3).on(Precondition::Absent), put(of, "d", 3), put(of, "e", 4)],
            &[None, CONFLICT, None],
        ),
        ("handed on", |of, put| vec![put(of, "a", 9), put(of, "b", 1), put(of, "c", 2)], &[None, None, None]),
        (
            "handed on the wrong way",
            |of, put| vec![put(of, "c", 2), put(of, "b", 1), put(of, "a", 9)],
            &[CONFLICT, CONFLICT, None],
        ),
    ];
    for (name, mutations, expected) in batches {
        let collection = cx.collection();
        ok(backend.ensure_index(&index(&collection, "u", true)).await, "ensure_index");
        write_all(
            backend,
            Batch::independent(vec![numbered(&collection, "a", 1), numbered(&collection, "b", 2)]),
        )
        .await;
        let batch = Batch::independent(mutations(&collection, &numbered));
        let results = ok(backend.write(&batch).await, "an independent batch");
        let kinds: Vec<_> =
            results.iter().map(|result| result.as_ref().err().map(storage_core::Error::kind)).collect();
        assert_eq!(kinds, expected, "{name}: {results:?}");
    }
}
