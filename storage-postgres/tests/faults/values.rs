//! Values and names at the ends of what a database takes: right, or refused with the reason.

use std::collections::BTreeSet;

use serde_json::json;
use storage_core::{
    CollectionName, ErrorKind, Filter, IndexSpec, Json, ListRange, Maintenance, Mutation, Path, Query,
    Result, Scan, Sort, Test, Value,
};
use storage_testkit::helpers::{
    address, get_json, get_record, keys_of, put, put_json, query_all, scan_all, write_ok, write_one,
};

use crate::{alone, harness, users};

/// Text that JSON can hold, and a database not: a zero character, in values, names of fields, and alone.
#[tokio::test]
async fn zero_characters_in_json_are_kept() {
    let backend =
        harness::open(&harness::with(&harness::shared_url(), "schema", &harness::schema())).await.unwrap();
    let values = [
        json!("\u{0}"),
        json!("a\u{0}b\u{1}c\u{2}\u{3}"),
        json!({"\u{0}": 1, "a\u{0}": {"\u{0}b": ["\u{0}\u{0}", "\u{1}"]}, "\u{1}": 2, "\u{2}\u{2}": 3}),
        json!("\\u0000"),
        json!("\\\u{0}\\\\\u{0}\\"),
        json!(["\u{1}\u{1}", "\u{1}\u{2}", "\u{2}\u{1}", "\u{10ffff}\u{0}\u{e000}"]),
    ];
    for (i, value) in values.iter().enumerate() {
        let key = format!("k{i}");
        put_json(&*backend, &users(), &key, value.clone()).await;
        assert_eq!(get_json(&*backend, &users(), &key).await.as_ref(), Some(value));
        let list = format!("l{i}");
        write_ok(&*backend, Mutation::append(address(&users(), &list), vec![Json::from(value.clone())]))
            .await;
        let range = ListRange { address: address(&users(), &list), start: 0, limit: 10 };
        let items = backend.list_range(&range).await.unwrap().unwrap().items;
        assert_eq!(items[0].tree().unwrap(), *value);
    }
    // They are found by what they are, and no others are.
    for text in ["\u{0}", "a\u{0}b\u{1}c\u{2}\u{3}", "\\u0000", "\\\u{0}\\\\\u{0}\\"] {
        put_json(&*backend, &users(), "found", json!({"t": text})).await;
        let filter = Filter::Field(Path::new("t").unwrap(), Test::Eq(json!(text)));
        assert_eq!(keys_of(&query_all(&*backend, Query::new(users(), filter)).await), ["found"], "{text:?}");
    }
}

/// Values of 20 MiB, whatever is in them, come back as they were.
#[tokio::test]
async fn values_of_20_mib_are_kept() {
    const SIZE: usize = 20 << 20;
    let backend =
        harness::open(&harness::with(&harness::shared_url(), "schema", &harness::schema())).await.unwrap();
    let limit = backend.info().capabilities.limits.value_bytes;
    assert!(limit >= SIZE, "values may have {limit} bytes");
    let noise: Vec<u8> = {
        let mut random = fastrand::Rng::with_seed(20);
        std::iter::repeat_with(|| random.u8(..)).take(SIZE).collect()
    };
    write_ok(&*backend, Mutation::put(address(&users(), "bytes"), Value::bytes(noise.clone()))).await;
    let record = get_record(&*backend, &users(), "bytes").await;
    assert!(matches!(record.value, Value::Bytes(bytes) if bytes.data == noise));

    let letters: String =
        noise.iter().map(|byte| char::from(b' ' + byte % 90).to_ascii_lowercase()).collect();
    let letters = letters.replace(['"', '\\'], "x");
    let texts = [
        letters[..SIZE - 2].to_owned(),
        // Both are stored in another spelling.
        "\u{0}\u{1}".repeat(SIZE / 12 - 1),
        "é".repeat(SIZE / 2 - 1),
    ];
    for text in texts {
        let shown = text.chars().next().unwrap();
        let json = Json::from(json!(text));
        assert!(json.size() > SIZE - 20 && json.size() <= SIZE, "{shown:?}: {}", json.size());
        write_ok(&*backend, Mutation::put(address(&users(), "text"), json)).await;
        let found = get_json(&*backend, &users(), "text").await;
        assert!(found == Some(json!(text)), "a text of {shown:?} is another one");
    }
    let array = json!((0..1_000_000).map(|i| json!([i, "abcdefgh"])).collect::<Vec<_>>());
    put_json(&*backend, &users(), "array", array.clone()).await;
    assert!(get_json(&*backend, &users(), "array").await == Some(array));
    // A scan ends its page rather than holding all of it.
    for i in 0..3 {
        write_ok(&*backend, Mutation::put(address(&users(), &format!("z{i}")), Value::bytes(noise.clone())))
            .await;
    }
    let page = backend.scan(&Scan { prefix: "z".into(), ..Scan::new(users()) }).await.unwrap();
    assert!(page.items.len() < 3 && page.next.is_some(), "a page of {} such values", page.items.len());
    assert_eq!(scan_all(&*backend, &users(), "z", 10).await.len(), 3);
}

