//! Transactions of the store: reads that are checked, and writes that are made, in one atomic batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value as Tree, json};
use storage_core::{Address, AtomicScope, Error, ErrorKind, Feature, Json, Result, Store, Transaction};

use crate::Cx;
use crate::helpers::{address, expect_kind, get_json, get_one, ok, put_json};

/// What a committed transaction wrote is there, and what it deleted is gone.
pub async fn commit_applies_all(cx: Cx) {
    let Some(store) = spanning(&cx).await else { return };
    let (backend, users) = (store.backend().clone(), cx.collection());
    put_json(&*backend, &users, "old", json!("old")).await;
    put_json(&*backend, &users, "gone", json!("old")).await;
    let at = |key| address(&users, key);
    let (new, old, gone, hits) = (at("new"), at("old"), at("gone"), at("hits"));
    let counts = cx.has(Feature::Counters);
    let answer = store
        .transaction(|tx| {
            let (new, old, gone, hits) = (new.clone(), old.clone(), gone.clone(), hits.clone());
            async move {
                let before = read(&tx, &old).await?;
                tx.put(new, Json::from(json!("new")))?;
                tx.put(old, Json::from(json!([before, "changed"])))?;
                tx.delete(gone)?;
                if counts {
                    tx.increment(hits, "n", 2)?;
                }
                Ok(42)
            }
        })
        .await;
    assert_eq!(ok(answer, "the transaction"), 42, "it returns what its body returned");
    assert_eq!(get_json(&*backend, &users, "new").await, Some(json!("new")));
    assert_eq!(get_json(&*backend, &users, "old").await, Some(json!(["old", "changed"])));
    assert_eq!(get_one(&*backend, &users, "gone").await, None);
    if counts {
        let hits = get_one(&*backend, &users, "hits").await.expect("the counter was made");
        assert_eq!(hits.value, storage_core::Value::Counters([("n".into(), 2)].into()));
    }
}

/// Nothing of a transaction is left that was rolled back, dropped, or whose body failed.
pub async fn rollback_applies_none(cx: Cx) {
    let Some(store) = spanning(&cx).await else { return };
    let (backend, users) = (store.backend().clone(), cx.collection());
    put_json(&*backend, &users, "a", json!("old")).await;
    let fill = |tx: &Transaction| {
        ok(tx.put(address(&users, "a"), Json::from(json!("lost"))), "a buffered put");
        ok(tx.put(address(&users, "b"), Json::from(json!("lost"))), "a buffered put");
    };
    let untouched = async |when: &str| {
        assert_eq!(get_json(&*backend, &users, "a").await, Some(json!("old")), "{when}");
        assert_eq!(get_one(&*backend, &users, "b").await, None, "{when}");
    };
    let tx = store.begin();
    fill(&tx);
    untouched("before the commit").await;
    ok(tx.rollback(), "the rollback");
    untouched("after a rollback").await;

    let tx = store.begin();
    fill(&tx);
    drop(tx);
    untouched("after a transaction was dropped").await;

    let failed: Result<()> = store
        .transaction(|tx| {
            fill(&tx);
            async move { Err(Error::new(ErrorKind::NotFound, "the body changed its mind")) }
        })
        .await;
    let error = expect_kind(failed, ErrorKind::NotFound, "a body that fails");
    assert!(error.message().contains("changed its mind"), "it is the body's own error: {error}");
    untouched("after a body that failed").await;
}

/// A transaction sees what it wrote, and nobody else does before the commit.
pub async fn read_your_writes(cx: Cx) {
    let Some(store) = spanning(&cx).await else { return };
    let (backend, users) = (store.backend().clone(), cx.collection());
    put_json(&*backend, &users, "a", json!(1)).await;
    let (a, b) = (address(&users, "a"), address(&users, "b"));
    let tx = store.begin();
    assert_eq!(ok(read(&tx, &a).await, "a read"), Some(json!(1)));
    ok(tx.put(a.clone(), Json::from(json!(2))), "a put");
    ok(tx.put(b.clone(), Json::from(json!(3))), "a put");
    assert_eq!(ok(read(&tx, &a).await, "a read"), Some(json!(2)));
    assert_eq!(ok(read(&tx, &b).await, "a read"), Some(json!(3)));
    ok(tx.delete(a.clone()), "a delete");
    assert_eq!(ok(read(&tx, &a).await, "a read"), None, "deleted in the transaction");
    assert_eq!(get_json(&*backend, &users, "a").await, Some(json!(1)), "others see what is committed");
    assert_eq!(get_one(&*backend, &users, "b").await, None, "others see what is committed");
    ok(tx.commit().await, "the commit");
    assert_eq!(get_one(&*backend, &users, "a").await, None);
    assert_eq!(get_json(&*backend, &users, "b").await, Some(json!(3)));
}

