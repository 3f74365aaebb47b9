//! What the server is asked, as its log tells: how many statements a call takes, and that none of them walks the table.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use serde_json::json;
use storage_core::{
    Address, Batch, CollectionName, Json, ListRange, Mutation, Precondition, Scan, Timestamp, Value,
};
use storage_testkit::servers::{PostgresServer, PostgresSettings};

use harness::{open, with};

fn at(key: impl std::fmt::Display) -> Address {
    Address::new("users", format!("k{key}")).unwrap()
}

fn put(key: impl std::fmt::Display) -> Mutation {
    Mutation::put(at(key), Json::from(json!({"n": 1})))
}

fn increment(key: impl std::fmt::Display) -> Mutation {
    Mutation::increment(at(key), "n", 1)
}

/// The statements that the server was asked while something was done.
async fn asked<T>(server: &PostgresServer, done: impl Future<Output = T>) -> (T, Vec<String>) {
    let before = server.log().len();
    let done = done.await;
    let log = server.log();
    let lines = log.get(before..).unwrap_or_default().lines();
    let statements = lines.filter_map(|line| {
        let (_, statement) =
            line.split_once("LOG:  statement: ").or_else(|| line.split_once("LOG:  execute "))?;
        Some(statement.to_owned())
    });
    (done, statements.collect())
}

#[tokio::test]
async fn hot_calls_are_one_statement_and_no_transaction() {
    let server = PostgresServer::start(&PostgresSettings::with(["log_statement = 'all'"])).unwrap();
    let backend = open(&with(&server.url(), "pool_max", "1")).await.unwrap();
    let far = Some(Timestamp::from_millis(253_402_300_799_999));
    let hot = [
        ("a put", vec![put(1)]),
        ("a put of bytes with an expiry", vec![Mutation::put(at(2), Value::bytes("x")).expiring(far)]),
        ("puts", (0..128).map(put).collect()),
        ("puts of one record", (0..9).map(|_| put(1)).collect()),
        ("a put of a new record", vec![put("new").on(Precondition::Absent)]),
        ("a put of one that is there", vec![put("new").on(Precondition::Present)]),
        ("a delete", vec![Mutation::delete(at(3))]),
        ("deletes", (0..50).map(|key| Mutation::delete(at(key))).collect()),
        ("an increment", vec![increment("hits")]),
        ("increments of one counter", (0..128).map(|_| increment("hits")).collect()),
        ("increments", (0..128).map(|key| increment(format!("hits{}", key % 40))).collect()),
        ("a touch", vec![Mutation::touch(at("new"), far)]),
        ("touches", vec![Mutation::touch(at("new"), far), Mutation::touch(at("hits"), far)]),
        ("an append", vec![Mutation::append(at("list"), vec![Json::from(json!(1))])]),
        ("appends", (0..20).map(|_| Mutation::append(at("list"), vec![Json::from(json!(1))])).collect()),
    ];
    // The first batch of puts asks whether the collection has a unique index.
    backend.write(&Batch::independent(vec![put(1), put(1)])).await.unwrap();
    for (what, mutations) in hot {
        let (results, statements) = asked(&server, backend.write(&Batch::independent(mutations))).await;
        assert!(results.unwrap().iter().all(Result::is_ok), "{what}");
        assert_eq!(statements.len(), 1, "{what}: {statements:#?}");
    }
    let version = backend.get(&[at("new")]).await.unwrap()[0].as_ref().unwrap().version.clone();
    let swap = Batch::independent(vec![put("new").on(Precondition::Version(version))]);
    let (results, statements) = asked(&server, backend.write(&swap)).await;
    assert!(results.unwrap()[0].is_ok());
    assert_eq!(statements.len(), 1, "a put of a version: {statements:#?}");
    for (what, batch) in [
        ("atomic puts", Batch::atomic((0..9).map(put).collect())),
        ("atomic deletes", Batch::atomic((0..9).map(|key| Mutation::delete(at(key))).collect())),
    ] {
        let (results, statements) = asked(&server, backend.write(&batch)).await;
        results.unwrap();
        assert_eq!(statements.len(), 1, "{what}: {statements:#?}");
    }
    let mixed = Batch::independent(vec![
        put(1),
        increment("hits"),
        put(2),
        Mutation::delete(at(3)),
        increment("hits"),
    ]);
    let (results, statements) = asked(&server, backend.write(&mixed)).await;
    assert!(results.unwrap().iter().all(Result::is_ok));
    assert_eq!(statements.len(), 3, "one for each kind: {statements:#?}");

    let other = Address::new("other", "x").unwrap();
    for (what, keys) in [
        ("a get", vec![at(1)]),
        ("gets", (0..100).map(at).collect()),
        ("gets of two collections", vec![at(1), other]),
    ] {
        let (records, statements) = asked(&server, backend.get(&keys)).await;
        assert!(records.unwrap().iter().any(Option::is_some), "{what}");
        assert_eq!(statements.len(), 1, "{what}: {statements:#?}");
    }
    let scan = Scan::new(CollectionName::new("users").unwrap());
    assert_eq!(asked(&server, backend.scan(&scan)).await.1.len(), 1);
    assert_eq!(asked(&server, backend.keys(&scan)).await.1.len(), 1);
    let range = ListRange { address: at("list"), start: 3, limit: 5 };
    assert_eq!(asked(&server, backend.list_range(&range)).await.1.len(), 1);
}

