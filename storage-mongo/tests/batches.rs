//! Batches: the order of their mutations, what fails of them, and how many commands they take.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use serde_json::{Value as Tree, json};
use storage_core::{
    Address, Backend, Batch, Effect, ErrorKind, IndexSpec, Json, ListRange, Mutation, Path, Precondition,
    Retry, Timestamp, Value, Version,
};
use storage_mongo::{MongoBackend, MongoConfig};
use storage_testkit::servers::{MongoServer, MongoSettings};

use harness::{database, open, prefix, shared_url, with};

fn at(key: &str) -> Address {
    Address::new("things", key).unwrap()
}

fn put(key: &str, value: Tree) -> Mutation {
    Mutation::put(at(key), Json::from(value))
}

fn numbered(key: &str, n: i64) -> Mutation {
    put(key, json!({"n": n}))
}

/// With time for a slow server.
fn patient(url: &str) -> String {
    with(url, "timeout", "60s")
}

async fn store() -> Arc<dyn Backend> {
    open(&patient(&with(&shared_url(), "prefix", &prefix()))).await.unwrap()
}

/// The same, where what it counts can be seen.
async fn counting(url: &str) -> MongoBackend {
    MongoBackend::open(MongoConfig::from_url(&patient(&with(url, "prefix", &prefix()))).unwrap())
        .await
        .unwrap()
}

async fn with_unique(backend: &dyn Backend) {
    let index = IndexSpec { unique: true, ..IndexSpec::new(at("a").collection, Path::new("n").unwrap()) };
    backend.ensure_index(&index).await.unwrap();
}

async fn value(backend: &dyn Backend, key: &str) -> Option<Tree> {
    let record = backend.get(&[at(key)]).await.unwrap().pop().unwrap()?;
    Some(record.value.as_json().unwrap().tree().unwrap())
}

/// The positions of the mutations of an independent batch that fail, and how.
async fn failed(backend: &dyn Backend, mutations: Vec<Mutation>) -> Vec<(usize, ErrorKind)> {
    let results = backend.write(&Batch::independent(mutations)).await.unwrap();
    let failed =
        results.iter().enumerate().filter_map(|(at, result)| Some((at, result.as_ref().err()?.kind())));
    failed.collect()
}

#[tokio::test]
async fn an_atomic_batch_fails_by_the_first_of_its_mutations_that_cannot_be() {
    let backend = store().await;
    with_unique(&*backend).await;
    backend.write(&Batch::atomic(vec![numbered("a", 1), numbered("b", 2)])).await.unwrap();
    let exists = || numbered("a", 9).on(Precondition::Absent);
    for (mutations, kind, position) in [
        (vec![numbered("c", 1), exists()], ErrorKind::Conflict, 0),
        (vec![exists(), numbered("c", 1)], ErrorKind::PreconditionFailed, 0),
        (vec![numbered("c", 3), numbered("d", 4), numbered("e", 4), exists()], ErrorKind::Conflict, 2),
        // What a record gives back is free for the next, also where a later one fails.
        (
            vec![Mutation::delete(at("a")), numbered("c", 1), numbered("a", 5), numbered("d", 5)],
            ErrorKind::Conflict,
            3,
        ),
        (vec![Mutation::delete(at("a")), numbered("c", 1), numbered("d", 2)], ErrorKind::Conflict, 2),
        (
            vec![Mutation::delete(at("a")), numbered("c", 1), Mutation::touch(at("a"), None)],
            ErrorKind::NotFound,
            2,
        ),
        // It would be free, but is not yet.
        (vec![numbered("a", 2), numbered("b", 3)], ErrorKind::Conflict, 0),
        (vec![numbered("a", 2), numbered("a", 3)], ErrorKind::Conflict, 0),
    ] {
        let error = backend.write(&Batch::atomic(mutations.clone())).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.failed_mutation(), error.retry()),
            (kind, Some(position), Retry::Never),
            "{mutations:?}: {error:?}"
        );
    }
    assert_eq!(value(&*backend, "a").await, Some(json!({"n": 1})));
    let moved = vec![Mutation::delete(at("a")), numbered("c", 1), numbered("a", 5)];
    backend.write(&Batch::atomic(moved)).await.unwrap();
    assert_eq!(value(&*backend, "c").await, Some(json!({"n": 1})));
}

