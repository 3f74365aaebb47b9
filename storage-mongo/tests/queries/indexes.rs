//! How indexes are made and dropped, and what unique ones refuse.

use mongodb::IndexModel;
use mongodb::bson::doc;
use mongodb::options::IndexOptions;
use serde_json::json;
use storage_core::{ErrorKind, Filter, IndexSpec, Json, Mutation, Path, Query, Retry, Timestamp};
use storage_testkit::helpers::{
    address, expect_kind, in_millis, keys_of, ok, pass, put, put_json, write_one,
};
use storage_testkit::queries;

use crate::{Own, name, rounds};

fn index(path: &str) -> IndexSpec {
    IndexSpec::new(name("users"), Path::new(path).expect("a path"))
}

fn unique(path: &str) -> IndexSpec {
    IndexSpec { unique: true, ..index(path) }
}

/// Random writes are taken and refused as by the reference, whatever the indexes.
#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_as_by_the_reference() {
    queries::writes_are_refused_as_by_the_reference(&*Own::open().await.backend, rounds(8)).await;
}

/// Names and paths that need care, and long ones, make indexes of their own. Those that others made are left alone.
#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_are_indexed() {
    let own = Own::open().await;
    let collection = name("users");
    let long = "x".repeat(300);
    let paths = [
        "it's",
        "a\"b",
        "back\\slash",
        "$",
        "é.ü",
        "%s",
        "a b",
        &long,
        "l.0",
        "--",
        "*/",
        "expires_at",
        "_id",
    ];
    for path in paths {
        assert!(ok(own.backend.ensure_index(&index(path)).await, path), "{path}");
        assert!(ok(own.backend.ensure_index(&unique(&format!("u.{path}"))).await, path), "{path}");
        put_json(&*own.backend, &collection, "k", json!({ path: {"ü": 1} })).await;
    }
    let beside = own.beside("users").await;
    for (keys, name) in
        [(doc! {"json.own": 1}, "storage_own"), (doc! {"json.a": 1, "json.b": 1}, "storage_json.a")]
    {
        let options = IndexOptions::builder().name(name.to_owned()).build();
        let theirs = IndexModel::builder().keys(keys).options(options).build();
        beside.create_index(theirs).await.expect("an index of another program");
    }
    let mut expected: Vec<(String, bool)> =
        paths.iter().flat_map(|path| [((*path).to_owned(), false), (format!("u.{path}"), true)]).collect();
    expected.sort();
    let listed = ok(own.backend.list_indexes(&collection).await, "list_indexes");
    let listed: Vec<_> = listed.iter().map(|index| (index.path.to_string(), index.unique)).collect();
    assert_eq!(listed, expected);
    for path in paths {
        assert!(ok(own.backend.drop_index(&collection, &index(path).path).await, "drop_index"), "{path}");
    }
    let left = beside.list_index_names().await.expect("the names of indexes");
    assert!(left.iter().any(|name| name == "storage_own"), "{left:?}");
}

/// Values of any length are indexed, and found exactly.
#[tokio::test(flavor = "multi_thread")]
async fn long_values_do_not_break_an_index() {
    let own = Own::open().await;
    let collection = name("users");
    let long = |end: &str| format!("{}{end}", "é".repeat(200_000));
    for spec in [index("v"), unique("v")] {
        ok(own.backend.ensure_index(&spec).await, "ensure_index");
        for (key, end) in [("a", "x"), ("b", "y"), ("c", "")] {
            put_json(&*own.backend, &collection, key, json!({"v": long(end)})).await;
        }
        let query = Query::new(collection.clone(), Filter::eq(spec.path.clone(), long("y")));
        assert_eq!(keys_of(&ok(own.backend.query(&query).await, "query").items), ["b"]);
        ok(own.backend.drop_index(&collection, &spec.path).await, "drop_index");
    }
}

/// Lists without items and objects are no values that could be there twice, as everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_scalar_is_not_unique() {
    let own = Own::open().await;
    let collection = name("users");
    ok(own.backend.ensure_index(&unique("v")).await, "ensure_index");
    let values = [json!([]), json!({}), json!({"k": 1}), json!([[1]]), json!([{"k": 1}])];
    for (position, value) in values.iter().enumerate() {
        for copy in ["a", "b"] {
            put_json(&*own.backend, &collection, &format!("{position}{copy}"), json!({"v": value})).await;
        }
    }
    put_json(&*own.backend, &collection, "list", json!({"v": ["x", "y", "x"]})).await;
    let again = write_one(&*own.backend, put(&collection, "text", json!({"v": "y"}))).await;
    let error = expect_kind(again, ErrorKind::Conflict, "a value of another's list");
    assert_eq!(error.retry(), Retry::Never);
}

/// What has expired holds nothing, even before it is swept.
#[tokio::test(flavor = "multi_thread")]
async fn expired_records_hold_nothing() {
    let own = Own::open().await;
    let (backend, collection) = (&*own.backend, name("users"));
    let put = |key: &str| Mutation::put(address(&collection, key), Json::from(json!({"u": 1})));
    // First they live for long, so that a slow machine does not find them expired too early.
    let live_until = async |keys: &[&str], at: Timestamp| {
        for key in keys {
            ok(write_one(backend, put(key).expiring(Some(at))).await, "a put");
        }
    };
    live_until(&["a", "b"], in_millis(600_000)).await;
    let early = backend.ensure_index(&unique("u")).await;
    expect_kind(early, ErrorKind::Conflict, "two hold the same still");
    let soon = in_millis(2_000);
    live_until(&["a", "b"], soon).await;
    pass(soon).await;
    assert!(ok(backend.ensure_index(&unique("u")).await, "ensure_index"), "once both have expired");

    live_until(&["c"], in_millis(600_000)).await;
    expect_kind(write_one(backend, put("d")).await, ErrorKind::Conflict, "it is held still");
    let soon = in_millis(2_000);
    live_until(&["c"], soon).await;
    pass(soon).await;
    ok(write_one(backend, put("d")).await, "once the holder has expired");
}

/// An index that several clients ask for at once is made once, and one of the other kind is refused whoever comes first.
#[tokio::test(flavor = "multi_thread")]
async fn clients_agree_on_an_index() {
    let own = Own::open().await;
    for i in 0..200 {
        put_json(&*own.backend, &name("users"), &format!("k{i}"), json!({"email": i})).await;
    }
    let asking: Vec<_> = (0..8)
        .map(|client| {
            let backend = own.backend.clone();
            tokio::spawn(async move {
                let spec = if client % 2 == 0 { index("email") } else { unique("email") };
                (spec.unique, backend.ensure_index(&spec).await)
            })
        })
        .collect();
    let (mut made, mut refused) = (Vec::new(), Vec::new());
    for asked in asking {
        match asked.await.expect("a task") {
            (kind, Ok(new)) => made.push((kind, new)),
            (kind, Err(error)) => {
                assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::Never), "{error}");
                refused.push(kind);
            }
        }
    }
    assert_eq!((made.len(), refused.len()), (4, 4), "{made:?} {refused:?}");
    assert_eq!(made.iter().filter(|(_, new)| *new).count(), 1, "one has made it: {made:?}");
    assert!(made.iter().all(|(kind, _)| !refused.contains(kind)), "{made:?} {refused:?}");
}
