//! The order of query results.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value as Tree};

use super::Path;
use crate::json::compare_numbers;
use crate::{Error, Result};

/// Ascending or descending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Smallest first.
    Asc,
    /// Largest first.
    Desc,
}

/// One key of the order of query results: `path`, `path:asc` or `path:desc`.
///
/// Values order as: missing, `null`, `false`, `true`, numbers by exact value, strings by code point, then
/// arrays and objects, which tie among themselves. The path goes through objects and array positions only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// Where the sort key is.
    pub path: Path,
    /// Which end comes first.
    pub direction: Direction,
}

impl Sort {
    /// The sort key of a record.
    pub fn key(&self, tree: &Tree) -> SortKey {
        match self.path.value(tree) {
            None => SortKey::Missing,
            Some(Tree::Null) => SortKey::Null,
            Some(Tree::Bool(value)) => SortKey::Bool(*value),
            Some(Tree::Number(value)) => SortKey::Number(value.clone()),
            Some(Tree::String(value)) => SortKey::Text(value.clone()),
            Some(Tree::Array(_) | Tree::Object(_)) => SortKey::Compound,
        }
    }

    /// The order of two sort keys under this direction.
    pub fn compare(&self, a: &SortKey, b: &SortKey) -> Ordering {
        match self.direction {
            Direction::Asc => a.cmp(b),
            Direction::Desc => b.cmp(a),
        }
    }
}

impl FromStr for Sort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (path, direction) = match text.rsplit_once(':') {
            None => (text, Direction::Asc),
            Some((path, "asc")) => (path, Direction::Asc),
            Some((path, "desc")) => (path, Direction::Desc),
            Some((_, other)) => {
                return Err(Error::invalid(format!("sort {text:?}: {other:?} is neither asc nor desc")));
            }
        };
        Ok(Self { path: Path::new(path)?, direction })
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.direction == Direction::Asc { "asc" } else { "desc" };
        write!(f, "{}:{direction}", self.path)
    }
}

/// What a record sorts by under one [`Sort`]; ordered as that type's documentation says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum SortKey {
    /// The path leads nowhere.
    Missing,
    /// `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(String),
    /// An array or object.
    Compound,
}

impl SortKey {
    fn rank(&self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::Null => 1,
            Self::Bool(_) => 2,
            Self::Number(_) => 3,
            Self::Text(_) => 4,
            Self::Compound => 5,
        }
    }
}

impl Ord for SortKey {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => compare_numbers(a, b),
            (Self::Text(a), Self::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for SortKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SortKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for SortKey {}
