//! Transactions and idempotent writes, also when replies are lost.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use storage_core::layer::{Around, Call, Layers, Policy, Reply};
use storage_core::{
    Address, Error, ErrorKind, Idempotent, Json, MemoryBackend, Mutation, Precondition, Request, Result,
    Retry, Store, Value,
};

fn store() -> Store {
    Store::new(Arc::new(MemoryBackend::new()))
}

fn address(key: &str) -> Address {
    Address::new("accounts", key).unwrap()
}

fn json(text: &'static str) -> Json {
    Json::parse(text).unwrap()
}

/// Applies writes, then loses the reply of the first `losses`.
#[derive(Debug)]
struct LosesReplies {
    losses: usize,
    writes: Arc<AtomicUsize>,
}

impl Policy for LosesReplies {
    fn name(&self) -> &'static str {
        "loses_replies"
    }

    async fn around<T, N, F>(&self, call: Call<'_>, next: N) -> Result<T>
    where
        T: Reply,
        N: Fn() -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send,
    {
        let reply = next().await;
        if matches!(call.request, Request::Write(_))
            && self.writes.fetch_add(1, Ordering::SeqCst) < self.losses
        {
            return Err(
                Error::new(ErrorKind::Unavailable, "the reply was lost").with_retry(Retry::IfIdempotent)
            );
        }
        reply
    }
}

fn losing(losses: usize) -> (Store, Arc<AtomicUsize>) {
    let writes = Arc::new(AtomicUsize::new(0));
    let lossy = Around::new(LosesReplies { losses, writes: writes.clone() }, Arc::new(MemoryBackend::new()));
    (Store::with_layers(Arc::new(lossy), Layers::none()), writes)
}

#[tokio::test]
async fn reads_see_own_writes_and_commit_applies_all() {
    let store = store();
    let tx = store.begin();
    tx.put(address("json"), json("1")).unwrap();
    tx.increment(address("counter"), "n", 2).unwrap();
    tx.increment(address("counter"), "n", 3).unwrap();
    tx.append(address("list"), vec![json("1"), json("2")]).unwrap();
    let seen = tx.get_many(&[address("json"), address("counter"), address("list")]).await.unwrap();
    let values: Vec<Value> = seen.into_iter().map(|record| record.unwrap().value).collect();
    assert_eq!(
        values,
        [json("1").into(), Value::Counters([("n".into(), 5)].into()), Value::List { length: 2 }]
    );
    assert!(store.get(&address("json")).await.unwrap().is_none());
    tx.commit().await.unwrap();
    assert!(
        store
            .get_many(&[address("json"), address("counter"), address("list")])
            .await
            .unwrap()
            .iter()
            .all(Option::is_some)
    );
    assert_eq!(store.counters("accounts").unwrap().get("counter", "n").await.unwrap(), 5);
}

#[tokio::test]
async fn increments_overlay_what_was_read() {
    let store = store();
    let counters = store.counters("accounts").unwrap();
    counters.increment("k", "n", 10).await.unwrap();
    let tx = store.begin();
    tx.increment(address("k"), "n", 1).unwrap();
    let record = tx.get(&address("k")).await.unwrap().unwrap();
    assert_eq!(record.value, Value::Counters([("n".into(), 11)].into()));
    tx.put(address("k"), json("0")).unwrap();
    tx.delete(address("k")).unwrap();
    assert!(tx.get(&address("k")).await.unwrap().is_none());
    tx.increment(address("k"), "n", 7).unwrap();
    tx.commit().await.unwrap();
    assert_eq!(counters.get("k", "n").await.unwrap(), 7);
}

