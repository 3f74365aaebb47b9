//! Servers that refuse what they are asked for.

use serde_json::json;
use storage_core::{ErrorKind, HealthStatus, Result, Retry};
use storage_testkit::helpers::{get_json, put_json};
use storage_testkit::servers::{PostgresServer, PostgresSettings};

use crate::{
    alone, alone_with, expect, get, harness, increment, increment_atomically, put_one, recovers, users,
};

fn with_password() -> PostgresSettings {
    PostgresSettings { password: Some(harness::PASSWORD.to_owned()), ..PostgresSettings::default() }
}

/// A wrong password is told when a store is opened, and one that was changed when the next connection is made.
#[tokio::test]
async fn a_wrong_password_is_refused() {
    let (server, backend) = alone_with(&with_password(), "").await;
    for wrong in ["wrong", "", "x' OR '1'='1"] {
        let user = match wrong {
            "" => "storage".to_owned(),
            wrong => format!(
                "storage:{}",
                percent_encoding::utf8_percent_encode(wrong, percent_encoding::NON_ALPHANUMERIC)
            ),
        };
        let opened = harness::open(&format!("postgres://{user}@{}/storage", server.address())).await;
        let error = expect(opened.map(drop), ErrorKind::Unauthenticated, Retry::Never, "password");
        assert!(wrong.is_empty() || !format!("{error:?}").contains(wrong), "{error:?}");
    }
    put_one(&*backend, "ada").await.unwrap();
    server.psql("ALTER ROLE storage PASSWORD 'new'").unwrap();
    put_one(&*backend, "ada").await.unwrap();
    server.terminate().unwrap();
    let _ = get(&*backend, "ada").await; // The connection that was cut.
    expect(get(&*backend, "ada").await, ErrorKind::Unauthenticated, Retry::Never, "password");
    assert_eq!(backend.health().await.unwrap().status, HealthStatus::Down);
    server.psql(&format!("ALTER ROLE storage PASSWORD '{}'", harness::PASSWORD)).unwrap();
    recovers(|| get(&*backend, "ada")).await;
}

/// Roles and databases that are not there are named.
#[tokio::test]
async fn unknown_roles_and_databases_are_named() {
    let server = PostgresServer::start(&PostgresSettings::default()).unwrap();
    let open = |user: &str, database: &str| {
        let url = format!("postgres://{user}@{}/{database}", server.address());
        async move { harness::open(&url).await.map(drop) }
    };
    expect(open("nobody", "storage").await, ErrorKind::Unauthenticated, Retry::Never, "nobody");
    expect(open("storage", "nothing").await, ErrorKind::InvalidInput, Retry::Never, "nothing");
}

/// What a role may not do is told, and what it may is done: one that may only read reads.
#[tokio::test]
async fn missing_rights_are_told() {
    let (server, owner) = alone("").await;
    put_json(&*owner, &users(), "ada", json!(1)).await;
    let open = |user: &str, parameters: &str| {
        let url = format!("postgres://{user}@{}/storage?{parameters}", server.address());
        async move { harness::open(&url).await }
    };
    server.psql("CREATE ROLE stranger LOGIN").unwrap();
    for parameters in ["", "create_schema=false"] {
        expect(
            open("stranger", parameters).await.map(drop),
            ErrorKind::PermissionDenied,
            Retry::Never,
            "storage",
        );
    }
    // It may not make a schema either.
    let elsewhere = open("stranger", "schema=elsewhere").await.map(drop);
    expect(elsewhere, ErrorKind::PermissionDenied, Retry::Never, "storage");

    server
        .psql(
            "CREATE ROLE reader LOGIN;\nGRANT USAGE ON SCHEMA storage TO reader;\n\
             GRANT SELECT ON ALL TABLES IN SCHEMA storage TO reader;",
        )
        .unwrap();
    for parameters in ["", "create_schema=false", "prepared_statements=false"] {
        let reader = open("reader", parameters).await.unwrap();
        assert_eq!(get_json(&*reader, &users(), "ada").await, Some(json!(1)));
        assert_eq!(reader.scan(&storage_core::Scan::new(users())).await.unwrap().items.len(), 1);
        assert_eq!(reader.collections().await.unwrap(), [users()]);
        assert_ne!(reader.health().await.unwrap().status, HealthStatus::Down);
        expect(put_one(&*reader, "ada").await, ErrorKind::PermissionDenied, Retry::Never, "records");
        expect(increment(&*reader, "n").await, ErrorKind::PermissionDenied, Retry::Never, "records");
        expect(
            increment_atomically(&*reader, "n").await,
            ErrorKind::PermissionDenied,
            Retry::Never,
            "records",
        );
        expect(reader.clear(&users()).await, ErrorKind::PermissionDenied, Retry::Never, "records");
        let index = storage_core::IndexSpec::new(users(), storage_core::Path::new("email").unwrap());
        expect(reader.ensure_index(&index).await, ErrorKind::PermissionDenied, Retry::Never, "");
    }
    // Rights that are given while the store is open count at once.
    let reader = open("reader", "").await.unwrap();
    server.psql("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA storage TO reader").unwrap();
    put_one(&*reader, "bob").await.unwrap();
    increment_atomically(&*reader, "n").await.unwrap();
}

