//! Versions and preconditions: optimistic writes.

use std::collections::HashSet;

use serde_json::json;
use storage_core::{ErrorKind, Feature, Json, Mutation, Precondition, Version};

use crate::Cx;
use crate::helpers::{
    address, expect_kind, get_json, get_one, get_record, in_millis, ok, pass, put, put_json, write_ok,
    write_one,
};

/// Every write gives a new version, also one that changes nothing else, and reads show it.
pub async fn version_changes_on_every_write(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let mut seen = HashSet::new();
    let mut check = async |mutation: Mutation, what: &str| {
        let key = mutation.address.key.as_str().to_owned();
        let version =
            write_ok(&*backend, mutation).await.version.expect("the record is there after the write");
        let read = get_record(&*backend, &users, &key).await.version;
        assert_eq!(read, version, "{what}: the version read is the one the write returned");
        assert!(seen.insert((key, version)), "{what}: the version was there before");
    };
    for _ in 0..5 {
        check(put(&users, "ada", json!({"same": true})), "a put of the same value").await;
    }
    check(put(&users, "ada", json!({"same": false})), "a put of another value").await;
    if cx.has(Feature::Expiry) {
        for _ in 0..2 {
            check(Mutation::touch(address(&users, "ada"), None), "a touch").await;
        }
        let at = Some(in_millis(3_600_000));
        check(Mutation::touch(address(&users, "ada"), at), "a touch with an expiry").await;
    }
    if cx.has(Feature::Counters) {
        for delta in [1, 0, -1] {
            check(Mutation::increment(address(&users, "hits"), "n", delta), "an increment").await;
        }
    }
    if cx.has(Feature::Lists) {
        for _ in 0..3 {
            let append = Mutation::append(address(&users, "log"), vec![Json::from(json!("same"))]);
            check(append, "an append").await;
        }
    }
}

/// A write on the version that is there goes through, again and again.
pub async fn if_version_ok(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let mut version = put_json(&*backend, &users, "ada", json!(0)).await;
    for i in 1..=3 {
        let update = put(&users, "ada", json!(i)).on(Precondition::Version(version));
        version = ok(write_ok(&*backend, update).await.into_version(), "the new version");
        assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!(i)));
    }
    let delete = Mutation::delete(address(&users, "ada")).on(Precondition::Version(version));
    write_ok(&*backend, delete).await;
    assert_eq!(get_one(&*backend, &users, "ada").await, None);
}

/// A write on a version that is no longer there fails and changes nothing; so does one where no record is.
pub async fn if_version_stale_conflicts(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let stale = put_json(&*backend, &users, "ada", json!("old")).await;
    put_json(&*backend, &users, "ada", json!("new")).await;
    let update = |key| put(&users, key, json!("lost")).on(Precondition::Version(stale.clone()));
    expect_kind(write_one(&*backend, update("ada")).await, ErrorKind::PreconditionFailed, "a stale update");
    expect_kind(
        write_one(&*backend, update("bob")).await,
        ErrorKind::PreconditionFailed,
        "an update of nothing",
    );
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!("new")));
    assert_eq!(get_one(&*backend, &users, "bob").await, None);
}

/// Text that is no version is refused when it is parsed; a version of another make never holds.
pub async fn if_version_malformed_invalid(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let right = put_json(&*backend, &users, "ada", json!(1)).await;
    let long = "v".repeat(storage_core::MAX_VERSION_BYTES + 1);
    for text in ["", " ", "not a version", "a\"b", "a\nb", "ü", "\0", "*", long.as_str()] {
        expect_kind(Version::new(text), ErrorKind::InvalidInput, &format!("the version {text:?}"));
    }
    let longest = "9".repeat(storage_core::MAX_VERSION_BYTES);
    let near = [format!("{right}0"), format!("0{right}"), right.as_str()[1..].to_owned()];
    let foreign =
        ["x", "0", "-1", "W/5", "ffffffffffffffff", "1=1", "99999999999999999999", longest.as_str()];
    for text in foreign.into_iter().chain(near.iter().map(String::as_str)) {
        let Ok(version) = Version::new(text) else { continue };
        let update = put(&users, "ada", json!("lost")).on(Precondition::Version(version));
        let what = format!("an update on the version {text:?}");
        expect_kind(write_one(&*backend, update).await, ErrorKind::PreconditionFailed, &what);
    }
    assert_eq!(get_record(&*backend, &users, "ada").await.version, right);
}

