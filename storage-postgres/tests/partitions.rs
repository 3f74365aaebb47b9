//! Partitions: records move into them while others read and write, and logs keep the tables that they need.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value as Tree, json};
use storage_core::{
    Address, Backend, Batch, CollectionName, Count, ErrorKind, Filter, IndexSpec, Json, ListRange,
    Maintenance, Mutation, Path, Precondition, Query, Scan, Timestamp,
};
use storage_testkit::helpers::{get_json, keys_all, keys_of, put_json, query_all, write_one};

use harness::{SERVER, open, open_divided, open_with_partitions, schema as name, with};

fn url(schema: &str) -> String {
    with(&SERVER.url(), "schema", schema)
}

fn users() -> CollectionName {
    CollectionName::new("users").unwrap()
}

fn at(collection: &CollectionName, key: &str) -> Address {
    Address::new(collection.as_str(), key).unwrap()
}

fn psql(schema: &str, sql: &str) -> String {
    SERVER.psql(&sql.replace('@', schema)).unwrap()
}

fn hashed() -> Tree {
    json!([{"collections": ["users", "teams"], "hash": 8}])
}

async fn fill(backend: &dyn Backend, collection: &CollectionName, count: usize) {
    for part in 0..count.div_ceil(1_000) {
        let keys = (part * 1_000..count.min((part + 1) * 1_000)).map(|i| format!("k{i:05}"));
        let puts =
            keys.map(|key| Mutation::put(at(collection, &key), Json::from(json!({"n": 1, "key": key}))));
        for result in backend.write(&Batch::independent(puts.collect())).await.unwrap() {
            result.unwrap();
        }
    }
}

/// The tables in which records stand, with how many.
fn tables(schema: &str) -> BTreeMap<String, u64> {
    let rows =
        psql(schema, "SELECT tableoid::regclass::text || ' ' || count(*) FROM @.records GROUP BY tableoid");
    let table = |row: &str| {
        let (table, count) = row.split_once(' ').unwrap();
        (table.rsplit('.').next().unwrap().to_owned(), count.parse().unwrap())
    };
    rows.lines().map(table).collect()
}

fn nothing_is_left(schema: &str) {
    let left = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                WHERE n.nspname = '@' AND c.relname LIKE 'records_next%'";
    assert_eq!(psql(schema, left), "0");
    let left = "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
                WHERE n.nspname = '@' AND p.proname LIKE 'records_next%'";
    assert_eq!(psql(schema, left), "0");
}