#[tokio::test]
async fn rollback_and_errors_apply_none_and_finishing_twice_is_an_error() {
    let store = store();
    let tx = store.begin();
    tx.put(address("k"), json("1")).unwrap();
    tx.rollback().unwrap();
    assert_eq!(tx.commit().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(tx.rollback().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(tx.put(address("k"), json("1")).unwrap_err().kind(), ErrorKind::InvalidInput);
    let done = store.begin();
    done.commit().await.unwrap();
    assert_eq!(done.commit().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let failed: Result<()> = store
        .transaction(|tx| async move {
            tx.put(address("k"), json("1"))?;
            Err(Error::invalid("no"))
        })
        .await;
    assert_eq!(failed.unwrap_err().message(), "no");
    assert!(store.get(&address("k")).await.unwrap().is_none());
}

#[tokio::test]
async fn conflicts_are_found_in_read_written_and_absent_records() {
    let store = store();
    let accounts = store.collection::<i64>("accounts").unwrap();
    accounts.put("there", &1).await.unwrap();
    for key in ["there", "absent"] {
        // Read and written, or only read while another is written: both depend on what was read.
        for written in [key, "other"] {
            accounts.delete("absent").await.unwrap();
            let tx = store.begin();
            tx.get(&address(key)).await.unwrap();
            tx.put(address(written), json("5")).unwrap();
            accounts.put(key, &9).await.unwrap();
            let error = tx.commit().await.unwrap_err();
            assert_eq!((error.kind(), error.retry()), (ErrorKind::Conflict, Retry::Safe), "{key} {written}");
            assert_eq!(accounts.get(key).await.unwrap(), Some(9));
        }
    }
    let blind = store.begin();
    blind.put(address("there"), json("5")).unwrap();
    accounts.put("there", &2).await.unwrap();
    blind.commit().await.unwrap();
    assert_eq!(accounts.get("there").await.unwrap(), Some(5));
}

#[tokio::test]
async fn reads_are_repeatable_and_checked_together() {
    let store = store();
    let accounts = store.collection::<i64>("accounts").unwrap();
    accounts.put("a", &1).await.unwrap();
    let (one, two) = (store.begin(), store.begin());
    let read = one.get(&address("a")).await.unwrap();
    two.get_many(&[address("a"), address("b")]).await.unwrap();
    accounts.put("a", &2).await.unwrap();
    assert_eq!(one.get(&address("a")).await.unwrap(), read);
    one.commit().await.unwrap();
    assert_eq!(two.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_conflict_is_retried_also_when_the_body_fails_of_torn_reads() {
    let store = store();
    let accounts = store.collection::<i64>("accounts").unwrap();
    accounts.put("a", &1).await.unwrap();
    accounts.put("b", &1).await.unwrap();
    let runs = AtomicUsize::new(0);
    let sum = store
        .transaction(|tx| {
            let first = runs.fetch_add(1, Ordering::SeqCst) == 0;
            let accounts = accounts.clone();
            async move {
                let view = tx.collection::<i64>("accounts")?;
                let a = view.get("a").await?.unwrap_or(0);
                if first {
                    accounts.put("a", &0).await?;
                    accounts.put("b", &2).await?;
                }
                let b = view.get("b").await?.unwrap_or(0);
                if a + b == 2 { Ok(a + b) } else { Err(Error::invalid("torn")) }
            }
        })
        .await
        .unwrap();
    assert_eq!((sum, runs.into_inner()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn conflicts_without_end_are_returned() {
    let store = store();
    let accounts = store.collection::<usize>("accounts").unwrap();
    let runs = AtomicUsize::new(0);
    let error = store
        .transaction(|tx| {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            let accounts = accounts.clone();
            async move {
                tx.get(&address("k")).await?;
                accounts.put("k", &run).await?;
                tx.put(address("k"), json("0"))
            }
        })
        .await
        .unwrap_err();
    assert_eq!((error.kind(), runs.into_inner()), (ErrorKind::Conflict, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transfers_conserve_the_sum() {
    let store = store();
    let accounts = store.collection::<i64>("accounts").unwrap();
    for key in ["a", "b", "c"] {
        accounts.put(key, &100).await.unwrap();
    }
    let tasks: Vec<_> = (0..6usize)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let keys = ["a", "b", "c"];
                for round in 0..30 {
                    let (from, to) = (keys[(task + round) % 3], keys[(task + round + 1) % 3]);
                    let transfer = store.transaction(|tx| async move {
                        let accounts = tx.collection::<i64>("accounts")?;
                        let (x, y) = (accounts.get(from).await?.unwrap(), accounts.get(to).await?.unwrap());
                        tokio::task::yield_now().await;
                        accounts.put(from, &(x - 1))?;
                        accounts.put(to, &(y + 1))
                    });
                    transfer.await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let balances = accounts.get_many(["a", "b", "c"]).await.unwrap();
    assert_eq!(balances, [Some(100), Some(100), Some(100)]);
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_not_repeated() {
    let (store, writes) = losing(1);
    let error = store
        .transaction(|tx| async move {
            tx.get(&address("k")).await?;
            tx.increment(address("k"), "n", 1)
        })
        .await
        .unwrap_err();
    assert_eq!((error.retry(), writes.load(Ordering::SeqCst)), (Retry::IfIdempotent, 1));
    assert_eq!(store.counters("accounts").unwrap().get("k", "n").await.unwrap(), 1);
}

#[tokio::test]
async fn an_idempotent_write_is_applied_once() {
    let store = store();
    let add = |delta| vec![Mutation::increment(address("k"), "n", delta)];
    let Idempotent::Applied(written) = store.write_idempotent("key", add(5)).await.unwrap() else {
        panic!("nothing was there before")
    };
    assert_eq!(written.len(), 1);
    assert!(matches!(
        store.write_idempotent("key", add(5)).await.unwrap(),
        Idempotent::AlreadyApplied { .. }
    ));
    let error = store.write_idempotent("key", add(6)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("other mutations"), "{error}");
    assert_eq!(store.counters("accounts").unwrap().get("k", "n").await.unwrap(), 5);
}

#[tokio::test]
async fn a_repeat_is_known_although_its_mutations_would_fail_now() {
    let store = store();
    let create = |text| vec![Mutation::put(address("k"), json(text)).on(Precondition::Absent)];
    store.write_idempotent("key", create(r#"{"a": 1, "b": 2}"#)).await.unwrap();
    let again = store.write_idempotent("key", create(r#"{"b":2,"a":1}"#)).await.unwrap();
    assert!(matches!(again, Idempotent::AlreadyApplied { .. }));
    // A failure does not use up the key, and its position is the caller's.
    let error = store.write_idempotent("other", create("1")).await.unwrap_err();
    assert_eq!((error.kind(), error.failed_mutation()), (ErrorKind::PreconditionFailed, Some(0)));
    store.collection::<u8>("accounts").unwrap().delete("k").await.unwrap();
    assert!(matches!(store.write_idempotent("other", create("1")).await.unwrap(), Idempotent::Applied(_)));
}

#[tokio::test]
async fn an_idempotent_write_survives_a_lost_reply() {
    let (store, _) = losing(1);
    let add = vec![Mutation::increment(address("k"), "n", 5)];
    let outcome = store.write_idempotent("key", add).await.unwrap();
    assert!(matches!(outcome, Idempotent::AlreadyApplied { .. }));
    assert_eq!(store.counters("accounts").unwrap().get("k", "n").await.unwrap(), 5);
}

#[tokio::test]
async fn idempotency_keys_expire_and_are_guarded() {
    let store = store();
    let add = || vec![Mutation::increment(address("k"), "n", 1)];
    let short = Duration::from_millis(20);
    store.write_idempotent_with_retention("key", add(), short).await.unwrap();
    tokio::time::sleep(short * 2).await;
    assert!(matches!(store.write_idempotent("key", add()).await.unwrap(), Idempotent::Applied(_)));
    let own = vec![Mutation::delete(Address::new(storage_core::IDEMPOTENCY_COLLECTION, "key").unwrap())];
    assert_eq!(store.write_idempotent("new", own).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(store.write_idempotent("", add()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}