/// A delete on a version that is no longer there fails, and the record stays.
pub async fn delete_if_version_stale_conflicts(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let stale = put_json(&*backend, &users, "ada", json!("old")).await;
    let right = put_json(&*backend, &users, "ada", json!("new")).await;
    let delete = |version| Mutation::delete(address(&users, "ada")).on(Precondition::Version(version));
    let result = write_one(&*backend, delete(stale)).await;
    expect_kind(result, ErrorKind::PreconditionFailed, "a delete on a stale version");
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!("new")));
    write_ok(&*backend, delete(right.clone())).await;
    let result = write_one(&*backend, delete(right)).await;
    expect_kind(result, ErrorKind::PreconditionFailed, "a delete on a version of a record that is gone");
}

/// Of many that make the same record at once just one succeeds, and its value stays.
pub async fn if_absent_first_wins(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..16 {
        let (backend, create) = (backend.clone(), put(&users, "ada", json!(i)).on(Precondition::Absent));
        tasks.spawn(async move { (i, write_one(&*backend, create).await) });
    }
    let mut winners = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        match joined.expect("the writer does not panic") {
            (i, Ok(_)) => winners.push(i),
            // Some databases notice the race before they look at the precondition.
            (_, Err(error)) => assert!(
                matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::Conflict),
                "a loser failed in the wrong way: {error:?}"
            ),
        }
    }
    assert_eq!(winners.len(), 1, "writers that made the record: {winners:?}");
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!(winners[0])));
}

/// A precondition that does not hold leaves the record as it was to the last field, whatever the change.
pub async fn failed_precondition_changes_nothing(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "ada", json!({"n": 1})).await;
    let before = get_record(&*backend, &users, "ada").await;
    let at = || address(&users, "ada");
    let mut changes = vec![
        put(&users, "ada", json!("lost")),
        Mutation::delete(at()),
        Mutation::check(at(), Precondition::Absent),
    ];
    if cx.has(Feature::Expiry) {
        changes.push(Mutation::touch(at(), Some(in_millis(60_000))));
    }
    if cx.has(Feature::Bytes) {
        changes.push(Mutation::put(at(), storage_core::Value::bytes(vec![1])));
    }
    for change in changes {
        let name = change.change.name();
        let result = write_one(&*backend, change.on(Precondition::Absent)).await;
        expect_kind(result, ErrorKind::PreconditionFailed, &format!("a {name} on absence of what is there"));
    }
    assert_eq!(get_record(&*backend, &users, "ada").await, before);
}

/// A version is text: parsed again, and after a restart, it is the same version.
pub async fn version_survives_text_roundtrip(cx: Cx) {
    let (mut backend, users) = (cx.open().await, cx.collection());
    let version = put_json(&*backend, &users, "ada", json!(1)).await;
    let text = version.to_string();
    let json = ok(Json::encode(&version), "a version as JSON");
    if cx.fixture().persistent() {
        ok(backend.close().await, "close");
        backend = cx.open().await;
        assert_eq!(
            get_record(&*backend, &users, "ada").await.version,
            version,
            "the version after a restart"
        );
    }
    let parsed: Version = ok(text.parse(), "the version's own text");
    assert_eq!(parsed, version);
    assert_eq!(ok(json.decode::<Version>(), "a version from JSON"), version);
    write_ok(&*backend, put(&users, "ada", json!(2)).on(Precondition::Version(parsed))).await;
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!(2)));
}

/// A record that was deleted, cleared, expired or lost in a restart and made anew has none of its old versions.
pub async fn recreate_never_reuses_a_version(cx: Cx) {
    let (mut backend, users) = (cx.open().await, cx.collection());
    let mut seen = HashSet::new();
    for round in 0..8 {
        let version = put_json(&*backend, &users, "ada", json!("same")).await;
        assert!(seen.insert(version.clone()), "round {round}: the version {version} was there before");
        match round % 4 {
            1 if cx.has(Feature::Clear) => {
                assert_eq!(ok(backend.clear(&users).await, "clear"), 1);
            }
            2 if cx.has(Feature::Expiry) => {
                let at = in_millis(60);
                let touch = Mutation::touch(address(&users, "ada"), Some(at));
                seen.extend(write_one(&*backend, touch).await.ok().and_then(|written| written.version));
                pass(at).await;
            }
            3 if cx.fixture().persistent() => {
                write_ok(&*backend, Mutation::delete(address(&users, "ada"))).await;
                ok(backend.close().await, "close");
                backend = cx.open().await;
            }
            _ => {
                write_ok(&*backend, Mutation::delete(address(&users, "ada"))).await;
            }
        }
    }
}
