//! What each filter finds.

use serde_json::json;
use storage_core::{Feature, Json, Mutation, Value};

use super::Table;
use crate::Cx;
use crate::helpers::{address, write_ok};

/// Equality is by JSON value, of every type; `$ne` is its negation.
pub async fn eq_ne(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "int": {"v": 1}, "text": {"v": "1"}, "yes": {"v": true}, "no": {"v": false}, "null": {"v": null},
            "none": {}, "list": {"v": [1, 2]}, "object": {"v": {"a": 1, "b": [2]}}, "blank": {"v": ""},
            "no-items": {"v": []}, "no-fields": {"v": {}}, "scalar": 1,
        }),
    )
    .await;
    table
        .finds(&[
            (r#"{"v":1}"#, "int list"),
            (r#"{"v":{"$eq":"1"}}"#, "text"),
            (r#"{"v":true}"#, "yes"),
            (r#"{"v":false}"#, "no"),
            (r#"{"v":null}"#, "null"),
            (r#"{"v":[1,2]}"#, "list"),
            (r#"{"v":[1.0,2.0]}"#, "list"),
            (r#"{"v":[2,1]}"#, ""),
            (r#"{"v":[1]}"#, ""),
            (r#"{"v":{"b":[2],"a":1}}"#, "object"),
            (r#"{"v":{"a":1}}"#, ""),
            (r#"{"v":""}"#, "blank"),
            (r#"{"v":[]}"#, "no-items"),
            (r#"{"v":{}}"#, "no-fields"),
            (r#"{"v":{"$ne":1}}"#, "text yes no null none object blank no-items no-fields scalar"),
            (r#"{"v":{"$ne":null}}"#, "int text yes no none list object blank no-items no-fields scalar"),
            (r#"{"v":{"$ne":[1,2]}}"#, "int text yes no null none object blank no-items no-fields scalar"),
            (r#"{"w":1}"#, ""),
            (r#"{"w":{"$ne":1}}"#, "int text yes no null none list object blank no-items no-fields scalar"),
        ])
        .await;
}

/// Numbers compare with numbers only; of several conditions on a list each may hold for another element.
pub async fn range_numbers(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "neg": {"v": -5}, "zero": {"v": 0}, "one": {"v": 1}, "half": {"v": 1.5}, "two": {"v": 2},
            "text": {"v": "2"}, "bool": {"v": true}, "null": {"v": null}, "none": {}, "list": {"v": [0, 10]},
            "object": {"v": {"v": 2}},
        }),
    )
    .await;
    table
        .finds(&[
            (r#"{"v":{"$gt":1}}"#, "half two list"),
            (r#"{"v":{"$gte":1}}"#, "one half two list"),
            (r#"{"v":{"$lt":1}}"#, "neg zero list"),
            (r#"{"v":{"$lte":1}}"#, "neg zero one list"),
            (r#"{"v":{"$gt":1.4,"$lt":1.6}}"#, "half list"),
            (r#"{"v":{"$gte":0,"$lte":2}}"#, "zero one half two list"),
            (r#"{"v":{"$gt":-10}}"#, "neg zero one half two list"),
            (r#"{"v":{"$lt":-5}}"#, ""),
            (r#"{"v":{"$gt":2,"$lt":0}}"#, ""),
        ])
        .await;
}

/// Strings compare by code point, booleans `false` first, neither with another type.
pub async fn range_strings(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "a": {"v": "a"}, "b": {"v": "b"}, "upper": {"v": "B"}, "ab": {"v": "ab"}, "blank": {"v": ""},
            "ten": {"v": "10"}, "nine": {"v": "9"}, "number": {"v": 10}, "yes": {"v": true}, "no": {"v": false},
            "null": {"v": null},
        }),
    )
    .await;
    table
        .finds(&[
            (r#"{"v":{"$gt":"a"}}"#, "ab b"),
            (r#"{"v":{"$gte":"a"}}"#, "a ab b"),
            (r#"{"v":{"$lt":"9"}}"#, "blank ten"),
            (r#"{"v":{"$lte":"9"}}"#, "blank ten nine"),
            (r#"{"v":{"$lte":""}}"#, "blank"),
            (r#"{"v":{"$lt":""}}"#, ""),
            (r#"{"v":{"$gt":""}}"#, "a ab b upper ten nine"),
            (r#"{"v":{"$gte":"B","$lt":"b"}}"#, "upper a ab"),
            (r#"{"v":{"$gt":false}}"#, "yes"),
            (r#"{"v":{"$gte":false}}"#, "no yes"),
            (r#"{"v":{"$lt":true}}"#, "no"),
            (r#"{"v":{"$lt":false}}"#, ""),
        ])
        .await;
}

/// Integers and floats compare by exact value, also where a double has no more digits.
pub async fn int_and_float_compare(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "int": {"v": 1}, "float": {"v": 1.0}, "even": {"v": 9_007_199_254_740_992_u64},
            "odd": {"v": 9_007_199_254_740_993_u64}, "max": {"v": u64::MAX}, "min": {"v": i64::MIN},
            "minus-zero": {"v": -0.0}, "zero": {"v": 0}, "tenth": {"v": 0.1}, "huge": {"v": 1e308},
        }),
    )
    .await;
    table
        .finds(&[
            (r#"{"v":1}"#, "int float"),
            (r#"{"v":1.0}"#, "int float"),
            (r#"{"v":1e0}"#, "int float"),
            (r#"{"v":0}"#, "minus-zero zero"),
            (r#"{"v":-0.0}"#, "minus-zero zero"),
            (r#"{"v":{"$lt":0}}"#, "min"),
            (r#"{"v":9007199254740993}"#, "odd"),
            (r#"{"v":9007199254740992.0}"#, "even"),
            (r#"{"v":{"$gt":9007199254740992.0}}"#, "odd max huge"),
            (r#"{"v":{"$gt":9007199254740992}}"#, "odd max huge"),
            (r#"{"v":{"$gt":18446744073709551615}}"#, "huge"),
            (r#"{"v":{"$gte":18446744073709551615}}"#, "max huge"),
            (r#"{"v":{"$gte":18446744073709551616.0}}"#, "huge"),
            (r#"{"v":{"$lte":-9223372036854775808}}"#, "min"),
            (r#"{"v":-9223372036854775808.0}"#, "min"),
            (r#"{"v":0.1}"#, "tenth"),
            (r#"{"v":0.10000000000000002}"#, ""),
            (r#"{"v":{"$in":[1.0,0.1]}}"#, "int float tenth"),
        ])
        .await;
}

/// `$in` is equality with any, `$nin` its negation.
pub async fn in_nin(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "one": {"v": 1}, "two": {"v": 2}, "text": {"v": "1"}, "null": {"v": null}, "none": {},
            "list": {"v": [2, 3]}, "object": {"v": {"a": 1}},
        }),
    )
    .await;
    table
        .finds(&[
            (r#"{"v":{"$in":[1,"1"]}}"#, "one text"),
            (r#"{"v":{"$in":[]}}"#, ""),
            (r#"{"v":{"$in":[2]}}"#, "two list"),
            (r#"{"v":{"$in":[null]}}"#, "null"),
            (r#"{"v":{"$in":[[2,3]]}}"#, "list"),
            (r#"{"v":{"$in":[{"a":1.0},7]}}"#, "object"),
            (r#"{"v":{"$nin":[1,2]}}"#, "text null none object"),
            (r#"{"v":{"$nin":[]}}"#, "one two text null none list object"),
            (r#"{"v":{"$nin":[null]}}"#, "one two text none list object"),
            (r#"{"w":{"$nin":[1]}}"#, "one two text null none list object"),
        ])
        .await;
}

/// A path exists if it leads anywhere, be it to `null` or to an empty list.
pub async fn exists(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "number": {"a": 1}, "null": {"a": null}, "none": {}, "nested": {"a": {"b": 1}}, "empty": {"a": []},
            "deep": {"a": [{"b": 1}, {"c": null}]}, "scalar": 5,
        }),
    )
    .await;
    table
        .finds(&[
            (r#"{"a":{"$exists":true}}"#, "number null nested empty deep"),
            (r#"{"a":{"$exists":false}}"#, "none scalar"),
            (r#"{"a.b":{"$exists":true}}"#, "nested deep"),
            (r#"{"a.b":{"$exists":false}}"#, "number null none empty scalar"),
            (r#"{"a.c":{"$exists":true}}"#, "deep"),
            (r#"{"a.0":{"$exists":true}}"#, "deep"),
            (r#"{"a.2":{"$exists":true}}"#, ""),
        ])
        .await;
}

/// A prefix is literal and case-sensitive, and looks at strings only.
pub async fn prefix(cx: Cx) {
    let table = Table::new(&cx, texts()).await;
    table
        .finds(&[
            (r#"{"v":{"$prefix":"ab"}}"#, "abc list"),
            (r#"{"v":{"$prefix":"A"}}"#, "upper"),
            (r#"{"v":{"$prefix":"a%"}}"#, "percent"),
            (r#"{"v":{"$prefix":"a_"}}"#, "underscore"),
            (r#"{"v":{"$prefix":"a*"}}"#, "star"),
            (r#"{"v":{"$prefix":"a."}}"#, "dot"),
            (r#"{"v":{"$prefix":"a\\"}}"#, "backslash"),
            (r#"{"v":{"$prefix":"^a"}}"#, ""),
            (r#"{"v":{"$prefix":"abcd"}}"#, ""),
            (r#"{"v":{"$prefix":"naï"}}"#, "umlaut"),
            (r#"{"v":{"$prefix":"5"}}"#, ""),
            (r#"{"v":{"$prefix":""}}"#, "abc upper percent underscore star dot backslash blank umlaut list"),
        ])
        .await;
}

/// So is a text within.
pub async fn contains(cx: Cx) {
    let table = Table::new(&cx, texts()).await;
    table
        .finds(&[
            (r#"{"v":{"$contains":"b"}}"#, "abc list"),
            (r#"{"v":{"$contains":"c"}}"#, "abc percent underscore dot backslash"),
            (r#"{"v":{"$contains":"BC"}}"#, "upper"),
            (r#"{"v":{"$contains":"%"}}"#, "percent"),
            (r#"{"v":{"$contains":"_"}}"#, "underscore"),
            (r#"{"v":{"$contains":"*"}}"#, "star"),
            (r#"{"v":{"$contains":"."}}"#, "dot"),
            (r#"{"v":{"$contains":"\\"}}"#, "backslash"),
            (r#"{"v":{"$contains":"ïv"}}"#, "umlaut"),
            (r#"{"v":{"$contains":"Ï"}}"#, ""),
            (r#"{"v":{"$contains":"5"}}"#, ""),
            (
                r#"{"v":{"$contains":""}}"#,
                "abc upper percent underscore star dot backslash blank umlaut list",
            ),
        ])
        .await;
}

fn texts() -> serde_json::Value {
    json!({
        "abc": {"v": "abc"}, "upper": {"v": "ABC"}, "percent": {"v": "a%c"}, "underscore": {"v": "a_c"},
        "star": {"v": "a*"}, "dot": {"v": "a.c"}, "backslash": {"v": "a\\c"}, "blank": {"v": ""},
        "umlaut": {"v": "naïve"}, "number": {"v": 5}, "list": {"v": ["z", "abx"]}, "none": {},
        "object": {"v": {"abc": 1}},
    })
}

/// Filters nest, and empty ones mean what logic says.
pub async fn and_or_not_nested(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "a": {"n": 1, "s": "x"}, "b": {"n": 2, "s": "x"}, "c": {"n": 2, "s": "y"}, "d": {"s": "y"},
        }),
    )
    .await;
    table
        .finds(&[
            ("{}", "a b c d"),
            (r#"{"n":2,"s":"x"}"#, "b"),
            (r#"{"$and":[{"n":2},{"s":"y"}]}"#, "c"),
            (r#"{"$or":[{"n":1},{"s":"y"}]}"#, "a c d"),
            (r#"{"$not":{"n":2}}"#, "a d"),
            (r#"{"$nor":[{"n":1},{"s":"y"}]}"#, "b"),
            (r#"{"$and":[]}"#, "a b c d"),
            (r#"{"$or":[]}"#, ""),
            (r#"{"$not":{"$or":[]}}"#, "a b c d"),
            (r#"{"$not":{"$and":[]}}"#, ""),
            (r#"{"$or":[{"$and":[{"n":2},{"$not":{"s":"x"}}]},{"n":{"$lt":2}}]}"#, "a c"),
            (r#"{"$and":[{"$or":[{"n":1},{"n":2}]},{"$or":[{"s":"y"},{"n":1}]}]}"#, "a c"),
            (r#"{"n":{"$not":{"$gt":1}}}"#, "a d"),
            (r#"{"$not":{"$not":{"n":2}}}"#, "b c"),
            (r#"{"$not":{"$and":[{"n":2},{"s":"y"}]}}"#, "a b d"),
            (r#"{"n":{"$gte":1,"$lte":1}}"#, "a"),
        ])
        .await;
}

/// Paths go through objects, whatever their fields are called.
pub async fn nested_paths(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "a": {"o": {"k": {"m": 1}}}, "b": {"o": {"k": 2}}, "c": {"o": 1}, "d": {"o": null},
            "dotted": {"o.k": 2}, "digit": {"o": {"0": "x"}},
            "odd": {"a b": {"ü-1": 7, "'": 8, "\"": 9, "$": 10, "\\": 11, "": 12, "%": 13}},
        }),
    )
    .await;
    table
        .finds(&[
            (r#"{"o.k.m":1}"#, "a"),
            (r#"{"o.k":2}"#, "b"),
            (r#"{"o.k":{"$exists":true}}"#, "a b"),
            (r#"{"o.k":{"m":1}}"#, "a"),
            (r#"{"o.0":"x"}"#, "digit"),
            (r#"{"o.k.m":{"$ne":1}}"#, "b c d dotted digit odd"),
            (r#"{"a b.ü-1":7}"#, "odd"),
            (r#"{"a b.'":8}"#, "odd"),
            (r#"{"a b.\"":9}"#, "odd"),
            (r#"{"a b.$":10}"#, "odd"),
            (r#"{"a b.\\":11}"#, "odd"),
            (r#"{"a b.%":13}"#, "odd"),
            (r#"{"a b.x' or '1'='1":{"$exists":true}}"#, ""),
        ])
        .await;
}

/// Paths go into the objects of a list, and to positions; a list at the end is itself and its elements.
pub async fn array_elements(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "a": {"l": [1, "x", [2]]}, "b": {"l": [{"k": 1}, {"k": "y"}]}, "c": {"l": [[{"k": 1}]]},
            "d": {"l": "x"}, "e": {"l": []}, "f": {"l": [{"k": [5, 6]}]}, "root": [{"n": 1}, {"n": 2}],
        }),
    )
    .await;
    table
        .finds(&[
            (r#"{"l":"x"}"#, "a d"),
            (r#"{"l":[2]}"#, "a"),
            (r#"{"l":2}"#, ""),
            (r#"{"l.2":2}"#, "a"),
            (r#"{"l.2.0":2}"#, "a"),
            (r#"{"l.k":1}"#, "b"),
            (r#"{"l":{"k":1}}"#, "b"),
            (r#"{"l.0.k":1}"#, "b c"),
            (r#"{"l.0.0.k":1}"#, "c"),
            (r#"{"l.1.k":"y"}"#, "b"),
            (r#"{"l.1.k":1}"#, ""),
            (r#"{"l.k":6}"#, "f"),
            (r#"{"l.k":[5,6]}"#, "f"),
            (r#"{"l.k.1":6}"#, "f"),
            (r#"{"l.k":{"$gt":"a"}}"#, "b"),
            (r#"{"l.k":{"$gt":1}}"#, "f"),
            (r#"{"l":{"$ne":1}}"#, "b c d e f root"),
            (r#"{"l.k":{"$ne":1}}"#, "a c d e f root"),
            (r#"{"l":{"$exists":true}}"#, "a b c d e f"),
            (r#"{"l.0":{"$exists":false}}"#, "d e root"),
            (r#"{"n":2}"#, "root"),
            (r#"{"0.n":1}"#, "root"),
            (r#"{"1.n":1}"#, ""),
        ])
        .await;
}

/// `01` is a name and no position, though `1` is both.
pub async fn leading_zeros_make_no_position(cx: Cx) {
    let list = json!([{"k": "x"}, {"k": "y"}]);
    let table = Table::new(&cx, json!({"list": {"l": list}, "object": {"l": {"01": {"k": "y"}}}})).await;
    table
        .finds(&[
            (r#"{"l.1.k":"y"}"#, "list"),
            (r#"{"l.01.k":"y"}"#, "object"),
            (r#"{"l.01":{"$exists":true}}"#, "object"),
            (r#"{"l.00":{"$exists":false}}"#, "list object"),
        ])
        .await;
}

/// `null` is a value; a path that leads nowhere is none.
pub async fn null_vs_missing(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({"null": {"v": null}, "none": {}, "zero": {"v": 0}, "list": {"v": [null]}, "root": null}),
    )
    .await;
    table
        .finds(&[
            (r#"{"v":null}"#, "null list"),
            (r#"{"v":{"$exists":true}}"#, "null zero list"),
            (r#"{"v":{"$exists":false}}"#, "none root"),
            (r#"{"v":{"$ne":null}}"#, "none zero root"),
            (r#"{"v":{"$in":[null,0]}}"#, "null zero list"),
            (r#"{"v":{"$nin":[null]}}"#, "none zero root"),
            (r#"{"v":{"$gte":0}}"#, "zero"),
            (r#"{"v":{"$not":{"$gte":0}}}"#, "null none list root"),
            (r#"{"v.x":null}"#, ""),
        ])
        .await;
}

/// Whatever the records hold, a filter of one type passes over values of another; records of other kinds
/// than JSON never match.
pub async fn mixed_types_do_not_error(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "number": {"v": 5}, "text": {"v": "5"}, "bool": {"v": true}, "null": {"v": null},
            "list": {"v": [5, "5", true]}, "object": {"v": {"5": 5}}, "none": {}, "scalar": "5",
        }),
    )
    .await;
    let at = |key: &str| address(&table.collection, key);
    if cx.has(Feature::Bytes) {
        write_ok(&*table.backend, Mutation::put(at("bytes"), Value::bytes(&br#"{"v":5}"#[..]))).await;
    }
    if cx.has(Feature::Counters) {
        write_ok(&*table.backend, Mutation::increment(at("counters"), "v", 5)).await;
    }
    if cx.has(Feature::Lists) {
        write_ok(&*table.backend, Mutation::append(at("items"), vec![Json::from(json!({"v": 5}))])).await;
    }
    table
        .finds(&[
            ("{}", "number text bool null list object none scalar"),
            (r#"{"v":5}"#, "number list"),
            (r#"{"v":{"$gt":4}}"#, "number list"),
            (r#"{"v":{"$lt":"6"}}"#, "text list"),
            (r#"{"v":{"$gt":false}}"#, "bool list"),
            (r#"{"v":{"$prefix":"5"}}"#, "text list"),
            (r#"{"v":{"$contains":"5"}}"#, "text list"),
            (r#"{"v.5":5}"#, "object"),
            (r#"{"v":{"$ne":5}}"#, "text bool null object none scalar"),
            (r#"{"v.0.x":{"$exists":true}}"#, ""),
        ])
        .await;
    if cx.has(Feature::Sort) {
        table.orders(&[("v", "none scalar null bool number text list object")]).await;
    }
}

/// Texts that look like another language are texts.
pub async fn injection_text_is_literal(cx: Cx) {
    let texts = [
        "' OR '1'='1",
        "\"; DROP TABLE records; --",
        "$where",
        "{\"$gt\":\"\"}",
        "*",
        "%",
        "${v}",
        "%s%n",
        "\\",
        "\\'",
        "@v:{x}",
        ")(|(v=*",
        "$.v",
        "1 || 1",
        "nul\u{0}nul",
        "\u{1}",
        "?",
        "$1",
        ":v",
        "--",
        "/* */",
        "`v`",
        "[x]",
        "a\r\nb",
    ];
    let documents =
        texts.iter().enumerate().map(|(i, text)| (format!("t{i:02}"), json!({"v": text, "x": {*text: i}})));
    let table = Table::new(&cx, documents.collect::<serde_json::Map<_, _>>().into()).await;
    for (i, text) in texts.iter().enumerate() {
        let only = format!("t{i:02}");
        table.finds(&[(&json!({"v": text}).to_string(), &only)]).await;
        table.finds(&[(&json!({"v": {"$in": [text]}}).to_string(), &only)]).await;
        let within = |test: &dyn Fn(&str) -> bool| {
            let found = texts.iter().enumerate().filter(|(_, other)| test(other));
            found.map(|(i, _)| format!("t{i:02}")).collect::<Vec<_>>().join(" ")
        };
        let beginning = within(&|other| other.starts_with(text));
        table.finds(&[(&json!({"v": {"$prefix": text}}).to_string(), &beginning)]).await;
        let containing = within(&|other| other.contains(text));
        table.finds(&[(&json!({"v": {"$contains": text}}).to_string(), &containing)]).await;
        if storage_core::Path::new(format!("x.{text}")).is_ok() && !text.contains('.') {
            table.finds(&[(&json!({format!("x.{text}"): i}).to_string(), &only)]).await;
        }
    }
}

/// Strings compare by code point: neither by locale nor by UTF-16 unit, and without normalising.
pub async fn unicode_compare_by_code_point(cx: Cx) {
    let table = Table::new(
        &cx,
        json!({
            "upper": {"v": "Z"}, "lower": {"v": "a"}, "nfd": {"v": "e\u{301}"}, "last": {"v": "z"},
            "nfc": {"v": "é"}, "private": {"v": "\u{e000}"}, "end": {"v": "\u{ffff}"}, "emoji": {"v": "😀"},
            "sharp": {"v": "ß"},
        }),
    )
    .await;
    table
        .finds(&[
            (r#"{"v":"é"}"#, "nfc"),
            (r#"{"v":"e\u0301"}"#, "nfd"),
            (r#"{"v":"SS"}"#, ""),
            (r#"{"v":"z"}"#, "last"),
            (r#"{"v":{"$gt":"z"}}"#, "sharp nfc private end emoji"),
            (r#"{"v":{"$lt":"a"}}"#, "upper"),
            (r#"{"v":{"$gt":"\ue000"}}"#, "end emoji"),
            (r#"{"v":{"$gt":"\uffff"}}"#, "emoji"),
            (r#"{"v":{"$lt":"\ud83d\ude00"}}"#, "upper lower nfd last sharp nfc private end"),
            (r#"{"v":{"$prefix":"e"}}"#, "nfd"),
            (r#"{"v":{"$contains":"\u0301"}}"#, "nfd"),
        ])
        .await;
    if cx.has(Feature::Sort) {
        table.orders(&[("v", "upper lower nfd last sharp nfc private end emoji")]).await;
        table.orders(&[("v:desc", "emoji end private nfc sharp last nfd lower upper")]).await;
    }
}
