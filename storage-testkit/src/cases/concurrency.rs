//! Group *concurrency*: many at once, and calls given up half-way.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Tree, json};
use storage_core::{
    AtomicScope, Backend, Batch, CollectionName, ErrorKind, Feature, IndexSpec, Mutation, Precondition,
    Result, Written,
};
use tokio::sync::Barrier;

use crate::Cx;
use crate::helpers::{address, get_json, get_record, ok, put, put_json, tree, write_all, write_one};

/// The results of the same write by `n` tasks that begin together.
async fn race(
    backend: &Arc<dyn Backend>,
    n: usize,
    mutation: impl Fn(usize) -> Mutation,
) -> Vec<Result<Written>> {
    let start = Arc::new(Barrier::new(n));
    let mut tasks = Vec::new();
    for i in 0..n {
        let (backend, start, mutation) = (backend.clone(), start.clone(), mutation(i));
        tasks.push(tokio::spawn(async move {
            start.wait().await;
            write_one(&*backend, mutation).await
        }));
    }
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("a writer"));
    }
    results
}

/// Of many writers that saw the same version, or saw nothing, one wins, and the others hear of it.
pub async fn if_version_one_winner(cx: Cx) {
    const WRITERS: usize = 12;
    let (backend, collection) = (cx.open().await, cx.collection());
    for round in 0..10 {
        let key = format!("k{}", round / 2);
        let condition = if round % 2 == 0 {
            Precondition::Absent
        } else {
            Precondition::Version(get_record(&*backend, &collection, &key).await.version)
        };
        let results =
            race(&backend, WRITERS, |i| put(&collection, &key, json!([round, i])).on(condition.clone()))
                .await;
        let mut winner = None;
        for (i, result) in results.into_iter().enumerate() {
            match result {
                Ok(written) => assert_eq!(winner.replace((i, written.version)), None, "two winners"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "writer {i}: {error}"),
            }
        }
        let (winner, version) = winner.expect("one of the writers wins");
        let record = get_record(&*backend, &collection, &key).await;
        assert_eq!(tree(&record), json!([round, winner]), "the record is the winner's");
        assert_eq!(Some(record.version), version);
    }
}

