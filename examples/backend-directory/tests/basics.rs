//! What the suite does not know: that a store is plain files, and how it meets those of others.

#![allow(clippy::unwrap_used, reason = "a panic is the message of a failed test")]

use std::fs;

use example_directory::{DirectoryBackend, DirectoryConfig};
use storage_core::{Address, Backend, Batch, CollectionName, Count, ErrorKind, Json, Mutation, Result};
use tempfile::TempDir;

async fn open(directory: &TempDir) -> Result<DirectoryBackend> {
    DirectoryBackend::open(DirectoryConfig::new(directory.path())).await
}

async fn put(store: &DirectoryBackend, collection: &str, key: &str) {
    let address = Address::new(collection, key).unwrap();
    let put = Mutation::put(address, Json::parse(r#"{"name": "Ada"}"#).unwrap());
    store.write(&Batch::independent(vec![put])).await.unwrap().remove(0).unwrap();
}

#[tokio::test]
async fn a_record_is_a_plain_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    put(&store, "users", "ada").await;
    let file = fs::read_to_string(directory.path().join("users/ada")).unwrap();
    let (header, value) = file.split_once('\n').unwrap();
    assert!(header.starts_with(r#"{"version":""#), "{header}");
    assert_eq!(value, r#"{"name": "Ada"}"#);
}

#[tokio::test]
async fn a_store_is_open_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    assert_eq!(open(&directory).await.unwrap_err().kind(), ErrorKind::Busy);
    store.close().await.unwrap();
    open(&directory).await.unwrap();
}

#[tokio::test]
async fn what_others_put_there_is_none_of_ours() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    put(&store, "users", "ada").await;
    let users = directory.path().join("users");
    for name in ["notes.txt", ".hidden", "a%41", "goes+"] {
        fs::write(users.join(name), "not a record").unwrap();
    }
    fs::write(directory.path().join("README"), "not a collection").unwrap();
    fs::create_dir_all(users.join("a+")).unwrap();
    fs::write(users.join("a+/b"), "not a record").unwrap();
    let collections = store.collections().await.unwrap();
    assert_eq!(collections, [CollectionName::new("users").unwrap()]);
    let count = Count { collection: collections[0].clone(), filter: None };
    assert_eq!(store.count(&count).await.unwrap(), 1);
    assert_eq!(store.clear(&count.collection).await.unwrap(), 1);
    assert!(users.join("notes.txt").exists());
}

#[tokio::test]
async fn a_long_key_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await.unwrap();
    let key = "é".repeat(256);
    put(&store, "users", &key).await;
    assert_eq!(store.collections().await.unwrap().len(), 1);
    let delete = Mutation::delete(Address::new("users", &key).unwrap());
    store.write(&Batch::independent(vec![delete])).await.unwrap().remove(0).unwrap();
    assert!(!directory.path().join("users").exists());
}