#[tokio::test]
async fn records_are_found_by_index_however_many_are_asked_for() {
    let settings = PostgresSettings::with([
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_nested_statements = on",
    ]);
    let server = PostgresServer::start(&settings).unwrap();
    let backend = open(&with(&server.url(), "pool_max", "1")).await.unwrap();
    server
        .psql(
            "INSERT INTO storage.records (collection, key, json) \
             SELECT 'users', 'k' || i, '{}' FROM generate_series(1, 60000) i; \
             INSERT INTO storage.records (collection, key, json) \
             SELECT 'other', 'k' || i, '{}' FROM generate_series(1, 20000) i; ANALYZE storage.records;",
        )
        .unwrap();
    let mut before = 0;
    let users = CollectionName::new("users").unwrap();
    // Five times the server makes a plan for the very values, and may read a small table faster as a whole. Then it settles
    // for one that has to do for all.
    for round in 0..9 {
        if round == 5 {
            before = server.log().len();
        }
        for count in [1, 30, 1_000] {
            let keys: Vec<Address> = (1..=count).map(|key| at(key * 40 + round)).collect();
            backend.get(&keys).await.unwrap();
            let mut two = keys.clone();
            two.push(Address::new("other", "k1").unwrap());
            backend.get(&two).await.unwrap();
            for batch in [
                keys.iter().map(|key| Mutation::touch(key.clone(), None)).collect::<Vec<_>>(),
                keys.iter().map(|key| Mutation::put(key.clone(), Value::bytes("x"))).collect(),
                keys.iter()
                    .map(|key| Mutation::put(key.clone(), Value::bytes("x")).on(Precondition::Present))
                    .collect(),
                keys.iter().map(|key| Mutation::delete(key.clone()).on(Precondition::Present)).collect(),
                keys.iter()
                    .map(|key| Mutation::put(key.clone(), Json::from(json!(1))).on(Precondition::Absent))
                    .collect(),
                keys.iter().map(|key| Mutation::delete(key.clone())).collect(),
                keys.iter().map(|key| Mutation::increment(key.clone(), "n", 1)).collect(),
            ] {
                let results = backend.write(&Batch::independent(batch)).await.unwrap();
                assert!(results.iter().all(Result::is_ok));
            }
        }
        let scan = Scan { prefix: "k5".to_owned(), ..Scan::new(users.clone()) };
        let page = backend.scan(&scan).await.unwrap();
        backend.scan(&Scan { after: page.next, ..scan.clone() }).await.unwrap();
        backend.keys(&scan).await.unwrap();
        backend.collections().await.unwrap();
        backend.maintain(storage_core::Maintenance::Sweep).await.unwrap();
    }
    let log = server.log();
    let plans = log.get(before..).unwrap();
    assert!(plans.matches("Index Scan using records_pkey").count() > 100, "the plans are in the log");
    let walks: Vec<&str> =
        plans.split("Query Text:").filter(|plan| plan.contains("Seq Scan on records")).collect();
    assert!(walks.is_empty(), "{} of them walk the table, such as {}", walks.len(), walks[0]);
}
