//! The tables: made once however many programs start, upgraded never backwards, and read by roles that may do no more.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::sync::Arc;

use serde_json::json;
use storage_core::{
    Address, Backend, Batch, CollectionName, Count, Error, ErrorKind, Filter, IndexSpec, Json, ListRange,
    Mutation, Path, Query, Scan, Value,
};
use storage_postgres::{PostgresConfig, schema};

use harness::{SERVER, open, schema as name, with};

fn url(schema: &str) -> String {
    with(&SERVER.url(), "schema", schema)
}

fn at(key: &str) -> Address {
    Address::new("users", key).unwrap()
}

async fn write(backend: &dyn Backend, mutation: Mutation) -> storage_core::Result<storage_core::Written> {
    backend.write(&Batch::independent(vec![mutation])).await.map(|mut results| results.remove(0))?
}

async fn put(backend: &dyn Backend, key: &str, value: serde_json::Value) {
    write(backend, Mutation::put(at(key), Json::from(value))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_opens_at_once_make_the_tables_once() {
    for _ in 0..3 {
        let schema = name();
        let opening: Vec<_> = (0..8)
            .map(|_| {
                let url = url(&schema);
                tokio::spawn(async move { open(&url).await })
            })
            .collect();
        for (number, opened) in opening.into_iter().enumerate() {
            let backend = opened.await.unwrap().unwrap();
            put(&*backend, &format!("k{number}"), json!(number)).await;
        }
        let status = schema::status(&PostgresConfig::from_url(&url(&schema)).unwrap()).await.unwrap();
        assert!(status.is_current() && status.version >= 1);
        let rows = SERVER.psql(&format!("SELECT count(*), max(version) FROM {schema}.migrations")).unwrap();
        assert_eq!(rows, format!("{0}|{0}", status.wanted), "each migration was applied once");
        assert_eq!(SERVER.psql(&format!("SELECT count(*) FROM {schema}.records")).unwrap(), "8");
    }
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let schema = name();
    open(&url(&schema)).await.unwrap();
    let config = PostgresConfig::from_url(&url(&schema)).unwrap();
    SERVER
        .psql(&format!("INSERT INTO {schema}.migrations (version, name) VALUES (99, 'of the future')"))
        .unwrap();
    let status = schema::status(&config).await.unwrap();
    assert_eq!((status.version, status.is_current()), (99, false));
    for error in [open(&url(&schema)).await.unwrap_err(), schema::apply(&config).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("99") && error.message().contains("newer"), "{error}");
    }
}

#[tokio::test]
async fn what_an_older_program_wrote_is_read_after_the_upgrade() {
    let schema = name();
    let backend = open(&url(&schema)).await.unwrap();
    write(&*backend, Mutation::append(at("list"), vec![Json::from(json!("old"))])).await.unwrap();
    backend.close().await.unwrap();
    // As the third version left it: numbers rounded, no exact text beside them, and checks of another form.
    SERVER
        .psql(&format!(
            "ALTER TABLE {schema}.list_items DROP COLUMN bytes; \
             ALTER TABLE {schema}.records DROP CONSTRAINT records_kind, ADD CONSTRAINT records_kind CHECK (kind <> 'j' OR json IS NOT NULL); \
             DELETE FROM {schema}.migrations WHERE version > 3; \
             INSERT INTO {schema}.records (collection, key, json) VALUES ('users', 'ada', '{{\"n\": 1.2345678901234568e29}}');"
        ))
        .unwrap();
    let backend = open(&url(&schema)).await.unwrap();
    let found = backend.get(&[at("ada")]).await.unwrap().remove(0).unwrap();
    assert_eq!(
        found.value,
        Value::Json(Json::from(json!({"n": 123_456_789_012_345_678_901_234_567_890_f64})))
    );
    write(&*backend, Mutation::append(at("list"), vec![Json::from(json!("new"))])).await.unwrap();
    let range = ListRange { address: at("list"), start: 0, limit: 9 };
    let items = backend.list_range(&range).await.unwrap().unwrap().items;
    assert_eq!(items, [Json::from(json!("old")), Json::from(json!("new"))]);
    // Items go with their list also by the trigger of the newest version.
    write(&*backend, Mutation::put(at("list"), Json::from(json!(1)))).await.unwrap();
    assert_eq!(SERVER.psql(&format!("SELECT count(*) FROM {schema}.list_items")).unwrap().trim(), "0");
}

#[tokio::test]
async fn a_row_that_somebody_else_writes_has_one_value() {
    let schema = name();
    let backend = open(&url(&schema)).await.unwrap();
    let insert = |columns: &str, values: &str| {
        SERVER.psql(&format!(
            "INSERT INTO {schema}.records (collection, key, {columns}) VALUES ('users', {values})"
        ))
    };
    for (columns, values) in [
        ("kind", "'none', 'j'"),
        ("json, counters", "'two', '1', '{}'"),
        ("counters", "'of the kind by default', '{}'"),
        ("json, kind", "'of another kind', '{}', 'c'"),
    ] {
        let error = insert(columns, values).unwrap_err().to_string();
        assert!(error.contains("records_kind"), "{error}");
    }
    insert("json", "'one', '1'").unwrap();
    assert!(backend.get(&[at("one")]).await.unwrap().remove(0).is_some());
    // What the check does not see is told when it is read.
    insert("counters, kind", "'another', '{}', 'l'").unwrap();
    let error = backend.get(&[at("another")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    // Who does not need it does not fail because of it, also where values of records are to be compared.
    let unique = IndexSpec { unique: true, ..IndexSpec::new(at("x").collection, Path::new("u").unwrap()) };
    backend.ensure_index(&unique).await.unwrap();
    let batch = vec![Mutation::delete(at("another")), Mutation::put(at("b"), Json::from(json!({"u": 1})))];
    let results = backend.write(&Batch::independent(batch)).await.unwrap();
    assert!(results.iter().all(|result| result.is_ok()), "{results:?}");
    insert("counters, kind", "'bad', '{\"n\": 1, \"x\": \"no number\"}', 'c'").unwrap();
    let batch = ["bad", "good"].map(|key| Mutation::increment(at(key), "n", 1));
    let results = backend.write(&Batch::independent(batch.into())).await.unwrap();
    let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(Error::kind)).collect();
    assert_eq!(kinds, [Some(ErrorKind::Corrupt), None], "{results:?}");
}

#[tokio::test]
async fn without_the_right_to_make_tables_they_have_to_be_there() {
    let schema = name();
    let url = with(&url(&schema), "create_schema", "false");
    let error = open(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("storage schema apply"), "{error}");
    let config = PostgresConfig::from_url(&url).unwrap();
    let before = schema::status(&config).await.unwrap();
    assert_eq!((before.version, before.is_current()), (0, false));
    assert!(before.migrations.iter().all(|migration| migration.applied_at.is_none()));
    let applied = schema::apply(&config).await.unwrap();
    assert_eq!(applied.len(), before.migrations.len());
    assert!(schema::apply(&config).await.unwrap().is_empty(), "a second time there is nothing to do");
    let after = schema::status(&config).await.unwrap();
    assert!(after.is_current() && after.migrations.iter().all(|migration| migration.applied_at.is_some()));
    put(&*open(&url).await.unwrap(), "ada", json!(1)).await;
}

#[tokio::test]
async fn a_role_that_may_only_read_reads() {
    let schema = name();
    let writer = open(&url(&schema)).await.unwrap();
    put(&*writer, "ada", json!({"n": 1})).await;
    write(&*writer, Mutation::append(at("list"), vec![Json::from(json!(1))])).await.unwrap();
    let role = format!("{schema}_reader");
    SERVER
        .psql(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}; \
             GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};"
        ))
        .unwrap();
    let as_reader =
        |schema: &str| with(&format!("postgres://{role}@{}/storage", SERVER.address()), "schema", schema);
    let reader = open(&as_reader(&schema)).await.unwrap();
    let users = CollectionName::new("users").unwrap();
    assert!(reader.get(&[at("ada")]).await.unwrap()[0].is_some());
    assert_eq!(reader.scan(&Scan::new(users.clone())).await.unwrap().items.len(), 2);
    assert_eq!(reader.keys(&Scan::new(users.clone())).await.unwrap().items.len(), 2);
    let filter = Filter::try_from(json!({"n": 1})).unwrap();
    assert_eq!(reader.query(&Query::new(users.clone(), filter)).await.unwrap().items.len(), 1);
    assert_eq!(reader.count(&Count { collection: users.clone(), filter: None }).await.unwrap(), 2);
    assert_eq!(reader.collections().await.unwrap(), std::slice::from_ref(&users));
    assert!(reader.list_indexes(&users).await.unwrap().is_empty());
    let range = ListRange { address: at("list"), start: 0, limit: 9 };
    assert_eq!(reader.list_range(&range).await.unwrap().unwrap().length, 1);
    reader.health().await.unwrap();
    reader.stats().await.unwrap();
    let index = IndexSpec::new(users.clone(), Path::new("n").unwrap());
    for error in [
        write(&*reader, Mutation::put(at("bob"), Json::from(json!(1)))).await.unwrap_err(),
        write(&*reader, Mutation::delete(at("ada"))).await.unwrap_err(),
        write(&*reader, Mutation::increment(at("n"), "n", 1)).await.unwrap_err(),
        reader.clear(&users).await.unwrap_err(),
        reader.ensure_index(&index).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    }
    let error = open(&as_reader(&name())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "no tables, and no right to make them: {error:?}");
}

