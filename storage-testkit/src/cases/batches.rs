//! Many keys, and many mutations, in one request.

use std::time::{Duration, Instant};

use serde_json::json;
use storage_core::{
    Address, AtomicScope, Backend, Batch, CollectionName, Effect, ErrorKind, Feature, Mutation, Precondition,
    Version,
};

use crate::Cx;
use crate::helpers::{
    address, addresses, expect_kind, get_json, get_one, get_record, ok, put, put_json, put_numbered,
    write_all,
};

/// How long the readers of half batches look.
const WATCH: Duration = Duration::from_millis(700);

/// A get has an entry for each key, in the order asked, with gaps where no record is.
pub async fn get_many_keeps_order_and_gaps(cx: Cx) {
    let (backend, one, two) = (cx.open().await, cx.collection(), cx.collection());
    for key in ["a", "b", "c"] {
        put_json(&*backend, &one, key, json!(["one", key])).await;
        put_json(&*backend, &two, key, json!(["two", key])).await;
    }
    let asked = [
        address(&two, "c"),
        address(&one, "missing"),
        address(&one, "a"),
        address(&two, "a"),
        address(&two, "missing"),
        address(&one, "c"),
    ];
    let read = ok(backend.get(&asked).await, "get");
    assert_eq!(read.len(), asked.len());
    for (address, record) in asked.iter().zip(read) {
        match (address.key.as_str(), record) {
            ("missing", None) => {}
            ("missing", Some(record)) => panic!("{address} is not there, and {} came", record.address),
            (_, None) => panic!("{address} is there and did not come"),
            (_, Some(record)) => assert_eq!(record.address, *address, "the entry is at its key's place"),
        }
    }

    let many = cx.limits().batch_len.min(500);
    put_numbered(&*backend, &one, many).await;
    let asked: Vec<Address> = (0..many).rev().map(|i| address(&one, &crate::helpers::numbered(i))).collect();
    let read = ok(backend.get(&asked).await, "a get of many keys");
    let came: Vec<_> = read.into_iter().map(|record| record.expect("all are there").address).collect();
    assert_eq!(came, asked);
}

/// A key asked for twice comes twice.
pub async fn get_duplicate_keys(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "a", json!(1)).await;
    let read = ok(backend.get(&addresses(&users, &["a", "no", "a", "no", "a"])).await, "get");
    assert_eq!(read.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, false, true]);
    assert_eq!(read[0], read[2]);
    assert_eq!(read[0], read[4]);
}

/// No keys and no mutations give an empty reply.
pub async fn empty_batch_is_noop(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let version = put_json(&*backend, &users, "a", json!(1)).await;
    assert_eq!(ok(backend.get(&[]).await, "a get of no keys"), []);
    let mut batches = vec![Batch::independent(Vec::new())];
    if cx.has(Feature::Atomic) {
        batches.push(Batch::atomic(Vec::new()));
    }
    for batch in batches {
        assert!(ok(backend.write(&batch).await, "a write of nothing").is_empty());
    }
    assert_eq!(get_record(&*backend, &users, "a").await.version, version);
}

/// Each mutation has its result at its place.
pub async fn write_results_in_order(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "there", json!(1)).await;
    let mut mutations = vec![
        put(&users, "a", json!(1)),
        Mutation::delete(address(&users, "there")),
        put(&users, "b", json!(2)),
        Mutation::delete(address(&users, "missing")),
        put(&users, "c", json!(3)),
    ];
    let mut expected = vec![
        Effect::Done,
        Effect::Deleted { existed: true },
        Effect::Done,
        Effect::Deleted { existed: false },
        Effect::Done,
    ];
    if cx.has(Feature::Counters) {
        mutations.push(Mutation::increment(address(&users, "hits"), "n", 7));
        expected.push(Effect::Counters([("n".into(), 7)].into()));
    }
    let written = write_all(&*backend, Batch::independent(mutations)).await;
    let effects: Vec<Effect> = written.iter().map(|written| written.effect.clone()).collect();
    assert_eq!(effects, expected);
    for (i, key) in [(0, "a"), (2, "b"), (4, "c")] {
        let read = get_record(&*backend, &users, key).await.version;
        assert_eq!(written[i].version.as_ref(), Some(&read), "the result at {i} is that of {key}");
    }
}

