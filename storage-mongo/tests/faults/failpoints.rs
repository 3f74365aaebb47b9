//! Single commands that the server fails, or does without being able to say that they will last.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mongodb::bson::doc;
use serde_json::json;
use storage_core::{Batch, ErrorKind, IndexSpec, Json, Mutation, Path, Precondition, Result, Retry};
use storage_testkit::helpers::{address, get_json, get_one, put, put_json, write_one};

use crate::{
    Faulty, IN_TIME, WRITES, counted, expect, get, increment, increment_atomically, put_one, recovers, sum,
    timed, users,
};

/// A server that is no primary, or whose locks or cache are not free, has done nothing, and says so.
#[tokio::test]
async fn refused_for_now_means_not_done() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    put_json(backend, &users(), "ada", json!("before")).await;
    for (code, kind) in [
        (10107, ErrorKind::Unavailable),
        (13435, ErrorKind::Unavailable),
        (24, ErrorKind::Busy),
        (365, ErrorKind::Busy),
    ] {
        faulty.fail(1, WRITES, doc! {"errorCode": code}).await;
        let put = write_one(backend, put(&users(), "ada", json!("after"))).await;
        expect(put, kind, Retry::Safe, "");
        assert_eq!(get_json(backend, &users(), "ada").await, Some(json!("before")));
        faulty.fail(1, WRITES, doc! {"errorCode": code}).await;
        expect(increment(backend, "n").await, kind, Retry::Safe, "");
        assert_eq!(sum(backend, "n").await, 0);
    }
    put_one(backend, "ada").await.unwrap();
    increment(backend, "n").await.unwrap();
}

/// What the server gives up while it is at it may be done, and nothing repeats it unasked.
#[tokio::test]
async fn interrupted_writes_are_of_unknown_outcome() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    for (code, kind) in [
        (91, ErrorKind::Unavailable),
        (189, ErrorKind::Unavailable),
        (11600, ErrorKind::Unavailable),
        (11602, ErrorKind::Unavailable),
        (50, ErrorKind::Timeout),
        (262, ErrorKind::Timeout),
    ] {
        faulty.fail(1, WRITES, doc! {"errorCode": code}).await;
        expect(increment(backend, "n").await, kind, Retry::IfIdempotent, "");
        faulty.fail(1, WRITES, doc! {"errorCode": code}).await;
        expect(put_one(backend, "ada").await, kind, Retry::IfIdempotent, "");
    }
    recovers(|| get(backend, "n")).await;
    assert_eq!(sum(backend, "n").await, 0, "nothing was repeated");
}

/// A write that is done here, but not by a majority in time, is of unknown outcome: the primary may be lost.
#[tokio::test]
async fn what_was_not_replicated_is_of_unknown_outcome() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    put_json(backend, &users(), "there", json!(1)).await;
    let append = |n: i32| Mutation::append(address(&users(), "l"), vec![Json::from(json!(n))]);
    write_one(backend, append(0)).await.unwrap();
    increment(backend, "n").await.unwrap();
    for (code, kind) in
        [(64, ErrorKind::Timeout), (100, ErrorKind::Unavailable), (91, ErrorKind::Unavailable)]
    {
        let told = doc! {"writeConcernError": {"code": code, "errmsg": "not replicated"}};
        let batches: [Vec<Mutation>; 6] = [
            vec![put(&users(), "a", json!(code))],
            vec![put(&users(), "a", json!(code)), put(&users(), "b", json!(code))],
            vec![put(&users(), "there", json!(code)).on(Precondition::Present)],
            vec![put(&users(), &format!("new{code}"), json!(code)).on(Precondition::Absent)],
            vec![append(code)],
            vec![Mutation::delete(address(&users(), "a"))],
        ];
        for batch in batches {
            faulty.fail(1, WRITES, told.clone()).await;
            let shown = format!("{batch:?}");
            let results = backend.write(&Batch::independent(batch)).await;
            let result = results.and_then(|results| results.into_iter().collect::<Result<Vec<_>>>());
            let error = result.expect_err(&shown);
            assert_eq!((error.kind(), error.retry()), (kind, Retry::IfIdempotent), "{shown}: {error:?}");
        }
        assert_eq!(get_json(backend, &users(), "there").await, Some(json!(code)), "done on the primary");
        let before = sum(backend, "n").await;
        faulty.fail(1, WRITES, told).await;
        expect(increment(backend, "n").await, kind, Retry::IfIdempotent, "");
        assert_eq!(sum(backend, "n").await, before + 1, "done once, and not repeated");
    }
}

/// A connection that ends without a reply leaves the outcome unknown.
#[tokio::test]
async fn a_closed_connection_is_of_unknown_outcome() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    let close = doc! {"closeConnection": true};
    for _ in 0..3 {
        faulty.fail(1, WRITES, close.clone()).await;
        expect(increment(backend, "n").await, ErrorKind::Unavailable, Retry::IfIdempotent, "connection");
        faulty.fail(1, WRITES, close.clone()).await;
        expect(put_one(backend, "ada").await, ErrorKind::Unavailable, Retry::IfIdempotent, "connection");
        // Reading is repeated.
        faulty.fail(1, &["find"], close.clone()).await;
        get(backend, "ada").await.unwrap();
    }
    faulty.heal().await;
    assert_eq!(sum(backend, "n").await, 0, "the server had not begun, and nothing was repeated");
    assert!(get_one(backend, &users(), "ada").await.is_none());
}

