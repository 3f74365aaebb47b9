//! Orders as stages of an aggregation.
//!
//! MongoDB orders types otherwise than the reference does, and an array by its elements. So each sort key is computed: a
//! document of a rank among the types and the value itself, which compares field by field. On the way to the value each step is
//! a field of its own, and not a variable: what is missing is missing there on every server.

use mongodb::bson::{Document, doc};
use storage_core::query::SortKey;
use storage_core::{Direction, Error, ErrorKind, Key, Result, Sort};

use crate::layout::field;
use crate::names::field_name;
use crate::numbers;

/// The server sorts by at most 32 fields, of which one is the key.
const MAX_KEYS: usize = 31;

/// The ranks of types.
mod rank {
    pub(super) const MISSING: i32 = 0;
    pub(super) const NULL: i32 = 1;
    pub(super) const BOOL: i32 = 2;
    pub(super) const NUMBER: i32 = 3;
    pub(super) const TEXT: i32 = 4;
    pub(super) const COMPOUND: i32 = 5;
}

/// The stages that turn the records of an aggregation into those from a position on, in order.
///
/// # Errors
/// [`TooLarge`](ErrorKind::TooLarge) for more than [`MAX_KEYS`] keys.
pub(crate) fn stages(sort: &[Sort], after: Option<&(Vec<SortKey>, Key)>) -> Result<Vec<Document>> {
    if sort.len() > MAX_KEYS {
        let message = format!("{} keys to sort by: the limit is {MAX_KEYS}", sort.len());
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let (mut keys, mut order) = (Document::new(), Document::new());
    for (position, sort) in sort.iter().enumerate() {
        keys.insert(column(position), key(&column(position)));
        order.insert(column(position), if sort.direction == Direction::Asc { 1 } else { -1 });
    }
    order.insert(field::ID, 1);
    let mut stages = values(sort);
    stages.push(doc! {"$set": keys});
    if let Some((keys, key)) = after {
        stages.push(doc! {"$match": beyond(sort, keys, key)});
    }
    stages.push(doc! {"$sort": order});
    Ok(stages)
}

/// The field that a sort key is computed into.
fn column(position: usize) -> String {
    format!("sort{position}")
}

/// The expression for the sort key of the value in a field.
fn key(column: &str) -> Document {
    let value = format!("${column}");
    let is = |name: &str| doc! {"$eq": [{"$type": &value}, name]};
    let of = |rank: i32| doc! {"rank": {"$literal": rank}};
    let with_value = |rank: i32| doc! {"rank": {"$literal": rank}, "value": &value};
    let branches = [
        doc! {"case": is("missing"), "then": of(rank::MISSING)},
        doc! {"case": is("null"), "then": of(rank::NULL)},
        doc! {"case": is("bool"), "then": with_value(rank::BOOL)},
        doc! {"case": is("string"), "then": with_value(rank::TEXT)},
        doc! {"case": {"$in": [{"$type": &value}, ["object", "array"]]}, "then": of(rank::COMPOUND)},
    ];
    doc! {"$switch": {"branches": branches.to_vec(), "default": with_value(rank::NUMBER)}}
}

/// The stages that compute the one value that each path leads to through objects and positions, a segment in each stage.
fn values(sort: &[Sort]) -> Vec<Document> {
    let mut stages: Vec<Document> = Vec::new();
    for (position, sort) in sort.iter().enumerate() {
        let column = column(position);
        for (depth, segment) in sort.path.segments().enumerate() {
            let outer = if depth == 0 { field::JSON } else { &column };
            if stages.len() == depth {
                stages.push(Document::new());
            }
            stages[depth].insert(&column, inner(outer, segment));
        }
    }
    stages.into_iter().map(|fields| doc! {"$set": fields}).collect()
}

/// The expression for what a segment leads to from the value in a field.
fn inner(outer: &str, segment: &str) -> Document {
    let outer = format!("${outer}");
    let is = |name: &str| doc! {"$eq": [{"$type": &outer}, name]};
    let mut branches = vec![doc! {"case": is("object"), "then": format!("{outer}.{}", field_name(segment))}];
    if let Some(position) = position(segment) {
        branches.push(doc! {"case": is("array"), "then": {"$arrayElemAt": [&outer, position]}});
    }
    doc! {"$switch": {"branches": branches, "default": "$$REMOVE"}}
}

/// A segment as a position in an array. No document has room for one that takes more than 31 bits.
fn position(segment: &str) -> Option<i32> {
    let plain = segment == "0" || segment.starts_with(|first: char| matches!(first, '1'..='9'));
    segment.parse().ok().filter(|_| plain)
}

/// The condition that a record comes after a position.
fn beyond(sort: &[Sort], keys: &[SortKey], key: &Key) -> Document {
    let mut equal = Document::new();
    let mut any = Vec::with_capacity(sort.len() + 1);
    for (position, (sort, key)) in sort.iter().zip(keys).enumerate() {
        let operator = if sort.direction == Direction::Asc { "$gt" } else { "$lt" };
        let mut next = equal.clone();
        next.insert(column(position), doc! {operator: literal(key)});
        any.push(next);
        equal.insert(column(position), doc! {"$eq": literal(key)});
    }
    equal.insert(field::ID, doc! {"$gt": key.as_str()});
    any.push(equal);
    doc! {"$or": any}
}

/// A sort key as it is computed.
fn literal(key: &SortKey) -> Document {
    match key {
        SortKey::Missing => doc! {"rank": rank::MISSING},
        SortKey::Null => doc! {"rank": rank::NULL},
        SortKey::Bool(value) => doc! {"rank": rank::BOOL, "value": *value},
        SortKey::Number(number) => doc! {"rank": rank::NUMBER, "value": numbers::stored(number)},
        SortKey::Text(text) => doc! {"rank": rank::TEXT, "value": text.as_str()},
        SortKey::Compound => doc! {"rank": rank::COMPOUND},
    }
}