/// In an independent batch one failure is one failed result, and the others are written.
pub async fn independent_failure_isolated(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let version = put_json(&*backend, &users, "there", json!("old")).await;
    let batch = Batch::independent(vec![
        put(&users, "before", json!(1)),
        put(&users, "there", json!("lost")).on(Precondition::Absent),
        put(&users, "between", json!(2)),
        put(&users, "missing", json!("lost")).on(Precondition::Present),
        put(&users, "after", json!(3)),
        put(&users, "there", json!("new")).on(Precondition::Version(version)),
    ]);
    let results = ok(backend.write(&batch).await, "a batch of which a part fails");
    let done: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(done, [true, false, true, false, true, true]);
    for result in results.into_iter().filter(Result::is_err) {
        expect_kind(result, ErrorKind::PreconditionFailed, "the mutation that fails");
    }
    for (key, value) in
        [("before", json!(1)), ("between", json!(2)), ("after", json!(3)), ("there", json!("new"))]
    {
        assert_eq!(get_json(&*backend, &users, key).await, Some(value), "{key}");
    }
    assert_eq!(get_one(&*backend, &users, "missing").await, None);
}

/// Mutations of one key in a batch see each other, in order.
pub async fn same_key_in_order(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let puts = (0..20).map(|i| put(&users, "last", json!(i)));
    write_all(&*backend, Batch::independent(puts.collect())).await;
    assert_eq!(get_json(&*backend, &users, "last").await, Some(json!(19)));

    let mut mutations = vec![put(&users, "a", json!(1)), Mutation::delete(address(&users, "a"))];
    if cx.has(Feature::Preconditions) {
        mutations.push(put(&users, "a", json!(2)).on(Precondition::Absent));
        mutations.push(put(&users, "a", json!(3)).on(Precondition::Present));
    } else {
        mutations.push(put(&users, "a", json!(3)));
    }
    let written = write_all(&*backend, Batch::independent(mutations)).await;
    assert_eq!(written[1].effect, Effect::Deleted { existed: true }, "the delete sees the put before it");
    assert_eq!(get_json(&*backend, &users, "a").await, Some(json!(3)));
    let versions: std::collections::HashSet<&Version> =
        written.iter().filter_map(|written| written.version.as_ref()).collect();
    assert_eq!(versions.len(), written.len() - 1, "each write of the key has a version of its own");
    let read = get_record(&*backend, &users, "a").await.version;
    assert_eq!(written.last().and_then(|last| last.version.as_ref()), Some(&read));
}

/// A batch at the limit is taken; one beyond is refused before any of it is written, and the error names the
/// limit.
pub async fn over_limit_is_split_or_rejected_clearly(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let limit = cx.limits().batch_len;
    if limit > 20_000 {
        // As good as no limit: then such a batch is written whole.
        let puts = (0..20_000).map(|i| put(&users, &format!("k{i}"), json!(i)));
        write_all(&*backend, Batch::independent(puts.collect())).await;
        for i in [0, 9_999, 19_999] {
            assert_eq!(get_json(&*backend, &users, &format!("k{i}")).await, Some(json!(i)));
        }
        return;
    }
    let batch =
        |n: usize| Batch::independent((0..n).map(|i| put(&users, &format!("k{i}"), json!(i))).collect());
    let error = expect_kind(backend.write(&batch(limit + 1)).await, ErrorKind::TooLarge, "a batch too long");
    assert!(error.message().contains(&limit.to_string()), "the error names the limit {limit}: {error}");
    assert_eq!(get_one(&*backend, &users, "k0").await, None, "a batch that is refused wrote something");
    let keys: Vec<Address> = (0..=limit).map(|i| address(&users, &format!("k{i}"))).collect();
    expect_kind(backend.get(&keys).await, ErrorKind::TooLarge, "a get of too many keys");

    write_all(&*backend, batch(limit)).await;
    let read = ok(backend.get(&keys[..limit]).await, "a get at the limit");
    assert!(read.iter().all(Option::is_some), "a batch at the limit is written whole");
}

