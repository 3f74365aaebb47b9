//! Expiry: from its time on, a record is absent.
//!
//! Machines that run tests stall. So a case never asserts that a record is still there close to its expiry;
//! what is to stay has an hour, and what is to go is waited for.

use std::time::Duration;

use serde_json::json;
use storage_core::{
    Backend, Batch, CollectionName, Count, ErrorKind, Feature, Filter, Maintenance, Mutation, Precondition,
    Query, Record, Timestamp, ValueKind,
};

use crate::Cx;
use crate::helpers::{
    address, addresses, expect_kind, get_json, get_one, get_record, in_millis, keys_all, keys_of, ok, pass,
    put, put_json, query_all, scan_all, sorted, write_all, write_ok, write_one,
};

/// Long enough for the longest stall of a test machine.
const HOUR: u64 = 3_600_000;
/// Short enough to wait for.
const SOON: u64 = 80;

/// A record is there before its time and gone after it, and stays gone.
pub async fn ttl_expires(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    write_ok(&*backend, put(&users, "stays", json!(1)).expiring(Some(in_millis(HOUR)))).await;
    let at = in_millis(400);
    write_ok(&*backend, put(&users, "goes", json!(2)).expiring(Some(at))).await;
    let early = get_json(&*backend, &users, "goes").await;
    if Timestamp::now() < at {
        assert_eq!(early, Some(json!(2)), "gone before its time");
    }
    pass(at).await;
    for _ in 0..2 {
        assert_eq!(get_one(&*backend, &users, "goes").await, None, "there after its time");
    }
    assert_eq!(get_json(&*backend, &users, "stays").await, Some(json!(1)));
}

/// A time to live of nothing is refused where it becomes a time; a time that has passed leaves the record
/// absent, whatever was there.
pub async fn ttl_zero_and_negative_rejected(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    for ttl in [Duration::ZERO, Duration::from_micros(999)] {
        expect_kind(Timestamp::after(ttl), ErrorKind::InvalidInput, &format!("a time to live of {ttl:?}"));
    }
    let past = [
        Timestamp::from_millis(0),
        Timestamp::from_millis(-1),
        Timestamp::from_millis(i64::MIN),
        in_millis(0),
    ];
    for at in past {
        put_json(&*backend, &users, "ada", json!("old")).await;
        let written = write_ok(&*backend, put(&users, "ada", json!("new")).expiring(Some(at))).await;
        assert_eq!(written.version, None, "a put that had expired at {at} leaves no record");
        assert_eq!(get_one(&*backend, &users, "ada").await, None, "a put that had expired at {at}");
    }
}

/// The expiry is read back to the millisecond, also far in the future.
pub async fn ttl_millisecond_precision(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let base = in_millis(HOUR).as_millis() / 1_000 * 1_000;
    let year_9999 = 253_402_300_799_999;
    for millis in [base, base + 1, base + 10, base + 123, base + 999, year_9999] {
        let at = Some(Timestamp::from_millis(millis));
        write_ok(&*backend, put(&users, "ada", json!(1)).expiring(at)).await;
        assert_eq!(get_record(&*backend, &users, "ada").await.expires_at, at);
        write_ok(&*backend, Mutation::touch(address(&users, "ada"), None)).await;
        write_ok(&*backend, Mutation::touch(address(&users, "ada"), at)).await;
        assert_eq!(get_record(&*backend, &users, "ada").await.expires_at, at, "after a touch");
    }
    // Two that differ by less than a second go one by one.
    let (first, second) = (in_millis(SOON), in_millis(HOUR));
    write_ok(&*backend, put(&users, "first", json!(1)).expiring(Some(first))).await;
    write_ok(&*backend, put(&users, "second", json!(2)).expiring(Some(second))).await;
    pass(first).await;
    assert_eq!(get_one(&*backend, &users, "first").await, None, "an expiry is not rounded up to a second");
    assert_eq!(get_json(&*backend, &users, "second").await, Some(json!(2)));
}

/// Every way to read a record shows when it expires.
pub async fn expiry_is_readable(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let at = Some(in_millis(HOUR));
    write_ok(&*backend, put(&users, "ada", json!({"n": 1})).expiring(at)).await;
    put_json(&*backend, &users, "bob", json!({"n": 2})).await;
    let mut ways =
        vec![vec![get_record(&*backend, &users, "ada").await, get_record(&*backend, &users, "bob").await]];
    if cx.has(Feature::Scan) {
        ways.push(scan_all(&*backend, &users, "", 10).await);
    }
    if cx.has(Feature::Query) {
        ways.push(query_all(&*backend, Query::new(users.clone(), Filter::all())).await);
    }
    for records in ways {
        assert_eq!(records.len(), 2);
        for record in records {
            let expected = if record.address.key.as_str() == "ada" { at } else { None };
            assert_eq!(record.expires_at, expected, "{}", record.address);
        }
    }
}

