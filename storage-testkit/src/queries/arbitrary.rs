//! Random documents, filters and orders that tempt a translation into SQL: few names and values, so that they meet.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value as Tree;
use storage_core::{Direction, Filter, Json, Path, Sort, Test};

/// Names of fields; those without a dot are also segments of paths.
const NAMES: [&str; 30] = [
    "a",
    "a",
    "a",
    "a",
    "b",
    "b",
    "b",
    "0",
    "0",
    "1",
    "1",
    "2",
    "01",
    "-1",
    "+1",
    " 1",
    "1e0",
    "99999999999",
    "2147483648",
    "18446744073709551616",
    "a b",
    "'",
    "\"",
    "$",
    "\\",
    "é",
    "e\u{301}",
    "\u{1}\u{2}",
    "*",
    "a.b",
];

/// Numbers as they are spelt: the same in several ways, next to each other, and at the ends of their types.
const NUMBERS: [&str; 42] = [
    "0",
    "-0",
    "-0.0",
    "0e5",
    "1",
    "1.0",
    "1e0",
    "10e-1",
    "-1",
    "2",
    "0.1",
    "0.10",
    "0.30000000000000004",
    "0.3",
    "0.1000000000000000055511151231257827",
    "9007199254740992",
    "9007199254740992.0",
    "9007199254740993",
    "9007199254740993.0",
    "9007199254740994.0",
    "1152921504606846976",
    "1152921504606847000",
    "1.152921504606847e18",
    "9223372036854775807",
    "9223372036854775808",
    "9223372036854775808.0",
    "-9223372036854775808",
    "-9223372036854775809",
    "-9223372036854777856.0",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551615.0",
    "123456789012345678901234567890",
    "123456789012345678901234567891",
    "1e308",
    "-1e308",
    "1.7976931348623157e308",
    "5e-324",
    "4e-324",
    "1e-400",
    "2.2250738585072014e-308",
    "1.5",
];

const TEXTS: [&str; 36] = [
    "",
    "a",
    "ab",
    "abc",
    "A",
    "b",
    "é",
    "e\u{301}",
    "%",
    "a%",
    "a_b",
    "_",
    "'",
    "\"",
    "\\",
    "\\u0000",
    "$a",
    "\u{0}",
    "a\u{0}",
    "a\u{0}b",
    "\u{1}",
    "\u{1}\u{2}\u{2}",
    "\u{2}",
    "\u{3}",
    "\u{4}",
    "\n",
    "\u{d7ff}",
    "\u{e000}",
    "\u{ffff}",
    "\u{10000}",
    "\u{1f600}",
    "\u{10ffff}",
    "a\u{10ffff}",
    "10",
    "true",
    "null",
];

/// Texts around the length that an index has of them.
fn long_text() -> impl Strategy<Value = String> {
    let tail = select(vec!["", "x", "y", "xx", "xy", "é", "\u{0}"]);
    (
        select(vec!["x", "é", "\u{1f600}", "\u{0}"]),
        select(vec![84_usize, 85, 86, 254, 255, 256, 257, 300]),
        tail,
    )
        .prop_map(|(unit, count, tail)| format!("{}{tail}", unit.repeat(count)))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![10 => select(&TEXTS[..]).prop_map(str::to_owned), 2 => long_text()]
}

fn quoted(text: &str) -> String {
    Tree::from(text).to_string()
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(&NUMBERS[..]).prop_map(str::to_owned),
        2 => (-2_i64..4).prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_filter("no number in JSON", |number| number.is_finite()).prop_map(|number| format!("{number:e}")),
        1 => any::<i64>().prop_map(|number| number.to_string()),
    ]
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("null".to_owned()),
        1 => any::<bool>().prop_map(|value| value.to_string()),
        4 => number(),
        4 => text().prop_map(|text| quoted(&text)),
    ]
}

/// A JSON value as text, numbers spelt in any way.
fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        let field = (select(&NAMES[..]), inner.clone());
        prop_oneof![
            3 => vec(field, 0..4).prop_map(|fields| {
                let fields = fields.iter().map(|(name, value)| format!("{}: {value}", quoted(name)));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
            }),
            2 => vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
        ]
    })
}

/// A JSON document, mostly an object.
pub(crate) fn document() -> impl Strategy<Value = Json> {
    let object = (value(), value(), value())
        .prop_map(|(a, b, other)| format!(r#"{{"a": {a}, "b": {b}, "0": {other}, "u": [{a}, {other}]}}"#));
    prop_oneof![2 => value(), 3 => object].prop_map(|text| Json::parse(text).expect("valid JSON"))
}

fn tree() -> impl Strategy<Value = Tree> {
    prop_oneof![2 => scalar().boxed(), 1 => value().boxed()]
        .prop_map(|text| Json::parse(text).and_then(|json| json.tree()).expect("valid JSON"))
}

/// A path of a few of the names.
pub(crate) fn path() -> impl Strategy<Value = Path> {
    vec(select(&NAMES[..]), 1..5).prop_filter_map("no path", |names| Path::new(names.join(".")).ok())
}

fn test() -> impl Strategy<Value = Test> {
    prop_oneof![
        4 => tree().prop_map(Test::Eq),
        2 => tree().prop_map(Test::Ne),
        2 => tree().prop_map(Test::Gt),
        2 => tree().prop_map(Test::Gte),
        2 => tree().prop_map(Test::Lt),
        2 => tree().prop_map(Test::Lte),
        2 => vec(tree(), 0..5).prop_map(Test::In),
        1 => vec(tree(), 0..20).prop_map(Test::In),
        2 => vec(tree(), 0..5).prop_map(Test::Nin),
        1 => any::<bool>().prop_map(Test::Exists),
        2 => text().prop_map(Test::Prefix),
        2 => text().prop_map(Test::Contains),
    ]
}

/// A filter.
pub(crate) fn filter() -> impl Strategy<Value = Filter> {
    let leaf = (path(), test()).prop_map(|(path, test)| Filter::Field(path, test));
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Filter::And),
            vec(inner.clone(), 0..3).prop_map(Filter::Or),
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

/// An order of one to three keys.
pub(crate) fn sort() -> impl Strategy<Value = Vec<Sort>> {
    let direction = select(vec![Direction::Asc, Direction::Desc]);
    vec((path(), direction).prop_map(|(path, direction)| Sort { path, direction }), 1..4)
}
