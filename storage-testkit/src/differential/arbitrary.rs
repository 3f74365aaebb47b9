//! Random documents and filters: few fields and few values, so that they meet.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value as Tree, json};
use storage_core::{Direction, Filter, Path, Sort, Test};

/// Texts that tempt: patterns, quotes, case, normal forms, and what UTF-16 would order otherwise.
const TEXTS: [&str; 18] = [
    "",
    "a",
    "ab",
    "A",
    "b",
    "é",
    "e\u{301}",
    "%",
    "a_b",
    "'",
    "\"",
    "\\",
    "$eq",
    "\u{0}",
    "\n",
    "\u{ffff}",
    "\u{10000}",
    "10",
];

/// Paths into [`documents`](document); the last ones lead nowhere or through arrays.
const PATHS: [&str; 12] = ["n", "s", "s", "l", "o", "o.k", "o.m.k", "l.0", "l.k", "l.1.k", "x", "n.k"];

fn number() -> impl Strategy<Value = Tree> {
    let edges = vec![
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(9_007_199_254_740_992_u64),
        json!(9_007_199_254_740_993_u64),
        json!(9_007_199_254_740_992.0),
        json!(-0.0),
        json!(0.1),
        json!(1.0),
        json!(1.5),
        json!(-2.5),
        json!(1e308),
        json!(5e-324),
    ];
    prop_oneof![3 => (-2_i64..4).prop_map(Tree::from), 2 => select(edges)]
}

pub(super) fn text() -> impl Strategy<Value = String> {
    select(&TEXTS[..]).prop_map(str::to_owned)
}

fn scalar() -> impl Strategy<Value = Tree> {
    prop_oneof![
        1 => Just(Tree::Null),
        1 => any::<bool>().prop_map(Tree::Bool),
        4 => number(),
        4 => text().prop_map(Tree::String),
    ]
}

fn inner() -> impl Strategy<Value = Tree> {
    prop_oneof![
        4 => scalar(),
        1 => scalar().prop_map(|k| json!({"k": k})),
        1 => (scalar(), scalar()).prop_map(|(k, m)| json!({"k": k, "m": {"k": m}})),
        1 => vec(scalar(), 0..3).prop_map(Tree::Array),
    ]
}

/// A JSON value, mostly an object of the fields `n`, `s`, `l`, `o` and `u` (a scalar to be unique).
pub(crate) fn document() -> impl Strategy<Value = Tree> {
    let unique = prop_oneof![(0_i64..4).prop_map(Tree::from), text().prop_map(Tree::String)];
    let field = |value: BoxedStrategy<Tree>| proptest::option::of(value);
    let fields = (
        field(number().boxed()),
        field(inner().boxed()),
        field(vec(inner(), 0..4).prop_map(Tree::Array).boxed()),
        field(inner().boxed()),
        proptest::option::weighted(0.3, unique),
    );
    let object = fields.prop_map(|(n, s, l, o, u)| {
        let fields = [("n", n), ("s", s), ("l", l), ("o", o), ("u", u)];
        let there = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Tree::Object(Map::from_iter(there))
    });
    prop_oneof![8 => object, 1 => inner()]
}

/// A path that documents have, or nearly have.
pub(crate) fn path() -> impl Strategy<Value = Path> {
    select(&PATHS[..]).prop_filter_map("a path that is not valid", |path| Path::new(path).ok())
}

fn test() -> impl Strategy<Value = Test> {
    let ordered = || {
        prop_oneof![
            2 => number(),
            2 => text().prop_map(Tree::String),
            1 => any::<bool>().prop_map(Tree::Bool),
        ]
    };
    prop_oneof![
        3 => inner().prop_map(Test::Eq),
        2 => inner().prop_map(Test::Ne),
        1 => ordered().prop_map(Test::Gt),
        1 => ordered().prop_map(Test::Gte),
        1 => ordered().prop_map(Test::Lt),
        1 => ordered().prop_map(Test::Lte),
        1 => vec(inner(), 0..4).prop_map(Test::In),
        1 => vec(inner(), 0..4).prop_map(Test::Nin),
        1 => any::<bool>().prop_map(Test::Exists),
        1 => text().prop_map(Test::Prefix),
        1 => text().prop_map(Test::Contains),
    ]
}

/// A filter over [`document`]s.
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

/// An order with one or two keys.
pub(crate) fn sort() -> impl Strategy<Value = Vec<Sort>> {
    let direction = select(&[Direction::Asc, Direction::Desc][..]);
    vec((path(), direction).prop_map(|(path, direction)| Sort { path, direction }), 1..3)
}