/// A put without an expiry takes away the one that was there.
pub async fn put_without_ttl_clears_it(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let at = in_millis(400);
    write_ok(&*backend, put(&users, "ada", json!(1)).expiring(Some(at))).await;
    put_json(&*backend, &users, "ada", json!(2)).await;
    assert_eq!(get_record(&*backend, &users, "ada").await.expires_at, None);
    pass(at).await;
    assert_eq!(
        get_json(&*backend, &users, "ada").await,
        Some(json!(2)),
        "it went at the time of the put before"
    );
}

/// A touch moves the expiry and keeps the rest.
pub async fn touch_extends(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let later = in_millis(HOUR);
    let (before, first) = touched_in_time(&*backend, &users, Some(later)).await;
    let after = get_record(&*backend, &users, "ada").await;
    assert_eq!(after.expires_at, Some(later));
    assert_eq!(after.value, before.value, "a touch keeps the value");
    assert_eq!(after.created_at, before.created_at, "a touch keeps created_at");
    pass(first).await;
    assert_eq!(
        get_json(&*backend, &users, "ada").await,
        Some(json!({"n": 1})),
        "it went at its first expiry"
    );

    let soon = in_millis(SOON);
    ok(
        write_one(&*backend, Mutation::touch(address(&users, "ada"), Some(soon))).await,
        "a touch that shortens",
    );
    pass(soon).await;
    assert_eq!(get_one(&*backend, &users, "ada").await, None, "a touch shortens too");
}

/// A touch without a time lets the record stay for good.
pub async fn touch_clears(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let (_, at) = touched_in_time(&*backend, &users, None).await;
    assert_eq!(get_record(&*backend, &users, "ada").await.expires_at, None);
    pass(at).await;
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!({"n": 1})));
}

/// Puts the record `ada`, which expires soon, and touches it before that. Returns what the touch found, and when it
/// would have expired.
async fn touched_in_time(
    backend: &dyn Backend,
    users: &CollectionName,
    expires_at: Option<Timestamp>,
) -> (Record, Timestamp) {
    for patience in [500, 5_000, 50_000] {
        let first = in_millis(patience);
        let written = write_one(backend, put(users, "ada", json!({"n": 1})).expiring(Some(first))).await;
        let found = backend.get(&addresses(users, &["ada"])).await;
        let touched = write_one(backend, Mutation::touch(address(users, "ada"), expires_at)).await;
        if Timestamp::now() < first {
            ok(written, "a put");
            ok(touched, "a touch of a record that has not expired");
            let found = ok(found, "get").remove(0).expect("a record that has not expired");
            return (found, first);
        }
    }
    panic!("a put, a get and a touch take longer than 50 s");
}

/// There is nothing to touch where no record is, or where it has expired; a touch makes none.
pub async fn touch_missing_fails(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    expire(&*backend, &users, &["expired"]).await;
    for key in ["missing", "expired"] {
        for at in [None, Some(in_millis(HOUR))] {
            let touch = Mutation::touch(address(&users, key), at);
            expect_kind(
                write_one(&*backend, touch).await,
                ErrorKind::NotFound,
                &format!("touching what is {key}"),
            );
            assert_eq!(get_one(&*backend, &users, key).await, None, "a touch made a record");
        }
    }
}

/// Reads by key give a gap where a record has expired.
pub async fn expired_hidden_in_get(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "a", json!(1)).await;
    expire(&*backend, &users, &["b"]).await;
    put_json(&*backend, &users, "c", json!(3)).await;
    let read = ok(backend.get(&addresses(&users, &["a", "b", "c", "b"])).await, "get");
    let there: Vec<bool> = read.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, true, false]);
}

