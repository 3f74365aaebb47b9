//! What a query matches, and the reference for what that means.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Tree, json};

use super::Path;
use crate::json::{compare_numbers, json_eq};

/// A condition on JSON records, written in MongoDB's operator form.
///
/// ```
/// use storage_core::Filter;
/// use serde_json::json;
///
/// let filter: Filter = r#"{"age": {"$gte": 18}, "$or": [{"city": "Berlin"}, {"tags": "vip"}]}"#.parse()?;
/// assert!(filter.matches(&json!({"age": 20, "tags": ["new", "vip"]})));
/// assert!(!filter.matches(&json!({"age": 20, "city": "Rome"})));
/// # Ok::<(), storage_core::Error>(())
/// ```
///
/// # Meaning
/// A path may lead to several candidates (see [`Path`]). `$eq $gt $gte $lt $lte $in $prefix $contains` match
/// if any candidate does; `$ne` and `$nin` are the negations of `$eq` and `$in`, so they match records in
/// which the path leads nowhere. `$eq` compares by JSON value; `null` equals only a `null` that is there,
/// not a missing one. `$gt $gte $lt $lte` compare numbers with numbers by exact value, strings with strings
/// by code point, and booleans with booleans (`false` first); a candidate of another type does not match.
/// `$prefix` and `$contains` look at strings, literally and case-sensitively. `$exists` asks whether the
/// path leads anywhere. No data makes a filter fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Tree", into = "Tree")]
pub enum Filter {
    /// All of these; an empty list matches every JSON record.
    And(Vec<Filter>),
    /// Any of these; an empty list matches nothing.
    Or(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
    /// A test of the values at a path.
    Field(Path, Test),
}

/// A test of the values at a path.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `$eq`.
    Eq(Tree),
    /// `$ne`: not `$eq`.
    Ne(Tree),
    /// `$gt`.
    Gt(Tree),
    /// `$gte`.
    Gte(Tree),
    /// `$lt`.
    Lt(Tree),
    /// `$lte`.
    Lte(Tree),
    /// `$in`: equal to any of these.
    In(Vec<Tree>),
    /// `$nin`: not `$in`.
    Nin(Vec<Tree>),
    /// `$exists`.
    Exists(bool),
    /// `$prefix`: a string that begins with this.
    Prefix(String),
    /// `$contains`: a string that contains this.
    Contains(String),
}

impl Filter {
    /// Matches every JSON record.
    pub fn all() -> Self {
        Self::And(Vec::new())
    }

    /// Whether this matches every JSON record without looking at it.
    pub fn is_all(&self) -> bool {
        matches!(self, Self::And(parts) if parts.is_empty())
    }

    /// `path` equals `value`.
    pub fn eq(path: Path, value: impl Into<Tree>) -> Self {
        Self::Field(path, Test::Eq(value.into()))
    }

    /// Whether `tree` matches: the reference that every backend's translation must agree with.
    pub fn matches(&self, tree: &Tree) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(tree)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(tree)),
            Self::Not(part) => !part.matches(tree),
            Self::Field(path, test) => test.matches(&path.candidates(tree)),
        }
    }

    /// The filter in operator form; parsing it gives an equal filter.
    pub fn to_json(&self) -> Tree {
        match self {
            Self::And(parts) if parts.is_empty() => json!({}),
            Self::And(parts) => json!({"$and": parts.iter().map(Self::to_json).collect::<Vec<_>>()}),
            Self::Or(parts) => json!({"$or": parts.iter().map(Self::to_json).collect::<Vec<_>>()}),
            Self::Not(part) => json!({"$not": part.to_json()}),
            Self::Field(path, test) => {
                let test = Map::from_iter([(test.operator().to_owned(), test.operand())]);
                json!({ path.as_str(): test })
            }
        }
    }
}

impl From<Filter> for Tree {
    fn from(filter: Filter) -> Tree {
        filter.to_json()
    }
}

impl Test {
    /// The operator, such as `$gte`.
    pub fn operator(&self) -> &'static str {
        match self {
            Self::Eq(_) => "$eq",
            Self::Ne(_) => "$ne",
            Self::Gt(_) => "$gt",
            Self::Gte(_) => "$gte",
            Self::Lt(_) => "$lt",
            Self::Lte(_) => "$lte",
            Self::In(_) => "$in",
            Self::Nin(_) => "$nin",
            Self::Exists(_) => "$exists",
            Self::Prefix(_) => "$prefix",
            Self::Contains(_) => "$contains",
        }
    }

    fn operand(&self) -> Tree {
        match self {
            Self::Eq(v) | Self::Ne(v) | Self::Gt(v) | Self::Gte(v) | Self::Lt(v) | Self::Lte(v) => v.clone(),
            Self::In(values) | Self::Nin(values) => Tree::Array(values.clone()),
            Self::Exists(yes) => Tree::Bool(*yes),
            Self::Prefix(text) | Self::Contains(text) => Tree::String(text.clone()),
        }
    }

    /// Whether the values at a path pass.
    pub fn matches(&self, candidates: &[&Tree]) -> bool {
        let any = |test: &dyn Fn(&Tree) -> bool| candidates.iter().any(|tree| test(tree));
        let ordered =
            |to: &Tree, test: fn(Ordering) -> bool| any(&|tree| compare(tree, to).is_some_and(test));
        match self {
            Self::Eq(value) => any(&|tree| json_eq(tree, value)),
            Self::Ne(value) => !any(&|tree| json_eq(tree, value)),
            Self::Gt(value) => ordered(value, Ordering::is_gt),
            Self::Gte(value) => ordered(value, Ordering::is_ge),
            Self::Lt(value) => ordered(value, Ordering::is_lt),
            Self::Lte(value) => ordered(value, Ordering::is_le),
            Self::In(values) => any(&|tree| values.iter().any(|value| json_eq(tree, value))),
            Self::Nin(values) => !any(&|tree| values.iter().any(|value| json_eq(tree, value))),
            Self::Exists(yes) => candidates.is_empty() != *yes,
            Self::Prefix(text) => any(&|tree| tree.as_str().is_some_and(|s| s.starts_with(text.as_str()))),
            Self::Contains(text) => any(&|tree| tree.as_str().is_some_and(|s| s.contains(text.as_str()))),
        }
    }
}

/// The order of two values of one type that has one; `None` across types.
fn compare(a: &Tree, b: &Tree) -> Option<Ordering> {
    match (a, b) {
        (Tree::Number(a), Tree::Number(b)) => Some(compare_numbers(a, b)),
        // UTF-8 bytes order as code points do.
        (Tree::String(a), Tree::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Tree::Bool(a), Tree::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}
