//! Group *counters*: exact sums of 64 bits, under any number of writers.

use std::collections::BTreeMap;

use serde_json::json;
use smol_str::SmolStr;
use storage_core::{
    Address, AtomicScope, Backend, Batch, Change, Effect, ErrorKind, Feature, Mutation, Precondition, Result,
    Value,
};

use crate::Cx;
use crate::helpers::{
    address, expect_kind, get_one, get_record, in_millis, ok, pass, put_json, write_ok, write_one,
};

fn fields<const N: usize>(fields: [(&str, i64); N]) -> BTreeMap<SmolStr, i64> {
    fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

fn increment<const N: usize>(address: &Address, deltas: [(&str, i64); N]) -> Mutation {
    Mutation::new(address.clone(), Change::Increment { fields: fields(deltas), expires_at: None })
}

/// The new values that an increment returns.
async fn add<const N: usize>(
    backend: &dyn Backend,
    address: &Address,
    deltas: [(&str, i64); N],
) -> BTreeMap<SmolStr, i64> {
    match write_ok(backend, increment(address, deltas)).await.effect {
        Effect::Counters(values) => values,
        other => panic!("an increment returned {other:?} instead of the new values"),
    }
}

async fn stored(backend: &dyn Backend, address: &Address) -> BTreeMap<SmolStr, i64> {
    match get_record(backend, &address.collection, address.key.as_str()).await.value {
        Value::Counters(fields) => fields,
        other => panic!("{address} holds {}, not counters", other.kind()),
    }
}

/// An increment makes the record, and each field begins at zero; also one by zero.
pub async fn starts_at_zero(cx: Cx) {
    let (backend, at) = (cx.open().await, address(&cx.collection(), "c"));
    assert_eq!(add(&*backend, &at, [("hits", 3)]).await, fields([("hits", 3)]));
    assert_eq!(add(&*backend, &at, [("misses", 0)]).await, fields([("misses", 0)]));
    assert_eq!(stored(&*backend, &at).await, fields([("hits", 3), ("misses", 0)]));
}

/// The reply holds the new values, the record's version changes, and counters can be put whole.
pub async fn increment_returns_new(cx: Cx) {
    let (backend, at) = (cx.open().await, address(&cx.collection(), "c"));
    let mut versions = Vec::new();
    for expected in [5, 10, 15] {
        let written = write_ok(&*backend, increment(&at, [("n", 5)])).await;
        assert_eq!(written.effect, Effect::Counters(fields([("n", expected)])));
        let version = written.version.expect("an increment leaves a record");
        assert!(!versions.contains(&version), "an increment gives the record a new version");
        versions.push(version);
    }
    let record = get_record(&*backend, &at.collection, "c").await;
    assert_eq!(Some(&record.version), versions.last(), "the version that was returned is the record's");
    write_ok(&*backend, Mutation::put(at.clone(), Value::Counters(fields([("n", -7), ("m", 1)])))).await;
    assert_eq!(add(&*backend, &at, [("n", 1)]).await, fields([("n", -6)]));
    assert_eq!(stored(&*backend, &at).await, fields([("n", -6), ("m", 1)]));
    if cx.has(Feature::Preconditions) {
        let stale = increment(&at, [("n", 1)]).on(Precondition::Version(record.version));
        expect_kind(write_one(&*backend, stale).await, ErrorKind::PreconditionFailed, "a stale increment");
        let create = increment(&at, [("n", 1)]).on(Precondition::Absent);
        expect_kind(
            write_one(&*backend, create).await,
            ErrorKind::PreconditionFailed,
            "an increment if absent",
        );
        assert_eq!(stored(&*backend, &at).await, fields([("n", -6), ("m", 1)]), "nothing was added");
    }
}

/// Counters go down, and below zero.
pub async fn negative_delta(cx: Cx) {
    let (backend, at) = (cx.open().await, address(&cx.collection(), "c"));
    assert_eq!(add(&*backend, &at, [("n", -4)]).await, fields([("n", -4)]));
    assert_eq!(add(&*backend, &at, [("n", 3)]).await, fields([("n", -1)]));
    assert_eq!(
        add(&*backend, &at, [("n", -9_007_199_254_740_993)]).await,
        fields([("n", -9_007_199_254_740_994)])
    );
}

/// One increment adds to several fields, of whatever names, and leaves the others.
pub async fn several_fields(cx: Cx) {
    let (backend, at) = (cx.open().await, address(&cx.collection(), "c"));
    assert_eq!(add(&*backend, &at, [("a", 1), ("b", 2)]).await, fields([("a", 1), ("b", 2)]));
    assert_eq!(add(&*backend, &at, [("b", 1), ("c", 5)]).await, fields([("b", 3), ("c", 5)]));
    assert_eq!(stored(&*backend, &at).await, fields([("a", 1), ("b", 3), ("c", 5)]));
    let odd =
        [("é", 1), ("e\u{301}", 2), ("a.b", 3), ("$x", 4), ("'\"\\", 5), (" ", 6), ("A", 7), ("😀\n", 8)];
    assert_eq!(add(&*backend, &at, odd).await, fields(odd));
    let mut all = fields(odd);
    all.extend(fields([("a", 1), ("b", 3), ("c", 5)]));
    assert_eq!(stored(&*backend, &at).await, all);
    let longest = "n".repeat(256);
    add(&*backend, &at, [(&longest, 1)]).await;
    assert_eq!(stored(&*backend, &at).await.get(longest.as_str()), Some(&1), "a name of 256 bytes");
    for bad in ["", "nul\u{0}", &"n".repeat(257)] {
        let refused = write_one(&*backend, increment(&at, [(bad, 1)])).await;
        expect_kind(refused, ErrorKind::InvalidInput, "a field name that is not valid");
    }
    expect_kind(write_one(&*backend, increment(&at, [])).await, ErrorKind::InvalidInput, "no fields");
}

/// Increments by many writers at once are all in the sum, alone and in batches, and no two return the same.
pub async fn concurrent_sum_exact(cx: Cx) {
    const WRITERS: i64 = 8;
    const EACH: i64 = 25;
    let (backend, at) = (cx.open().await, address(&cx.collection(), "c"));
    let mut tasks = Vec::new();
    for _ in 0..WRITERS {
        let (backend, at) = (backend.clone(), at.clone());
        tasks.push(tokio::spawn(async move {
            let mut returned = Vec::new();
            for i in 0..EACH {
                let values = add(&*backend, &at, [("n", 1), ("d", i)]).await;
                returned.push(values["n"]);
            }
            let batch = Batch::independent(vec![increment(&at, [("batched", 2)]); 5]);
            let results: Vec<Result<_>> = ok(backend.write(&batch).await, "a batch of increments");
            results.into_iter().for_each(|result| drop(ok(result, "an increment of a batch")));
            returned
        }));
    }
    let mut returned = Vec::new();
    for task in tasks {
        returned.extend(task.await.expect("a writer"));
    }
    returned.sort_unstable();
    assert_eq!(returned, (1..=WRITERS * EACH).collect::<Vec<_>>(), "each increment returned another value");
    let expected =
        fields([("n", WRITERS * EACH), ("d", WRITERS * EACH * (EACH - 1) / 2), ("batched", WRITERS * 10)]);
    assert_eq!(stored(&*backend, &at).await, expected);
}

/// The ends of 64 bits are reached exactly; beyond them is an error that changes nothing.
pub async fn overflow_is_an_error(cx: Cx) {
    let (backend, at) = (cx.open().await, address(&cx.collection(), "c"));
    assert_eq!(add(&*backend, &at, [("up", i64::MAX - 1)]).await, fields([("up", i64::MAX - 1)]));
    assert_eq!(add(&*backend, &at, [("up", 1)]).await, fields([("up", i64::MAX)]));
    assert_eq!(add(&*backend, &at, [("down", i64::MIN)]).await, fields([("down", i64::MIN)]));
    let before = get_record(&*backend, &at.collection, "c").await;
    for deltas in [[("up", 1), ("other", 1)], [("up", i64::MAX), ("other", 1)], [("down", -1), ("other", 1)]]
    {
        let refused = write_one(&*backend, increment(&at, deltas)).await;
        expect_kind(refused, ErrorKind::OutOfRange, &format!("the increment by {deltas:?}"));
    }
    assert_eq!(get_record(&*backend, &at.collection, "c").await, before, "no field has changed");
    assert_eq!(
        add(&*backend, &at, [("up", i64::MIN), ("down", i64::MAX)]).await,
        fields([("up", -1), ("down", -1)])
    );
    if cx.has(Feature::Atomic) && cx.capabilities().atomic_scope != AtomicScope::Record {
        let other = address(&at.collection, "other");
        let batch = vec![increment(&other, [("n", 1)]), increment(&at, [("up", i64::MIN)])];
        let error =
            expect_kind(backend.write(&Batch::atomic(batch)).await, ErrorKind::OutOfRange, "the batch");
        assert_eq!(error.failed_mutation(), Some(1), "the error says which: {error}");
        assert_eq!(get_one(&*backend, &at.collection, "other").await, None, "nothing of the batch is there");
    }
}

/// Only counters can be incremented; a record of another kind stays what it is.
pub async fn on_json_value_is_type_error(cx: Cx) {
    let (backend, collection) = (cx.open().await, cx.collection());
    for value in [json!({"n": 1}), json!(1), json!(null)] {
        put_json(&*backend, &collection, "json", value).await;
        let before = get_record(&*backend, &collection, "json").await;
        let refused = write_one(&*backend, increment(&address(&collection, "json"), [("n", 1)])).await;
        expect_kind(refused, ErrorKind::TypeMismatch, "an increment of JSON");
        assert_eq!(get_record(&*backend, &collection, "json").await, before);
    }
    if cx.has(Feature::Bytes) {
        let at = address(&collection, "bytes");
        write_ok(&*backend, Mutation::put(at.clone(), Value::bytes(&b"1"[..]))).await;
        expect_kind(
            write_one(&*backend, increment(&at, [("n", 1)])).await,
            ErrorKind::TypeMismatch,
            "of bytes",
        );
    }
    if cx.has(Feature::Lists) {
        let at = address(&collection, "list");
        write_ok(&*backend, Mutation::append(at.clone(), vec![json!(1).into()])).await;
        expect_kind(
            write_one(&*backend, increment(&at, [("n", 1)])).await,
            ErrorKind::TypeMismatch,
            "of a list",
        );
    }
    let at = address(&collection, "json");
    write_ok(&*backend, Mutation::delete(at.clone())).await;
    assert_eq!(add(&*backend, &at, [("n", 1)]).await, fields([("n", 1)]), "after a delete the key is free");
}

/// The increment that makes the record sets its expiry, later ones keep it; what expired begins at zero.
pub async fn ttl_on_counters(cx: Cx) {
    let (backend, at) = (cx.open().await, address(&cx.collection(), "c"));
    let (late, later) = (in_millis(3_600_000), in_millis(7_200_000));
    let kept = address(&at.collection, "kept");
    write_ok(&*backend, increment(&kept, [("n", 5)]).expiring(Some(late))).await;
    write_ok(&*backend, increment(&kept, [("n", 5)]).expiring(Some(later))).await;
    write_ok(&*backend, increment(&kept, [("n", 5)])).await;
    let record = get_record(&*backend, &at.collection, "kept").await;
    assert_eq!(record.expires_at, Some(late), "the expiry of the first increment stays");
    assert_eq!(record.value, Value::Counters(fields([("n", 15)])));

    let soon = in_millis(80);
    write_ok(&*backend, increment(&at, [("n", 5)]).expiring(Some(soon))).await;
    pass(soon).await;
    assert_eq!(get_one(&*backend, &at.collection, "c").await, None, "it has expired");
    assert_eq!(add(&*backend, &at, [("n", 1)]).await, fields([("n", 1)]), "it begins at zero again");
    let record = get_record(&*backend, &at.collection, "c").await;
    assert_eq!(record.expires_at, None, "the new record does not inherit the expiry");
    write_ok(&*backend, Mutation::touch(at.clone(), Some(late))).await;
    let record = get_record(&*backend, &at.collection, "c").await;
    assert_eq!((record.expires_at, record.value), (Some(late), Value::Counters(fields([("n", 1)]))));
}