/// A thousand collections are as good as one.
#[tokio::test]
async fn a_thousand_collections() {
    let backend =
        harness::open(&harness::with(&harness::shared_url(), "schema", &harness::schema())).await.unwrap();
    let names: Vec<CollectionName> =
        (0..1_000).map(|i| CollectionName::new(format!("c{i:03}.{}", "x".repeat(i % 50))).unwrap()).collect();
    for names in names.chunks(250) {
        let batch = storage_core::Batch::independent(
            names.iter().map(|name| put(name, "k", json!(name.as_str()))).collect(),
        );
        backend.write(&batch).await.unwrap().into_iter().collect::<Result<Vec<_>>>().unwrap();
    }
    let found: BTreeSet<CollectionName> = backend.collections().await.unwrap().into_iter().collect();
    assert_eq!(found, names.iter().cloned().collect());
    for name in names.iter().step_by(97) {
        assert_eq!(get_json(&*backend, name, "k").await, Some(json!(name.as_str())));
        assert_eq!(scan_all(&*backend, name, "", 10).await.len(), 1);
        assert_eq!(backend.clear(name).await.unwrap(), 1);
    }
    assert_eq!(backend.collections().await.unwrap().len(), 1_000 - names.iter().step_by(97).count());
}

/// Schemas and prefixes of any characters are names and nothing else, and stores in them are apart.
#[tokio::test]
async fn names_that_need_quoting() {
    let (server, plain) = alone("").await;
    put_json(&*plain, &users(), "ada", json!("plain")).await;
    let long = "ß".repeat(31);
    let names = [
        ("my schema", "my prefix "),
        ("quote\"d", "p\"\"q"),
        ("it's", "';--"),
        ("dollar$$body$$ $1", "$$; DROP SCHEMA storage; $$"),
        ("@records@ @.x@ %s {0}", "@"),
        ("Ünïcode 🦀 Großes", "ß🦀_"),
        ("UPPER", "Lower"),
        ("select", "table"),
        ("a.b", "c.d."),
        ("back\\slash\n", "\\'"),
        (long.as_str(), "12345678901234567890123456789012"),
    ];
    let mut stores = Vec::new();
    for (i, (schema, prefix)) in names.into_iter().enumerate() {
        let url = harness::with(&harness::with(&server.url(), "schema", schema), "table_prefix", prefix);
        let backend =
            harness::open(&url).await.unwrap_or_else(|error| panic!("{schema:?} {prefix:?}: {error:?}"));
        // Opened again, what is there is found.
        let again = harness::open(&harness::with(&url, "create_schema", "false")).await;
        again.unwrap_or_else(|error| panic!("{schema:?} {prefix:?}, again: {error:?}"));
        exercise(&*backend, i).await;
        stores.push(backend);
    }
    for (i, store) in stores.iter().enumerate() {
        assert_eq!(
            get_json(&**store, &users(), "ada").await,
            Some(json!({"n": i, "email": "ada@example.com"}))
        );
    }
    // The same schema with another prefix is another store.
    let url = harness::with(&harness::with(&server.url(), "schema", "my schema"), "table_prefix", "other");
    let other = harness::open(&url).await.unwrap();
    assert_eq!(other.collections().await.unwrap(), []);
    assert_eq!(get_json(&*plain, &users(), "ada").await, Some(json!("plain")));
}

/// Every kind of call that names a table.
async fn exercise(backend: &dyn storage_core::Backend, i: usize) {
    put_json(backend, &users(), "ada", json!({"n": i, "email": "ada@example.com"})).await;
    put_json(backend, &users(), "bob", json!({"n": -1, "email": "bob@example.com"})).await;
    write_ok(backend, Mutation::increment(address(&users(), "counter"), "n", 2)).await;
    for _ in 0..2 {
        write_ok(backend, Mutation::append(address(&users(), "list"), vec![Json::from(json!(i))])).await;
    }
    let range = ListRange { address: address(&users(), "list"), start: 1, limit: 5 };
    assert_eq!(backend.list_range(&range).await.unwrap().unwrap().items.len(), 1);
    let (email, n) = (Path::new("email").unwrap(), Path::new("n").unwrap());
    let (plain, unique) = (
        IndexSpec::new(users(), n.clone()),
        IndexSpec { unique: true, ..IndexSpec::new(users(), email.clone()) },
    );
    assert!(backend.ensure_index(&plain).await.unwrap());
    assert!(backend.ensure_index(&unique).await.unwrap());
    assert_eq!(backend.list_indexes(&users()).await.unwrap().len(), 2);
    let taken = write_one(backend, put(&users(), "eve", json!({"email": "ada@example.com"}))).await;
    assert_eq!(taken.expect_err("the address is taken").kind(), ErrorKind::Conflict);
    let filter = Filter::Field(n.clone(), Test::Gte(json!(-1)));
    let sort = vec![Sort { path: n.clone(), direction: storage_core::Direction::Asc }];
    let found = query_all(backend, Query { sort, limit: 1, ..Query::new(users(), filter) }).await;
    assert_eq!(keys_of(&found), ["bob", "ada"]);
    assert!(backend.drop_index(&users(), &n).await.unwrap());
    assert!(backend.drop_index(&users(), &email).await.unwrap());
    // The items of a list go with it, by a trigger that has the names in its text.
    write_ok(backend, Mutation::delete(address(&users(), "list"))).await;
    write_ok(backend, Mutation::touch(address(&users(), "bob"), None)).await;
    for task in [Maintenance::Sweep, Maintenance::Analyse, Maintenance::Compact] {
        match backend.maintain(task).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            done => drop(done.unwrap()),
        }
    }
    backend.stats().await.unwrap();
    let batch = storage_core::Batch::atomic(vec![
        put(&users(), "one", json!(1)),
        Mutation::check(address(&users(), "two"), storage_core::Precondition::Absent),
    ]);
    backend.write(&batch).await.unwrap();
    let more = CollectionName::new("more").unwrap();
    put_json(backend, &more, "x", json!(1)).await;
    assert_eq!(backend.clear(&more).await.unwrap(), 1);
}
