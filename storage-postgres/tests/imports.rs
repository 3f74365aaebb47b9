//! Large batches of puts, which are inserted and not upserted where all of their records are new.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use storage_core::{
    Address, Backend, Batch, Blob, Changes, CollectionName, ErrorKind, IndexSpec, Json, Mutation, Record,
    Result, Retry, Scan, Timestamp, Value, Written,
};
use storage_testkit::servers::{PostgresServer, PostgresSettings};

use harness::{open, open_divided, with};

const MANY: usize = 1_000;

fn at(key: impl std::fmt::Display) -> Address {
    Address::new("users", format!("k{key:>06}")).unwrap()
}

fn put(key: usize, n: usize) -> Mutation {
    Mutation::put(at(key), Json::from(json!({"n": n})))
}

async fn write(backend: &dyn Backend, mutations: Vec<Mutation>) -> Result<Vec<Result<Written>>> {
    backend.write(&Batch::independent(mutations)).await
}

async fn all(backend: &dyn Backend) -> BTreeMap<String, Record> {
    let mut scan = Scan { limit: 5_000, ..Scan::new(CollectionName::new("users").unwrap()) };
    let mut found = BTreeMap::new();
    loop {
        let page = backend.scan(&scan).await.unwrap();
        found.extend(page.items.into_iter().map(|record| (record.address.key.to_string(), record)));
        match page.next {
            Some(next) => scan.after = Some(next),
            None => return found,
        }
    }
}

/// A server that tells what it was asked.
fn server() -> PostgresServer {
    PostgresServer::start(&PostgresSettings::with(["log_statement = 'all'"])).unwrap()
}

