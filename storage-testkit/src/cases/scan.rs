//! Reading by key prefix, page by page.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;
use storage_core::{
    Backend, Batch, CollectionName, Cursor, ErrorKind, Feature, Filter, Mutation, Query, Record, Scan,
};

use crate::Cx;
use crate::helpers::{
    address, expect_kind, get_record, keys_all, keys_of, numbered, ok, put, put_json, put_numbered, scan_all,
    sorted, write_all,
};

/// A collection of nothing, also one that was never written, is one empty page.
pub async fn empty_collection(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let page = ok(backend.scan(&Scan::new(users.clone())).await, "scan");
    assert_eq!((page.items.len(), page.next), (0, None), "a collection that was never written");
    put_json(&*backend, &users, "a", json!(1)).await;
    crate::helpers::write_ok(&*backend, Mutation::delete(address(&users, "a"))).await;
    assert_eq!(scan_all(&*backend, &users, "", 10).await, []);
    assert_eq!(keys_all(&*backend, &users, "", 10).await, Vec::<String>::new());
    put_json(&*backend, &users, "a", json!(1)).await;
    assert_eq!(scan_all(&*backend, &users, "b", 10).await, [], "a prefix that nothing has");
}

/// Only keys that begin with the prefix come, the key that is the prefix among them.
pub async fn prefix_only(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let keys = [
        "user", "user:", "user:1", "user:10", "user:2", "use", "User:1", "xuser:1", "user;1", "usf", " user:",
    ];
    put_keys(&*backend, &users, &keys).await;
    for prefix in ["user:", "user", "u", "user:1", "user:10", "user:100", "x", ""] {
        check_prefix(&*backend, &users, &keys, prefix).await;
    }
}

/// A scanned record is the record that a get returns.
pub async fn scan_agrees_with_get(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_numbered(&*backend, &users, 5).await;
    put_json(&*backend, &users, &numbered(2), json!({"written": "again"})).await;
    if cx.has(Feature::Bytes) {
        let bytes = storage_core::Value::bytes(vec![0, 0xff]);
        crate::helpers::write_ok(&*backend, Mutation::put(address(&users, "bytes"), bytes)).await;
    }
    if cx.has(Feature::Counters) {
        crate::helpers::write_ok(&*backend, Mutation::increment(address(&users, "hits"), "n", 3)).await;
    }
    if cx.has(Feature::Lists) {
        let items = vec![json!(1).into(), json!(2).into()];
        crate::helpers::write_ok(&*backend, Mutation::append(address(&users, "log"), items)).await;
    }
    for record in scan_all(&*backend, &users, "", 3).await {
        assert_eq!(record, get_record(&*backend, &users, record.address.key.as_str()).await);
    }
}

/// Keys come in the order of their bytes, and so do pages.
pub async fn ordered_by_key_bytes(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let keys = [
        "b",
        "a",
        "B",
        "A",
        "aa",
        "a b",
        "a-b",
        "a.b",
        "a_b",
        "a0",
        "10",
        "9",
        "1",
        "~",
        "!",
        "é",
        "e\u{301}",
        "e",
        "ß",
        "ss",
        "z",
        "Z",
        "ı",
        "I",
        "i",
        "\u{ffff}",
        "\u{10000}",
        "日本",
        "\u{1f600}",
        "a\u{1}",
        "ab",
        "à",
    ];
    put_keys(&*backend, &users, &keys).await;
    let expected = sorted(keys.map(str::to_owned).to_vec());
    for limit in [1, 2, 7, 100] {
        assert_eq!(
            keys_of(&scan_all(&*backend, &users, "", limit).await),
            expected,
            "{limit} records a page"
        );
        assert_eq!(keys_all(&*backend, &users, "", limit).await, expected, "{limit} keys a page");
    }
    let with_a = expected.iter().filter(|key| key.starts_with('a')).cloned().collect::<Vec<_>>();
    assert_eq!(keys_of(&scan_all(&*backend, &users, "a", 3).await), with_a);
}

