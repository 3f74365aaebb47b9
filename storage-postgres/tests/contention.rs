//! Writers of the same records: they wait for each other and never in a circle, and no write is lost or seen by halves.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde_json::json;
use storage_core::{
    Address, Backend, Batch, CollectionName, ErrorKind, IndexSpec, Json, Maintenance, Mutation, Path,
    Precondition, Timestamp, Value,
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
    // For a while, and as long as a busy machine needs for enough of them.
    let until = Instant::now() + Duration::from_secs(6);
    let batches = Arc::new(AtomicUsize::new(0));
    let tasks = (0..12).map(|task| {
        let (backend, batches): (Arc<dyn Backend>, _) = (backend.clone(), batches.clone());
        tokio::spawn(async move {
            while Instant::now() < until || batches.load(Relaxed) < 500 {
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
                batches.fetch_add(1, Relaxed);
                match fastrand::u8(..40) {
                    0 => drop(backend.maintain(Maintenance::Sweep).await.unwrap()),
                    1 => drop(backend.clear(&CollectionName::new("left").unwrap()).await.unwrap()),
                    _ => {}
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    // The server counts them up with a delay.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(deadlocks(), before, "the server broke circles, in {batches:?} batches");
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

#[tokio::test]
async fn an_atomic_batch_fails_by_the_first_of_its_mutations_that_cannot_be() {
    let backend = open(&with(&SERVER.url(), "schema", &schema())).await.unwrap();
    let put = |key, n: i64| Mutation::put(at(key), Json::from(json!({"n": n})));
    let path = Path::new("n").unwrap();
    let index = IndexSpec { unique: true, ..IndexSpec::new(at(0).collection, path) };
    backend.ensure_index(&index).await.unwrap();
    backend.write(&Batch::atomic(vec![put(0, 1), put(2, 2)])).await.unwrap();
    let exists = || put(0, 9).on(Precondition::Absent);
    for (mutations, kind, position) in [
        (vec![put(4, 1), exists()], ErrorKind::Conflict, 0),
        (vec![exists(), put(4, 1)], ErrorKind::PreconditionFailed, 0),
        (vec![put(4, 3), put(6, 4), put(8, 4), exists()], ErrorKind::Conflict, 2),
        // What a record gives back is free for the next, also where a later one fails.
        (vec![Mutation::delete(at(0)), put(4, 1), put(0, 5), put(6, 5)], ErrorKind::Conflict, 3),
        (vec![Mutation::delete(at(0)), put(4, 1), put(6, 2)], ErrorKind::Conflict, 2),
        (vec![Mutation::delete(at(0)), put(4, 1), Mutation::touch(at(0), None)], ErrorKind::NotFound, 2),
    ] {
        let error = backend.write(&Batch::atomic(mutations.clone())).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.failed_mutation()),
            (kind, Some(position)),
            "{mutations:?}: {error:?}"
        );
    }
    let moved = vec![Mutation::delete(at(0)), put(4, 1), put(0, 5)];
    backend.write(&Batch::atomic(moved)).await.unwrap();
}

#[tokio::test]
async fn a_bad_mutation_of_an_independent_batch_fails_alone_and_by_order() {
    let backend = open(&with(&SERVER.url(), "schema", &schema())).await.unwrap();
    let put = |key, n: i64| Mutation::put(at(key), Json::from(json!({"n": n})));
    let index = IndexSpec { unique: true, ..IndexSpec::new(at(0).collection, Path::new("n").unwrap()) };
    backend.ensure_index(&index).await.unwrap();
    let failed = async |mutations: Vec<Mutation>| {
        let results = backend.write(&Batch::independent(mutations)).await.unwrap();
        let failed =
            results.iter().enumerate().filter_map(|(at, result)| Some((at, result.as_ref().err()?.kind())));
        failed.collect::<Vec<_>>()
    };
    let conflict = |at| (at, ErrorKind::Conflict);
    // The later of two, whatever the order of their keys.
    assert_eq!(failed(vec![put(2, 1), put(0, 1), put(4, 2)]).await, [conflict(1)]);
    assert!(backend.get(&[at(0)]).await.unwrap()[0].is_none());
    // Of two puts of a record, the good one stays.
    assert_eq!(failed(vec![put(0, 3), put(0, 1), put(6, 4)]).await, [conflict(1)]);
    let kept = backend.get(&[at(0)]).await.unwrap();
    assert_eq!(kept[0].as_ref().unwrap().value.as_json().unwrap().as_str(), r#"{"n": 3}"#);
    // Also where it is the first of two, and nobody ever sees its value.
    assert_eq!(failed(vec![put(0, 1), put(0, 3)]).await, [conflict(0)]);
    let atomic = Batch::atomic(vec![put(0, 1), put(0, 3)]);
    assert_eq!(backend.write(&atomic).await.unwrap_err().failed_mutation(), Some(0));
    // What another mutation gives back.
    assert_eq!(
        failed(vec![Mutation::delete(at(2)), put(8, 1), Mutation::increment(at(10), "n", 1)]).await,
        []
    );
    // What is not given back yet: 1 is held by k8.
    assert_eq!(failed(vec![put(2, 1), put(8, 7), put(4, 8)]).await, [conflict(0)]);
    assert_eq!(failed(vec![put(8, 6), put(2, 7), put(4, 9)]).await, []);
    let atomic = Batch::atomic(vec![put(2, 6), put(8, 10)]);
    assert_eq!(backend.write(&atomic).await.unwrap_err().failed_mutation(), Some(0));
    // Many, of which some are at odds.
    let many: Vec<Mutation> = (0..300)
        .map(|n| {
            Mutation::put(
                Address::new(at(0).collection.as_str(), format!("m{n}")).unwrap(),
                Json::from(json!({"n": 100 + n % 290})),
            )
        })
        .collect();
    assert_eq!(failed(many).await, (290..300).map(conflict).collect::<Vec<_>>());
}
