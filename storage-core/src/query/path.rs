//! Dotted paths into JSON values.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value as Tree;
use smol_str::SmolStr;

use crate::{Error, Result};

/// A dotted path into a JSON value, such as `address.city` or `items.0.price`.
///
/// On the way through an array, a segment goes into every element that is an object, and a segment of
/// digits also to the element at that position (from 0). Array directly inside array is entered only by
/// position. A path has 1 to 32 segments, none of them empty; object keys that contain a dot cannot be
/// named.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct Path(SmolStr);

impl Path {
    /// Validates `path`.
    pub fn new(path: impl AsRef<str>) -> Result<Self> {
        let path = path.as_ref();
        let segments = path.split('.').count();
        if path.is_empty() || path.split('.').any(str::is_empty) || segments > 32 || path.contains('\0') {
            return Err(Error::invalid(format!(
                "path {} is not valid: 1 to 32 names, separated by single dots",
                crate::name::shown(path)
            )));
        }
        Ok(Self(SmolStr::new(path)))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names between the dots.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Everything the path leads to. An array at the end counts as itself and as each of its elements.
    pub fn candidates<'a>(&self, tree: &'a Tree) -> Vec<&'a Tree> {
        let mut found = Vec::new();
        let segments: Vec<&str> = self.segments().collect();
        walk(tree, &segments, &mut found);
        found
    }

    /// The one value the path leads to through objects and array positions alone: what sorting looks at.
    pub fn value<'a>(&self, tree: &'a Tree) -> Option<&'a Tree> {
        self.segments().try_fold(tree, |tree, segment| match tree {
            Tree::Object(fields) => fields.get(segment),
            Tree::Array(items) => position(segment).and_then(|i| items.get(i)),
            _ => None,
        })
    }
}

fn walk<'a>(tree: &'a Tree, segments: &[&str], found: &mut Vec<&'a Tree>) {
    let Some((segment, rest)) = segments.split_first() else {
        found.push(tree);
        if let Tree::Array(items) = tree {
            found.extend(items);
        }
        return;
    };
    match tree {
        Tree::Object(fields) => {
            if let Some(field) = fields.get(*segment) {
                walk(field, rest, found);
            }
        }
        Tree::Array(items) => {
            if let Some(item) = position(segment).and_then(|i| items.get(i)) {
                walk(item, rest, found);
            }
            for item in items.iter().filter(|item| item.is_object()) {
                walk(item, segments, found);
            }
        }
        _ => {}
    }
}

/// A segment as an array position: digits without a leading zero or sign.
fn position(segment: &str) -> Option<usize> {
    let plain = segment == "0" || !segment.starts_with(['0', '+']);
    segment.parse().ok().filter(|_| plain)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Path {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl TryFrom<SmolStr> for Path {
    type Error = Error;
    fn try_from(text: SmolStr) -> Result<Self> {
        Self::new(text.as_str())
    }
}

impl From<Path> for SmolStr {
    fn from(path: Path) -> SmolStr {
        path.0
    }
}
