//! Writers of the same records: no write is lost, done twice or seen by halves.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mongodb::bson::doc;
use serde_json::{Value as Tree, json};
use storage_core::{
    Address, Backend, Batch, CollectionName, Effect, ErrorKind, Json, ListRange, Maintenance, Mutation,
    Precondition, Result, Timestamp, Value, Version, Written,
};

use harness::{database, open, prefix, shared_url, with};

fn at(key: &str) -> Address {
    // Two collections, so that batches go over both.
    let collection = if key.len().is_multiple_of(2) { "even" } else { "odd" };
    Address::new(collection, key).unwrap()
}

fn put(key: &str, value: Tree) -> Mutation {
    Mutation::put(at(key), Json::from(value))
}

/// With time for a slow server.
fn patient(url: &str) -> String {
    with(url, "timeout", "60s")
}

async fn store() -> (Arc<dyn Backend>, String) {
    let prefix = prefix();
    (open(&patient(&with(&shared_url(), "prefix", &prefix))).await.unwrap(), prefix)
}

async fn write(backend: &dyn Backend, mutation: Mutation) -> Result<Written> {
    backend.write(&Batch::independent(vec![mutation])).await?.pop().unwrap()
}

/// The results of all tasks, which begin at once.
async fn race<F>(tasks: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

/// Waits until what expired at `time` has.
async fn pass(time: Timestamp) {
    while Timestamp::now() <= time {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_has_expired_is_made_anew_by_one_writer() {
    let (backend, _) = store().await;
    for round in 0..6 {
        let key = format!("lock{round}");
        let soon = Timestamp::now().saturating_add(Duration::from_millis(15));
        // A record of every kind is in the way.
        let first = match round % 3 {
            0 => put(&key, json!("old")),
            1 => Mutation::increment(at(&key), "n", 1_000),
            _ => Mutation::append(at(&key), vec![Json::from(json!("old"))]),
        };
        write(&*backend, first.expiring(Some(soon))).await.unwrap();
        pass(soon).await;
        let won = race((0..12).map(|task| {
            let (backend, key) = (backend.clone(), key.clone());
            async move { write(&*backend, put(&key, json!(task)).on(Precondition::Absent)).await }
        }))
        .await;
        let winner = won.iter().position(Result::is_ok).unwrap();
        for (task, result) in won.iter().enumerate().filter(|(task, _)| *task != winner) {
            let error = result.as_ref().expect_err("there is one winner");
            assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "task {task}: {error:?}");
        }
        let read = backend.get(&[at(&key)]).await.unwrap();
        assert_eq!(read[0].as_ref().unwrap().value, Value::Json(Json::from(json!(winner))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn counters_and_lists_begin_anew_after_their_expiry_and_lose_nothing() {
    let (backend, _) = store().await;
    for round in 0..4 {
        let (counter, list) = (format!("counter{round}"), format!("list{round}"));
        let soon = Timestamp::now().saturating_add(Duration::from_millis(15));
        write(&*backend, Mutation::increment(at(&counter), "n", 1_000).expiring(Some(soon))).await.unwrap();
        write(&*backend, put(&list, json!("no list")).expiring(Some(soon))).await.unwrap();
        pass(soon).await;
        let written = race((0..16).map(|task| {
            let (backend, counter, list) = (backend.clone(), counter.clone(), list.clone());
            async move {
                let mutations = vec![
                    Mutation::increment(at(&counter), "n", 1),
                    Mutation::append(at(&list), vec![Json::from(json!(task))]),
                ];
                let results = backend.write(&Batch::independent(mutations)).await.unwrap();
                results.into_iter().map(|result| result.unwrap().effect).collect::<Vec<_>>()
            }
        }))
        .await;
        // Everybody was told another value: those of one order.
        let mut counts: Vec<i64> = Vec::new();
        let mut lengths: Vec<u64> = Vec::new();
        for effect in written.into_iter().flatten() {
            match effect {
                Effect::Counters(fields) => counts.push(fields["n"]),
                Effect::Length(length) => lengths.push(length),
                other => panic!("{other:?}"),
            }
        }
        counts.sort_unstable();
        lengths.sort_unstable();
        assert_eq!(counts, (1..=16).collect::<Vec<_>>());
        assert_eq!(lengths, (1..=16).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_record_is_deleted_by_one_of_many() {
    let (backend, _) = store().await;
    let keys: Vec<String> = (0..40).map(|key| format!("key{key}")).collect();
    let puts = keys.iter().map(|key| put(key, json!(1))).collect();
    backend.write(&Batch::independent(puts)).await.unwrap();
    let deleted = race((0..6).map(|task| {
        let (backend, mut keys) = (backend.clone(), keys.clone());
        async move {
            fastrand::shuffle(&mut keys);
            let mut mine = Vec::new();
            // One by one, and in batches.
            for part in keys.chunks(if task % 2 == 0 { 1 } else { 10 }) {
                let deletes = part.iter().map(|key| Mutation::delete(at(key))).collect();
                for (key, result) in
                    part.iter().zip(backend.write(&Batch::independent(deletes)).await.unwrap())
                {
                    match result.unwrap().effect {
                        Effect::Deleted { existed: true } => mine.push(key.clone()),
                        Effect::Deleted { existed: false } => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            mine
        }
    }))
    .await;
    let mut all: Vec<String> = deleted.into_iter().flatten().collect();
    all.sort_unstable();
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(all, keys);
}

/// What an item of a list says of itself.
fn item(generation: usize, task: usize, number: usize, padding: usize) -> Json {
    Json::from(json!([generation, task, number, "x".repeat(padding)]))
}

fn told(item: &Json) -> (u64, u64, u64) {
    let tree = item.tree().unwrap();
    let number = |at: usize| tree[at].as_u64().unwrap();
    (number(0), number(1), number(2))
}

/// Reads a whole list, page by page; `None` if it went meanwhile.
async fn read_list(backend: &dyn Backend, address: &Address, page: u32) -> Option<Vec<Json>> {
    let mut items: Vec<Json> = Vec::new();
    loop {
        let range = ListRange { address: address.clone(), start: items.len() as u64, limit: page };
        let read = backend.list_range(&range).await.unwrap()?;
        if read.items.is_empty() {
            return Some(items);
        }
        items.extend(read.items);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lists_grow_beyond_their_document_under_writers_and_readers() {
    const TASKS: usize = 4;
    const APPENDS: usize = 40;

    let (backend, prefix) = store().await;
    let address = at("long");
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (backend, address, over) = (backend.clone(), address.clone(), over.clone());
            tokio::spawn(async move {
                let (mut seen, mut reads): (Vec<Json>, u64) = (Vec::new(), 0);
                while !over.load(Ordering::Acquire) {
                    let page = *fastrand::choice(&[90, 400, 1_000]).unwrap();
                    let Some(items) = read_list(&*backend, &address, page).await else { continue };
                    assert!(items.len() >= seen.len(), "{} items, and {} before", items.len(), seen.len());
                    for (position, (before, now)) in seen.iter().zip(&items).enumerate() {
                        assert_eq!(told(before), told(now), "position {position}");
                    }
                    seen = items;
                    reads += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                reads
            })
        })
        .collect();
    race((0..TASKS).map(|task| {
        let (backend, address) = (backend.clone(), address.clone());
        async move {
            let mut number = 0;
            for append in 0..APPENDS {
                // Some by their number, some by their size fill the document.
                let (count, padding) = if append % 10 == 0 { (1, 40_000) } else { (1 + append % 40, 10) };
                let items = (number..number + count).map(|number| item(0, task, number, padding)).collect();
                number += count;
                write(&*backend, Mutation::append(address.clone(), items)).await.unwrap();
            }
        }
    }))
    .await;
    over.store(true, Ordering::Release);
    for reader in readers {
        assert!(reader.await.unwrap() > 0, "nobody read");
    }
    let items = read_list(&*backend, &address, 1_000).await.unwrap();
    let mut next: HashMap<u64, u64> = HashMap::new();
    for item in &items {
        let (_, task, number) = told(item);
        let expected = next.entry(task).or_default();
        assert_eq!(number, *expected, "of task {task}");
        *expected += 1;
    }
    let each: usize = (0..APPENDS).map(|append| if append % 10 == 0 { 1 } else { 1 + append % 40 }).sum();
    assert_eq!(items.len(), TASKS * each);
    // Positions in the middle, whatever chunk they are in.
    for start in [0, 1, 511, 512, 513, items.len() as u64 - 1] {
        let range = ListRange { address: address.clone(), start, limit: 3 };
        let read = backend.list_range(&range).await.unwrap().unwrap();
        let expected: Vec<_> = items.iter().skip(usize::try_from(start).unwrap()).take(3).map(told).collect();
        assert_eq!(read.items.iter().map(told).collect::<Vec<_>>(), expected, "from {start}");
    }
    let database = database(&shared_url()).await.unwrap();
    let records = database.collection::<mongodb::bson::Document>(&format!("{prefix}{}", address.collection));
    let document = records.find_one(doc! {"_id": address.key.as_str()}).await.unwrap().unwrap();
    let list = document.get_document("list").unwrap();
    assert!(list.get_i64("spilled").unwrap() > 500, "{list}");
    assert!(list.get_array("tail").unwrap().len() < 2_000);
    let chunks = format!("{prefix}{}:items", address.collection);
    let chunks = database.collection::<mongodb::bson::Document>(&chunks);
    assert!(chunks.count_documents(doc! {}).await.unwrap() > 1);
    // They go with the list.
    write(&*backend, Mutation::delete(address)).await.unwrap();
    assert_eq!(chunks.count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_of_a_list_that_is_replaced_see_one_or_the_other() {
    let (backend, prefix) = store().await;
    let address = at("replaced");
    let until = Instant::now() + Duration::from_secs(5);
    let writer = tokio::spawn({
        let (backend, address) = (backend.clone(), address.clone());
        async move {
            let mut generation = 0;
            while Instant::now() < until {
                for part in 0..3 {
                    let items = (part * 400..(part + 1) * 400).map(|number| item(generation, 0, number, 0));
                    write(&*backend, Mutation::append(address.clone(), items.collect())).await.unwrap();
                }
                let end = match generation % 3 {
                    0 => Mutation::delete(address.clone()),
                    1 => Mutation::put(address.clone(), Json::from(json!(generation))),
                    _ => Mutation::touch(address.clone(), Some(Timestamp::from_millis(0))),
                };
                write(&*backend, end).await.unwrap();
                write(&*backend, Mutation::delete(address.clone())).await.unwrap();
                generation += 1;
            }
            generation
        }
    });
    let readers = race((0..3).map(|_| {
        let (backend, address) = (backend.clone(), address.clone());
        async move {
            let mut reads = 0;
            while Instant::now() < until {
                let start = fastrand::u64(0..1_000);
                let range = ListRange { address: address.clone(), start, limit: fastrand::u32(1..800) };
                match backend.list_range(&range).await {
                    Ok(Some(read)) => {
                        let items: Vec<_> = read.items.iter().map(told).collect();
                        for (position, (generation, _, number)) in items.iter().enumerate() {
                            assert_eq!((*generation, *number), (items[0].0, start + position as u64));
                        }
                        let all = read.length.saturating_sub(start).min(u64::from(range.limit));
                        assert_eq!(items.len() as u64, all);
                        reads += 1;
                    }
                    Ok(None) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::TypeMismatch, "{error:?}"),
                }
            }
            reads
        }
    }))
    .await;
    let generations = writer.await.unwrap();
    assert!(generations > 1 && readers.iter().sum::<i32>() > 10, "{generations} lists, {readers:?} reads");
    backend.maintain(Maintenance::Sweep).await.unwrap();
    let database = database(&shared_url()).await.unwrap();
    let chunks = format!("{prefix}{}:items", address.collection);
    let chunks = database.collection::<mongodb::bson::Document>(&chunks);
    assert_eq!(chunks.count_documents(doc! {}).await.unwrap(), 0, "chunks of lists that are gone");
}

/// Two batches of which each reads what the other writes: in every order of the two, one has to see the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_two_transactions_miss_each_others_writes() {
    let (backend, _) = store().await;
    let mut both_failed = 0;
    for round in 0..24 {
        let (mine, yours) = (format!("a{round}"), format!("bb{round}"));
        let mut versions: Option<(Version, Version)> = None;
        if round % 3 == 0 {
            let puts = vec![put(&mine, json!("on")), put(&yours, json!("on"))];
            let written = backend.write(&Batch::atomic(puts)).await.unwrap();
            let version = |at: usize| written[at].as_ref().unwrap().version.clone().unwrap();
            versions = Some((version(0), version(1)));
        }
        let batch = |own: &str, other: &str, version: Option<Version>| {
            let reads = match (version, round % 3) {
                (Some(version), _) => Mutation::check(at(other), Precondition::Version(version)),
                (None, 1) => Mutation::check(at(other), Precondition::Absent),
                // That there is nothing to delete is read, too.
                _ => Mutation::delete(at(other)),
            };
            Batch::atomic(vec![reads, put(own, json!("off"))])
        };
        let batches = [
            batch(&mine, &yours, versions.as_ref().map(|(_, yours)| yours.clone())),
            batch(&yours, &mine, versions.as_ref().map(|(mine, _)| mine.clone())),
        ];
        let results = race(batches.map(|batch| {
            let backend = backend.clone();
            async move { backend.write(&batch).await }
        }))
        .await;
        let unseen = |result: &Result<Vec<Result<Written>>>| match result {
            Ok(written) => written[0].as_ref().unwrap().effect != Effect::Deleted { existed: true },
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error:?}");
                assert_eq!(error.failed_mutation(), Some(0));
                false
            }
        };
        assert!(!results.iter().all(unseen), "round {round}: neither saw the other: {results:?}");
        both_failed += usize::from(results.iter().all(Result::is_err));
    }
    assert!(both_failed < 4, "{both_failed} rounds in which neither was done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transfers_under_contention_keep_the_sum_and_readers_see_it() {
    const ACCOUNTS: usize = 4;
    const TRANSFERS: usize = 12;

    let (backend, _) = store().await;
    // Of one collection: a read of several is one snapshot there.
    let account = |number: usize| Address::new("accounts", format!("a{number}")).unwrap();
    let opening = (0..ACCOUNTS).map(|number| Mutation::increment(account(number), "cents", 1_000)).collect();
    backend.write(&Batch::atomic(opening)).await.unwrap();
    let all: Vec<Address> = (0..ACCOUNTS).map(account).collect();
    let over = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (backend, all, over) = (backend.clone(), all.clone(), over.clone());
        async move {
            let mut reads = 0;
            while !over.load(Ordering::Acquire) {
                assert_eq!(sum(&*backend, &all).await, 4_000);
                reads += 1;
            }
            reads
        }
    });
    let done = race((0..6).map(|task| {
        let backend = backend.clone();
        async move {
            let mut done = 0;
            for transfer in 0..TRANSFERS {
                let (from, to) = ((task + transfer) % ACCOUNTS, (task + 2 * transfer + 1) % ACCOUNTS);
                let mutations = vec![
                    Mutation::increment(account(from), "cents", -7),
                    Mutation::increment(account(to), "cents", 7),
                    Mutation::append(account(from + ACCOUNTS), vec![Json::from(json!([task, transfer]))]),
                ];
                match backend.write(&Batch::atomic(mutations)).await {
                    Ok(_) => done += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
                }
            }
            done
        }
    }))
    .await;
    over.store(true, Ordering::Release);
    assert!(reader.await.unwrap() > 0);
    assert_eq!(sum(&*backend, &all).await, 4_000);
    let mut appended = 0;
    for number in 0..ACCOUNTS {
        appended +=
            read_list(&*backend, &account(number + ACCOUNTS), 100).await.map_or(0, |items| items.len());
    }
    assert_eq!(appended, done.iter().sum::<usize>(), "what is told is what is done");
    assert!(appended > 6 * TRANSFERS / 2, "only {appended} of {} were done", 6 * TRANSFERS);
}

async fn sum(backend: &dyn Backend, accounts: &[Address]) -> i64 {
    let records = backend.get(accounts).await.unwrap();
    records
        .into_iter()
        .flatten()
        .map(|record| match record.value {
            Value::Counters(fields) => fields["cents"],
            other => panic!("{other:?}"),
        })
        .sum()
}

/// A mutation that may meet any other on the same record.
fn any_mutation(kind: u8, key: &str) -> Mutation {
    let soon = Timestamp::now().saturating_add(Duration::from_millis(fastrand::u64(1..=20)));
    let put = put(key, json!({"key": key}));
    match kind {
        0..=2 => put,
        3 => put.expiring(Some(soon)),
        4 => put.on(Precondition::Absent),
        5 => put.on(Precondition::Present),
        6 => Mutation::delete(at(key)),
        7 => Mutation::touch(at(key), None),
        8 => Mutation::increment(at(key), "n", 1),
        9 => Mutation::append(at(key), vec![Json::from(json!(key)); fastrand::usize(1..700)]),
        _ => Mutation::put(at(key), Value::bytes("data")),
    }
}

#[ignore = "the stand-in locks itself up: with STORAGE_TEST_MONGODB_URL of a mongod, run it by --ignored"]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_writes_at_once_leave_whole_records() {
    let (backend, prefix) = store().await;
    let until = Instant::now() + Duration::from_secs(6);
    let keys: Vec<String> = (0..12).map(|key| "k".repeat(key + 1)).collect();
    let batches = race((0..8).map(|_| {
        let (backend, keys) = (backend.clone(), keys.clone());
        async move {
            let mut batches = 0;
            while Instant::now() < until {
                let mutations = (0..fastrand::usize(2..8))
                    .map(|_| any_mutation(fastrand::u8(..11), fastrand::choice(&keys).unwrap()))
                    .collect();
                let batch =
                    if fastrand::bool() { Batch::atomic(mutations) } else { Batch::independent(mutations) };
                let results = backend.write(&batch).await.unwrap_or_else(|error| vec![Err(error)]);
                for error in results.into_iter().filter_map(Result::err) {
                    let fits = [
                        ErrorKind::PreconditionFailed,
                        ErrorKind::NotFound,
                        ErrorKind::TypeMismatch,
                        ErrorKind::Conflict,
                    ];
                    assert!(fits.contains(&error.kind()), "{batch:?}: {error:?}");
                }
                batches += 1;
                if fastrand::u8(..30) == 0 {
                    backend.maintain(Maintenance::Sweep).await.unwrap();
                }
            }
            batches
        }
    }))
    .await;
    assert!(batches.iter().sum::<i32>() > 40, "only {batches:?} batches");
    let addresses: Vec<Address> = keys.iter().map(|key| at(key)).collect();
    for record in backend.get(&addresses).await.unwrap().into_iter().flatten() {
        if let Value::List { length } = record.value {
            let items = read_list(&*backend, &record.address, 1_000).await.unwrap();
            assert_eq!(items.len() as u64, length, "{}", record.address);
        }
    }
    backend.clear(&CollectionName::new("odd").unwrap()).await.unwrap();
    let deletes = addresses.into_iter().map(Mutation::delete).collect();
    backend.write(&Batch::atomic(deletes)).await.unwrap();
    backend.maintain(Maintenance::Sweep).await.unwrap();
    let database = database(&shared_url()).await.unwrap();
    for collection in ["odd", "even", "odd:items", "even:items"] {
        let documents = database.collection::<mongodb::bson::Document>(&format!("{prefix}{collection}"));
        let left = documents.find_one(doc! {}).await.unwrap();
        assert_eq!(left, None, "in {collection}");
    }
}