/// An atomic batch beyond the limit is refused before anything of it is done; one at the limit is done whole.
pub async fn atomic_over_limit_is_refused_whole(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let limit = cx.limits().atomic_len.min(cx.limits().batch_len);
    if limit > 20_000 {
        // As good as no limit.
        return;
    }
    // All of one record, where a batch has no more.
    let records = if cx.capabilities().atomic_scope == AtomicScope::Record { 1 } else { limit + 1 };
    let batch = |n: usize| {
        Batch::atomic((0..n).map(|i| put(&users, &format!("k{}", i % records), json!(i))).collect())
    };
    let error =
        expect_kind(backend.write(&batch(limit + 1)).await, ErrorKind::TooLarge, "an atomic batch too long");
    assert!(error.message().contains(&limit.to_string()), "the error names the limit {limit}: {error}");
    assert_eq!(get_one(&*backend, &users, "k0").await, None, "a batch that is refused wrote something");
    write_all(&*backend, batch(limit)).await;
    let wanted = if records == 1 { vec![(0, limit - 1)] } else { vec![(0, 0), (limit - 1, limit - 1)] };
    for (key, value) in wanted {
        assert_eq!(get_json(&*backend, &users, &format!("k{key}")).await, Some(json!(value)));
    }
}

/// An atomic batch that goes through is written whole, with a result for each mutation.
pub async fn atomic_all_or_nothing(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let keys = atomic_keys(&cx);
    put_json(&*backend, &users, keys[0], json!("old")).await;
    let batch = Batch::atomic(keys.iter().map(|key| put(&users, key, json!(["new", key]))).collect());
    let written = write_all(&*backend, batch).await;
    for (key, written) in keys.iter().zip(&written) {
        let record = get_record(&*backend, &users, key).await;
        assert_eq!(Some(record.version), written.version);
    }
    for key in &keys {
        assert_eq!(get_json(&*backend, &users, key).await, Some(json!(["new", key])), "{key}");
    }

    // A failure that is no precondition, in the last mutation.
    if cx.has(Feature::Expiry) && cx.capabilities().atomic_scope != AtomicScope::Record {
        let touch = Mutation::touch(address(&users, "nobody"), None);
        let batch =
            Batch::atomic(vec![put(&users, "a", json!("lost")), put(&users, "fresh", json!("lost")), touch]);
        let error = expect_kind(backend.write(&batch).await, ErrorKind::NotFound, "an atomic batch");
        assert_eq!(error.failed_mutation(), Some(2), "the error says which mutation failed: {error:?}");
        assert_eq!(get_json(&*backend, &users, "a").await, Some(json!(["new", "a"])));
        assert_eq!(get_one(&*backend, &users, "fresh").await, None);
    }
}

/// One precondition that does not hold, wherever it stands, stops the whole batch, and the error names it.
pub async fn atomic_precondition_aborts_all(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let keys = atomic_keys(&cx);
    for key in &keys {
        put_json(&*backend, &users, key, json!("old")).await;
    }
    for position in 0..3 {
        let mut mutations: Vec<Mutation> =
            (0..3).map(|i| put(&users, keys[i % keys.len()], json!("lost"))).collect();
        mutations[position] = mutations[position].clone().on(Precondition::Absent);
        let what = format!("a batch whose mutation {position} cannot be made");
        let error =
            expect_kind(backend.write(&Batch::atomic(mutations)).await, ErrorKind::PreconditionFailed, &what);
        assert_eq!(error.failed_mutation(), Some(position), "{what}: {error:?}");
        for key in &keys {
            assert_eq!(get_json(&*backend, &users, key).await, Some(json!("old")), "{what} wrote {key}");
        }
    }
    if keys.len() > 1 {
        let stale = get_record(&*backend, &users, "b").await.version;
        put_json(&*backend, &users, "b", json!("newer")).await;
        let batch = Batch::atomic(vec![
            Mutation::delete(address(&users, "a")),
            Mutation::check(address(&users, "b"), Precondition::Version(stale)),
        ]);
        let error =
            expect_kind(backend.write(&batch).await, ErrorKind::PreconditionFailed, "a check of a version");
        assert_eq!(error.failed_mutation(), Some(1));
        assert_eq!(get_json(&*backend, &users, "a").await, Some(json!("old")), "it was deleted all the same");
    }
}

