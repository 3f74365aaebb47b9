//! Merging: what goes together, in which order, and what happens when something goes wrong.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use storage_core::layer::{Around, Coalesce, Guard};
use storage_core::{
    Backend, Batch, Capabilities, Change, Coalescing, Effect, Error, ErrorKind, Feature, Mutation, Result,
    Retry, Value, Written,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fake::{Fake, record};
use crate::{at, increment, put};

const DELAY: Duration = Duration::from_millis(10);

fn over(fake: &Arc<Fake>) -> Arc<Coalesce> {
    Arc::new(Coalesce::new(Arc::new(Around::new(Guard, fake.clone()))))
}

/// Lets every task run until it waits for time to pass.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Starts a call on `hot`, and one on 40 other records: while that is in flight, the share of a place is ten.
async fn begin_with_hot(store: &Arc<Coalesce>) -> JoinSet<(&'static str, Result<Vec<Result<Written>>>)> {
    let large = (0..40).map(|i| put(&format!("large{i}")).mutations.remove(0)).collect();
    let mut tasks = JoinSet::new();
    for (key, batch) in [("hot", increment("hot")), ("large", Batch::independent(large))] {
        let store = store.clone();
        tasks.spawn(async move { (key, store.write(&batch).await) });
        settle().await;
    }
    tasks
}

/// Fills the four places that the window starts with, with gets.
fn occupy(store: &Arc<Coalesce>) -> JoinSet<()> {
    (0..4)
        .map(|i| {
            let store = store.clone();
            async move { drop(store.get(&[at(&format!("first{i}"))]).await) }
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_call_alone_goes_at_once_as_it_is() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let begun = Instant::now();
    for _ in 0..3 {
        store.get(&[at("a")]).await.unwrap();
        store.write(&put("a")).await.unwrap();
    }
    assert_eq!(begun.elapsed(), 6 * DELAY);
    assert_eq!(fake.batch_lens(), [1; 6]);
}

#[tokio::test(start_paused = true)]
async fn concurrent_gets_go_together_and_each_gets_its_own() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for i in 0..100 {
        let store = store.clone();
        tasks.spawn(async move {
            let keys = [at(&format!("k{i}")), at("no"), at(&format!("k{}", i % 3))];
            let found = store.get(&keys[..1 + i % 3]).await.unwrap();
            assert_eq!(found, keys[..1 + i % 3].iter().map(record).collect::<Vec<_>>());
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let lens = fake.batch_lens();
    assert_eq!(lens.len(), 8, "four go straight, the others together, in four parts: {lens:?}");
    assert!(lens[4..].iter().all(|len| (45..=50).contains(len)), "parts alike: {lens:?}");
    assert_eq!(begun.elapsed(), 2 * DELAY);
    assert!(fake.most_flying.load(Ordering::SeqCst) <= 4);
}

#[tokio::test(start_paused = true)]
async fn callers_who_come_back_together_go_together_again_in_parts_alike() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let mut tasks = JoinSet::new();
    for i in 0..128 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                store.get(&[at(&format!("k{i}"))]).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let lens = fake.batch_lens();
    assert_eq!(lens.iter().sum::<usize>(), 1_280);
    // Not one batch of nearly all, and three calls alone beside it, again and again.
    assert!(lens[4..12].iter().all(|len| (31..=32).contains(len)), "{lens:?}");
}

#[tokio::test(start_paused = true)]
async fn beside_merged_batches_those_who_come_at_once_go_together() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let mut straight = occupy(&store);
    settle().await;
    let get = |key: &str| {
        let (store, key) = (store.clone(), at(key));
        tokio::spawn(async move { store.get(&[key]).await.unwrap() })
    };
    let waiting: Vec<_> = (0..8).map(|i| get(&format!("waiting{i}"))).collect();
    while straight.join_next().await.is_some() {}
    settle().await;
    assert_eq!(fake.batch_lens(), [1, 1, 1, 1, 3, 3, 2], "three places are taken, one is free");
    let late: Vec<_> = (0..3).map(|i| get(&format!("late{i}"))).collect();
    settle().await;
    assert_eq!(fake.batch_lens()[7..], [3], "they do not wait for a place, nor does one take it alone");
    for task in waiting.into_iter().chain(late) {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_hot_counter_takes_few_large_batches_and_loses_nothing() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let mut tasks = JoinSet::new();
    for _ in 0..128 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..10 {
                let results = store.write(&increment("hot")).await.unwrap();
                let Effect::Counters(sums) = &results[0].as_ref().unwrap().effect else { panic!() };
                seen.push(sums["n"]);
            }
            assert!(seen.is_sorted());
            seen
        });
    }
    let mut seen = BTreeSet::new();
    while let Some(done) = tasks.join_next().await {
        seen.extend(done.unwrap());
    }
    assert_eq!(seen, (1..=1280).collect());
    assert!(fake.count() <= 12, "{} batches: {:?}", fake.count(), fake.batch_lens());
    assert_eq!(fake.most_flying.load(Ordering::SeqCst), 1, "one key is never in two batches at a time");
}

#[tokio::test(start_paused = true)]
async fn mutations_of_a_key_keep_the_order_of_their_calls() {
    let fake = Arc::new(Fake { delay: DELAY, uneven: true, ..Fake::new() });
    let store = over(&fake);
    let mut tasks = JoinSet::new();
    // Of calls for one and for two of five keys, in every way they can stand in each other's way.
    for i in 0..500_usize {
        let store = store.clone();
        let value =
            |key: usize| Mutation::put(at(&format!("k{key}")), Value::bytes(i.to_be_bytes().to_vec()));
        let mut mutations = vec![value(i * 7 % 5)];
        if i % 3 == 0 {
            mutations.push(value((i * 7 + 1 + i % 4) % 5));
        }
        tasks.spawn(async move { store.write(&Batch::independent(mutations)).await.unwrap() });
        if i % 50 == 0 {
            tokio::time::sleep(DELAY / 3).await;
        }
        tokio::task::yield_now().await;
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let mut of_key: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
    for mutation in fake.applied.lock().unwrap().iter() {
        let Change::Put { value: Value::Bytes(blob), .. } = &mutation.change else { panic!() };
        of_key.entry(mutation.address.key.to_string()).or_default().push(blob.data.to_vec());
    }
    assert_eq!(of_key.len(), 5);
    for (key, values) in of_key {
        assert!(values.len() > 100 && values.is_sorted(), "{key} was written out of order");
    }
    assert!(fake.count() < 300, "{} batches", fake.count());
    assert!(fake.most_flying.load(Ordering::SeqCst) > 1);
}

#[tokio::test(start_paused = true)]
async fn other_keys_pass_one_that_waits() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let mut tasks = JoinSet::new();
    for key in ["hot", "hot", "cold"] {
        let store = store.clone();
        tasks.spawn(async move { store.write(&put(key)).await.unwrap() });
        settle().await;
    }
    assert_eq!(*fake.batches.lock().unwrap(), [["hot"], ["cold"]], "the second `hot` waits");
    tasks.join_all().await;
    assert_eq!(fake.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn merged_batches_keep_to_the_limits() {
    let mut capabilities = Capabilities::none().native(Feature::ALL);
    capabilities.coalesce_reads = Coalescing::Pays;
    capabilities.coalesce_writes = Coalescing::Pays;
    capabilities.limits.batch_len = 10;
    capabilities.limits.batch_bytes = 100;
    let fake = Arc::new(Fake { delay: DELAY, ..Fake::with(capabilities) });
    let store = over(&fake);
    let mut tasks = JoinSet::new();
    for i in 0..60 {
        let (reader, writer) = (store.clone(), store.clone());
        tasks.spawn(async move { drop(reader.get(&[at(&format!("{i}")), at("b")]).await.unwrap()) });
        // 25 bytes: names of 5 and 2, and 18 of value.
        let mutation =
            Mutation::put(at(&format!("{:02}", i)), Value::Counters([("1234567890".into(), i)].into()));
        assert_eq!(mutation.size(), 25);
        tasks.spawn(async move { drop(writer.write(&Batch::independent(vec![mutation])).await.unwrap()) });
    }
    tasks.join_all().await;
    let lens = fake.batch_lens();
    assert_eq!(lens.iter().sum::<usize>(), 60 * 2 + 60);
    assert!(lens.iter().all(|len| *len <= 10), "{lens:?}");
    // No batch failed and was sent again in parts: it would be there twice.
    assert!(lens.contains(&10) && lens.contains(&4), "{lens:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_caller_takes_nobody_with_it() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let mut straight = occupy(&store);
    settle().await;
    let get = |key: &'static str| {
        let store = store.clone();
        tokio::spawn(async move { store.get(&[at(key)]).await })
    };
    let (kept, gone) = (get("kept"), get("gone"));
    settle().await;
    gone.abort();
    settle().await;
    straight.abort_all();
    settle().await;
    assert_eq!(fake.batches.lock().unwrap()[4..], [["kept"]], "what waits goes when the others are dropped");

    // `kept` is in a merged batch now, and another of its callers comes and goes.
    drop(straight);
    assert!(kept.await.unwrap().is_ok());

    let mut straight = occupy(&store);
    settle().await;
    let (left, right) = (get("left"), get("right"));
    settle().await;
    straight.join_next().await;
    settle().await;
    assert_eq!(fake.batches.lock().unwrap().last().unwrap(), &["left", "right"]);
    left.abort();
    assert_eq!(right.await.unwrap().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_batch_goes_to_every_caller() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let straight = occupy(&store);
    settle().await;
    let mut tasks = JoinSet::new();
    for i in 0..5 {
        let store = store.clone();
        tasks.spawn(async move { store.get(&[at(&format!("{i}"))]).await });
    }
    settle().await;
    let told = Error::new(ErrorKind::Unavailable, "told to").with_retry(Retry::Safe);
    // The four that went straight get it too, whoever asks first, and the others go in three parts.
    fake.faults.lock().unwrap().extend(vec![told; 7]);
    straight.join_all().await;
    for result in tasks.join_all().await {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Safe));
        assert_eq!(error.to_string(), "fake get: told to");
    }
    assert_eq!(fake.batch_lens()[4..], [2, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_bad_call_fails_alone() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let mut tasks = begin_with_hot(&store).await;
    for key in ["hot", "bad", "good", "hot"] {
        let store = store.clone();
        // All wait for `hot`, so that they go together.
        let mut batch = increment("hot");
        if key != "hot" {
            batch.mutations.push(increment(key).mutations.remove(0));
        }
        tasks.spawn(async move { (key, store.write(&batch).await) });
        settle().await;
    }
    for (key, result) in tasks.join_all().await {
        match key {
            "bad" => assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput),
            "good" => assert_eq!(result.unwrap().len(), 2),
            "large" => assert_eq!(result.unwrap().len(), 40),
            _ => assert_eq!(result.unwrap().len(), 1),
        }
    }
    assert_eq!(fake.batch_lens(), [1, 40, 6, 1, 2, 2, 1], "the merged batch, then each for itself");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_fails_its_reader_alone() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let straight = occupy(&store);
    settle().await;
    let mut tasks = JoinSet::new();
    for key in ["good", "damaged", "fine"] {
        let store = store.clone();
        tasks.spawn(async move { (key, store.get(&[at(key)]).await) });
    }
    for (key, result) in tasks.join_all().await {
        match key {
            "damaged" => assert_eq!(result.unwrap_err().kind(), ErrorKind::Corrupt),
            _ => assert!(result.unwrap()[0].is_some(), "{key}"),
        }
    }
    straight.join_all().await;
    assert_eq!(fake.batch_lens()[4..], [2, 1, 1, 1], "two went together, then each for itself");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_and_the_lane_goes_on() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let mut tasks = begin_with_hot(&store).await;
    for key in ["panic", "good"] {
        let store = store.clone();
        let mut batch = increment("hot");
        batch.mutations.push(increment(key).mutations.remove(0));
        tasks.spawn(async move { (key, store.write(&batch).await) });
        settle().await;
    }
    for (key, result) in tasks.join_all().await {
        if key == "hot" || key == "large" {
            result.unwrap();
        } else {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.backend_name()), (ErrorKind::Internal, "fake"));
            assert!(error.to_string().contains("panicked"), "{error}");
        }
    }
    for _ in 0..10 {
        store.write(&increment("hot")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_what_is_queued_and_takes_no_more() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let store = store.clone();
        tasks.spawn(async move { store.write(&increment("hot")).await });
    }
    settle().await;
    let closing = tokio::spawn({
        let store = store.clone();
        async move { store.close().await }
    });
    settle().await;
    let error = store.write(&put("late")).await.unwrap_err();
    assert_eq!((error.kind(), error.operation_name()), (ErrorKind::Closed, "write"));
    assert_eq!(store.get(&[at("late")]).await.unwrap_err().kind(), ErrorKind::Closed);
    closing.await.unwrap().unwrap();
    assert_eq!(*fake.calls.lock().unwrap(), ["write", "write", "close"]);
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    store.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn atomic_batches_and_what_does_not_pay_go_straight() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        let batch = Batch::atomic(increment("hot").mutations);
        tasks.spawn(async move { drop(store.write(&batch).await.unwrap()) });
    }
    tasks.join_all().await;
    assert_eq!(fake.batch_lens(), [1; 20]);

    let idle = Arc::new(Fake { delay: DELAY, ..Fake::with(Capabilities::none().native(Feature::ALL)) });
    let store = over(&idle);
    assert_eq!(store.windows(), (None, None));
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        tasks.spawn(async move { drop(store.get(&[at("a")]).await.unwrap()) });
    }
    tasks.join_all().await;
    assert_eq!(idle.batch_lens(), [1; 20]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_nobody_polls_hold_others_for_a_second_at_most() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let keys = [at("unpolled")];
    let mut unpolled: Vec<_> = (0..4).map(|_| store.get(&keys)).collect();
    for call in &mut unpolled {
        assert!(poll_once(call).is_pending());
    }
    let begun = Instant::now();
    let keys_waiting = [at("waits")];
    tokio::time::timeout(Duration::from_secs(9), store.get(&keys_waiting)).await.unwrap().unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(1) + DELAY);
    drop(unpolled);
    let begun = Instant::now();
    store.get(&[at("goes")]).await.unwrap();
    assert_eq!(begun.elapsed(), DELAY);
}