#[tokio::test]
async fn a_bad_mutation_of_an_independent_batch_fails_alone_and_by_order() {
    let backend = store().await;
    with_unique(&*backend).await;
    let conflict = |at| (at, ErrorKind::Conflict);
    // The later of two, whatever the order of their keys.
    let batch = vec![numbered("b", 1), numbered("a", 1), numbered("c", 2)];
    assert_eq!(failed(&*backend, batch).await, [conflict(1)]);
    assert_eq!(value(&*backend, "a").await, None);
    // Of two puts of a record, the good one stays.
    let batch = vec![numbered("a", 3), numbered("a", 1), numbered("d", 4)];
    assert_eq!(failed(&*backend, batch).await, [conflict(1)]);
    assert_eq!(value(&*backend, "a").await, Some(json!({"n": 3})));
    // Also where it is the first of two, and nobody ever sees its value.
    assert_eq!(failed(&*backend, vec![numbered("a", 1), numbered("a", 3)]).await, [conflict(0)]);
    // What another mutation gives back.
    let batch = vec![Mutation::delete(at("b")), numbered("e", 1), Mutation::increment(at("f"), "n", 1)];
    assert_eq!(failed(&*backend, batch).await, []);
    // What is not given back yet: 1 is held by e.
    assert_eq!(failed(&*backend, vec![numbered("b", 1), numbered("e", 7)]).await, [conflict(0)]);
    assert_eq!(failed(&*backend, vec![numbered("e", 6), numbered("b", 7)]).await, []);
    // What has expired holds nothing.
    backend.write(&Batch::independent(vec![numbered("g", 8)])).await.unwrap();
    assert_eq!(failed(&*backend, vec![numbered("h", 8), numbered("i", 9)]).await, [conflict(0)]);
    let soon = Timestamp::now().saturating_add(Duration::from_millis(5));
    backend.write(&Batch::independent(vec![numbered("g", 8).expiring(Some(soon))])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(failed(&*backend, vec![numbered("h", 8), numbered("j", 10)]).await, []);
    let soon = Timestamp::now().saturating_add(Duration::from_millis(5));
    backend.write(&Batch::independent(vec![numbered("k", 11).expiring(Some(soon))])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    backend.write(&Batch::atomic(vec![numbered("l", 11), numbered("m", 12)])).await.unwrap();
    // Many, of which some are at odds.
    let many = (0..300).map(|n| numbered(&format!("m{n}"), 100 + n % 290)).collect();
    assert_eq!(failed(&*backend, many).await, (290..300).map(conflict).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_that_cannot_be_read_fails_no_other() {
    let prefix = prefix();
    let backend = open(&patient(&with(&shared_url(), "prefix", &prefix))).await.unwrap();
    with_unique(&*backend).await;
    let database = database(&shared_url()).await.unwrap();
    let records = database.collection::<mongodb::bson::Document>(&format!("{prefix}things"));
    records.insert_one(doc! {"_id": "foreign", "json": 1}).await.unwrap();
    assert_eq!(backend.get(&[at("foreign")]).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(failed(&*backend, vec![Mutation::delete(at("foreign")), numbered("b", 1)]).await, []);
}

#[tokio::test]
async fn mutations_of_one_record_come_one_after_the_other() {
    let backend = store().await;
    let soon = || Some(Timestamp::now().saturating_add(Duration::from_millis(5)));
    for leftover in [
        None,
        Some(put("a", json!("old")).expiring(soon())),
        Some(Mutation::append(at("a"), vec![Json::from(json!("old")); 600]).expiring(soon())),
        Some(Mutation::append(at("a"), vec![Json::from(json!("old")); 600])),
    ] {
        backend.write(&Batch::independent(vec![Mutation::delete(at("a"))])).await.unwrap();
        backend.write(&Batch::independent(leftover.clone().into_iter().collect())).await.unwrap();
        let lives = leftover.as_ref().is_some_and(|leftover| *leftover == leftover.clone().expiring(None));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let written = backend
            .write(&Batch::independent(vec![
                put("a", json!(1)),
                put("b", json!(1)),
                put("a", json!(2)),
                put("a", json!(3)),
            ]))
            .await
            .unwrap();
        assert!(written.iter().all(Result::is_ok), "{leftover:?}: {written:?}");
        assert_eq!(value(&*backend, "a").await, Some(json!(3)), "{leftover:?}");
        let version = written[3].as_ref().unwrap().version.clone();
        assert_eq!(backend.get(&[at("a")]).await.unwrap()[0].as_ref().map(|a| a.version.clone()), version);
        let results = backend
            .write(&Batch::independent(vec![
                Mutation::delete(at("a")),
                Mutation::delete(at("a")),
                Mutation::increment(at("a"), "n", 1),
                put("b", json!(2)).on(Precondition::Version(Version::new("nobodys").unwrap())),
                Mutation::increment(at("a"), "n", i64::MAX - 1),
                Mutation::increment(at("a"), "n", 1),
                Mutation::append(at("a"), vec![Json::from(json!(1))]),
                Mutation::touch(at("a"), Some(Timestamp::from_millis(1))),
                Mutation::touch(at("a"), None),
                put("a", json!(4)).on(Precondition::Absent),
            ]))
            .await
            .unwrap();
        let told: Vec<_> = results
            .into_iter()
            .map(|result| result.map(|written| written.effect).map_err(|e| e.kind()))
            .collect();
        let counted = |n: i64| Ok(Effect::Counters([("n".into(), n)].into()));
        let expected = [
            Ok(Effect::Deleted { existed: true }),
            Ok(Effect::Deleted { existed: false }),
            counted(1),
            Err(ErrorKind::PreconditionFailed),
            counted(i64::MAX),
            Err(ErrorKind::OutOfRange),
            Err(ErrorKind::TypeMismatch),
            Ok(Effect::Done),
            Err(ErrorKind::NotFound),
            Ok(Effect::Done),
        ];
        assert_eq!(told, expected, "{lives}");
    }
}

#[tokio::test]
async fn the_last_of_very_many_puts_of_one_record_stays() {
    let backend = store().await;
    // More than one command takes, and between them others.
    let puts = (0..700).map(|n| put(if n % 7 == 0 { "other" } else { "one" }, json!(n))).collect();
    assert_eq!(failed(&*backend, puts).await, []);
    assert_eq!(value(&*backend, "one").await, Some(json!(699)));
    assert_eq!(value(&*backend, "other").await, Some(json!(693)));
}

#[tokio::test]
async fn a_chunk_of_somebody_who_came_too_late_does_no_harm() {
    let prefix = prefix();
    let backend = open(&patient(&with(&shared_url(), "prefix", &prefix))).await.unwrap();
    let database = database(&shared_url()).await.unwrap();
    let items = |numbers: std::ops::Range<u64>| numbers.map(|n| Json::from(json!(n))).collect::<Vec<_>>();
    backend.write(&Batch::independent(vec![Mutation::append(at("list"), items(0..100))])).await.unwrap();
    let records = database.collection::<mongodb::bson::Document>(&format!("{prefix}things"));
    let document = records.find_one(doc! {"_id": "list"}).await.unwrap().unwrap();
    let id = document.get_document("list").unwrap().get_str("id").unwrap();
    // What another client read before these were all, and could not cut off any more.
    let chunks = database.collection::<mongodb::bson::Document>(&format!("{prefix}things:items"));
    let late: Vec<i32> = (0..80).collect();
    chunks.insert_one(doc! {"_id": format!("{id}/{:016x}-50", 0), "items": late}).await.unwrap();
    backend.write(&Batch::independent(vec![Mutation::append(at("list"), items(100..600))])).await.unwrap();
    assert!(chunks.count_documents(doc! {}).await.unwrap() > 1);
    for (start, limit) in [(0, 600), (79, 2), (80, 1), (300, 300), (599, 5)] {
        let range = ListRange { address: at("list"), start, limit };
        let read = backend.list_range(&range).await.unwrap().unwrap();
        assert_eq!(read.length, 600);
        assert_eq!(read.items, items(start..600.min(start + u64::from(limit))), "from {start}");
    }
    // One may reach into what is in the document.
    backend.write(&Batch::independent(vec![Mutation::append(at("list"), items(600..650))])).await.unwrap();
    let late: Vec<i32> = (500..620).collect();
    chunks.insert_one(doc! {"_id": format!("{id}/{:016x}-78", 500), "items": late}).await.unwrap();
    for (start, limit) in [(595, 100), (599, 2), (610, 40), (0, 650)] {
        let range = ListRange { address: at("list"), start, limit };
        let read = backend.list_range(&range).await.unwrap().unwrap();
        assert_eq!(read.items, items(start..650.min(start + u64::from(limit))), "from {start}");
    }
    // One that is not there is noticed.
    chunks.delete_many(doc! {"_id": {"$ne": format!("{id}/{:016x}-50", 0)}}).await.unwrap();
    let range = ListRange { address: at("list"), start: 70, limit: 100 };
    assert_eq!(backend.list_range(&range).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn long_lists_take_all_their_items_along() {
    let prefix = prefix();
    let backend = open(&patient(&with(&shared_url(), "prefix", &prefix))).await.unwrap();
    let database = database(&shared_url()).await.unwrap();
    let chunks = database.collection::<mongodb::bson::Document>(&format!("{prefix}things:items"));
    let list = || Mutation::append(at("list"), vec![Json::from(json!("item")); 600]);
    let soon = Some(Timestamp::from_millis(1));
    for end in [
        vec![Mutation::delete(at("list"))],
        vec![put("list", json!(1))],
        vec![put("list", json!(1)).on(Precondition::Present)],
        vec![put("list", json!(1)), put("list", json!(2))],
        vec![Mutation::delete(at("list")), Mutation::delete(at("other"))],
        vec![Mutation::touch(at("list"), soon)],
    ] {
        for batch in [Batch::independent, Batch::atomic] {
            backend.write(&Batch::independent(vec![list()])).await.unwrap();
            assert!(chunks.count_documents(doc! {}).await.unwrap() > 0);
            let results = backend.write(&batch(end.clone())).await.unwrap();
            assert!(results.iter().all(Result::is_ok), "{end:?}: {results:?}");
            assert_eq!(chunks.count_documents(doc! {}).await.unwrap(), 0, "{end:?}");
            backend.write(&Batch::independent(vec![Mutation::delete(at("list"))])).await.unwrap();
        }
    }
}

#[tokio::test]
async fn increments_of_one_record_are_added_up_without_leaving_the_range() {
    let backend = store().await;
    let add = |n: i64| Mutation::increment(at("sum"), "n", n);
    let effects = async |mutations: Vec<Mutation>| {
        let results = backend.write(&Batch::independent(mutations)).await.unwrap();
        let told = |written: storage_core::Written| match written.effect {
            Effect::Counters(fields) => fields["n"],
            other => panic!("{other:?}"),
        };
        results.into_iter().map(|result| result.map(told).map_err(|error| error.kind())).collect::<Vec<_>>()
    };
    assert_eq!(effects(vec![add(5), add(-7), add(0)]).await, [Ok(5), Ok(-2), Ok(-2)]);
    assert_eq!(
        effects(vec![add(i64::MAX), add(3), add(-1)]).await[..2],
        [Ok(i64::MAX - 2), Err(ErrorKind::OutOfRange)]
    );
    let range = Err(ErrorKind::OutOfRange);
    // It is at MAX - 3 now.
    assert_eq!(effects(vec![add(3), add(-3)]).await, [Ok(i64::MAX), Ok(i64::MAX - 3)]);
    assert_eq!(effects(vec![add(4), add(-4)]).await, [range, Ok(i64::MAX - 7)]);
    assert_eq!(effects(vec![add(i64::MIN), add(i64::MIN), add(7)]).await, [Ok(-8), range, Ok(-1)]);
    assert_eq!(effects(vec![add(i64::MIN)]).await, [range]);
    assert_eq!(effects(vec![add(1), add(i64::MIN)]).await, [Ok(0), Ok(i64::MIN)]);
}

#[tokio::test]
async fn what_does_not_fit_a_document_fails_alone() {
    let backend = store().await;
    let huge = |bytes: usize| Value::bytes(vec![7; bytes]);
    let fits = (15 << 20) + (900 << 10);
    let too_large = (17, ErrorKind::TooLarge);
    let mut batch: Vec<Mutation> =
        (0..17).map(|n| Mutation::put(at(&format!("mib{n}")), huge(1 << 20))).collect();
    batch.push(Mutation::put(at("too large"), huge(16 << 20)));
    batch.push(Mutation::put(at("largest"), huge(fits)));
    assert_eq!(failed(&*backend, batch).await, [too_large]);
    let read = backend.get(&[at("largest"), at("too large")]).await.unwrap();
    assert_eq!(read[0].as_ref().map(|record| record.value.size() > fits), Some(true));
    assert!(read[1].is_none());
    // Digits take more as a document than as a text.
    let digits = put("digits", json!(vec![1; 2 << 20]));
    assert_eq!(
        failed(&*backend, vec![digits.clone(), put("small", json!(1))]).await,
        [(0, ErrorKind::TooLarge)]
    );
    let error = backend.write(&Batch::atomic(vec![put("b", json!(1)), digits])).await.unwrap_err();
    assert_eq!((error.kind(), error.failed_mutation()), (ErrorKind::TooLarge, Some(1)), "{error:?}");
    let text = |mib: usize| Json::from(json!("x".repeat(mib << 20)));
    let append = |mib: Vec<usize>| Mutation::append(at("list"), mib.into_iter().map(text).collect());
    // Each fits, together they do not.
    assert_eq!(failed(&*backend, vec![append(vec![6]), append(vec![7])]).await, []);
    assert_eq!(
        failed(&*backend, vec![append(vec![6, 7]), append(vec![1])]).await,
        [(0, ErrorKind::TooLarge)]
    );
    let range = ListRange { address: at("list"), start: 1, limit: 10 };
    let read = backend.list_range(&range).await.unwrap().unwrap();
    assert_eq!((read.length, read.items[0].size()), (3, (7 << 20) + 2));
    let error = backend.write(&Batch::atomic(vec![append(vec![7]), append(vec![8])])).await.unwrap_err();
    assert_eq!((error.kind(), error.failed_mutation()), (ErrorKind::TooLarge, Some(1)), "{error:?}");
}

#[tokio::test]
async fn batches_take_few_commands() {
    let backend = counting(&shared_url()).await;
    let commands = async |batch: Batch, failures: usize| {
        let before = backend.pool_stats().commands;
        let results = backend.write(&batch).await.unwrap();
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), failures, "{results:?}");
        backend.pool_stats().commands - before
    };
    let keys: Vec<String> = (0..100).map(|key| format!("k{key}")).collect();
    let of_all = |mutation: &dyn Fn(&str) -> Mutation| {
        Batch::independent(keys.iter().map(|key| mutation(key)).collect())
    };
    let one = |mutation: Mutation| Batch::independent(vec![mutation]);
    // The first of a client asks what indexes the collection has.
    assert_eq!(commands(of_all(&|key| put(key, json!(0))), 0).await, 2);
    // It believes that for ten seconds. Where all that follows takes longer, it asks again in between, uncounted.
    let asked = Cell::new(Instant::now());
    let commands = async |batch: Batch, failures: usize| {
        if asked.get().elapsed() > Duration::from_secs(5) {
            asked.set(Instant::now());
            backend.drop_index(&at("a").collection, &Path::new("none").unwrap()).await.unwrap();
            let two = vec![put("one", json!(0)), put("two", json!(0))];
            backend.write(&Batch::independent(two)).await.unwrap();
        }
        commands(batch, failures).await
    };
    assert_eq!(commands(of_all(&|key| put(key, json!(key))), 0).await, 1, "puts");
    assert_eq!(
        commands(of_all(&|key| put(key, json!(1)).on(Precondition::Present)), 0).await,
        1,
        "conditions"
    );
    assert_eq!(commands(of_all(&|key| put(key, json!(1)).on(Precondition::Absent)), 100).await, 1, "locks");
    assert_eq!(commands(of_all(&|key| Mutation::touch(at(key), None)), 0).await, 1, "touches");
    assert_eq!(commands(of_all(&|key| Mutation::delete(at(key))), 0).await, 1, "deletes");
    assert_eq!(commands(of_all(&|key| Mutation::delete(at(key))), 0).await, 2, "deletes of nothing");
    assert_eq!(commands(of_all(&|key| Mutation::touch(at(key), None)), 100).await, 2, "touches of nothing");
    let counter = || of_all(&|_| Mutation::increment(at("hot"), "n", 1));
    assert_eq!(commands(counter(), 0).await, 2, "a counter that is made");
    assert_eq!(commands(counter(), 0).await, 1, "one counter");
    let list = || of_all(&|_| Mutation::append(at("list"), vec![Json::from(json!(1))]));
    assert_eq!(commands(list(), 0).await, 2, "a list that is made");
    assert_eq!(commands(list(), 0).await, 1, "one list");
    assert_eq!(commands(one(put("a", json!(1)).on(Precondition::Absent)), 0).await, 1, "a lock");
    assert_eq!(
        commands(one(put("a", json!(1)).on(Precondition::Absent)), 1).await,
        1,
        "a lock that is taken"
    );
    assert_eq!(commands(one(put("a", json!(1)).on(Precondition::Present)), 0).await, 1, "a condition");
    assert_eq!(commands(one(Mutation::delete(at("a"))), 0).await, 1, "a delete");
    assert_eq!(commands(one(Mutation::delete(at("a"))), 0).await, 1, "a delete of nothing");
    let atomic = Batch::atomic(keys.iter().map(|key| put(key, json!(1))).collect());
    // The first of a client makes sure that there is a collection.
    assert_eq!(commands(atomic.clone(), 0).await, 4);
    assert_eq!(commands(atomic, 0).await, 3, "a transaction reads, writes and commits");
    let mixed = Batch::independent(vec![
        put("k1", json!(1)),
        Mutation::delete(at("k2")),
        Mutation::put(Address::new("others", "k").unwrap(), Json::from(json!(1))),
        Mutation::touch(at("k3"), None),
    ]);
    assert_eq!(commands(mixed, 0).await, 1, "over collections and kinds");
    backend.close().await.unwrap();
}

#[tokio::test]
async fn a_server_without_the_newest_command_does_the_same() {
    let server = MongoServer::start(&MongoSettings::default()).unwrap();
    let driver = database(&server.url()).await.unwrap();
    let unknown = doc! {
        "configureFailPoint": "failCommand", "mode": "alwaysOn",
        "data": {"failCommands": ["bulkWrite"], "errorCode": 59},
    };
    driver.client().database("admin").run_command(unknown).await.unwrap();
    let backend = counting(&server.url()).await;
    for round in 0..2 {
        let keys: Vec<String> = (0..20).map(|key| format!("k{round}-{key}")).collect();
        let puts = keys.iter().map(|key| put(key, json!(0)).on(Precondition::Absent)).collect();
        assert_eq!(failed(&backend, puts).await, []);
        let batch = vec![
            put(&keys[0], json!(1)),
            Mutation::delete(at(&keys[1])),
            Mutation::delete(at("nothing")),
            put(&keys[2], json!(1)).on(Precondition::Absent),
            Mutation::touch(at("nothing"), None),
            put(&keys[3], json!(1)).on(Precondition::Present),
        ];
        let expected = [(3, ErrorKind::PreconditionFailed), (4, ErrorKind::NotFound)];
        assert_eq!(failed(&backend, batch).await, expected, "round {round}");
        assert_eq!(value(&backend, &keys[0]).await, Some(json!(1)));
        assert_eq!(value(&backend, &keys[1]).await, None);
        assert_eq!(value(&backend, &keys[3]).await, Some(json!(1)));
        let other = Address::new("others", "k").unwrap();
        let atomic = vec![
            Mutation::delete(at(&keys[0])),
            put(&keys[4], json!(2)),
            Mutation::increment(other, "n", 1),
            Mutation::check(at("nothing"), Precondition::Absent),
            put(&keys[4], json!(3)),
        ];
        backend.write(&Batch::atomic(atomic)).await.unwrap();
        assert_eq!(value(&backend, &keys[0]).await, None);
        assert_eq!(value(&backend, &keys[4]).await, Some(json!(3)));
    }
    backend.close().await.unwrap();
}
