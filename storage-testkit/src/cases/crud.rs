//! Making, reading, replacing and deleting single records.

use serde_json::{Value as Tree, json};
use storage_core::{
    Blob, Count, Effect, ErrorKind, Feature, Json, Mutation, Precondition, Value, ValueKind, compare_numbers,
};

use crate::Cx;
use crate::helpers::{
    address, expect_kind, get_json, get_one, get_record, ok, put, put_json, tree, write_ok, write_one,
};

/// Reading what was never written gives nothing, and no error.
pub async fn get_missing_none(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    assert_eq!(get_one(&*backend, &users, "nobody").await, None);
}

/// What was put is read back, with the address and the version that the write returned.
pub async fn put_get_roundtrip(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let value = json!({"name": "Ada", "langs": ["en", "fr"], "born": 1815});
    let written = write_ok(&*backend, put(&users, "ada", value.clone())).await;
    assert_eq!(written.effect, Effect::Done);

    let record = get_record(&*backend, &users, "ada").await;
    assert_eq!(record.address, address(&users, "ada"));
    assert_eq!(tree(&record), value);
    assert_eq!(Some(&record.version), written.version.as_ref(), "the version that the write returned");
    assert_eq!(record.expires_at, None);
}

/// The second put replaces the whole value: no field of the first is left.
pub async fn put_overwrites(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "ada", json!({"a": 1, "b": {"c": 2}})).await;
    put_json(&*backend, &users, "ada", json!({"b": {"d": 3}})).await;
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!({"b": {"d": 3}})));
}

/// A record says when it was made and written. Overwriting keeps the one and moves the other; deleting and making
/// anew keeps neither.
pub async fn overwrite_keeps_created_at(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let before = storage_core::Timestamp::now();
    put_json(&*backend, &users, "ada", json!(1)).await;
    let after = storage_core::Timestamp::now();
    let first = get_record(&*backend, &users, "ada").await;
    assert!((before..=after).contains(&first.created_at), "made between {before} and {after}: {first:?}");
    assert_eq!(first.updated_at, first.created_at, "a new record was last written when it was made");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    put_json(&*backend, &users, "ada", json!(2)).await;
    let second = get_record(&*backend, &users, "ada").await;
    assert_eq!(second.created_at, first.created_at, "overwriting keeps created_at");
    assert!(second.updated_at > first.updated_at, "overwriting moves updated_at: {second:?}");

    write_ok(&*backend, Mutation::delete(address(&users, "ada"))).await;
    put_json(&*backend, &users, "ada", json!(3)).await;
    let third = get_record(&*backend, &users, "ada").await;
    assert!(third.created_at > first.created_at, "a record made anew is as old as that: {third:?}");
}

/// Making a record that is there already fails and leaves it as it was.
pub async fn create_existing_fails(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    write_ok(&*backend, put(&users, "ada", json!(1)).on(Precondition::Absent)).await;
    let again = write_one(&*backend, put(&users, "ada", json!(2)).on(Precondition::Absent)).await;
    expect_kind(again, ErrorKind::PreconditionFailed, "making a record that exists");
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!(1)));
}

/// Replacing a record that is not there fails and makes none.
pub async fn replace_missing_fails(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let replace = || put(&users, "ada", json!(2)).on(Precondition::Present);
    expect_kind(
        write_one(&*backend, replace()).await,
        ErrorKind::PreconditionFailed,
        "replacing a missing record",
    );
    assert_eq!(get_json(&*backend, &users, "ada").await, None);
    put_json(&*backend, &users, "ada", json!(1)).await;
    write_ok(&*backend, replace()).await;
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!(2)));
}

/// A deleted record is gone, its neighbours are not, and the write says that there was one.
pub async fn delete_existing(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "ada", json!(1)).await;
    put_json(&*backend, &users, "ada2", json!(2)).await;
    let written = write_ok(&*backend, Mutation::delete(address(&users, "ada"))).await;
    assert_eq!(written.effect, Effect::Deleted { existed: true });
    assert_eq!(written.version, None, "what is deleted has no version");
    assert_eq!(get_one(&*backend, &users, "ada").await, None);
    assert_eq!(get_json(&*backend, &users, "ada2").await, Some(json!(2)));
}