/// Two processes move 20,000 records while others read all of them, count, put, delete and append.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn records_move_while_others_read_and_write() {
    let schema = name();
    let plain = open(&with(&url(&schema), "changes", "true")).await.unwrap();
    fill(&*plain, &users(), 20_000).await;
    write_one(&*plain, Mutation::append(at(&users(), "list"), vec![Json::from(json!(0))])).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let (reads, writes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));

    let mut tasks = Vec::new();
    for reader in 0..2 {
        let (plain, over, reads) = (plain.clone(), over.clone(), reads.clone());
        tasks.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                if reader == 0 {
                    let filter = Filter::try_from(json!({"n": 1})).unwrap();
                    let count = Count { collection: users(), filter: Some(filter) };
                    assert_eq!(
                        plain.count(&count).await.unwrap(),
                        20_000,
                        "none is missed, none is seen twice"
                    );
                } else {
                    let keys: Vec<Address> =
                        (0..20_000).step_by(40).map(|i| at(&users(), &format!("k{i:05}"))).collect();
                    let found = plain.get(&keys).await.unwrap();
                    assert!(found.iter().all(Option::is_some));
                    let scan = Scan { limit: 500, ..Scan::new(users()) };
                    assert_eq!(plain.keys(&scan).await.unwrap().items.len(), 500);
                }
                reads.fetch_add(1, Ordering::Relaxed);
            }
            None
        }));
    }
    for writer in 0..4_u64 {
        let (plain, over, writes) = (plain.clone(), over.clone(), writes.clone());
        tasks.push(tokio::spawn(async move {
            let (mut model, mut appended, mut round) = (BTreeMap::<String, u64>::new(), 0_u64, 0_u64);
            while !over.load(Ordering::Relaxed) {
                round += 1;
                // Behind and ahead of the copy, all over the collection.
                let key = format!("k{:05}w{writer}", (round * 7_919) % 20_000);
                match round % 4 {
                    0 => {
                        let oldest = model.keys().next().cloned();
                        if let Some(key) = oldest {
                            write_one(&*plain, Mutation::delete(at(&users(), &key))).await.unwrap();
                            model.remove(&key);
                        }
                    }
                    1 if writer == 0 => {
                        write_one(
                            &*plain,
                            Mutation::append(at(&users(), "list"), vec![Json::from(json!(round))]),
                        )
                        .await
                        .unwrap();
                        appended += 1;
                    }
                    2 => {
                        // Deletes and makes again what the copy may be at.
                        let key = at(&users(), &format!("k{:05}", (round * 104_729 + writer) % 20_000));
                        let batch = Batch::atomic(vec![
                            Mutation::delete(key.clone()),
                            Mutation::put(key, Json::from(json!({"n": 1, "round": round}))),
                        ]);
                        plain.write(&batch).await.unwrap();
                    }
                    _ => {
                        put_json(&*plain, &users(), &key, json!({"n": 2, "round": round})).await;
                        model.insert(key, round);
                    }
                }
                writes.fetch_add(1, Ordering::Relaxed);
            }
            Some((model, appended))
        }));
    }
    let movers: Vec<_> = (0..2)
        .map(|_| {
            let url = url(&schema);
            tokio::spawn(async move { open_divided(&url, hashed()).await })
        })
        .collect();
    for mover in movers {
        mover.await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    over.store(true, Ordering::Relaxed);
    let (mut all, mut appended) = (BTreeMap::new(), 0);
    for task in tasks {
        if let Some((model, more)) = task.await.unwrap() {
            all.extend(model);
            appended += more;
        }
    }
    assert!(reads.load(Ordering::Relaxed) > 3 && writes.load(Ordering::Relaxed) > 50);
    let found = keys_all(&*plain, &users(), "", 1_000).await;
    assert_eq!(found.len(), 20_000 + 1 + all.len());
    for (key, round) in &all {
        assert_eq!(get_json(&*plain, &users(), key).await, Some(json!({"n": 2, "round": round})));
    }
    let range = ListRange { address: at(&users(), "list"), start: 0, limit: 1_000 };
    assert_eq!(plain.list_range(&range).await.unwrap().unwrap().length, 1 + appended);
    let tables = tables(&schema);
    assert_eq!(tables.len(), 8, "{tables:?}");
    assert!(tables.keys().all(|table| table.starts_with("records_1_0_")), "{tables:?}");
    nothing_is_left(&schema);
    // The triggers came along.
    write_one(&*plain, Mutation::delete(at(&users(), "list"))).await.unwrap();
    assert_eq!(psql(&schema, "SELECT count(*) FROM @.list_items"), "0");
    let logged = psql(&schema, "SELECT count(*) FROM @.changes WHERE key = 'list'");
    assert_eq!(logged, (appended + 2).to_string());
}

