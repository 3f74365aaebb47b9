//! How indexes are made and dropped.

use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use storage_core::{IndexSpec, Json, Mutation, Path, Query};
use storage_testkit::helpers::{address, keys_of, ok, put_json, write_one};

use crate::{Own, name};

fn index(path: &str) -> IndexSpec {
    IndexSpec::new(name("users"), Path::new(path).expect("a path"))
}

const BUILDING: &str = "SELECT coalesce(max(pid), 0)::bigint FROM pg_stat_activity WHERE query LIKE '%INDEX CONCURRENTLY%' \
     AND query LIKE '%users%@%' AND state = 'active' AND pid <> pg_backend_pid()";
const INDEXES: &str = "SELECT count(*) FROM pg_index i WHERE i.indrelid = '@.records'::regclass \
     AND i.indexrelid::regclass::text LIKE '%users%'";

/// Writers go on while an index is made. One whose making was interrupted is not listed, and makes way.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_indexes_are_made_anew() {
    let own = Own::open().await;
    let collection = name("users");
    for i in 0..50 {
        put_json(&*own.backend, &collection, &format!("k{i}"), json!({"email": i})).await;
    }
    // A transaction that has written keeps the index from being finished.
    let mut other = own.beside().await;
    let mut open = other.begin().await.expect("a transaction");
    let write = format!("UPDATE {}.records SET updated_at = updated_at WHERE key = 'k1'", own.schema);
    open.execute(sqlx::raw_sql(AssertSqlSafe(write))).await.expect("a write");

    let backend = own.backend.clone();
    let making = tokio::spawn(async move { backend.ensure_index(&index("email")).await });
    let building = BUILDING.replace("%users%@%", "%users.email%");
    let mut pid = 0;
    for _ in 0..200 {
        pid = own.number(&building).await;
        if pid != 0 && own.number(INDEXES).await > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(pid, 0, "the index is being made");
    let put = Mutation::put(address(&collection, "k2"), Json::from(json!({"email": "new"})));
    let put = tokio::time::timeout(Duration::from_secs(15), write_one(&*own.backend, put)).await;
    ok(put.expect("writers do not wait for it"), "a put");

    making.abort();
    own.number(&format!("SELECT pg_terminate_backend({pid})::int::bigint")).await;
    open.rollback().await.expect("a rollback");
    for _ in 0..100 {
        if own.number(&building).await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let invalid = format!("{INDEXES} AND NOT i.indisvalid");
    assert_eq!(own.number(&invalid).await, 1, "it is left in the middle");
    assert_eq!(ok(own.backend.list_indexes(&collection).await, "list_indexes"), []);

    assert!(ok(own.backend.ensure_index(&index("email")).await, "ensure_index"), "it is made anew");
    assert_eq!(own.number(&invalid).await, 0);
    assert_eq!(own.number(INDEXES).await, 2);
    assert_eq!(ok(own.backend.list_indexes(&collection).await, "list_indexes"), [index("email")]);
    assert!(ok(own.backend.drop_index(&collection, &index("email").path).await, "drop_index"));
    assert_eq!(own.number(INDEXES).await, 0);
}

/// Values too long for an entry of an index are indexed all the same, and found exactly.
#[tokio::test(flavor = "multi_thread")]
async fn long_values_do_not_break_an_index() {
    let own = Own::open().await;
    let collection = name("users");
    let long = |end: &str| format!("{}{end}", "é".repeat(200_000));
    for unique in [false, true] {
        ok(own.backend.ensure_index(&IndexSpec { unique, ..index("v") }).await, "ensure_index");
        for (key, end) in [("a", "x"), ("b", "y"), ("c", "")] {
            put_json(&*own.backend, &collection, key, json!({"v": long(end)})).await;
        }
        let query = Query::new(collection.clone(), storage_core::Filter::eq(index("v").path, long("y")));
        assert_eq!(keys_of(&ok(own.backend.query(&query).await, "query").items), ["b"]);
        ok(own.backend.drop_index(&collection, &index("v").path).await, "drop_index");
    }
}

/// Names and paths that need quoting, and long ones, make indexes of their own.
#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_are_indexed() {
    let own = Own::open().await;
    let long = "x".repeat(300);
    let paths = ["it's", "a\"b", "back\\slash", "$", "é.ü", "%s", "a b", &long, "l.0", "--", "*/"];
    for path in paths {
        assert!(ok(own.backend.ensure_index(&index(path)).await, path), "{path}");
        ok(own.backend.ensure_index(&IndexSpec { unique: true, ..index(&format!("u.{path}")) }).await, path);
        let fields = json!({ path: {"ü": 1} });
        put_json(&*own.backend, &name("users"), "k", fields).await;
    }
    let mut expected: Vec<String> =
        paths.iter().flat_map(|path| [(*path).to_owned(), format!("u.{path}")]).collect();
    expected.sort();
    let listed = ok(own.backend.list_indexes(&name("users")).await, "list_indexes");
    assert_eq!(listed.iter().map(|index| index.path.to_string()).collect::<Vec<_>>(), expected);
}