/// Tables that somebody removed are missed, by name, until they are there again.
#[tokio::test]
async fn dropped_tables_are_told() {
    let (server, backend) = alone("pool_max=2").await;
    put_one(&*backend, "ada").await.unwrap();
    get(&*backend, "ada").await.unwrap();
    server.psql("DROP TABLE storage.records CASCADE").unwrap();
    let told = "storage schema status";
    expect(get(&*backend, "ada").await, ErrorKind::NotFound, Retry::Never, told);
    expect(put_one(&*backend, "ada").await, ErrorKind::NotFound, Retry::Never, told);
    expect(increment_atomically(&*backend, "n").await, ErrorKind::NotFound, Retry::Never, told);
    assert_ne!(backend.health().await.unwrap().status, HealthStatus::Up);

    server.psql("DROP SCHEMA storage CASCADE").unwrap();
    expect(get(&*backend, "ada").await, ErrorKind::NotFound, Retry::Never, told);
    expect(increment(&*backend, "n").await, ErrorKind::NotFound, Retry::Never, told);
    // Another program makes it anew, and the statements that were prepared for the old tables serve the new ones.
    let again = harness::open(&server.url()).await.unwrap();
    for backend in [&again, &backend] {
        put_one(&**backend, "ada").await.unwrap();
        increment_atomically(&**backend, "n").await.unwrap();
    }
    assert_eq!(crate::sum(&*backend, "n").await, 2);
}

/// Columns that somebody adds, and indexes, are in nobody's way.
#[tokio::test]
async fn a_table_with_more_columns_serves_as_well() {
    let (server, backend) = alone("pool_max=1").await;
    let calls = || async {
        put_one(&*backend, "ada").await?;
        increment(&*backend, "n").await?;
        increment_atomically(&*backend, "n").await?;
        get(&*backend, "ada").await?;
        backend.scan(&storage_core::Scan::new(users())).await.map(drop)
    };
    // Often enough that the server keeps its plans.
    for _ in 0..8 {
        calls().await.unwrap();
    }
    server.psql("ALTER TABLE storage.records ADD COLUMN theirs text DEFAULT 'x'").unwrap();
    calls().await.unwrap();
    server.psql("CREATE INDEX ON storage.records (theirs); ANALYZE storage.records;").unwrap();
    calls().await.unwrap();
    server.psql("ALTER TABLE storage.records DROP COLUMN theirs").unwrap();
    calls().await.unwrap();
}

/// Rows that nobody of ours has written are told as damaged, and harm no others.
#[tokio::test]
async fn rows_of_others_are_read_or_told() {
    let (server, backend) = alone("").await;
    server.psql("INSERT INTO storage.records (collection, key, json) VALUES ('users', 'theirs', '{\"a\": [1, 2.50]}')").unwrap();
    assert_eq!(get_json(&*backend, &users(), "theirs").await, Some(json!({"a": [1, 2.5]})));
    let version = |record: Vec<Option<storage_core::Record>>| record[0].as_ref().unwrap().version.clone();
    let addresses = [storage_testkit::helpers::address(&users(), "theirs")];
    let first = version(backend.get(&addresses).await.unwrap());
    put_json(&*backend, &users(), "theirs", json!(1)).await;
    assert_ne!(version(backend.get(&addresses).await.unwrap()), first);
    let told: Result<()> = get(&*backend, "theirs").await;
    told.unwrap();
}