/// A commit fails if a record that was read has changed since, been deleted, or been made; then nothing of
/// the transaction is written.
pub async fn conflict_detected(cx: Cx) {
    let Some(store) = spanning(&cx).await else { return };
    let backend = store.backend().clone();
    for (what, exists) in [("changed", true), ("deleted", true), ("made", false)] {
        let users = cx.collection();
        if exists {
            put_json(&*backend, &users, "read", json!("old")).await;
        }
        let tx = store.begin();
        assert_eq!(ok(read(&tx, &address(&users, "read")).await, "a read").is_some(), exists);
        ok(tx.put(address(&users, "written"), Json::from(json!("lost"))), "a put");
        match what {
            "deleted" => {
                crate::helpers::write_ok(&*backend, storage_core::Mutation::delete(address(&users, "read")))
                    .await;
            }
            _ => _ = put_json(&*backend, &users, "read", json!("new")).await,
        }
        expect_kind(
            tx.commit().await,
            ErrorKind::Conflict,
            &format!("a commit after what it read was {what}"),
        );
        assert_eq!(get_one(&*backend, &users, "written").await, None, "it was {what}");
    }
}

/// A transaction that meets a conflict runs again, on what is there then.
pub async fn conflict_retried_until_done(cx: Cx) {
    let Some(store) = spanning(&cx).await else { return };
    let (backend, users) = (store.backend().clone(), cx.collection());
    put_json(&*backend, &users, "n", json!(0)).await;
    let attempts = Arc::new(AtomicU32::new(0));
    let at = address(&users, "n");
    let result = store
        .transaction(|tx| {
            let (backend, users, at, attempts) =
                (backend.clone(), users.clone(), at.clone(), attempts.clone());
            async move {
                let seen = read(&tx, &at).await?.and_then(|value| value.as_i64()).unwrap_or(-1);
                // Twice another writer comes in between.
                if attempts.fetch_add(1, Ordering::Relaxed) < 2 {
                    put_json(&*backend, &users, "n", json!(seen + 10)).await;
                }
                tx.put(at, Json::from(json!(seen + 1)))
            }
        })
        .await;
    ok(result, "a transaction that conflicted twice");
    assert_eq!(attempts.load(Ordering::Relaxed), 3, "the body ran once more for each conflict");
    assert_eq!(get_json(&*backend, &users, "n").await, Some(json!(21)), "both other writes and its own");
}

/// Within a transaction a record is deleted and made anew.
pub async fn delete_then_put(cx: Cx) {
    let Some(store) = spanning(&cx).await else { return };
    let (backend, users) = (store.backend().clone(), cx.collection());
    let before = put_json(&*backend, &users, "a", json!({"old": true})).await;
    let a = address(&users, "a");
    let tx = store.begin();
    assert!(ok(tx.get(&a).await, "a read").is_some());
    ok(tx.delete(a.clone()), "a delete");
    ok(tx.put(a.clone(), Json::from(json!({"new": true}))), "a put");
    assert_eq!(ok(read(&tx, &a).await, "a read"), Some(json!({"new": true})));
    ok(tx.commit().await, "the commit");
    let after = get_one(&*backend, &users, "a").await.expect("the record was made anew");
    assert_eq!(crate::helpers::tree(&after), json!({"new": true}));
    assert_ne!(after.version, before);
}