/// Deleting what is not there succeeds and says that there was nothing.
pub async fn delete_missing_is_quiet(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "ada", json!(1)).await;
    for _ in 0..2 {
        let written = write_ok(&*backend, Mutation::delete(address(&users, "nobody"))).await;
        assert_eq!(written.effect, Effect::Deleted { existed: false });
        assert_eq!(written.version, None);
    }
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!(1)));
}

/// Checks of presence and absence agree with what was written.
pub async fn exists_tracks_state(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let exists = async |there: bool, when: &str| {
        let present =
            write_one(&*backend, Mutation::check(address(&users, "ada"), Precondition::Present)).await;
        let absent =
            write_one(&*backend, Mutation::check(address(&users, "ada"), Precondition::Absent)).await;
        assert_eq!(get_one(&*backend, &users, "ada").await.is_some(), there, "{when}: get");
        let (holds, fails) = if there { (present, absent) } else { (absent, present) };
        let written = ok(holds, &format!("{when}: a check that holds"));
        assert_eq!(
            written.version.is_some(),
            there,
            "{when}: the check returns the version of what is there"
        );
        expect_kind(fails, ErrorKind::PreconditionFailed, &format!("{when}: a check that does not hold"));
    };
    exists(false, "before the put").await;
    put_json(&*backend, &users, "ada", Tree::Null).await;
    exists(true, "after the put").await;
    write_ok(&*backend, Mutation::delete(address(&users, "ada"))).await;
    exists(false, "after the delete").await;
    put_json(&*backend, &users, "ada", json!(0)).await;
    exists(true, "after it was made anew").await;
}

/// Values that many languages take for nothing are values.
pub async fn falsy_values_roundtrip(cx: Cx) {
    let (backend, values) = (cx.open().await, cx.collection());
    let falsy = [json!(null), json!(false), json!(0), json!(0.0), json!(""), json!([]), json!({})];
    for (i, value) in falsy.into_iter().enumerate() {
        let key = format!("v{i}");
        put_json(&*backend, &values, &key, value.clone()).await;
        assert_same(get_json(&*backend, &values, &key).await, &value);
    }
}

/// Every JSON type, alone and inside others.
pub async fn json_types_roundtrip(cx: Cx) {
    let (backend, values) = (cx.open().await, cx.collection());
    let all = [
        json!(null),
        json!(true),
        json!(42),
        json!(-42),
        json!(0.1),
        json!(1.5e-7),
        json!("text"),
        json!("quotes \" ' ` and \\ / \n\r\t\u{8}\u{c}"),
        json!([1, "two", null, [3.5], {"four": 4}]),
        json!({"": "empty key", "a.b": "dot", "$set": "dollar", "a b": 1, "ü": "é", "_id": 7, "__proto__": 1}),
        json!({"nested": {"array": [[], [[]], {}], "null": null, "false": false}}),
        json!("2026-11-21T07:59:50Z"),
        json!("123"),
        json!({"id": "x", "key": "k", "version": 3, "expires_at": 0, "value": [], "collection": "c"}),
    ];
    for (i, value) in all.into_iter().enumerate() {
        let key = format!("v{i}");
        put_json(&*backend, &values, &key, value.clone()).await;
        assert_same(get_json(&*backend, &values, &key).await, &value);
    }
}

/// Bytes come back byte by byte, all 256 of them, with their media type; so do no bytes at all.
pub async fn bytes_roundtrip_all_256(cx: Cx) {
    let (backend, files) = (cx.open().await, cx.collection());
    let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let blobs = [
        Blob::new(all).with_media_type("image/png"),
        Blob::new(Vec::new()),
        Blob::new(&b"{\"looks\": \"like JSON\"}"[..]).with_media_type("application/json"),
        Blob::new(&[0xc3, 0x28, 0xff, 0xfe][..]).with_media_type("text/plain; charset=utf-8"),
        Blob::new(&[0][..]),
    ];
    for (i, blob) in blobs.into_iter().enumerate() {
        let key = format!("b{i}");
        write_ok(&*backend, Mutation::put(address(&files, &key), Value::Bytes(blob.clone()))).await;
        let Value::Bytes(read) = get_record(&*backend, &files, &key).await.value else {
            panic!("{blob:?} came back as another kind");
        };
        assert_eq!(read.media_type, blob.media_type);
        assert_eq!(read.data.len(), blob.data.len(), "length of {blob:?}");
        assert!(read.data == blob.data, "{blob:?} came back with other bytes");
    }
}