/// A move that was killed goes on from where it was, with what was written since.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_move_goes_on() {
    let schema = name();
    let plain = open(&url(&schema)).await.unwrap();
    fill(&*plain, &users(), 9_000).await;
    psql(
        &schema,
        "CREATE ROLE @_writer; GRANT USAGE ON SCHEMA @ TO @_writer; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA @ TO @_writer",
    );
    // Whoever holds a record keeps the copy from passing it.
    let mut holder = <sqlx::PgConnection as sqlx::Connection>::connect(&SERVER.url()).await.unwrap();
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM {schema}.records WHERE key = 'k06000' FOR UPDATE"
    );
    hold(&mut holder, &sql).await;
    let mover = {
        let url = with(&url(&schema), "application_name", "killed");
        tokio::spawn(async move { open_divided(&url, hashed()).await.map(drop) })
    };
    let copied = || {
        let there = psql(&schema, "SELECT to_regclass('@.records_next_state') IS NOT NULL");
        if there == "t" {
            psql(&schema, "SELECT copied FROM @.records_next_state").parse().unwrap()
        } else {
            0
        }
    };
    while copied() < 500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    mover.abort();
    let _ = mover.await;
    psql(&schema, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'killed'");
    let (oid, before) = (psql(&schema, "SELECT '@.records_next'::regclass::oid"), copied());
    assert!((500..=6_000).contains(&before), "{before}");
    // It does not see the copies. What it removes must not come back by one.
    let delete = format!("DELETE FROM {schema}.records WHERE key = 'k00003'");
    let delete = sqlx::raw_sql(sqlx::AssertSqlSafe(delete));
    let error = sqlx::Executor::execute(&mut holder, delete).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("40001"));
    hold(&mut holder, "ROLLBACK").await;
    psql(&schema, "SET ROLE @_writer; UPDATE @.records SET json = '\"after\"' WHERE key = 'k00004'");
    put_json(&*plain, &users(), "k00001", json!("after")).await;
    write_one(&*plain, Mutation::delete(at(&users(), "k00002"))).await.unwrap();
    put_json(&*plain, &users(), "k08888", json!("after")).await;
    assert_eq!(tables(&schema).len(), 1);

    // One that is being removed when the copy comes to it does not come back.
    hold(&mut holder, &format!("BEGIN; DELETE FROM {schema}.records WHERE key = 'k07000'")).await;
    let mover = {
        let url = url(&schema);
        tokio::spawn(async move { open_divided(&url, hashed()).await })
    };
    tokio::time::sleep(Duration::from_millis(700)).await;
    hold(&mut holder, "COMMIT").await;
    let mover = mover.await.unwrap().unwrap();
    assert_eq!(psql(&schema, "SELECT '@.records'::regclass::oid"), oid, "the copy went on");
    nothing_is_left(&schema);
    assert_eq!(keys_all(&*mover, &users(), "", 1_000).await.len(), 8_998);
    for key in ["k00001", "k00004", "k08888"] {
        assert_eq!(get_json(&*plain, &users(), key).await, Some(json!("after")));
    }
    assert_eq!(tables(&schema).len(), 8);
}

async fn hold(connection: &mut sqlx::PgConnection, sql: &str) {
    sqlx::Executor::execute(connection, sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))).await.unwrap();
}

