//! Unique indexes against the reference.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use storage_core::{Batch, ErrorKind, IndexSpec, Json, Mutation, Path, Timestamp};
use storage_testkit::helpers::{address, ok, pass, write_one};
use storage_testkit::queries;

use crate::{Own, name, rounds};

fn unique(collection: &str, path: &str) -> IndexSpec {
    IndexSpec { unique: true, ..IndexSpec::new(name(collection), Path::new(path).expect("a path")) }
}

/// Random writes are taken and refused as by the reference, whatever the indexes, and nothing stays behind.
#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_as_by_the_reference() {
    let own = Own::open().await;
    queries::writes_are_refused_as_by_the_reference(&*own.backend, rounds(8)).await;
    assert_eq!(own.number("SELECT count(*) FROM @.unique_values").await, 0, "what was held is let go");
    let functions =
        "SELECT count(*) FROM pg_proc WHERE pronamespace = '@'::regnamespace AND proname ~ '_[vk]$'";
    assert_eq!(own.number(functions).await, 0, "functions stayed behind");
}

/// What has expired holds nothing, even before it is swept, and takes nothing back.
#[tokio::test(flavor = "multi_thread")]
async fn expired_records_hold_nothing() {
    let own = Own::open().await;
    let (backend, collection) = (&*own.backend, name("c"));
    ok(backend.ensure_index(&unique("c", "u")).await, "ensure_index");
    let put = |key: &str| Mutation::put(address(&collection, key), Json::from(serde_json::json!({"u": 1})));
    let soon = Timestamp::now().saturating_add(Duration::from_secs(3));
    ok(write_one(backend, put("a").expiring(Some(soon))).await, "the first");
    let early = write_one(backend, put("b")).await.expect_err("it is held still");
    assert_eq!(early.kind(), ErrorKind::Conflict);
    pass(soon).await;
    let sql =
        "INSERT INTO @.records (collection, key, json) VALUES ('c', 'b', '{\"u\": 1}') RETURNING 1::bigint";
    assert_eq!(own.number(sql).await, 1, "the second, once the first has expired");
    ok(backend.maintain(storage_core::Maintenance::Sweep).await, "sweep");
    // A record that is given more time holds on, and one that is given less lets go.
    let two = |key: &str| Mutation::put(address(&collection, key), Json::from(serde_json::json!({"u": 2})));
    let soon = Timestamp::now().saturating_add(Duration::from_secs(3));
    ok(write_one(backend, two("d").expiring(Some(soon))).await, "a put");
    ok(write_one(backend, Mutation::touch(address(&collection, "d"), None)).await, "a touch");
    ok(write_one(backend, put("b").expiring(Some(soon))).await, "the same value, with an expiry");
    pass(soon).await;
    let held = write_one(backend, two("e")).await.expect_err("the record does not expire any more");
    assert_eq!(held.kind(), ErrorKind::Conflict);
    assert_eq!(own.number(&sql.replace("'b'", "'f'")).await, 1, "the record has expired");
    let late = write_one(backend, put("c")).await.expect_err("the sweep of the first lets nothing go");
    assert_eq!(late.kind(), ErrorKind::Conflict);
}

/// When an index is made, what has expired takes nothing, and what expires later lets go then.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_made_knows_of_expiries() {
    let own = Own::open().await;
    let (backend, collection) = (&*own.backend, name("c"));
    let put =
        |key: &str, u: i32| Mutation::put(address(&collection, key), Json::from(serde_json::json!({"u": u})));
    let after = |millis| Some(Timestamp::now().saturating_add(Duration::from_millis(millis)));
    ok(write_one(backend, put("over", 1).expiring(after(50))).await, "a put");
    tokio::time::sleep(Duration::from_millis(100)).await;
    ok(write_one(backend, put("a", 1)).await, "the same value");
    let later = after(2_500);
    ok(write_one(backend, put("later", 2).expiring(later)).await, "a put that expires later");
    assert!(ok(backend.ensure_index(&unique("c", "u")).await, "what has expired is in nobody's way"));
    pass(later.expect("a time")).await;
    let sql =
        "INSERT INTO @.records (collection, key, json) VALUES ('c', 'b', '{\"u\": 2}') RETURNING 1::bigint";
    assert_eq!(own.number(sql).await, 1, "the value was let go");
    for (key, u) in [("d", 1), ("d", 2)] {
        let taken = write_one(backend, put(key, u)).await.expect_err("it is held");
        assert_eq!(taken.kind(), ErrorKind::Conflict);
    }
}