/// An atomic batch spans collections if the backend says so; otherwise it is refused as unsupported.
pub async fn atomic_across_collections(cx: Cx) {
    let (backend, from, to) = (cx.open().await, cx.collection(), cx.collection());
    put_json(&*backend, &from, "a", json!(1)).await;
    let mv = |guard: Precondition| {
        Batch::atomic(vec![Mutation::delete(address(&from, "a")), put(&to, "a", json!(1)).on(guard)])
    };
    let state = async || {
        (get_one(&*backend, &from, "a").await.is_some(), get_one(&*backend, &to, "a").await.is_some())
    };
    if cx.capabilities().atomic_scope != AtomicScope::Store {
        let refused = backend.write(&mv(Precondition::Absent)).await;
        expect_kind(refused, ErrorKind::Unsupported, "an atomic batch over two collections");
        assert_eq!(state().await, (true, false));
        return;
    }
    let failed = backend.write(&mv(Precondition::Present)).await;
    expect_kind(failed, ErrorKind::PreconditionFailed, "a batch over two collections");
    assert_eq!(state().await, (true, false), "a batch that failed moved the record");
    write_all(&*backend, mv(Precondition::Absent)).await;
    assert_eq!(state().await, (false, true));
}

/// In an atomic batch, too, mutations of one key see those before them.
pub async fn atomic_same_key_twice(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let batch = |last: Precondition| {
        Batch::atomic(vec![
            put(&users, "a", json!(1)),
            Mutation::delete(address(&users, "a")),
            put(&users, "a", json!(2)).on(Precondition::Absent),
            put(&users, "a", json!(3)).on(last),
        ])
    };
    let failed = backend.write(&batch(Precondition::Absent)).await;
    let error = expect_kind(failed, ErrorKind::PreconditionFailed, "making the same record twice");
    assert_eq!(error.failed_mutation(), Some(3));
    assert_eq!(get_one(&*backend, &users, "a").await, None, "what the batch wrote before it failed is gone");
    let written = write_all(&*backend, batch(Precondition::Present)).await;
    let record = get_record(&*backend, &users, "a").await;
    assert_eq!(crate::helpers::tree(&record), json!(3));
    assert_eq!(written[3].version, Some(record.version));
}

/// While atomic batches are written, no get of their records sees some new and some old.
pub async fn readers_never_see_half_a_batch(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    if cx.capabilities().atomic_scope == AtomicScope::Record {
        return half_a_record(&*backend, &users).await;
    }
    let keys: Vec<String> = (0..8).map(|i| format!("k{i}")).collect();
    let round = |n: u64| Batch::atomic(keys.iter().map(|key| put(&users, key, json!(n))).collect());
    write_all(&*backend, round(0)).await;
    let rounds: Vec<_> = (1..).map(round).take(2_000).collect();
    let until = Instant::now() + WATCH;
    let writer = tokio::spawn({
        let backend = backend.clone();
        async move {
            for batch in &rounds {
                write_all(&*backend, batch.clone()).await;
                tokio::task::yield_now().await;
                if Instant::now() >= until {
                    break;
                }
            }
        }
    });
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (backend, asked) =
                (backend.clone(), keys.iter().map(|key| address(&users, key)).collect::<Vec<_>>());
            tokio::spawn(async move {
                loop {
                    let read = ok(backend.get(&asked).await, "get");
                    let seen: Vec<u64> = read
                        .iter()
                        .map(|record| crate::helpers::tree(record.as_ref().expect("all are there")).as_u64())
                        .map(|number| number.expect("a number was put"))
                        .collect();
                    assert!(seen.iter().all(|n| *n == seen[0]), "reader {reader} saw half a batch: {seen:?}");
                    tokio::task::yield_now().await;
                    if Instant::now() >= until {
                        break;
                    }
                }
            })
        })
        .collect();
    writer.await.expect("the writer does not fail");
    for reader in readers {
        reader.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
}

/// Where a batch spans one record only: its first write is never seen without its second.
async fn half_a_record(backend: &dyn Backend, users: &CollectionName) {
    let until = Instant::now() + WATCH;
    let write = async {
        while Instant::now() < until {
            let halves = [json!("first half"), json!("whole")].map(|value| put(users, "a", value));
            write_all(backend, Batch::atomic(halves.to_vec())).await;
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        while Instant::now() < until {
            let seen = get_json(backend, users, "a").await;
            assert!(seen.is_none() || seen == Some(json!("whole")), "a reader saw {seen:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write, read);
}

/// Keys that one atomic batch may span: several, or one where the backend says so.
fn atomic_keys(cx: &Cx) -> Vec<&'static str> {
    match cx.capabilities().atomic_scope {
        AtomicScope::Record => vec!["a"],
        AtomicScope::Collection | AtomicScope::Store => vec!["a", "b", "c"],
    }
}
