//! Atomic batches whose transactions the server breaks off.

use mongodb::bson::doc;
use serde_json::json;
use storage_core::{Batch, ErrorKind, Retry};
use storage_testkit::helpers::{get_json, get_one, put};

use crate::{Faulty, IN_TIME, counted, expect, increment_atomically, sum, timed, users};

/// A transaction that met another one begins again by itself.
#[tokio::test]
async fn a_transient_error_is_overcome() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    let (mut done, transient) = (0, ["TransientTransactionError"]);
    for code in [112, 251, 189, 11602] {
        for command in ["find", "update", "bulkWrite"] {
            let how = doc! {"errorCode": code, "errorLabels": transient.to_vec()};
            faulty.fail(2, &[command], how).await;
            increment_atomically(backend, "n").await.unwrap();
            done += 1;
            faulty.heal().await;
            assert_eq!(sum(backend, "n").await, done, "code {code} of {command}");
        }
    }
    faulty.fail(1, &["update", "bulkWrite"], doc! {"closeConnection": true}).await;
    increment_atomically(backend, "n").await.unwrap();
    assert_eq!(sum(backend, "n").await, done + 1);
}

/// One that never gets through is a conflict within the call's time, and has done nothing.
#[tokio::test]
async fn a_transaction_that_never_gets_through_is_a_conflict() {
    let faulty = Faulty::open(&[("timeout", "2s")]).await;
    let backend = &*faulty.backend;
    increment_atomically(backend, "n").await.unwrap();
    let how = doc! {"errorCode": 112, "errorLabels": ["TransientTransactionError"]};
    faulty.fail_always(&["update", "bulkWrite"], how).await;
    let (took, told) = timed(increment_atomically(backend, "n")).await;
    expect(told, ErrorKind::Conflict, Retry::Safe, "");
    assert!(took < IN_TIME, "{took:?}");
    faulty.heal().await;
    assert_eq!(sum(backend, "n").await, 1);
}

/// A commit whose result nobody knows is asked for again: it is done once.
#[tokio::test]
async fn an_unknown_commit_is_asked_for_again() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    let mut done = 0;
    for times in [1, 3] {
        for how in [
            doc! {"closeConnection": true},
            doc! {"errorCode": 91, "errorLabels": ["RetryableWriteError"]},
            doc! {"errorCode": 10107, "errorLabels": ["RetryableWriteError"]},
            doc! {"writeConcernError": {"code": 64, "errmsg": "not replicated", "errInfo": {"wtimeout": true}}},
            doc! {"writeConcernError": {"code": 91, "errmsg": "stops"}, "errorLabels": ["RetryableWriteError"]},
        ] {
            faulty.fail(times, &["commitTransaction"], how.clone()).await;
            increment_atomically(backend, "n")
                .await
                .unwrap_or_else(|error| panic!("{times} times {how}: {error:?}"));
            done += 1;
            faulty.heal().await;
            assert_eq!(sum(backend, "n").await, done, "{times} times {how}");
        }
    }
}

/// One that stays unknown is told so within the call's time.
#[tokio::test]
async fn a_commit_that_stays_unknown_is_told() {
    let faulty = Faulty::open(&[("timeout", "2s")]).await;
    let backend = &*faulty.backend;
    increment_atomically(backend, "n").await.unwrap();
    for how in [
        doc! {"errorCode": 91, "errorLabels": ["RetryableWriteError"]},
        doc! {"writeConcernError": {"code": 64, "errmsg": "not replicated", "errInfo": {"wtimeout": true}}},
    ] {
        let before = counted(backend, "n").await;
        faulty.fail_always(&["commitTransaction"], how.clone()).await;
        let (took, told) = timed(increment_atomically(backend, "n")).await;
        faulty.heal().await;
        let error = told.expect_err("nobody knows");
        assert_eq!(error.retry(), Retry::IfIdempotent, "{how}: {error:?}");
        assert!(took < IN_TIME, "{took:?}");
        let more = counted(backend, "n").await - before;
        assert!(more <= 1, "{how}: done {more} times");
    }
}

/// A refusal within a transaction undoes it.
#[tokio::test]
async fn a_refusal_undoes_all() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    let batch = Batch::atomic(vec![put(&users(), "a", json!(1)), put(&users(), "b", json!(2))]);
    for (code, kind) in [(13, ErrorKind::PermissionDenied), (10334, ErrorKind::TooLarge)] {
        faulty.fail(1, &["update", "bulkWrite"], doc! {"errorCode": code}).await;
        expect(backend.write(&batch).await, kind, Retry::Never, "");
        assert!(get_one(backend, &users(), "a").await.is_none());
    }
    backend.write(&batch).await.unwrap();
    assert_eq!(get_json(backend, &users(), "b").await, Some(json!(2)));
}