/// One statement can pass a value on: what is let go in a batch is free for the rest of it.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_passed_on_within_a_batch() {
    let own = Own::open().await;
    let (backend, collection) = (&*own.backend, name("c"));
    ok(backend.ensure_index(&unique("c", "u")).await, "ensure_index");
    let put =
        |key: &str, u: i32| Mutation::put(address(&collection, key), Json::from(serde_json::json!({"u": u})));
    for mutation in [put("a", 1), put("b", 2), put("c", 3)] {
        ok(write_one(backend, mutation).await, "a put");
    }
    let rotate = Batch::atomic(vec![put("a", 4), put("b", 1), put("c", 2)]);
    for result in ok(backend.write(&rotate).await, "each takes what the one before lets go") {
        ok(result, "a put");
    }
    let freed = Batch::atomic(vec![Mutation::delete(address(&collection, "a")), put("d", 4)]);
    for result in ok(backend.write(&freed).await, "what was deleted is free") {
        ok(result, "a mutation");
    }
}

/// An index that is made while others write misses none of what they write.
#[tokio::test(flavor = "multi_thread")]
async fn writers_go_on_while_an_index_is_made() {
    let own = Own::open().await;
    let collection = name("c");
    let index = unique("c", "u");
    let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut writers = Vec::new();
    for writer in 0..4_u32 {
        let (backend, collection) = (own.backend.clone(), collection.clone());
        let (stop, refused) = (stop.clone(), refused.clone());
        writers.push(tokio::spawn(async move {
            let mut n = writer;
            while !stop.load(Ordering::Relaxed) {
                n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Most values are of one record alone.
                let key = n >> 16 & 0xff;
                let u = if n >> 24 & 0x3f == 0 { key / 2 } else { 1_000 + key };
                let at = address(&collection, &format!("k{key}"));
                let mutation = if n >> 8 & 7 == 0 {
                    Mutation::delete(at)
                } else {
                    Mutation::put(at, Json::from(serde_json::json!({"u": u})))
                };
                match write_one(&*backend, mutation).await {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Conflict => {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }));
    }
    let (mut made, mut rounds) = (0, 0);
    let until = Instant::now() + Duration::from_secs(60);
    // On a slow machine it takes longer until both have happened.
    while rounds < 15 || made == 0 || refused.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < until, "{made} made, {refused:?} refused");
        rounds += 1;
        match own.backend.ensure_index(&index).await {
            Ok(new) => {
                assert!(new);
                made += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
                let held: BTreeMap<i64, i64> = sqlx::query_as::<_, (i64, i64)>(sqlx::AssertSqlSafe(format!(
                    "SELECT (json ->> 'u')::bigint, count(*) FROM {}.records WHERE json IS NOT NULL GROUP BY 1",
                    own.schema
                )))
                .fetch_all(&mut own.beside().await)
                .await
                .expect("what is held")
                .into_iter()
                .collect();
                assert!(held.values().all(|count| *count == 1), "two records hold the same: {held:?}");
                ok(own.backend.drop_index(&collection, &index.path).await, "drop_index");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
    }
    ok(own.backend.clear(&collection).await, "clear");
    // With an index that stays, the table of values and the records say the same in the end.
    while own.backend.ensure_index(&index).await.is_err() {
        ok(own.backend.clear(&collection).await, "clear");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("a writer");
    }
    let differ = "SELECT count(*) FROM (SELECT key, 'n' || (json ->> 'u') AS value FROM @.records \
                  WHERE json IS NOT NULL) r FULL JOIN @.unique_values u USING (key, value) \
                  WHERE r.key IS NULL OR u.key IS NULL";
    assert_eq!(own.number(differ).await, 0);
}