#[tokio::test]
async fn names_that_need_quoting() {
    let schema = format!("My \"odd\" schéma's; {}", name());
    let url = with(&url(&schema), "table_prefix", "a.b \"c\" ");
    let backend = open(&url).await.unwrap();
    put(&*backend, "it's \"quoted\"; --", json!({"n'\"": 1})).await;
    write(&*backend, Mutation::append(at("list"), vec![Json::from(json!(1))])).await.unwrap();
    write(&*backend, Mutation::put(at("list"), Value::bytes("data"))).await.unwrap();
    write(&*backend, Mutation::increment(at("hits"), "a'b\"c", 1)).await.unwrap();
    let users = CollectionName::new("users").unwrap();
    let index = IndexSpec { unique: true, ..IndexSpec::new(users.clone(), Path::new("n'\"").unwrap()) };
    assert!(backend.ensure_index(&index).await.unwrap());
    let filter = Filter::try_from(json!({"n'\"": 1})).unwrap();
    assert_eq!(backend.query(&Query::new(users.clone(), filter)).await.unwrap().items.len(), 1);
    let clash =
        write(&*backend, Mutation::put(at("other"), Json::from(json!({"n'\"": 1})))).await.unwrap_err();
    assert_eq!(clash.kind(), ErrorKind::Conflict);
    assert!(backend.drop_index(&users, &index.path).await.unwrap());
    assert_eq!(backend.clear(&users).await.unwrap(), 3);
    // Another prefix is another store in the same schema.
    let other = open(&self::url(&schema)).await.unwrap();
    put(&*other, "ada", json!(1)).await;
    assert_eq!(backend.collections().await.unwrap(), []);
}