#[test]
fn the_end_of_a_runtime_leaves_the_calls_of_another_watched() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let fake = Fake::slow(Duration::from_millis(1));
    let store = over(&fake);
    let keys = [at("unpolled")];
    let inside = first.enter();
    let mut unpolled: Vec<_> = (0..4).map(|_| store.get(&keys)).collect();
    for call in &mut unpolled {
        assert!(poll_once(call).is_pending());
    }
    drop(inside);
    let ask = |key: &'static str| {
        let store = store.clone();
        async move { tokio::time::timeout(Duration::from_secs(9), store.get(&[at(key)])).await }
    };
    first.spawn(ask("first"));
    std::thread::sleep(Duration::from_millis(100));
    let waits = second.spawn(ask("second"));
    std::thread::sleep(Duration::from_millis(100));
    drop(first);
    let answer = second.block_on(waits).unwrap();
    answer.expect("it goes after a second").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_let_go_of_is_gone_at_once() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let keys = [at("a")];
    let mut calls: Vec<_> = (0..5).map(|_| store.get(&keys)).collect();
    for call in &mut calls {
        assert!(poll_once(call).is_pending());
    }
    settle().await;
    // The one that waits first, or it would take off when another lands.
    drop(calls.pop());
    drop(calls);
    drop(store);
    settle().await;
    assert_eq!(Arc::strong_count(&fake), 1, "nothing that looks after the calls holds the backend");
}