/// Numbers at the edges of 64-bit integers and doubles keep their exact value.
pub async fn json_number_extremes(cx: Cx) {
    let (backend, values) = (cx.open().await, cx.collection());
    let numbers = [
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "18446744073709551615",
        "9007199254740992",
        "9007199254740993",
        "-9007199254740993",
        "1e308",
        "-1e308",
        "1.7976931348623157e308",
        "2.2250738585072014e-308",
        "5e-324",
        "0.1",
        "0.30000000000000004",
        "123456789.123456789",
        "1e21",
        "-0.0",
    ];
    for (i, text) in numbers.into_iter().enumerate() {
        let key = format!("n{i}");
        for text in [text.to_owned(), format!("{{\"deep\": [{text}]}}")] {
            let sent = ok(Json::parse(text.clone()), "a number");
            write_ok(&*backend, Mutation::put(address(&values, &key), sent.clone())).await;
            let record = get_record(&*backend, &values, &key).await;
            let Value::Json(read) = &record.value else {
                panic!("{text} came back as {}", record.value.kind())
            };
            assert!(*read == sent, "{text} came back as {}", read.as_str());
        }
        let read = get_json(&*backend, &values, &key).await.expect("was just read");
        let (sent, read) = (ok(Json::parse(text), "a number"), &read["deep"][0]);
        let (Tree::Number(sent), Tree::Number(read)) = (ok(sent.tree(), "a number"), read) else {
            panic!("{text} came back as {read}, which is no number")
        };
        assert!(compare_numbers(&sent, read).is_eq(), "{text} came back as {read}");
    }
}

/// JSON nested as deep as the backend says it takes comes back; one level more is refused by name.
pub async fn deep_json(cx: Cx) {
    let (backend, values) = (cx.open().await, cx.collection());
    let depth = cx.limits().json_depth;
    let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    for (key, text) in [("arrays", arrays), ("objects", objects)] {
        let sent = ok(Json::parse(text), "JSON of the depth that the backend names as its limit");
        write_ok(&*backend, Mutation::put(address(&values, key), sent.clone())).await;
        let read = get_record(&*backend, &values, key).await;
        assert!(read.value.as_json() == Some(&sent), "{depth} levels of {key} did not come back");
    }

    let deeper = Json::parse(format!("{}{}", "[".repeat(depth + 1), "]".repeat(depth + 1)));
    let refused = match deeper {
        // Beyond what any backend takes, the value cannot even be built.
        Err(error) => expect_kind(Err::<(), _>(error), ErrorKind::InvalidInput, "JSON nested too deep"),
        Ok(deeper) => {
            let result = write_one(&*backend, Mutation::put(address(&values, "deeper"), deeper)).await;
            expect_kind(result, ErrorKind::TooLarge, "JSON nested deeper than the limit")
        }
    };
    assert!(!refused.message().is_empty());
    assert_eq!(get_one(&*backend, &values, "deeper").await, None);
}