/// Whatever the size of the pages, together they are the same records, each once; a page of none is refused.
pub async fn page_sizes_1_2_n(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    const N: usize = 10;
    put_numbered(&*backend, &users, N).await;
    let expected: Vec<String> = (0..N).map(numbered).collect();
    for limit in [1, 2, 3, N - 1, N, N + 1, cx.limits().page_len.min(10_000) as usize] {
        let limit = limit as u32;
        assert_eq!(
            sorted(keys_of(&scan_all(&*backend, &users, "", limit).await)),
            expected,
            "pages of {limit}"
        );
        assert_eq!(sorted(keys_all(&*backend, &users, "", limit).await), expected, "pages of {limit} keys");
    }
    let none = Scan { limit: 0, ..Scan::new(users.clone()) };
    expect_kind(backend.scan(&none).await, ErrorKind::InvalidInput, "a page of no records");
    expect_kind(backend.keys(&none).await, ErrorKind::InvalidInput, "a page of no keys");
    if let Some(limit) = cx.limits().page_len.checked_add(1) {
        let more = Scan { limit, ..Scan::new(users.clone()) };
        expect_kind(backend.scan(&more).await, ErrorKind::TooLarge, "a page beyond the limit");
    }
}

/// While other records are made, changed and deleted, paging returns each record that stays put just once.
pub async fn every_stable_record_exactly_once_under_writes(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let stable: BTreeSet<String> = (0..200).map(|i| format!("s{:03}-stable", i * 5)).collect();
    let puts = stable.iter().map(|key| put(&users, key, json!("stable")));
    for batch in puts.collect::<Vec<_>>().chunks(cx.limits().batch_len.min(100)) {
        write_all(&*backend, Batch::independent(batch.to_vec())).await;
    }
    let until = Instant::now() + Duration::from_millis(1_500);
    let writers: Vec<_> = (0..2_u64)
        .map(|writer| {
            let (backend, users) = (backend.clone(), users.clone());
            tokio::spawn(async move {
                // Between the stable ones, in front of them and behind them; two steps behind comes the delete.
                let key = |n: u64| match n % 3 {
                    0 => format!("a{writer}-{n}"),
                    1 => format!("s{:03}-w{writer}", n * 37 % 1_000),
                    _ => format!("z{writer}-{n}"),
                };
                for written in 0.. {
                    let old = Mutation::delete(address(&users, &key(written.max(2) - 2)));
                    write_all(
                        &*backend,
                        Batch::independent(vec![put(&users, &key(written), json!(written)), old]),
                    )
                    .await;
                    tokio::task::yield_now().await;
                    if Instant::now() >= until {
                        break;
                    }
                }
            })
        })
        .collect();
    for (round, limit) in [7, 1, 33, 200, 64].into_iter().cycle().enumerate() {
        let (seen, what) = if round % 2 == 0 {
            (keys_of(&scan_all(&*backend, &users, "", limit).await), "scan")
        } else {
            (keys_all(&*backend, &users, "", limit).await, "keys")
        };
        let mut times: BTreeMap<&str, u32> = stable.iter().map(|key| (key.as_str(), 0)).collect();
        for key in &seen {
            if let Some(times) = times.get_mut(key.as_str()) {
                *times += 1;
            }
        }
        times.retain(|_, times| *times != 1);
        assert!(times.is_empty(), "{what}, {limit} a page: not exactly once, but so many times: {times:?}");
        if Instant::now() >= until {
            break;
        }
        // A backend that never waits would keep this thread from the writers.
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
}

/// A collection of more than 10,000 records is read to its end.
pub async fn more_than_10_000(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    const N: usize = 10_050;
    let step = cx.limits().batch_len.clamp(1, 1_000);
    let mut tasks = tokio::task::JoinSet::new();
    for first in (0..N).step_by(step) {
        let (backend, users) = (backend.clone(), users.clone());
        tasks.spawn(async move {
            let puts = (first..N.min(first + step)).map(|i| put(&users, &numbered(i), json!(i)));
            write_all(&*backend, Batch::independent(puts.collect())).await;
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    let expected: Vec<String> = (0..N).map(numbered).collect();
    let page = cx.limits().page_len.min(1_000);
    assert!(sorted(keys_all(&*backend, &users, "", page).await) == expected, "keys: some lost or doubled");
    let records = scan_all(&*backend, &users, "", page).await;
    assert!(records.iter().all(|record| {
        let number = crate::helpers::tree(record);
        number.as_u64().is_some_and(|i| numbered(i as usize) == record.address.key.as_str())
    }));
    assert!(sorted(keys_of(&records)) == expected, "scan: some lost or doubled");
}

/// Characters that mean something in patterns of some database mean themselves.
pub async fn wildcards_are_literal(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let keys = [
        "a%b", "a_b", "a*b", "a?b", "a[b", "a[x]b", "a\\b", "a\\%b", "a^b", "a$b", "a.b", "a.*b", "a(b",
        "a{b}", "a|b", "a+b", "a'b", "a\"b", "a;b", "axb", "ab", "aXXb", "%", "_", "*", "?", "[", "\\", "x",
        "[a-z]", "^", "h[^e]llo",
    ];
    put_keys(&*backend, &users, &keys).await;
    let prefixes = [
        "a%", "a_", "a*", "a?", "a[", "a[x]", "a\\", "a\\%", "a^", "a$", "a.", "a.*", "a(", "a{", "a|", "a+",
        "a'", "a\"", "a;", "%", "_", "*", "?", "[", "\\", "[a-z]", "^", "^a", "h[^e]", "a%b", "a_b", ".",
        ".*",
    ];
    for prefix in prefixes {
        check_prefix(&*backend, &users, &keys, prefix).await;
    }
}

/// Text that is no cursor of this backend is refused, and so is a good one with one character changed.
pub async fn cursor_invalid_rejected(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_numbered(&*backend, &users, 5).await;
    let (scan, good) = half_scanned(&*backend, &users).await;
    for text in ["", "no cursor!", "a b", "ü", "\0", "=", "a/b", "a+b"] {
        expect_kind(Cursor::new(text), ErrorKind::InvalidInput, &format!("the cursor {text:?}"));
    }
    let good = good.as_str();
    let (head, tail) = good.split_at(good.len() / 2);
    let changed = if tail.starts_with('A') { 'B' } else { 'A' };
    let bad = ["0", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAA", "null", "-1", "9999999999"].map(str::to_owned);
    let damaged = [format!("{head}{changed}{}", &tail[1..]), head.to_owned(), format!("{good}{good}")];
    for text in bad.into_iter().chain(damaged) {
        let after = Some(ok(Cursor::new(&text), "text of the form of a cursor"));
        let scan = Scan { after, ..scan.clone() };
        expect_kind(backend.scan(&scan).await, ErrorKind::InvalidInput, &format!("scan after {text:?}"));
        expect_kind(backend.keys(&scan).await, ErrorKind::InvalidInput, &format!("keys after {text:?}"));
    }
}

/// A cursor continues the request that made it, and no other.
pub async fn cursor_of_another_scan_rejected(cx: Cx) {
    let (backend, users, others) = (cx.open().await, cx.collection(), cx.collection());
    put_numbered(&*backend, &users, 5).await;
    put_numbered(&*backend, &others, 5).await;
    let (scan, cursor) = half_scanned(&*backend, &users).await;
    let after = Some(cursor);
    let another = [
        ("of another collection", Scan { collection: others, ..scan.clone() }),
        ("of another prefix", Scan { prefix: "k".into(), ..scan.clone() }),
    ];
    for (what, other) in another {
        let other = Scan { after: after.clone(), ..other };
        expect_kind(backend.scan(&other).await, ErrorKind::InvalidInput, &format!("a scan {what}"));
        expect_kind(backend.keys(&other).await, ErrorKind::InvalidInput, &format!("keys {what}"));
    }
    if cx.has(Feature::Query) {
        let query = Query { after: after.clone(), ..Query::new(users.clone(), Filter::all()) };
        expect_kind(
            backend.query(&query).await,
            ErrorKind::InvalidInput,
            "a query with the cursor of a scan",
        );
    }
    let right = Scan { after, limit: 100, ..scan };
    assert_eq!(ok(backend.scan(&right).await, "the scan, with other pages").items.len(), 3);
}

/// A cursor is text, and goes on where it ended after a restart.
pub async fn cursor_survives_reconnect(cx: Cx) {
    let (mut backend, users) = (cx.open().await, cx.collection());
    put_numbered(&*backend, &users, 5).await;
    let (scan, cursor) = half_scanned(&*backend, &users).await;
    let text = cursor.to_string();
    ok(backend.close().await, "close");
    backend = cx.open().await;
    if !cx.fixture().persistent() {
        // The records are gone; the same ones again are the same scan.
        assert_eq!(scan_all(&*backend, &users, "", 10).await, [], "nothing was to be kept");
        put_numbered(&*backend, &users, 5).await;
    }
    let after = Some(ok(Cursor::new(&text), "the cursor's own text"));
    let rest = ok(backend.scan(&Scan { after, limit: 100, ..scan }).await, "the scan, continued");
    assert_eq!(rest.items.len(), 3, "of 5 records 2 were read before: {:?}", keys_of(&rest.items));
    assert_eq!(rest.next, None);
}

/// Prefixes outside ASCII are compared as they are: no form, case or accent is folded.
pub async fn unicode_prefix(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    let keys = [
        "é1",
        "é2",
        "e\u{301}1",
        "e1",
        "É1",
        "ß1",
        "ss1",
        "日本1",
        "日1",
        "😀1",
        "😀",
        "😁1",
        "👩\u{200d}👩1",
        "👩1",
        "ı1",
        "I1",
        "i\u{307}1",
        "שלום",
        "שלו",
        "مرحبا",
        "\u{feff}1",
        "\u{10ffff}1",
        "\u{10ffff}\u{10ffff}",
        "\u{ffff}1",
    ];
    put_keys(&*backend, &users, &keys).await;
    let prefixes = [
        "é",
        "e\u{301}",
        "e",
        "É",
        "ß",
        "s",
        "日",
        "日本",
        "😀",
        "👩",
        "👩\u{200d}",
        "ı",
        "I",
        "i",
        "שלו",
        "مر",
        "\u{feff}",
        "\u{10ffff}",
        "\u{ffff}",
    ];
    for prefix in prefixes {
        check_prefix(&*backend, &users, &keys, prefix).await;
    }
}

/// Collections whose names contain each other have their own records.
pub async fn collections_do_not_leak(cx: Cx) {
    let backend = cx.open().await;
    let names = ["a", "a.b", "ab", "A", "a_b", "a-b", "aXb", "a.b.c", "b"];
    let name = |text| ok(CollectionName::new(text), "a name");
    for text in names {
        for key in ["k", "b", ".b", "b.c:k"] {
            put_json(&*backend, &name(text), key, json!([text, key])).await;
        }
    }
    for text in names {
        let records = scan_all(&*backend, &name(text), "", 3).await;
        let expected: Vec<String> = [".b", "b", "b.c:k", "k"].map(str::to_owned).to_vec();
        assert_eq!(sorted(keys_of(&records)), expected, "the keys of {text}");
        for record in &records {
            assert_eq!(record.address.collection, name(text));
            assert_eq!(crate::helpers::tree(record), json!([text, record.address.key.as_str()]));
        }
        assert_eq!(keys_all(&*backend, &name(text), "b", 10).await.len(), 2, "prefix b in {text}");
    }
}

/// Keys are those of a scan, and continue each other's pages.
pub async fn keys_agree_with_scan(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_keys(&*backend, &users, &["a", "b:1", "b:2", "b:3", "c", "é", "B"]).await;
    for prefix in ["", "b", "b:", "nothing"] {
        for limit in [1, 2, 100] {
            let mut scan = Scan { prefix: prefix.into(), limit, ..Scan::new(users.clone()) };
            // Each page is read both ways, and continued with the cursor of the keys.
            loop {
                let records = ok(backend.scan(&scan).await, "scan");
                let keys = ok(backend.keys(&scan).await, "keys");
                let names: Vec<_> = records.items.iter().map(|record| record.address.key.clone()).collect();
                assert_eq!(keys.items, names, "prefix {prefix:?}, {limit} a page");
                assert_eq!(keys.next.is_some(), records.next.is_some(), "both end, or none");
                scan.after = keys.next;
                if scan.after.is_none() {
                    break;
                }
            }
        }
    }
}

/// Puts `[key]` under each key, so that a scan can check that the two belong together.
async fn put_keys(backend: &dyn Backend, collection: &CollectionName, keys: &[&str]) {
    let puts = keys.iter().map(|key| put(collection, key, json!([key])));
    write_all(backend, Batch::independent(puts.collect())).await;
}

/// The records and the keys of a prefix are those that begin with it, in pages of every kind.
async fn check_prefix(backend: &dyn Backend, collection: &CollectionName, keys: &[&str], prefix: &str) {
    let matching = keys.iter().filter(|key| key.starts_with(prefix));
    let expected = sorted(matching.map(|key| (*key).to_owned()).collect());
    for limit in [2, 100] {
        let records: Vec<Record> = scan_all(backend, collection, prefix, limit).await;
        for record in &records {
            assert_eq!(crate::helpers::tree(record), json!([record.address.key.as_str()]));
        }
        assert_eq!(sorted(keys_of(&records)), expected, "scan of the prefix {prefix:?}, {limit} a page");
        let keys = sorted(keys_all(backend, collection, prefix, limit).await);
        assert_eq!(keys, expected, "keys of the prefix {prefix:?}, {limit} a page");
    }
}

/// A scan of which two records were read, and where to go on.
async fn half_scanned(backend: &dyn Backend, collection: &CollectionName) -> (Scan, Cursor) {
    let mut scan = Scan { limit: 1, ..Scan::new(collection.clone()) };
    let mut read = 0;
    while read < 2 {
        let page = ok(backend.scan(&scan).await, "scan");
        read += page.items.len();
        scan.after = Some(page.next.expect("there are more records"));
    }
    let cursor = scan.after.take().expect("was just set");
    (scan, cursor)
}