/// Indexes, also unique ones, grants and triggers come along, and are made and dropped in partitions; back again too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn indexes_and_grants_come_along() {
    let schema = name();
    let plain = open(&url(&schema)).await.unwrap();
    fill(&*plain, &users(), 3_000).await;
    put_json(&*plain, &CollectionName::new("others").unwrap(), "o", json!(1)).await;
    psql(
        &schema,
        "CREATE ROLE @_reader LOGIN; GRANT USAGE ON SCHEMA @ TO @_reader; GRANT SELECT ON ALL TABLES IN SCHEMA @ TO @_reader",
    );
    let index =
        |path: &str, unique| IndexSpec { unique, ..IndexSpec::new(users(), Path::new(path).unwrap()) };
    plain.ensure_index(&index("key", true)).await.unwrap();
    plain.ensure_index(&index("n", false)).await.unwrap();
    let mut divided = open_divided(&url(&schema), hashed()).await.unwrap();
    for round in 0..2 {
        let leaves = if round == 0 { 8 } else { 1 };
        let listed = divided.list_indexes(&users()).await.unwrap();
        assert_eq!(listed, [index("key", true), index("n", false)]);
        let taken = Mutation::put(at(&users(), "new"), Json::from(json!({"key": "k00007"})));
        let error = write_one(&*divided, taken).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        let query = Query::new(users(), Filter::try_from(json!({"key": "k00007"})).unwrap());
        assert_eq!(keys_of(&query_all(&*divided, query).await), ["k00007"]);
        assert!(divided.ensure_index(&index("other", false)).await.unwrap());
        assert!(!divided.ensure_index(&index("other", false)).await.unwrap());
        assert_eq!(divided.list_indexes(&users()).await.unwrap().len(), 3);
        let parts =
            "SELECT count(*) FROM pg_indexes WHERE schemaname = '@' AND indexname LIKE 'users.other%'";
        assert_eq!(psql(&schema, parts), (2 * leaves).to_string());
        assert!(divided.drop_index(&users(), &Path::new("other").unwrap()).await.unwrap());
        assert_eq!(psql(&schema, parts), "0");
        let reader =
            with(&format!("postgres://{schema}_reader@{}/storage", SERVER.address()), "schema", &schema);
        assert_eq!(keys_all(&*open(&reader).await.unwrap(), &users(), "", 1_000).await.len(), 3_000);
        assert!(divided.stats().await.unwrap().bytes.unwrap() > 300_000);
        if round == 0 {
            assert_eq!(tables(&schema).get("records_1_rest"), Some(&1));
            // A program that does not say how leaves it as it is.
            plain.maintain(Maintenance::Compact).await.unwrap();
            assert_eq!(tables(&schema).len(), 9);
            divided = open_divided(&url(&schema), json!([])).await.unwrap();
            assert_eq!(tables(&schema).into_keys().collect::<Vec<_>>(), ["records"]);
        }
    }
    psql(&schema, "CREATE VIEW @.names AS SELECT key FROM @.records");
    let error = open_divided(&url(&schema), hashed()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.message().contains("names"), "{error}");
    nothing_is_left(&schema);
}