/// A put replaces the kind too; bytes that look like JSON stay bytes.
pub async fn value_kinds_do_not_mix(cx: Cx) {
    let (backend, values) = (cx.open().await, cx.collection());
    let at = || address(&values, "v");
    let kind = async || get_record(&*backend, &values, "v").await.value.kind();
    write_ok(&*backend, Mutation::put(at(), Value::bytes(&b"[1]"[..]))).await;
    assert_eq!(kind().await, ValueKind::Bytes, "bytes that look like JSON");
    put_json(&*backend, &values, "v", json!([1])).await;
    assert_eq!(kind().await, ValueKind::Json, "JSON over bytes");
    if cx.has(Feature::Counters) {
        write_ok(&*backend, Mutation::put(at(), Value::Counters([("n".into(), 1)].into()))).await;
        assert_eq!(kind().await, ValueKind::Counters, "counters over JSON");
        write_ok(&*backend, Mutation::put(at(), Value::bytes(&b"n"[..]))).await;
        assert_eq!(kind().await, ValueKind::Bytes, "bytes over counters");
    }
    if cx.has(Feature::Lists) {
        write_ok(&*backend, Mutation::delete(at())).await;
        write_ok(&*backend, Mutation::append(at(), vec![Json::from(json!(1))])).await;
        assert_eq!(kind().await, ValueKind::List, "an append makes a list");
        put_json(&*backend, &values, "v", json!({})).await;
        assert_eq!(kind().await, ValueKind::Json, "JSON over a list");
        write_ok(&*backend, Mutation::delete(at())).await;
        let again = write_ok(&*backend, Mutation::append(at(), vec![Json::from(json!(2))])).await;
        assert_eq!(again.effect, Effect::Length(1), "the items of the list before are gone");
    }
    let list = write_one(&*backend, Mutation::put(at(), Value::List { length: 3 })).await;
    if cx.has(Feature::Lists) {
        expect_kind(list, ErrorKind::InvalidInput, "putting a list");
    } else {
        assert!(list.is_err(), "a list can be put although lists are not offered");
    }
}

/// A cleared collection is empty, and the others are as they were.
pub async fn clear_removes_only_its_collection(cx: Cx) {
    let (backend, cleared, kept) = (cx.open().await, cx.collection(), cx.collection());
    // A neighbour by name: the cleared name is its prefix.
    let near = ok(storage_core::CollectionName::new(format!("{cleared}.x")), "a name");
    for collection in [&cleared, &kept, &near] {
        for i in 0..7 {
            put_json(&*backend, collection, &format!("k{i}"), json!({"i": i})).await;
        }
    }
    assert_eq!(ok(backend.clear(&cleared).await, "clear"), 7, "clear says how many records there were");
    assert_eq!(ok(backend.clear(&cleared).await, "clear"), 0, "there is nothing left to clear");
    for i in 0..7 {
        let key = format!("k{i}");
        assert_eq!(get_one(&*backend, &cleared, &key).await, None);
        assert_eq!(get_json(&*backend, &kept, &key).await, Some(json!({"i": i})));
        assert_eq!(get_json(&*backend, &near, &key).await, Some(json!({"i": i})));
    }
    if cx.has(Feature::Count) {
        let count = async |collection: &storage_core::CollectionName| {
            ok(backend.count(&Count { collection: collection.clone(), filter: None }).await, "count")
        };
        assert_eq!((count(&cleared).await, count(&kept).await, count(&near).await), (0, 7, 7));
    }
    put_json(&*backend, &cleared, "k0", json!("new")).await;
    assert_eq!(get_json(&*backend, &cleared, "k0").await, Some(json!("new")), "it can be filled again");
}

/// A collection is listed from its first record to its last, in order, once.
pub async fn collections_are_listed(cx: Cx) {
    let backend = cx.open().await;
    let listed = async || {
        let names = ok(backend.collections().await, "collections");
        names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, Vec::<String>::new(), "a new store has no collections");
    let name = |text| ok(storage_core::CollectionName::new(text), "a name");
    let names = ["b", "a", "a.b", "ab", "A", "0", "a-b", "a_b"];
    for text in names {
        put_json(&*backend, &name(text), "k", json!(1)).await;
        put_json(&*backend, &name(text), "l", json!(2)).await;
    }
    let mut expected = names.map(str::to_owned).to_vec();
    expected.sort_unstable();
    assert_eq!(listed().await, expected, "each once, in byte order");

    write_ok(&*backend, Mutation::delete(address(&name("ab"), "k"))).await;
    assert_eq!(listed().await, expected, "a collection that still has a record stays");
    write_ok(&*backend, Mutation::delete(address(&name("ab"), "l"))).await;
    expected.retain(|text| text != "ab");
    assert_eq!(listed().await, expected, "a collection goes with its last record");
}

/// Equal by value, and of the same JSON type.
#[track_caller]
fn assert_same(read: Option<Tree>, sent: &Tree) {
    let read = read.unwrap_or_else(|| panic!("{sent} was put and is not there"));
    assert!(storage_core::json_eq(&read, sent), "{sent} came back as {read}");
}