/// Many transfers between accounts at once lose and make no money, and are all made.
pub async fn transfer_conserves_the_sum(cx: Cx) {
    const ACCOUNTS: usize = 4;
    const TASKS: usize = 4;
    const TRANSFERS: usize = 10;
    const START: i64 = 100;
    let Some(store) = spanning(&cx).await else { return };
    let (backend, accounts) = (store.backend().clone(), cx.collection());
    for i in 0..ACCOUNTS {
        put_json(&*backend, &accounts, &format!("a{i}"), json!({"balance": START, "transfers": 0})).await;
    }
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (store, accounts) = (store.clone(), accounts.clone());
            tokio::spawn(async move {
                for i in 0..TRANSFERS {
                    let from = (task + i) % ACCOUNTS;
                    let to = (from + 1 + i % (ACCOUNTS - 1)) % ACCOUNTS;
                    let at = |i: usize| address(&accounts, &format!("a{i}"));
                    transfer(&store, [at(from), at(to)]).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    let (mut sum, mut made) = (0, 0);
    for i in 0..ACCOUNTS {
        let account = get_json(&*backend, &accounts, &format!("a{i}")).await.expect("the account is there");
        sum += account["balance"].as_i64().expect("a number");
        made += account["transfers"].as_i64().expect("a number");
    }
    assert_eq!(sum, START * ACCOUNTS as i64, "money was lost or made");
    assert_eq!(made, 2 * (TASKS * TRANSFERS) as i64, "each transfer counts on both sides");
}

/// Moves 1 between two accounts, however often others get in between.
async fn transfer(store: &Store, [from, to]: [Address; 2]) {
    loop {
        let result = store
            .transaction(|tx| {
                let sides = [(from.clone(), -1), (to.clone(), 1)];
                async move {
                    for (at, delta) in sides {
                        let mut account = read(&tx, &at).await?.expect("the account is there");
                        account["balance"] = json!(account["balance"].as_i64().expect("a number") + delta);
                        account["transfers"] = json!(account["transfers"].as_i64().expect("a number") + 1);
                        tx.put(at, Json::from(account))?;
                    }
                    Ok(())
                }
            })
            .await;
        match result {
            Ok(()) => return,
            // After its last attempt a transaction gives up, with nothing done.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => panic!("a transfer failed: {error:?}"),
        }
    }
}

/// A transaction is finished once: what comes after is refused, and changes nothing.
pub async fn finished_twice_errors(cx: Cx) {
    let Some(store) = spanning(&cx).await else { return };
    let (backend, users) = (store.backend().clone(), cx.collection());
    let a = address(&users, "a");
    let (committed, rolled_back) = (store.begin(), store.begin());
    ok(committed.put(a.clone(), Json::from(json!(1))), "a put");
    ok(committed.commit().await, "the commit");
    ok(rolled_back.put(a.clone(), Json::from(json!("lost"))), "a put");
    ok(rolled_back.rollback(), "the rollback");
    for (what, tx) in [("committed", committed), ("rolled back", rolled_back)] {
        let late = |call: &str| format!("{call} of what was {what}");
        expect_kind(tx.commit().await, ErrorKind::InvalidInput, &late("commit"));
        expect_kind(tx.rollback(), ErrorKind::InvalidInput, &late("rollback"));
        expect_kind(tx.get(&a).await, ErrorKind::InvalidInput, &late("get"));
        expect_kind(tx.put(a.clone(), Json::from(json!("lost"))), ErrorKind::InvalidInput, &late("put"));
        expect_kind(tx.delete(a.clone()), ErrorKind::InvalidInput, &late("delete"));
    }
    assert_eq!(get_json(&*backend, &users, "a").await, Some(json!(1)));
}

/// The store, if its transactions span records; if they do not, checks that this is refused.
async fn spanning(cx: &Cx) -> Option<Store> {
    let store = cx.store().await;
    if cx.capabilities().atomic_scope != AtomicScope::Record {
        return Some(store);
    }
    let users = cx.collection();
    let tx = store.begin();
    for key in ["a", "b"] {
        ok(tx.put(address(&users, key), Json::from(json!(1))), "a put");
    }
    expect_kind(tx.commit().await, ErrorKind::Unsupported, "a transaction of two records");
    assert_eq!(get_one(&**store.backend(), &users, "a").await, None);
    None
}

/// A record's JSON as the transaction sees it.
async fn read(tx: &Transaction, at: &Address) -> Result<Option<Tree>> {
    let record = tx.get(at).await?;
    Ok(record.map(|record| crate::helpers::tree(&record)))
}
