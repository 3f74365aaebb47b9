//! Group *text*: what keys and values may be made of, and how long they may be.

use serde_json::{Value as Tree, json};
use storage_core::{
    Address, Backend, Blob, CollectionName, ErrorKind, Feature, Filter, Json, Key, Limits,
    MAX_COLLECTION_BYTES, MAX_KEY_BYTES, Mutation, Query, Value,
};

use crate::Cx;
use crate::helpers::{
    address, expect_kind, get_json, get_record, keys_all, keys_of, ok, put_json, query_all, scan_all, sorted,
    tree, write_ok, write_one,
};

/// Puts each text under itself as key, with itself as value and as field name, and reads it in every way.
async fn round_trip(cx: &Cx, backend: &dyn Backend, texts: &[String]) {
    let collection = cx.collection();
    let value = |text: &str| json!({"text": text, "list": [text, {text: text}], text: 1});
    for text in texts {
        put_json(backend, &collection, text, value(text)).await;
    }
    for text in texts {
        let record = get_record(backend, &collection, text).await;
        assert_eq!(record.address.key.as_str(), text, "the key of {text:?} reads back as it was");
        assert_eq!(tree(&record), value(text), "the value of {text:?} reads back as it was");
        if cx.has(Feature::Query) {
            let filter = Filter::eq("text".parse().expect("a path"), text.as_str());
            let found = keys_of(&query_all(backend, Query::new(collection.clone(), filter)).await);
            assert_eq!(found, [text.as_str()], "the query for {text:?} finds its record");
        }
    }
    if cx.has(Feature::Scan) {
        let all = sorted(texts.to_vec());
        assert_eq!(sorted(keys_of(&scan_all(backend, &collection, "", 7).await)), all, "by scan");
        assert_eq!(sorted(keys_all(backend, &collection, "", 7).await), all, "by keys");
        for prefix in texts {
            let expected: Vec<String> = all.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
            assert_eq!(
                sorted(keys_all(backend, &collection, prefix, 7).await),
                expected,
                "prefix {prefix:?}"
            );
        }
    }
    for text in texts {
        write_ok(backend, Mutation::delete(address(&collection, text))).await;
        assert_eq!(get_json(backend, &collection, text).await, None, "{text:?} is deleted");
    }
}

