//! Small steps that cases are made of. They panic with a message that says what was expected.

use std::fmt::Debug;
use std::time::Duration;

use serde_json::Value as Tree;
use storage_core::{
    Address, Backend, Batch, CollectionName, Error, ErrorKind, Json, Key, Mutation, Query, Record, Result,
    Scan, Timestamp, Value, Version, Written,
};

/// More pages than any case needs: a cursor that goes round in circles.
const TOO_MANY_PAGES: usize = 100_000;

/// The address of a key that is known to be valid.
#[track_caller]
pub fn address(collection: &CollectionName, key: &str) -> Address {
    let key = Key::new(key).unwrap_or_else(|error| panic!("the case uses a bad key: {error}"));
    Address { collection: collection.clone(), key }
}

/// The addresses of several keys.
#[track_caller]
pub fn addresses(collection: &CollectionName, keys: &[&str]) -> Vec<Address> {
    keys.iter().map(|key| address(collection, key)).collect()
}

/// A put of a JSON value.
#[track_caller]
pub fn put(collection: &CollectionName, key: &str, value: Tree) -> Mutation {
    Mutation::put(address(collection, key), Json::from(value))
}

/// Writes one mutation; both levels of failure are one here.
pub async fn write_one(backend: &dyn Backend, mutation: Mutation) -> Result<Written> {
    let mut results = backend.write(&Batch::independent(vec![mutation])).await?;
    assert_eq!(results.len(), 1, "a write of one mutation has one result");
    results.remove(0)
}

/// Writes one mutation that has to succeed.
pub async fn write_ok(backend: &dyn Backend, mutation: Mutation) -> Written {
    let what = format!("{} of {}", mutation.change.name(), mutation.address);
    match write_one(backend, mutation).await {
        Ok(written) => written,
        Err(error) => panic!("{what} failed: {error} ({error:?})"),
    }
}

/// Writes a batch in which every mutation has to succeed.
pub async fn write_all(backend: &dyn Backend, batch: Batch) -> Vec<Written> {
    let results = ok(backend.write(&batch).await, "the batch");
    assert_eq!(results.len(), batch.mutations.len(), "one result for each mutation");
    results.into_iter().map(|result| ok(result, "a mutation of the batch")).collect()
}

/// Puts a JSON value and returns the record's version.
pub async fn put_json(backend: &dyn Backend, collection: &CollectionName, key: &str, value: Tree) -> Version {
    let written = write_ok(backend, put(collection, key, value)).await;
    written.version.expect("a put returns the new version")
}

/// Puts `n` records `{"n": i}` under the keys `k000000`, `k000001`, … in batches.
pub async fn put_numbered(backend: &dyn Backend, collection: &CollectionName, n: usize) {
    let step = backend.info().capabilities.limits.batch_len.clamp(1, 1_000);
    for first in (0..n).step_by(step) {
        let mutations = (first..n.min(first + step))
            .map(|i| put(collection, &numbered(i), serde_json::json!({ "n": i })));
        write_all(backend, Batch::independent(mutations.collect())).await;
    }
}

/// The `i`th key of [`put_numbered`].
pub fn numbered(i: usize) -> String {
    format!("k{i:06}")
}

/// Reads one record.
pub async fn get_one(backend: &dyn Backend, collection: &CollectionName, key: &str) -> Option<Record> {
    let mut records = ok(backend.get(&[address(collection, key)]).await, "get");
    assert_eq!(records.len(), 1, "a get of one key has one entry");
    records.remove(0)
}

/// Reads one record that has to be there.
pub async fn get_record(backend: &dyn Backend, collection: &CollectionName, key: &str) -> Record {
    let found = get_one(backend, collection, key).await;
    found.unwrap_or_else(|| panic!("there is no record {collection}/{key}"))
}

