//! Reads that break in their midst: an error, and never a shorter result.

use mongodb::bson::doc;
use serde_json::json;
use storage_core::{
    Count, Direction, ErrorKind, Filter, Json, ListRange, Mutation, Path, Query, Retry, Scan, Sort,
};
use storage_testkit::helpers::{address, put_numbered, write_ok};

use crate::{Faulty, expect, recovers, users};

const RECORDS: u32 = 700;

/// A cursor that the server has lost between two parts of a page.
#[tokio::test]
async fn a_cursor_lost_in_mid_scan_is_an_error() {
    let faulty = Faulty::open(&[("timeout", "60s")]).await;
    let backend = &*faulty.backend;
    put_numbered(backend, &users(), RECORDS as usize).await;
    let scan = Scan { limit: 500, ..Scan::new(users()) };
    let sorted = Query {
        sort: vec![Sort { path: Path::new("n").unwrap(), direction: Direction::Desc }],
        limit: 500,
        ..Query::new(users(), Filter::all())
    };
    for how in [
        doc! {"errorCode": 43},
        doc! {"errorCode": 237},
        doc! {"closeConnection": true},
        doc! {"errorCode": 11600},
    ] {
        // Where a page comes as a whole there is no cursor to lose.
        faulty.fail_always(&["getMore"], how.clone()).await;
        for (what, result) in [
            ("scan", backend.scan(&scan).await.map(|page| page.items.len())),
            ("keys", backend.keys(&scan).await.map(|page| page.items.len())),
            ("query", backend.query(&sorted).await.map(|page| page.items.len())),
        ] {
            match result {
                Ok(count) => assert_eq!(count, 500, "{what} with {how}"),
                Err(error) => {
                    let told = (error.kind(), error.retry());
                    assert_eq!(
                        told,
                        (ErrorKind::Unavailable, Retry::IfIdempotent),
                        "{what} with {how}: {error:?}"
                    );
                }
            }
        }
        faulty.heal().await;
    }
    let page = recovers(|| backend.scan(&scan)).await;
    assert_eq!(page.items.len(), 500);
    let rest = backend.scan(&Scan { after: page.next, ..scan }).await.unwrap();
    assert_eq!(rest.items.len(), RECORDS as usize - 500);
}

/// A failure that passes is not seen by readers; one that stays is told.
#[tokio::test]
async fn reads_are_repeated_once() {
    let faulty = Faulty::open(&[("timeout", "60s")]).await;
    let backend = &*faulty.backend;
    put_numbered(backend, &users(), 10).await;
    write_ok(backend, Mutation::append(address(&users(), "l"), vec![Json::from(json!(1))])).await;
    let (reads, scan) = (["find", "aggregate", "count"], Scan::new(users()));
    let query = Query::new(users(), Filter::all());
    let count = Count { collection: users(), filter: None };
    let range = ListRange { address: address(&users(), "l"), start: 0, limit: 10 };
    for code in [91, 189, 10107] {
        let how = doc! {"errorCode": code};
        faulty.fail(1, &reads, how.clone()).await;
        assert_eq!(backend.scan(&scan).await.unwrap().items.len(), 11);
        faulty.fail(1, &reads, how.clone()).await;
        assert_eq!(backend.query(&query).await.unwrap().items.len(), 10);
        faulty.fail(1, &reads, how.clone()).await;
        assert_eq!(backend.count(&count).await.unwrap(), 11);
        faulty.fail(1, &reads, how.clone()).await;
        assert_eq!(backend.list_range(&range).await.unwrap().unwrap().length, 1);
        faulty.fail_always(&reads, how).await;
        let error = backend.scan(&scan).await.expect_err("it stays");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert_ne!(error.retry(), Retry::Never, "{error:?}");
        faulty.heal().await;
    }
    faulty.fail_always(&reads, doc! {"errorCode": 50}).await;
    expect(backend.count(&count).await, ErrorKind::Timeout, Retry::IfIdempotent, "code 50");
}