/// What has expired is in no page and no count, before any sweep.
pub async fn expired_hidden_in_scan_query_count(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    for key in ["a", "c", "e"] {
        put_json(&*backend, &users, key, json!({"n": 1})).await;
    }
    expire(&*backend, &users, &["b", "d", "f"]).await;
    let live = ["a", "c", "e"].map(str::to_owned).to_vec();
    for limit in [1, 2, 100] {
        assert_eq!(
            sorted(keys_of(&scan_all(&*backend, &users, "", limit).await)),
            live,
            "scan, {limit} a page"
        );
        assert_eq!(sorted(keys_all(&*backend, &users, "", limit).await), live, "keys, {limit} a page");
    }
    assert_eq!(keys_of(&scan_all(&*backend, &users, "b", 10).await), Vec::<String>::new());
    let filter: Filter = ok(r#"{"n": 1}"#.parse(), "a filter");
    if cx.has(Feature::Query) {
        for filter in [Filter::all(), filter.clone()] {
            let query = Query { limit: 2, ..Query::new(users.clone(), filter) };
            assert_eq!(sorted(keys_of(&query_all(&*backend, query).await)), live, "query");
        }
    }
    if cx.has(Feature::Count) {
        let filters = if cx.has(Feature::Query) { vec![None, Some(filter)] } else { vec![None] };
        for filter in filters {
            let count = Count { collection: users.clone(), filter };
            assert_eq!(ok(backend.count(&count).await, "count"), 3, "{count:?}");
        }
    }
    if cx.has(Feature::Clear) {
        assert_eq!(ok(backend.clear(&users).await, "clear"), 3, "clear counts what was there");
    }
}

/// A record that has expired can be made, and not replaced, on any precondition.
pub async fn expired_counts_as_absent_for_preconditions(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let at = in_millis(SOON);
    let versions: Vec<_> = write_all(
        &*backend,
        Batch::independent(
            ["made", "replaced", "old", "deleted"]
                .map(|key| put(&users, key, json!(1)).expiring(Some(at)))
                .to_vec(),
        ),
    )
    .await;
    let old = versions[2].version.clone();
    pass(at).await;

    let replace = put(&users, "replaced", json!(2)).on(Precondition::Present);
    expect_kind(
        write_one(&*backend, replace).await,
        ErrorKind::PreconditionFailed,
        "replacing what has expired",
    );
    // A slow write may have come too late to leave a version.
    if let Some(old) = old {
        let update = put(&users, "old", json!(2)).on(Precondition::Version(old));
        let result = write_one(&*backend, update).await;
        expect_kind(result, ErrorKind::PreconditionFailed, "an update on the version of what has expired");
    }
    let delete = Mutation::delete(address(&users, "deleted")).on(Precondition::Present);
    expect_kind(
        write_one(&*backend, delete).await,
        ErrorKind::PreconditionFailed,
        "deleting what has expired",
    );
    ok(
        write_one(&*backend, Mutation::check(address(&users, "old"), Precondition::Absent)).await,
        "a check for absence of what has expired",
    );
    write_ok(&*backend, put(&users, "made", json!(2)).on(Precondition::Absent)).await;
    let made = get_record(&*backend, &users, "made").await;
    assert_eq!(made.expires_at, None, "a record made anew has none of the old expiry");
    assert!(made.created_at >= at, "a record made anew was made after the old one expired: {made:?}");
}

/// A sweep removes what has expired, says how many, and nothing else.
pub async fn sweep_removes_and_reports(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "stays", json!(1)).await;
    write_ok(&*backend, put(&users, "later", json!(1)).expiring(Some(in_millis(HOUR)))).await;
    let gone: Vec<String> = (0..5).map(|i| format!("gone{i}")).collect();
    // Far enough for all puts to be written before it, even on a slow machine.
    let at = in_millis(1_000);
    let puts = gone.iter().map(|key| put(&users, key, json!(1)).expiring(Some(at)));
    let written = write_all(&*backend, Batch::independent(puts.collect())).await;
    let stored = written.iter().filter(|written| written.version.is_some()).count() as u64;
    pass(at).await;
    let report = ok(backend.maintain(Maintenance::Sweep).await, "sweep");
    // The database, or a sweeper in the background, may have been there first.
    assert!(report.removed <= stored, "a sweep of {stored} expired records removed {}", report.removed);
    let again = ok(backend.maintain(Maintenance::Sweep).await, "sweep");
    assert_eq!(again.removed, 0, "after a sweep there is nothing left to remove");
    assert_eq!(get_one(&*backend, &users, "gone0").await, None);
    assert_eq!(get_json(&*backend, &users, "stays").await, Some(json!(1)));
    assert_eq!(get_json(&*backend, &users, "later").await, Some(json!(1)));
    if let Some(records) = ok(backend.stats().await, "stats").records {
        assert_eq!(records, 2, "what was swept is no longer held");
    }
}

/// In one batch every record has its own expiry.
pub async fn batch_expiries(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let (soon, later) = (in_millis(SOON), in_millis(HOUR));
    let mutations = vec![
        put(&users, "soon", json!(1)).expiring(Some(soon)),
        put(&users, "later", json!(2)).expiring(Some(later)),
        put(&users, "never", json!(3)),
    ];
    write_all(&*backend, Batch::independent(mutations)).await;
    assert_eq!(get_record(&*backend, &users, "later").await.expires_at, Some(later));
    assert_eq!(get_record(&*backend, &users, "never").await.expires_at, None);
    pass(soon).await;
    let read = ok(backend.get(&addresses(&users, &["soon", "later", "never"])).await, "get");
    let there: Vec<bool> = read.iter().map(Option::is_some).collect();
    assert_eq!(there, [false, true, true]);
    assert!(read.iter().flatten().all(|record| record.value.kind() == ValueKind::Json));
}

/// Leaves behind records that have expired, and that no sweep took on purpose.
async fn expire(backend: &dyn Backend, collection: &CollectionName, keys: &[&str]) {
    let at = in_millis(SOON);
    let puts = keys.iter().map(|key| put(collection, key, json!({"n": 1})).expiring(Some(at)));
    write_all(backend, Batch::independent(puts.collect())).await;
    pass(at).await;
}