/// Writers of one key and its readers: every value read is one that was written, whole.
pub async fn same_key_whole_values(cx: Cx) {
    const WRITERS: usize = 6;
    let (backend, collection) = (cx.open().await, cx.collection());
    let value = |writer: usize, turn: usize| json!({"writer": writer, "turn": turn, "text": format!("{writer}").repeat(20_000 + 1_000 * writer)});
    put_json(&*backend, &collection, "k", value(0, 0)).await;
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (backend, collection) = (backend.clone(), collection.clone());
        tasks.push(tokio::spawn(async move {
            for turn in 0..15 {
                put_json(&*backend, &collection, "k", value(writer, turn)).await;
            }
        }));
    }
    for _ in 0..2 {
        let (backend, collection) = (backend.clone(), collection.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..60 {
                let read = get_json(&*backend, &collection, "k").await.expect("the record is always there");
                let number = |field: &str| usize::try_from(read[field].as_u64().unwrap_or(u64::MAX));
                let (writer, turn) = (number("writer").expect("a writer"), number("turn").expect("a turn"));
                assert!(read == value(writer, turn), "a value that writer {writer} never wrote");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap_or_else(|error| panic!("{error}"));
    }
    let last = get_json(&*backend, &collection, "k").await.expect("the record is there");
    assert_eq!(last["turn"], json!(14), "the last value of some writer");
}

/// Writers of different keys do not hinder one another: all records are there, with what their writer put.
pub async fn parallel_distinct_keys(cx: Cx) {
    const WRITERS: usize = 8;
    const EACH: usize = 40;
    let (backend, collection) = (cx.open().await, cx.collection());
    let key = |writer: usize, i: usize| format!("{writer}-{i}");
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (backend, collection) = (backend.clone(), collection.clone());
        tasks.push(tokio::spawn(async move {
            for i in 0..EACH {
                put_json(&*backend, &collection, &key(writer, i), json!([writer, i])).await;
                let read = get_json(&*backend, &collection, &key(writer, i)).await;
                assert_eq!(read, Some(json!([writer, i])), "a writer reads what it wrote");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap_or_else(|error| panic!("{error}"));
    }
    let all = (0..WRITERS).flat_map(|writer| (0..EACH).map(move |i| (writer, i)));
    let (numbers, keys): (Vec<_>, Vec<_>) =
        all.map(|(writer, i)| (json!([writer, i]), address(&collection, &key(writer, i)))).unzip();
    for (expected, chunk) in numbers.chunks(50).zip(keys.chunks(50)) {
        let read: Vec<Tree> = ok(backend.get(chunk).await, "get")
            .iter()
            .map(|r| tree(r.as_ref().expect("the record")))
            .collect();
        assert_eq!(read, expected);
    }
}

/// Many first writers of new collections, and makers of the same index, do not fail over what each has to
/// make first.
pub async fn schema_created_once_by_many(cx: Cx) {
    const WRITERS: usize = 16;
    let backend = cx.open().await;
    for _ in 0..3 {
        let collection = cx.collection();
        let results = race(&backend, WRITERS, |i| put(&collection, &format!("k{i}"), json!(i))).await;
        for (i, result) in results.into_iter().enumerate() {
            ok(result, &format!("the first write of writer {i}"));
            assert_eq!(get_json(&*backend, &collection, &format!("k{i}")).await, Some(json!(i)));
        }
        if cx.has(Feature::Indexes) {
            assert_eq!(makers(&backend, &collection, WRITERS).await, 1, "one of them made the index");
        }
    }
}

/// How many of `n` calls that make the same index say that it was new.
async fn makers(backend: &Arc<dyn Backend>, collection: &CollectionName, n: usize) -> usize {
    let index = IndexSpec::new(collection.clone(), "v".parse().expect("a path"));
    let start = Arc::new(Barrier::new(n));
    let mut tasks = Vec::new();
    for _ in 0..n {
        let (backend, start, index) = (backend.clone(), start.clone(), index.clone());
        tasks.push(tokio::spawn(async move {
            start.wait().await;
            ok(backend.ensure_index(&index).await, "ensure_index")
        }));
    }
    let mut made = 0;
    for task in tasks {
        made += usize::from(task.await.unwrap_or_else(|error| panic!("{error}")));
    }
    made
}

/// A write that is given up, at whatever moment, is done or not done; the backend works on.
pub async fn dropped_future_leaves_no_half_write(cx: Cx) {
    let (backend, collection) = (cx.open().await, cx.collection());
    let pairs = cx.has(Feature::Atomic) && cx.capabilities().atomic_scope != AtomicScope::Record;
    let value = |i: usize| json!({"i": i, "text": "x".repeat(3_000 + i)});
    let batch = |i: usize| {
        let keys = if pairs { &["a", "b"][..] } else { &["a"] };
        let puts = keys.iter().map(|key| put(&collection, key, value(i))).collect();
        if pairs { Batch::atomic(puts) } else { Batch::independent(puts) }
    };
    write_all(&*backend, batch(0)).await;
    for i in 1..=60 {
        let batch = batch(i);
        // Not polled again after the first time, after a moment, and after a longer one.
        let patience = Duration::from_micros([0, 50, 200, 700][i % 4]);
        if let Ok(results) = tokio::time::timeout(patience, backend.write(&batch)).await {
            let results = ok(results, "a write that was in time");
            results.into_iter().for_each(|result| drop(ok(result, "a mutation that was in time")));
        }
        let keys: Vec<_> = batch.mutations.iter().map(|mutation| mutation.address.clone()).collect();
        let records = ok(backend.get(&keys).await, "a read after a write that was given up");
        let read: Vec<Tree> =
            records.iter().map(|record| tree(record.as_ref().expect("the record"))).collect();
        let written =
            usize::try_from(read[0]["i"].as_u64().expect("a number")).expect("a number of the case");
        assert!(written <= i, "a value that was not written yet");
        assert!(read.iter().all(|tree| *tree == value(written)), "write {i} is there by half");
    }
    // What was given up last may still be done, after the first of these.
    for _ in 0..50 {
        write_all(&*backend, batch(1_000)).await;
        if get_json(&*backend, &collection, "a").await == Some(value(1_000)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("writes are lost after one that was given up");
}
