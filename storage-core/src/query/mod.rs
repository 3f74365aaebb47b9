//! Requests that read many records: scans, queries, counts and list ranges.

mod filter;
mod parse;
mod path;
mod select;
mod sort;

pub use filter::{Filter, Test};
pub use path::Path;
pub use select::{Counting, Selection};
pub use sort::{Direction, Sort, SortKey};

use serde::{Deserialize, Serialize};

use crate::{Address, CollectionName, Cursor, Json};

/// The number of records a page has if the caller does not say.
pub const DEFAULT_PAGE: u32 = 100;

/// Reads the records of a collection whose keys begin with a prefix, a page at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// The collection.
    pub collection: CollectionName,
    /// Only keys that begin with this text, taken literally; empty: all.
    pub prefix: String,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// The most items of this page, at least 1.
    pub limit: u32,
}

impl Scan {
    /// All records of a collection from the start, [`DEFAULT_PAGE`] at a time.
    pub fn new(collection: CollectionName) -> Self {
        Self { collection, prefix: String::new(), after: None, limit: DEFAULT_PAGE }
    }

    /// The first text after all that begin with the prefix, in the order of keys; `None` if there is none, as for the
    /// empty prefix.
    pub fn end(&self) -> Option<String> {
        let mut head = self.prefix.clone();
        while let Some(last) = head.pop() {
            // The code points of surrogates are no characters.
            let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
            if let Some(next) = next {
                head.push(next);
                return Some(head);
            }
        }
        None
    }

    /// What a cursor of this scan is bound to.
    pub fn identity(&self) -> impl std::hash::Hash + use<'_> {
        ("scan", self.collection.as_str(), self.prefix.as_str())
    }
}

/// Reads the JSON records of a collection that match a filter, a page at a time.
///
/// Records of other kinds never match, whatever the filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// The collection.
    pub collection: CollectionName,
    /// What to match.
    pub filter: Filter,
    /// The order: by the first entry, ties by the next, in the end by key ascending. Empty: the order in
    /// which the backend finds them cheapest.
    pub sort: Vec<Sort>,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// The most items of this page, at least 1.
    pub limit: u32,
}

impl Query {
    /// All JSON records that match `filter`, unsorted, [`DEFAULT_PAGE`] at a time.
    pub fn new(collection: CollectionName, filter: Filter) -> Self {
        Self { collection, filter, sort: Vec::new(), after: None, limit: DEFAULT_PAGE }
    }

    /// What a cursor of this query is bound to.
    pub fn identity(&self) -> impl std::hash::Hash + use<> {
        let sort: Vec<String> = self.sort.iter().map(Sort::to_string).collect();
        ("query", self.collection.as_str().to_owned(), self.filter.to_json().to_string(), sort)
    }
}

/// Counts records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// The collection.
    pub collection: CollectionName,
    /// Only JSON records that match; `None`: all records, of every kind.
    pub filter: Option<Filter>,
}

/// Reads items of a list by position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRange {
    /// The list.
    pub address: Address,
    /// The position of the first item, from 0.
    pub start: u64,
    /// The most items to return, at least 1.
    pub limit: u32,
}

/// Items of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListItems {
    /// The items from the requested start on. There may be fewer than the limit although more follow (a
    /// reply has a size limit), but never none before the end.
    pub items: Vec<Json>,
    /// The number of items in the whole list.
    pub length: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_ends_before_what_follows_its_prefix() {
        for (prefix, end) in [
            ("a", Some("b")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
            ("\u{d7ff}", Some("\u{e000}")),
            ("a\u{7f}", Some("a\u{80}")),
        ] {
            let collection = CollectionName::new("c").unwrap();
            let scan = Scan { prefix: prefix.to_owned(), ..Scan::new(collection) };
            assert_eq!(scan.end().as_deref(), end, "{prefix:?}");
        }
    }
}