/// Calls that need the same collection made wait for whoever has it made, and none of them longer than it may.
#[tokio::test]
async fn a_collection_that_is_slow_to_make_costs_each_call_its_deadline() {
    let faulty = Faulty::open(&[("timeout", "1s")]).await;
    let backend = &*faulty.backend;
    let slow = doc! {"blockConnection": true, "blockTimeMS": 3_000, "errorCode": 50};
    faulty.fail_always(&["create"], slow).await;
    for (took, told) in join_all((0..30).map(|_| timed(increment_atomically(backend, "n")))).await {
        expect(told, ErrorKind::Timeout, Retry::Safe, "");
        assert!(took < IN_TIME, "{took:?}");
    }
    faulty.heal().await;
    recovers(|| increment_atomically(backend, "n")).await;
    assert_eq!(counted(backend, "n").await, 1);
}

/// A server that takes its time costs a call its deadline and no more.
#[tokio::test]
async fn a_slow_server_is_a_timeout() {
    let faulty = Faulty::open(&[("timeout", "3s")]).await;
    let backend = &*faulty.backend;
    recovers(|| put_one(backend, "ada")).await;
    let slow = doc! {"blockConnection": true, "blockTimeMS": 6_000};
    let commands = [&["find"], WRITES].concat();
    faulty.fail(2, &commands, slow).await;
    let asked = Instant::now();
    let ((read_took, read), (write_took, write)) =
        tokio::join!(timed(get(backend, "ada")), timed(increment(backend, "n")));
    expect(read, ErrorKind::Timeout, Retry::IfIdempotent, "");
    expect(write, ErrorKind::Timeout, Retry::IfIdempotent, "");
    assert!(read_took < IN_TIME && write_took < IN_TIME, "{read_took:?}, {write_took:?}");
    // It is done later, or was given up; and the store goes on meanwhile.
    recovers(|| get(backend, "ada")).await;
    tokio::time::sleep(Duration::from_millis(6_500).saturating_sub(asked.elapsed())).await;
    assert!(counted(backend, "n").await <= 1);
}

/// Refusals have their kinds, and a repeat is of no use.
#[tokio::test]
async fn refusals_have_their_kinds() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    for (code, kind) in [
        (13, ErrorKind::PermissionDenied),
        (18, ErrorKind::Unauthenticated),
        (10334, ErrorKind::TooLarge),
        (388, ErrorKind::TooLarge),
        (14031, ErrorKind::StorageFull),
        (59, ErrorKind::Unsupported),
        (8, ErrorKind::Internal),
    ] {
        faulty.fail(1, WRITES, doc! {"errorCode": code}).await;
        expect(increment(backend, "n").await, kind, Retry::Never, &format!("code {code}"));
        faulty.fail(2, &["find"], doc! {"errorCode": code}).await;
        expect(get(backend, "n").await, kind, Retry::Never, &format!("code {code}"));
        faulty.heal().await;
    }
    assert_eq!(sum(backend, "n").await, 0);
}

/// A value that a unique index takes once is a conflict that names the index and not the value, and no other mutation of
/// the batch is harmed.
#[tokio::test]
async fn duplicates_are_conflicts() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    let path = Path::new("email").unwrap();
    backend.ensure_index(&IndexSpec { collection: users(), path, unique: true }).await.unwrap();
    put_json(backend, &users(), "ada", json!({"email": "secret@x"})).await;
    let batch = Batch::independent(vec![
        put(&users(), "bob", json!({"email": "bob@x"})),
        put(&users(), "eve", json!({"email": "secret@x"})),
        put(&users(), "zoe", json!({"email": "zoe@x"})),
    ]);
    let mut results = backend.write(&batch).await.unwrap();
    let taken = expect(results.remove(1), ErrorKind::Conflict, Retry::Never, "email");
    assert!(!format!("{taken} {:?}", std::error::Error::source(&taken)).contains("secret@x"), "{taken:?}");
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// What does not fit a document is refused before it is sent, and no other mutation of the batch is harmed.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_too_large_is_told() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    let large = "x".repeat(16 << 20);
    // Numbers take more bytes as BSON than as text.
    let numbers = vec![1; 1_400_000];
    for value in [json!(large), json!(numbers)] {
        let batch = Batch::independent(vec![
            put(&users(), "a", json!(1)),
            put(&users(), "large", value),
            put(&users(), "b", json!(2)),
        ]);
        let mut results = backend.write(&batch).await.unwrap();
        expect(results.remove(1), ErrorKind::TooLarge, Retry::Never, "");
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert!(get_one(backend, &users(), "large").await.is_none());
    }
}