#[tokio::test]
async fn people_can_read_and_write_the_tables_by_sql() {
    let schema = name();
    let backend: Arc<dyn Backend> = open(&url(&schema)).await.unwrap();
    put(&*backend, "ada", json!({"name": "Ada", "born": 1815})).await;
    write(&*backend, Mutation::increment(at("hits"), "n", 3)).await.unwrap();
    let psql = |sql: &str| SERVER.psql(&sql.replace("records", &format!("{schema}.records"))).unwrap();
    let read =
        "SELECT key, json->>'name' FROM records WHERE collection = 'users' AND (json->'born')::int < 1900";
    assert_eq!(psql(read), "ada|Ada");
    assert_eq!(psql("SELECT kind, counters->'n' FROM records WHERE key = 'hits'"), "c|3");
    let version = backend.get(&[at("ada")]).await.unwrap()[0].as_ref().unwrap().version.clone();
    assert_eq!(
        psql("SELECT to_hex(version) FROM records WHERE key = 'ada'"),
        version.as_str().trim_start_matches('0')
    );
    psql("INSERT INTO records (collection, key, json) VALUES ('users', 'bob', '{\"name\": \"Bob\"}')");
    psql(
        "UPDATE records SET json = '{\"name\": \"Augusta\"}', version = DEFAULT, updated_at = DEFAULT WHERE key = 'ada'",
    );
    let records = backend.get(&[at("ada"), at("bob")]).await.unwrap();
    let names: Vec<String> =
        records.iter().flatten().map(|record| record.value.as_json().unwrap().as_str().to_owned()).collect();
    assert_eq!(names, [r#"{"name": "Augusta"}"#, r#"{"name": "Bob"}"#]);
    assert_ne!(records[0].as_ref().unwrap().version, version);
}

#[tokio::test]
async fn the_items_of_a_list_go_with_it() {
    let schema = name();
    let backend = open(&url(&schema)).await.unwrap();
    let items = || SERVER.psql(&format!("SELECT count(*) FROM {schema}.list_items")).unwrap();
    let fill = async || {
        let append = Mutation::append(at("list"), (0..3).map(|i| Json::from(json!(i))).collect());
        write(&*backend, append).await.unwrap();
        assert_eq!(items(), "3");
    };
    fill().await;
    put(&*backend, "list", json!("no list")).await;
    assert_eq!(items(), "0", "replaced");
    write(&*backend, Mutation::delete(at("list"))).await.unwrap();
    fill().await;
    write(&*backend, Mutation::delete(at("list"))).await.unwrap();
    assert_eq!(items(), "0", "deleted");
    fill().await;
    backend.clear(&CollectionName::new("users").unwrap()).await.unwrap();
    assert_eq!(items(), "0", "cleared");
    fill().await;
    let soon = storage_core::Timestamp::now().saturating_add(std::time::Duration::from_millis(30));
    write(&*backend, Mutation::touch(at("list"), Some(soon))).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    // Made anew in its place: the old items are not the new list's.
    fill().await;
    write(
        &*backend,
        Mutation::touch(
            at("list"),
            Some(storage_core::Timestamp::now().saturating_add(std::time::Duration::from_millis(5))),
        ),
    )
    .await
    .unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    backend.maintain(storage_core::Maintenance::Sweep).await.unwrap();
    assert_eq!(items(), "0", "swept");
}