fn owned<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// Keys and values are code points: forms of a letter that look alike are different, none is changed.
pub async fn unicode_keys_and_values(cx: Cx) {
    let texts = [
        "é",
        "e\u{301}",
        "Å",
        "\u{212b}",
        "A\u{30a}",
        "ﬁ",
        "fi",
        "ß",
        "ẞ",
        "SS",
        "ı",
        "İ",
        "i",
        "I",
        "K",
        "\u{212a}",
        "😀",
        "👩‍👩‍👧‍👦",
        "🇩🇪",
        "👍🏽",
        "שלום",
        "مرحبا",
        "\u{202e}abc\u{202c}",
        "\u{200f}",
        "日本語",
        "한국어",
        "각",
        "\u{1100}\u{1161}\u{11a8}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{fffd}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{10000}",
        "\u{10ffff}",
        "\u{feff}bom",
        "\u{200b}",
        "a\u{301}\u{323}",
        "a\u{323}\u{301}",
    ];
    let (backend, collection) = (cx.open().await, cx.collection());
    round_trip(&cx, &*backend, &owned(texts)).await;

    let escaped = Json::parse(r#"["\ud83d\ude00", "\u00e9", "\uFFFF"]"#).expect("valid JSON");
    write_ok(&*backend, Mutation::put(address(&collection, "escaped"), escaped)).await;
    assert_eq!(get_json(&*backend, &collection, "escaped").await, Some(json!(["😀", "é", "\u{ffff}"])));
    for lone in [r#""\ud800""#, r#""\udc00\ud800""#, r#"{"\udfff":1}"#] {
        expect_kind(Json::parse(lone), ErrorKind::InvalidInput, "a lone surrogate");
    }
}

/// Keys of 1 to 512 bytes and collection names of 1 to 64 work in full; others cannot be made.
pub async fn key_length_edges(cx: Cx) {
    let longest = "k".repeat(MAX_KEY_BYTES);
    let sibling = format!("{}j", &longest[1..]);
    let wide = "é".repeat(MAX_KEY_BYTES / 2);
    let widest = "😀".repeat(MAX_KEY_BYTES / 4);
    let texts = ["k".to_owned(), longest[1..].to_owned(), longest.clone(), sibling, wide, widest];
    let backend = cx.open().await;
    round_trip(&cx, &*backend, &texts).await;

    let own = cx.collection();
    let filled = format!("{own}{}", "c".repeat(MAX_COLLECTION_BYTES - own.as_str().len()));
    let collection = CollectionName::new(&filled).expect("a name of 64 bytes");
    put_json(&*backend, &collection, &longest, json!("longest")).await;
    put_json(&*backend, &own, &longest, json!("other")).await;
    assert_eq!(get_json(&*backend, &collection, &longest).await, Some(json!("longest")));
    for bad in [String::new(), format!("{longest}k"), "é".repeat(257), "a\0b".into(), "\0".into()] {
        expect_kind(Key::new(&bad), ErrorKind::InvalidInput, "a bad key");
    }
    for bad in ["", &format!("{filled}c"), "-a", ".a", "a b", "a/b", "é", "a\0"] {
        expect_kind(CollectionName::new(bad), ErrorKind::InvalidInput, "a bad collection name");
    }
}

/// Values from nothing to the limit read back; one byte more is refused by an error that names the limit.
pub async fn value_size_edges(cx: Cx) {
    let (backend, collection) = (cx.open().await, cx.collection());
    let limits = *cx.limits();
    // The names of a record count in its batch.
    let most = limits.value_bytes.min(limits.batch_bytes - 256);
    let largest = if most <= 32 << 20 { most } else { 20 << 20 };
    for size in [0, 1, 2, 1 << 10, 1 << 16, 1 << 20, largest - 1, largest] {
        if size > largest {
            continue;
        }
        sized(&*backend, &collection, json_of(size.max(2))).await;
        if cx.has(Feature::Bytes) {
            sized(&*backend, &collection, bytes_of(size)).await;
        }
    }
    if limits.value_bytes <= 64 << 20 {
        beyond(&*backend, &collection, json_of(limits.value_bytes + 1), &limits).await;
        if cx.has(Feature::Bytes) {
            beyond(&*backend, &collection, bytes_of(limits.value_bytes + 1), &limits).await;
        }
    }
}

/// A JSON text of `size` bytes.
fn json_of(size: usize) -> Value {
    let text = format!("\"{}\"", "x".repeat(size - 2));
    Value::Json(Json::parse(text).expect("a JSON text"))
}

/// Bytes that with their media type have `size` bytes, or none at all.
fn bytes_of(size: usize) -> Value {
    let data: Vec<u8> = (0..size.saturating_sub(Blob::OCTET_STREAM.len())).map(|i| (i % 251) as u8).collect();
    Value::bytes(data)
}

async fn sized(backend: &dyn Backend, collection: &CollectionName, value: Value) {
    let (size, kind) = (value.size(), value.kind());
    let at: Address = address(collection, "k");
    write_ok(backend, Mutation::put(at, value.clone())).await;
    let read = get_record(backend, collection, "k").await.value;
    // Not by `assert_eq`, whose message would be as long as the value.
    assert!(read == value, "{kind} of {size} bytes came back as {} of {} bytes", read.kind(), read.size());
}

async fn beyond(backend: &dyn Backend, collection: &CollectionName, value: Value, limits: &Limits) {
    let before = get_record(backend, collection, "k").await;
    let what = format!("a put of {} bytes of {}", value.size(), value.kind());
    let refused = write_one(backend, Mutation::put(address(collection, "k"), value)).await;
    let error = expect_kind(refused, ErrorKind::TooLarge, &what);
    let limit = limits.value_bytes.min(limits.batch_bytes);
    assert!(error.message().contains(&limit.to_string()), "the error names the limit {limit}: {error}");
    let after = get_record(backend, collection, "k").await;
    assert_eq!(after.version, before.version, "{what} changes nothing");
}

/// NUL is a character of JSON strings like any other, raw and escaped, in values and names.
pub async fn nul_in_json_strings(cx: Cx) {
    let (backend, collection) = (cx.open().await, cx.collection());
    let values = [
        json!("\u{0}"),
        json!("a\u{0}b"),
        json!({"a\u{0}b": "\u{0}\u{0}", "\u{0}": ["x\u{0}"]}),
        json!({"a": {"b": "\u{0}"}}),
        json!("\\u0000"),
        json!({"\\u0000": "\\\u{0}\\u0000"}),
    ];
    for value in &values {
        put_json(&*backend, &collection, "k", value.clone()).await;
        assert_eq!(get_json(&*backend, &collection, "k").await.as_ref(), Some(value));
    }
    let raw = Json::parse(r#"{"v":"a\u0000b","w":"\\u0000"}"#).expect("valid JSON");
    write_ok(&*backend, Mutation::put(address(&collection, "raw"), raw)).await;
    put_json(&*backend, &collection, "without", json!({"v": "ab", "w": "\u{0}"})).await;
    assert_eq!(get_json(&*backend, &collection, "raw").await, Some(json!({"v": "a\u{0}b", "w": "\\u0000"})));
    if cx.has(Feature::Query) {
        for (filter, expected) in [
            (json!({"v": "a\u{0}b"}), "raw"),
            (json!({"v": {"$prefix": "a\u{0}"}}), "raw"),
            (json!({"v": {"$contains": "\u{0}"}}), "raw"),
            (json!({"v": "ab"}), "without"),
            (json!({"v": {"$lt": "ab", "$gt": "a"}}), "raw"),
            (json!({"w": "\u{0}"}), "without"),
            (json!({"w": "\\u0000"}), "raw"),
        ] {
            let query = Query::new(collection.clone(), Filter::try_from(filter.clone()).expect("a filter"));
            assert_eq!(keys_of(&query_all(&*backend, query).await), [expected], "the filter {filter}");
        }
    }
    if cx.has(Feature::Lists) {
        let at = address(&collection, "list");
        write_ok(&*backend, Mutation::append(at.clone(), vec![Json::from(json!("a\u{0}b"))])).await;
        let range = storage_core::ListRange { address: at, start: 0, limit: 1 };
        let items = ok(backend.list_range(&range).await, "list_range").expect("the list").items;
        assert_eq!(items[0].decode::<Tree>().expect("an item"), json!("a\u{0}b"));
    }
}

/// Control characters, line ends and blanks in keys and values stay as they are.
pub async fn control_characters(cx: Cx) {
    let mut texts: Vec<String> =
        (1_u8..=0x20).chain(0x7f..=0x7f).map(|byte| char::from(byte).to_string()).collect();
    texts.extend(["\u{80}", "\u{85}", "\u{9f}", "\u{a0}", "\u{2028}", "\u{2029}"].map(str::to_owned));
    texts.extend(owned([
        "a\nb",
        "a\r\nb",
        "a\tb",
        " a",
        "a ",
        "  ",
        "\u{1b}[31mred",
        "\u{1}\u{2}\u{3}",
        "a\u{8}b",
        "a\u{7f}",
    ]));
    round_trip(&cx, &*cx.open().await, &texts).await;
}

/// Keys and values that mean something to a database, a shell or a file system mean nothing here.
pub async fn sql_and_shell_metacharacters(cx: Cx) {
    let texts = [
        "'; DROP TABLE records; --",
        "\" OR \"\"=\"",
        "' OR 1=1 --",
        "\\",
        "\\\\",
        "\\'",
        "\\n",
        "$(reboot)",
        "`ls`",
        "a|b",
        "a;b",
        "a&&b",
        "> /dev/null",
        "*",
        "?",
        "[a-z]",
        "{a,b}",
        "%",
        "_",
        "%00",
        "..",
        ".",
        "../../etc/passwd",
        "/",
        "//",
        "/a",
        "a/",
        "a/b",
        "a\\b",
        "C:\\x",
        "~",
        "#",
        "!",
        "a:b",
        "{a}b",
        "$1",
        ":1",
        "?1",
        "@x",
        "--",
        "/*",
        "*/",
        "<script>",
        "&amp;",
        "null",
        "undefined",
        "NaN",
        "true",
        "0",
        "-1",
        "1e3",
        "$set",
        "a.b",
        "a..b",
        ".a",
        "__proto__",
        "_id",
        "id",
        "key",
        "value",
        "CON",
        "NUL",
        "a\u{ff0f}b",
        "%2e%2e%2f",
        "(",
        ")",
        "[",
        "]",
        "^$",
    ];
    round_trip(&cx, &*cx.open().await, &owned(texts)).await;
}