#[tokio::test(start_paused = true)]
async fn a_large_get_is_a_batch_already_and_goes_at_once() {
    let fake = Fake::slow(DELAY);
    let store = over(&fake);
    let mut first = occupy(&store);
    settle().await;
    let keys: Vec<_> = (0..64).map(|i| at(&format!("k{i}"))).collect();
    let begun = Instant::now();
    let (large, small) = tokio::join!(async { (store.get(&keys).await, begun.elapsed()) }, async {
        (store.get(&keys[1..]).await, begun.elapsed())
    },);
    assert_eq!(large.0.unwrap(), keys.iter().map(record).collect::<Vec<_>>());
    assert_eq!(small.0.unwrap().len(), 63);
    assert_eq!((large.1, small.1), (DELAY, 2 * DELAY));
    first.join_next().await.unwrap().unwrap();
}

/// The window for reads after many rounds of many callers.
async fn window_over(fake: Fake) -> usize {
    let fake = Arc::new(fake);
    let store = over(&fake);
    let mut tasks = JoinSet::new();
    for i in 0..128_u64 {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..400 {
                store.get(&[at(&format!("k{i}"))]).await.unwrap();
                // Callers have other things to do, for times of their own.
                tokio::time::sleep(Duration::from_millis((i * 7 + round) % 5)).await;
            }
        });
    }
    tasks.join_all().await;
    store.windows().0.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_window_opens_over_a_network_and_narrows_under_a_lock() {
    let far = window_over(Fake { delay: DELAY, ..Fake::new() }).await;
    assert!(far >= 16, "{far}");
    let locked =
        window_over(Fake { delay: DELAY, lock: Some(tokio::sync::Mutex::new(())), ..Fake::new() }).await;
    assert!(locked <= 2, "{locked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_holds_on_many_threads() {
    let fake = Arc::new(Fake { delay: Duration::from_micros(100), ..Fake::new() });
    let store = over(&fake);
    let mut tasks = JoinSet::new();
    for i in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..50 {
                store.write(&increment("hot")).await.unwrap();
                store.write(&increment(&format!("k{i}"))).await.unwrap();
                let key = at(&format!("{i}-{round}"));
                assert_eq!(store.get(std::slice::from_ref(&key)).await.unwrap(), [record(&key)]);
            }
        });
    }
    tasks.join_all().await;
    let results = store.write(&increment("hot")).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap().effect, Effect::Counters([("n".into(), 64 * 50 + 1)].into()));
    store.close().await.unwrap();
}
