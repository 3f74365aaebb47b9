//! Writers of the same records: they wait for each other and never in a circle, and no write is lost or seen by halves.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use storage_core::{
    Address, Backend, Batch, CollectionName, ErrorKind, Json, Maintenance, Mutation, Precondition, Timestamp,
    Value,
};

use harness::{SERVER, open, schema, with};

const KEYS: usize = 12;

fn at(key: usize) -> Address {
    // Two collections, so that batches go over both.
    Address::new(["left", "right"][key % 2], format!("k{key}")).unwrap()
}

/// A mutation that may meet any other on the same record.
fn mutation(kind: u8, key: usize) -> Mutation {
    let soon = Timestamp::now().saturating_add(Duration::from_millis(fastrand::u64(1..=20)));
    let put = Mutation::put(at(key), Json::from(json!({"key": key})));
    match kind {
        0..=2 => put,
        3 => put.expiring(Some(soon)),
        4 => put.on(Precondition::Absent),
        5 => put.on(Precondition::Present),
        6 => Mutation::delete(at(key)),
        7 => Mutation::touch(at(key), None),
        8 => Mutation::increment(at(key), "n", 1),
        9 => Mutation::append(at(key), vec![Json::from(json!(key))]),
        _ => Mutation::put(at(key), Value::bytes("data")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_writers_wait_for_each_other_in_a_circle() {
    let name = schema();
    let backend = open(&with(&with(&SERVER.url(), "schema", &name), "pool_max", "16")).await.unwrap();
    let deadlocks =
        || SERVER.psql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'storage'").unwrap();
    let before = deadlocks();
    let until = Instant::now() + Duration::from_secs(6);
    let tasks = (0..12).map(|task| {
        let backend: Arc<dyn Backend> = backend.clone();
        tokio::spawn(async move {
            let mut batches = 0;
            while Instant::now() < until {
                // In any order, with some twice.
                let same = fastrand::u8(..12);
                let kind = |of: usize| if of.is_multiple_of(3) { fastrand::u8(..11) } else { same };
                let mutations = (0..fastrand::usize(2..10))
                    .map(|at| mutation(kind(at * task), fastrand::usize(..KEYS)))
                    .collect();
                let batch =
                    if fastrand::bool() { Batch::atomic(mutations) } else { Batch::independent(mutations) };
                let results = match backend.write(&batch).await {
                    Ok(results) => results,
                    Err(error) => vec![Err(error)],
                };
                for error in results.into_iter().filter_map(Result::err) {
                    let fits = [ErrorKind::PreconditionFailed, ErrorKind::NotFound, ErrorKind::TypeMismatch];
                    assert!(fits.contains(&error.kind()), "{batch:?}: {error:?}");
                }
                batches += 1;
                match fastrand::u8(..40) {
                    0 => drop(backend.maintain(Maintenance::Sweep).await.unwrap()),
                    1 => drop(backend.clear(&CollectionName::new("left").unwrap()).await.unwrap()),
                    _ => {}
                }
            }
            batches
        })
    });
    let mut batches = 0;
    for task in tasks.collect::<Vec<_>>() {
        batches += task.await.unwrap();
    }
    assert!(batches > 500, "only {batches} batches");
    // The server counts them up with a delay.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(deadlocks(), before, "the server broke circles, in {batches} batches");
    let placeholders =
        format!("SELECT count(*) FROM {name}.records WHERE version = 0 OR expires_at = '-infinity'");
    assert_eq!(SERVER.psql(&placeholders).unwrap(), "0", "places that were claimed in vain stay");
    let orphans = format!(
        "SELECT count(*) FROM {name}.list_items i LEFT JOIN {name}.records r USING (list_id) WHERE r.list_id IS NULL"
    );
    assert_eq!(SERVER.psql(&orphans).unwrap(), "0", "items of lists that are gone");
    let lengths = format!(
        "SELECT count(*) FROM {name}.records r WHERE kind = 'l' AND list_len <> \
         (SELECT count(*) FROM {name}.list_items i WHERE i.list_id = r.list_id)"
    );
    assert_eq!(SERVER.psql(&lengths).unwrap(), "0", "lists of another length than they say");
}

#[tokio::test]
async fn places_that_are_locked_in_vain_leave_nothing() {
    let name = schema();
    let backend = open(&with(&SERVER.url(), "schema", &name)).await.unwrap();
    let rows = || SERVER.psql(&format!("SELECT count(*) FROM {name}.records")).unwrap();
    let mutations = || {
        vec![
            Mutation::put(at(0), Json::from(json!(1))),
            Mutation::check(at(2), Precondition::Absent),
            Mutation::delete(at(4)),
            Mutation::increment(at(6), "n", 1).expiring(Some(Timestamp::from_millis(0))),
        ]
    };
    backend.write(&Batch::atomic(mutations())).await.unwrap();
    assert_eq!(rows(), "1");
    let mut failing = mutations();
    failing.push(Mutation::touch(at(8), None));
    backend.write(&Batch::atomic(failing)).await.unwrap_err();
    assert_eq!(rows(), "1");
    let same = vec![
        Mutation::touch(at(8), None),
        Mutation::put(at(8), Json::from(json!(1))),
        Mutation::delete(at(8)),
    ];
    backend.write(&Batch::independent(same)).await.unwrap();
    assert_eq!(rows(), "1");
}
