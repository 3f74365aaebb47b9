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

/// What long texts consist of.
const LETTERS: [&str; 4] = ["x", "é", "\u{1f600}", "\u{0}"];

/// What random values are made of.
pub(super) struct Arbitrary {
    names: Vec<&'static str>,
    numbers: Vec<&'static str>,
    letters: Vec<&'static str>,
}

impl Arbitrary {
    /// All names, numbers and letters but these.
    pub(super) fn without(these: &[&str]) -> Self {
        let rest = |all: &[&'static str]| all.iter().copied().filter(|word| !these.contains(word)).collect();
        Self { names: rest(&NAMES), numbers: rest(&NUMBERS), letters: rest(&LETTERS) }
    }

    /// Texts, also around the length that an index may have of them.
    fn text(&self) -> BoxedStrategy<String> {
        let lengths = vec![84_usize, 85, 86, 254, 255, 256, 257, 300];
        let tail = select(vec!["", "x", "y", "xx", "xy", "é", "\u{0}"]);
        let long = (select(self.letters.clone()), select(lengths), tail);
        let long = long.prop_map(|(letter, length, tail)| format!("{}{tail}", letter.repeat(length)));
        prop_oneof![10 => select(&TEXTS[..]).prop_map(str::to_owned), 2 => long].boxed()
    }

    fn number(&self) -> BoxedStrategy<String> {
        let double = any::<f64>().prop_filter("no number in JSON", |number| number.is_finite());
        prop_oneof![
            4 => select(self.numbers.clone()).prop_map(str::to_owned),
            2 => (-2_i64..4).prop_map(|number| number.to_string()),
            1 => double.prop_map(|number| format!("{number:e}")),
            1 => any::<i64>().prop_map(|number| number.to_string()),
        ]
        .boxed()
    }

    fn scalar(&self) -> BoxedStrategy<String> {
        prop_oneof![
            1 => Just("null".to_owned()),
            1 => any::<bool>().prop_map(|value| value.to_string()),
            4 => self.number(),
            4 => self.text().prop_map(|text| quoted(&text)),
        ]
        .boxed()
    }

    /// A JSON value as text, numbers spelt in any way.
    fn value(&self) -> BoxedStrategy<String> {
        let names = self.names.clone();
        let nested = self.scalar().prop_recursive(4, 24, 4, move |inner| {
            let field = (select(names.clone()), inner.clone());
            prop_oneof![
                3 => vec(field, 0..4).prop_map(|fields| {
                    let fields = fields.iter().map(|(name, value)| format!("{}: {value}", quoted(name)));
                    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
                }),
                2 => vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            ]
        });
        nested.boxed()
    }

    /// A JSON document, mostly an object.
    pub(super) fn document(&self) -> BoxedStrategy<Json> {
        let object = (self.value(), self.value(), self.value()).prop_map(|(a, b, other)| {
            format!(r#"{{"a": {a}, "b": {b}, "0": {other}, "u": [{a}, {other}]}}"#)
        });
        let text = prop_oneof![2 => self.value(), 3 => object];
        text.prop_map(|text| Json::parse(text).expect("valid JSON")).boxed()
    }

    fn tree(&self) -> BoxedStrategy<Tree> {
        let text = prop_oneof![2 => self.scalar(), 1 => self.value()];
        text.prop_map(|text| Json::parse(text).and_then(|json| json.tree()).expect("valid JSON")).boxed()
    }

    /// A path of a few of the names.
    pub(super) fn path(&self) -> BoxedStrategy<Path> {
        let names = vec(select(self.names.clone()), 1..5);
        names.prop_filter_map("no path", |names| Path::new(names.join(".")).ok()).boxed()
    }

    fn test(&self) -> BoxedStrategy<Test> {
        prop_oneof![
            4 => self.tree().prop_map(Test::Eq),
            2 => self.tree().prop_map(Test::Ne),
            2 => self.tree().prop_map(Test::Gt),
            2 => self.tree().prop_map(Test::Gte),
            2 => self.tree().prop_map(Test::Lt),
            2 => self.tree().prop_map(Test::Lte),
            2 => vec(self.tree(), 0..5).prop_map(Test::In),
            1 => vec(self.tree(), 0..20).prop_map(Test::In),
            2 => vec(self.tree(), 0..5).prop_map(Test::Nin),
            1 => any::<bool>().prop_map(Test::Exists),
            2 => self.text().prop_map(Test::Prefix),
            2 => self.text().prop_map(Test::Contains),
        ]
        .boxed()
    }

    /// A filter.
    pub(super) fn filter(&self) -> BoxedStrategy<Filter> {
        let leaf = (self.path(), self.test()).prop_map(|(path, test)| Filter::Field(path, test));
        let nested = leaf.prop_recursive(3, 8, 3, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..3).prop_map(Filter::And),
                vec(inner.clone(), 0..3).prop_map(Filter::Or),
                inner.prop_map(|filter| Filter::Not(Box::new(filter))),
            ]
        });
        nested.boxed()
    }

    /// An order of one to three keys.
    pub(super) fn sort(&self) -> BoxedStrategy<Vec<Sort>> {
        let direction = select(vec![Direction::Asc, Direction::Desc]);
        vec((self.path(), direction).prop_map(|(path, direction)| Sort { path, direction }), 1..4).boxed()
    }
}

fn quoted(text: &str) -> String {
    Tree::from(text).to_string()
}