/// How often the server was told to insert records that are new.
fn inserts(server: &PostgresServer) -> usize {
    let inserts = |line: &&str| line.contains("LOG:  execute") && line.contains(r#""records" AS r ("#);
    server.log().lines().filter(inserts).filter(|line| !line.contains("ON CONFLICT")).count()
}

#[tokio::test]
async fn records_that_are_inserted_are_those_that_are_put_otherwise() {
    let values: [Value; 9] = [
        Json::from(json!({"a": [1, 2.5, null, true, "ü"]})).into(),
        Json::parse(r#""NUL \u0000 \u0001 \u0003""#).unwrap().into(),
        Json::parse("[123456789012345678901234567890, -0.0]").unwrap().into(),
        Json::from(json!(null)).into(),
        Value::bytes(vec![0, 255, b'\\', b'\n']),
        Value::bytes(""),
        Value::Bytes(Blob::new("x").with_media_type("text/\u{1}\0")),
        Value::Counters(BTreeMap::from([("a".into(), i64::MIN), ("\u{2}".into(), i64::MAX)])),
        Value::Counters(BTreeMap::new()),
    ];
    let expiries = [None, Some(253_402_300_799_999), Some(i64::MAX)].map(|at| at.map(Timestamp::from_millis));
    let puts = |first: usize| -> Vec<Mutation> {
        let of = |n: usize| Mutation::put(at(first + n), values[n % 9].clone()).expiring(expiries[n / 9 % 3]);
        (0..MANY).map(of).collect()
    };
    let server = server();
    for url in [server.url(), with(&server.url(), "prepared_statements", "false")] {
        let backend = open(&with(&url, "schema", &harness::schema())).await.unwrap();
        let (before, many) = (inserts(&server), puts(0));
        let results = write(&*backend, many.clone()).await.unwrap();
        assert_eq!(inserts(&server), before + 1, "many new records are inserted");
        // In the other order, and few at once: by upserts.
        for part in puts(MANY).chunks(100).rev() {
            assert!(write(&*backend, part.to_vec()).await.unwrap().iter().all(Result::is_ok));
        }
        assert_eq!(inserts(&server), before + 1, "few are not");
        let found = all(&*backend).await;
        assert_eq!(found.len(), 2 * MANY);
        for (n, (put, written)) in many.iter().zip(results).enumerate() {
            let (inserted, other) = (&found[put.address.key.as_str()], &found[at(MANY + n).key.as_str()]);
            assert_eq!(inserted.value, other.value, "{n}");
            assert_eq!(inserted.expires_at, other.expires_at, "{n}");
            assert_eq!(inserted.created_at, inserted.updated_at, "{n}");
            assert_eq!(written.unwrap().version.as_ref(), Some(&inserted.version), "{n}");
        }
        // Records that are there keep their creation.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let results = write(&*backend, (0..MANY).map(|key| put(key * 2, 7)).collect()).await.unwrap();
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(inserts(&server), before + 1, "and records that are there are not");
        let again = all(&*backend).await;
        let (old, new) = (&found["k000002"], &again["k000002"]);
        assert_eq!(new.created_at, old.created_at);
        assert!(new.updated_at > old.updated_at && new.version != old.version);
    }
}

#[tokio::test]
async fn of_many_puts_of_one_record_the_last_counts() {
    let server = server();
    let backend = open(&server.url()).await.unwrap();
    let results = write(&*backend, (0..3 * MANY).map(|n| put(n % MANY, n)).collect()).await.unwrap();
    assert!(inserts(&server) > 0);
    let found = all(&*backend).await;
    assert_eq!(found.len(), MANY);
    for key in [0, 1, MANY - 1] {
        let record = &found[at(key).key.as_str()];
        assert_eq!(record.value, Json::from(json!({"n": 2 * MANY + key})).into());
        let versions: Vec<_> =
            (0..3).map(|round| results[round * MANY + key].clone().unwrap().version).collect();
        assert_eq!(versions[2].as_ref(), Some(&record.version));
        assert!(versions[0] != versions[1] && versions[1] != versions[2]);
    }
}

#[tokio::test]
async fn a_value_that_is_taken_fails_its_own_record_only() {
    let server = server();
    let backend = open(&server.url()).await.unwrap();
    let unique = IndexSpec { unique: true, ..IndexSpec::new("users".parse().unwrap(), "n".parse().unwrap()) };
    backend.ensure_index(&unique).await.unwrap();
    write(&*backend, vec![Mutation::put(at("old"), Json::from(json!({"n": 500})))]).await.unwrap();
    let results = write(&*backend, (0..MANY).map(|n| put(n, n)).collect()).await.unwrap();
    for (n, result) in results.iter().enumerate() {
        match result {
            Err(error) => assert_eq!((n, error.kind()), (500, ErrorKind::Conflict)),
            Ok(_) => assert_ne!(n, 500),
        }
    }
    assert_eq!(all(&*backend).await.len(), MANY);
    // The index knows what was inserted.
    assert!(inserts(&server) > 0);
    write(&*backend, (0..MANY).map(|n| put(MANY + n, MANY + n)).collect()).await.unwrap();
    let taken = write(&*backend, vec![put(9_999, MANY + 1)]).await.unwrap();
    assert_eq!(taken[0].as_ref().unwrap_err().kind(), ErrorKind::Conflict);
}

/// A transaction of somebody else that has put a record and is not committed.
async fn other(server: &PostgresServer, key: usize) -> PgConnection {
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    let insert = format!(
        "BEGIN; INSERT INTO storage.records (collection, key, json, created_at) \
         VALUES ('users', '{}', '{{}}', '2001-01-01T00:00:00Z')",
        at(key).key.as_str()
    );
    connection.execute(sqlx::raw_sql(AssertSqlSafe(insert))).await.unwrap();
    connection
}

/// Begins to write many records, of which one is [`other`]'s, and waits until the server waits.
async fn begun(
    server: &PostgresServer,
    backend: &Arc<dyn Backend>,
) -> tokio::task::JoinHandle<Result<Vec<Result<Written>>>> {
    let writer = backend.clone();
    let writing = tokio::spawn(async move { write(&*writer, (0..MANY).map(|n| put(n, n)).collect()).await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%' \
                 AND query NOT LIKE '%ON CONFLICT%'";
    while server.psql(waits).unwrap() != "1" {
        assert!(!writing.is_finished(), "nothing is inserted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    writing
}

#[tokio::test]
async fn a_record_that_comes_meanwhile_is_put_over() {
    let server = server();
    let backend = open(&server.url()).await.unwrap();
    let mut connection = other(&server, 500).await;
    let writing = begun(&server, &backend).await;
    connection.execute("COMMIT").await.unwrap();
    let results = writing.await.unwrap().unwrap();
    assert!(results.iter().all(Result::is_ok));
    let found = all(&*backend).await;
    assert_eq!(found.len(), MANY);
    let record = &found[at(500).key.as_str()];
    assert_eq!(record.value, Json::from(json!({"n": 500})).into());
    assert_eq!(record.created_at, Timestamp::from_millis(978_307_200_000), "it was there before");
}

#[tokio::test]
async fn an_insert_that_is_cut_off_has_done_nothing_and_says_so() {
    let server = server();
    let backend = open(&with(&server.url(), "timeout", "20s")).await.unwrap();
    let _waited_for = other(&server, 500).await;
    let writing = begun(&server, &backend).await;
    server
        .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'INSERT%' AND wait_event_type = 'Lock'")
        .unwrap();
    let error = writing.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Safe), "{error}");
    assert_eq!(all(&*backend).await.len(), 0);
}

#[tokio::test]
async fn what_is_inserted_goes_to_its_partition_and_into_the_feed() {
    let server = server();
    let partitions = json!([{"collections": ["users"], "hash": 4}]);
    let backend = open_divided(&with(&server.url(), "changes", "true"), partitions).await.unwrap();
    let start = backend
        .changes(&Changes { collection: None, after: None, limit: 1, wait: Duration::ZERO })
        .await
        .unwrap()
        .next;
    let results = write(&*backend, (0..MANY).map(|n| put(n, n)).collect()).await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(inserts(&server), 1);
    assert_eq!(all(&*backend).await.len(), MANY);
    let others = server.psql("SELECT count(DISTINCT tableoid) FROM storage.records").unwrap();
    assert_eq!(others, "4");
    let (mut after, mut told) = (start, std::collections::BTreeSet::new());
    while told.len() < MANY {
        let page = backend
            .changes(&Changes { collection: None, after, limit: 1_000, wait: Duration::from_secs(5) })
            .await
            .unwrap();
        assert!(!page.items.is_empty(), "{} changes of {MANY}", told.len());
        told.extend(page.items.iter().map(|event| event.address.to_string()));
        after = page.next;
    }
}
