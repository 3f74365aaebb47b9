//! Other programs' data under the keys of a store.

use serde_json::json;
use storage_core::{Batch, ErrorKind, Json, Mutation, Precondition, Retry, Scan};
use storage_testkit::helpers::{address, get_json, put, put_json, write_one};

use crate::{alone, append, expect, get, increment, put_one, users};

const TYPE: ErrorKind = ErrorKind::TypeMismatch;

/// A list under a record's key is no record: nothing reads it as one, nothing overwrites it, and the records beside it
/// are untouched by it.
#[tokio::test]
async fn a_key_of_another_type_is_left_alone() {
    let (server, backend) = alone([]).await;
    put_json(&*backend, &users(), "ada", json!(1)).await;
    server.command(&["RPUSH", "{storage:users}:r:bob", "theirs"]).unwrap();

    expect(get(&*backend, "bob").await, TYPE, Retry::Never, "prefix");
    let both = [address(&users(), "ada"), address(&users(), "bob")];
    expect(backend.get(&both).await, TYPE, Retry::Never, "prefix");
    expect(put_one(&*backend, "bob").await, TYPE, Retry::Never, "prefix");
    expect(increment(&*backend, "bob").await, TYPE, Retry::Never, "prefix");
    expect(append(&*backend, "bob").await, TYPE, Retry::Never, "prefix");
    let deleted = write_one(&*backend, Mutation::delete(address(&users(), "bob"))).await;
    expect(deleted, TYPE, Retry::Never, "prefix");
    let created = write_one(&*backend, put(&users(), "bob", json!(2)).on(Precondition::Absent)).await;
    expect(created, TYPE, Retry::Never, "prefix");

    // Of many puts, the others are done.
    let many = ["ada", "bob", "cid"].map(|key| put(&users(), key, json!(key))).into();
    let done = backend.write(&Batch::independent(many)).await.unwrap();
    assert!(done[0].is_ok() && done[2].is_ok(), "{done:?}");
    expect(done[1].clone(), TYPE, Retry::Never, "users/bob");
    assert_eq!(get_json(&*backend, &users(), "cid").await, Some(json!("cid")));

    // Of an atomic batch, none.
    let all = ["dan", "bob"].map(|key| put(&users(), key, json!(key))).into();
    let failed = expect(backend.write(&Batch::atomic(all)).await, TYPE, Retry::Never, "prefix");
    assert_eq!(failed.failed_mutation(), Some(1));
    assert_eq!(get_json(&*backend, &users(), "dan").await, None);

    assert_eq!(server.command(&["LRANGE", "{storage:users}:r:bob", "0", "-1"]).unwrap().trim(), "theirs");
    let page = backend.scan(&Scan::new(users())).await.unwrap();
    assert_eq!(page.items.len(), 2, "what is no record of the store is in no scan");
}

/// Text that is no record is told from a record, and can be replaced by one.
#[tokio::test]
async fn text_of_another_program_is_no_record() {
    let (server, backend) = alone([]).await;
    server.command(&["SET", "{storage:users}:r:bob", "theirs"]).unwrap();
    expect(get(&*backend, "bob").await, ErrorKind::Corrupt, Retry::Never, "another program");
    put_json(&*backend, &users(), "bob", json!("ours")).await;
    assert_eq!(get_json(&*backend, &users(), "bob").await, Some(json!("ours")));
}

/// What stands in the place of the hash of counters, of a list, or of the index is told as well.
#[tokio::test]
async fn other_keys_of_another_type_are_told() {
    let (server, backend) = alone([]).await;
    increment(&*backend, "counter").await.unwrap();
    append(&*backend, "list").await.unwrap();
    for key in ["{storage:users}:c:counter", "{storage:users}:l:list"] {
        server.command(&["SET", key, "theirs"]).unwrap();
    }
    expect(get(&*backend, "counter").await, TYPE, Retry::Never, "prefix");
    expect(increment(&*backend, "counter").await, TYPE, Retry::Never, "prefix");
    expect(get(&*backend, "list").await, TYPE, Retry::Never, "prefix");
    expect(append(&*backend, "list").await, TYPE, Retry::Never, "prefix");
    server.command(&["SET", "{storage:other}:i", "theirs"]).unwrap();
    let other = storage_core::CollectionName::new("other").unwrap();
    let written = write_one(&*backend, put(&other, "ada", json!(1))).await;
    expect(written, TYPE, Retry::Never, "prefix");
    assert_eq!(get_json(&*backend, &other, "ada").await, None, "it was not written without its index");
    let created = write_one(&*backend, put(&other, "ada", json!(1)).on(Precondition::Absent)).await;
    expect(created, TYPE, Retry::Never, "prefix");
    assert_eq!(get_json(&*backend, &other, "ada").await, None, "it was not written without its index");
    let counted = Mutation::append(address(&other, "ada"), vec![Json::from(json!(1))]);
    expect(write_one(&*backend, counted).await, TYPE, Retry::Never, "prefix");
    expect(backend.scan(&Scan::new(other)).await, TYPE, Retry::Never, "prefix");
}