/// Reads one record's JSON; `None` if there is no record.
pub async fn get_json(backend: &dyn Backend, collection: &CollectionName, key: &str) -> Option<Tree> {
    get_one(backend, collection, key).await.map(|record| tree(&record))
}

/// The JSON of a record that has to hold JSON.
#[track_caller]
pub fn tree(record: &Record) -> Tree {
    match &record.value {
        Value::Json(json) => ok(json.tree(), "stored JSON"),
        other => panic!("{} holds {}, not JSON", record.address, other.kind()),
    }
}

/// All records of a prefix, `limit` to a page.
pub async fn scan_all(
    backend: &dyn Backend,
    collection: &CollectionName,
    prefix: &str,
    limit: u32,
) -> Vec<Record> {
    let mut scan = Scan { prefix: prefix.into(), limit, ..Scan::new(collection.clone()) };
    let mut records = Vec::new();
    for _ in 0..TOO_MANY_PAGES {
        let page = ok(backend.scan(&scan).await, "scan");
        assert!(page.items.len() <= limit as usize, "a page of {limit} has {} records", page.items.len());
        records.extend(page.items);
        scan.after = page.next;
        if scan.after.is_none() {
            return records;
        }
    }
    panic!("the scan of {collection} does not end: its cursors go round in circles");
}

/// All keys of a prefix by `keys`, `limit` to a page.
pub async fn keys_all(
    backend: &dyn Backend,
    collection: &CollectionName,
    prefix: &str,
    limit: u32,
) -> Vec<String> {
    let mut scan = Scan { prefix: prefix.into(), limit, ..Scan::new(collection.clone()) };
    let mut keys = Vec::new();
    for _ in 0..TOO_MANY_PAGES {
        let page = ok(backend.keys(&scan).await, "keys");
        assert!(page.items.len() <= limit as usize, "a page of {limit} has {} keys", page.items.len());
        keys.extend(page.items.into_iter().map(|key| key.as_str().to_owned()));
        scan.after = page.next;
        if scan.after.is_none() {
            return keys;
        }
    }
    panic!("the keys of {collection} do not end: their cursors go round in circles");
}

/// All records that a query finds, in its order, from its first page on.
pub async fn query_all(backend: &dyn Backend, mut query: Query) -> Vec<Record> {
    let mut records = Vec::new();
    for _ in 0..TOO_MANY_PAGES {
        let page = ok(backend.query(&query).await, "query");
        assert!(
            page.items.len() <= query.limit as usize,
            "a page of {} has {}",
            query.limit,
            page.items.len()
        );
        records.extend(page.items);
        query.after = page.next;
        if query.after.is_none() {
            return records;
        }
    }
    panic!("the query of {} does not end: its cursors go round in circles", query.collection);
}

/// The keys of records, in their order.
pub fn keys_of(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.address.key.as_str().to_owned()).collect()
}

/// The same texts in byte order.
pub fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts
}

/// The value of a call that has to succeed.
#[track_caller]
pub fn ok<T>(result: Result<T>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what} failed: {error} ({error:?})"),
    }
}

/// The error of a call that has to fail with `kind`.
#[track_caller]
pub fn expect_kind<T: Debug>(result: Result<T>, kind: ErrorKind, what: &str) -> Error {
    match result {
        Ok(value) => panic!("{what} returned {value:?}; expected the error {kind}"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{what} failed in the wrong way: {error} ({error:?})");
            assert!(!error.message().is_empty(), "{what}: the error has no message");
            error
        }
    }
}

/// The time `millis` from now.
pub fn in_millis(millis: u64) -> Timestamp {
    Timestamp::now().saturating_add(Duration::from_millis(millis))
}

/// Sleeps until `at` has surely passed: by this clock, and a little more for another host's.
pub async fn pass(at: Timestamp) {
    tokio::time::sleep(at.since(Timestamp::now()) + Duration::from_millis(30)).await;
    assert!(Timestamp::now() > at, "the clock of this host went back");
}