/// The nodes of a plan that name a table, and the tables.
async fn scanned(schema: &str, sql: &str) -> Vec<String> {
    let plan: Tree = serde_json::from_str(&psql(schema, &format!("EXPLAIN (FORMAT JSON) {sql}"))).unwrap();
    fn walk(tree: &Tree, found: &mut Vec<String>) {
        match tree {
            Tree::Object(fields) => {
                found.extend(fields.get("Relation Name").and_then(Tree::as_str).map(str::to_owned));
                fields.values().for_each(|tree| walk(tree, found));
            }
            Tree::Array(items) => items.iter().for_each(|tree| walk(tree, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&plan, &mut found);
    found.sort();
    found.dedup();
    found
}

#[tokio::test]
async fn the_server_looks_only_into_the_tables_that_can_have_it() {
    let schema = name();
    let logs = json!([
        {"collections": ["users"], "hash": 8},
        {"collections": ["events"], "range": "1day"},
    ]);
    let backend = open_divided(&url(&schema), logs).await.unwrap();
    fill(&*backend, &users(), 1_000).await;
    psql(&schema, "ANALYZE @.records");
    let one = scanned(&schema, "SELECT * FROM @.records WHERE collection = 'users' AND key = 'k00007'").await;
    assert_eq!(one.len(), 1, "{one:?}");
    let all =
        scanned(&schema, "SELECT * FROM @.records WHERE collection = 'users' ORDER BY key LIMIT 10").await;
    assert!(all.len() == 8 && all.iter().all(|table| table.starts_with("records_1_0_")), "{all:?}");
    let rest = scanned(&schema, "SELECT * FROM @.records WHERE collection = 'x' AND key > 'a'").await;
    assert_eq!(rest, ["records_1_rest"]);
    let (today, tomorrow) = (day(0), day(1));
    let some = format!(
        "SELECT * FROM @.records WHERE collection = 'events' AND key >= '{today}' AND key < '{tomorrow}'"
    );
    let some = scanned(&schema, &some).await;
    let wanted = format!("records_1_1_{}00", today.replace('-', ""));
    assert!(some.contains(&wanted) && some.len() <= 2, "{some:?}");
    // And with a plan for any value.
    let generic = "SET plan_cache_mode = force_generic_plan; \
        PREPARE get (text, text) AS SELECT * FROM @.records r WHERE r.collection = $1 AND r.key = $2; \
        EXPLAIN (ANALYZE, COSTS OFF) EXECUTE get ('users', 'k00007')";
    let plan = psql(&schema, generic);
    assert!(plan.contains("Subplans Removed"), "{plan}");
    assert_eq!(plan.matches("(actual").count() - plan.matches("Append (actual").count(), 1, "{plan}");
}

/// A day so many days from now, as keys of a log begin.
fn day(days: i64) -> String {
    Timestamp::from_millis(Timestamp::now().as_millis() + days * 86_400_000).to_string()[..10].to_owned()
}

fn events() -> CollectionName {
    CollectionName::new("events").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_have_tables_ahead_and_lose_what_is_over() {
    for expired in ["drop", "detach"] {
        let schema = name();
        let url = with(&url(&schema), "changes", "true");
        let plain = open(&url).await.unwrap();
        let index =
            |path: &str, unique| IndexSpec { unique, ..IndexSpec::new(events(), Path::new(path).unwrap()) };
        plain.ensure_index(&index("id", true)).await.unwrap();
        for days in -10..=1 {
            put_json(&*plain, &events(), &format!("{}T12:00:00Z", day(days)), json!({"id": days})).await;
        }
        put_json(&*plain, &events(), "no time", json!({"id": "none"})).await;
        let list = at(&events(), &format!("{}T13:00:00Z", day(-9)));
        write_one(&*plain, Mutation::append(list, vec![Json::from(json!(1))])).await.unwrap();
        let logs = json!([{"collections": ["events"], "range": "1day", "ahead": 2, "retention": "5days", "expired": expired}]);
        let backend = open_divided(&url, logs.clone()).await.unwrap();
        let table = |days| format!("records_1_0_{}00", day(days).replace('-', ""));
        for days in -10..=1 {
            assert_eq!(tables(&schema).get(&table(days)), Some(&(1 + u64::from(days == -9))));
        }
        assert_eq!(tables(&schema).get("records_1_0_rest"), Some(&1));

        let report = backend.maintain(Maintenance::Sweep).await.unwrap();
        assert_eq!(report.removed, 6);
        let mut keys = keys_all(&*backend, &events(), "", 1_000).await;
        assert_eq!(keys.len(), 8, "{keys:?}");
        keys.sort();
        assert!(keys[0].starts_with(&day(-5)), "{keys:?}");
        let there =
            |table: &str| psql(&schema, &format!("SELECT to_regclass('@.{table}') IS NOT NULL")) == "t";
        assert_eq!(there(&table(-8)), expired == "detach");
        let items = psql(&schema, "SELECT count(*) FROM @.list_items");
        assert_eq!(items, if expired == "detach" { "1" } else { "0" });
        assert!(there(&table(2)) && !there(&table(3)), "two days ahead");
        assert_eq!(psql(&schema, "SELECT count(*) FROM @.unique_values"), "8");
        put_json(&*backend, &events(), &format!("{}T14", day(0)), json!({"id": -8})).await;

        // A key is in one record, whatever table it stands in.
        for key in [format!("{}T12:00:00Z", day(0)), "no time".to_owned()] {
            let again = Mutation::put(at(&events(), &key), Json::from(json!(0)));
            let error = write_one(&*backend, again.on(Precondition::Absent)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
        }
        // What was ahead of all tables moves once there is one.
        psql(&schema, &format!("DROP TABLE @.{}", table(2)));
        let ahead = format!("{}T01:02", day(2));
        put_json(&*backend, &events(), &ahead, json!({"id": "ahead"})).await;
        assert_eq!(tables(&schema).get("records_1_0_rest"), Some(&2));
        let others: Vec<_> = (0..3).map(|_| open_with_partitions(&url, logs.clone())).collect();
        for other in futures_util::future::join_all(others).await {
            other.unwrap().maintain(Maintenance::Sweep).await.unwrap();
        }
        assert_eq!(tables(&schema).get(&table(2)), Some(&1));
        assert_eq!(tables(&schema).get("records_1_0_rest"), Some(&1));
        assert_eq!(get_json(&*backend, &events(), &ahead).await, Some(json!({"id": "ahead"})));
        assert_eq!(backend.list_indexes(&events()).await.unwrap(), [index("id", true)]);
        let taken =
            Mutation::put(at(&events(), &format!("{}T02", day(2))), Json::from(json!({"id": "ahead"})));
        assert_eq!(write_one(&*backend, taken).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
}

/// A UUID of version 7, with its time in the first 48 bits (RFC 9562).
fn uuid7(days: i64) -> String {
    let millis = Timestamp::now().as_millis() + days * 86_400_000;
    let time = format!("{millis:012x}");
    format!("{}-{}-7000-8000-{:012x}", &time[..8], &time[8..], fastrand::u64(..1 << 48))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_can_have_uuids_for_keys() {
    let schema = name();
    let logs = json!([{
        "collections": ["events"], "range": "1day", "key_time": "uuid7", "ahead": 1, "retention": "3days",
    }]);
    let plain = open(&url(&schema)).await.unwrap();
    let mut keys: Vec<String> = (-5..=1).map(uuid7).collect();
    // Of another version, and before and behind all times.
    let others = ["01234567-89ab-4def-8000-000000000000", "0", "00000000-0000-4000", "zebra"];
    for key in keys.iter().map(String::as_str).chain(others) {
        put_json(&*plain, &events(), key, json!(key)).await;
    }
    let backend = open_divided(&url(&schema), logs).await.unwrap();
    let table = |days| format!("records_1_0_{}00", day(days).replace('-', ""));
    let found = tables(&schema);
    for days in -5..=1 {
        assert_eq!(found.get(&table(days)), Some(&1), "{days} in {found:?}");
    }
    assert_eq!(found.get("records_1_0_rest"), Some(&(others.len() as u64)));
    // What comes late, and what is ahead of all tables.
    for late in [uuid7(-40), uuid7(9)] {
        put_json(&*backend, &events(), &late, json!(late)).await;
        keys.push(late);
    }
    assert_eq!(tables(&schema).get("records_1_0_rest"), Some(&(others.len() as u64 + 2)));
    keys.extend(others.map(str::to_owned));
    keys.sort();
    assert_eq!(keys_all(&*backend, &events(), "", 3).await, keys);
    let one = format!("SELECT * FROM @.records WHERE collection = 'events' AND key = '{}'", uuid7(0));
    assert_eq!(scanned(&schema, &one).await, [table(0)]);

    backend.maintain(Maintenance::Sweep).await.unwrap();
    let horizon = uuid7(-4);
    keys.retain(|key| others.contains(&key.as_str()) || *key > horizon);
    let left = keys_all(&*backend, &events(), "", 1_000).await;
    assert_eq!(left, keys, "what is over is gone, and nothing else");
    assert!(!tables(&schema).contains_key(&table(-5)));
}

#[tokio::test]
async fn what_is_wrong_with_partitions_is_named() {
    for (partitions, word) in [
        (json!([{"collections": [], "hash": 2}]), "at least one"),
        (json!([{"collections": ["a"]}]), "either hash or range"),
        (json!([{"collections": ["a"], "hash": 2, "range": "1day"}]), "either hash or range"),
        (json!([{"collections": ["a"], "hash": 0}]), "1 to 256"),
        (json!([{"collections": ["a"], "hash": 2, "retention": "1day"}]), "belong to range"),
        (json!([{"collections": ["a"], "range": "90m"}]), "whole hours"),
        (json!([{"collections": ["a"], "range": "2h", "retention": "1h"}]), "retention"),
        (json!([{"collections": ["a"], "hash": 2}, {"collections": ["a"], "hash": 3}]), "twice"),
        (json!([{"collections": ["a b"], "hash": 2}]), "a b"),
        (json!([{"collections": ["a"], "hsah": 2}]), "hsah"),
    ] {
        let error = open_with_partitions("postgres://localhost", partitions.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{partitions}");
        assert!(error.message().contains(word), "{partitions}: {error}");
    }
}
