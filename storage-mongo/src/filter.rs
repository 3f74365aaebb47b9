//! Filters as MongoDB's.
//!
//! A path of MongoDB leads to what the reference calls its candidates, with one exception: an array that a position at the
//! end of the path leads to counts as itself alone. `$elemMatch` looks into it. `null` is asked for by its type, since for
//! MongoDB a missing field equals it, and operands always stand under an operator, so that none is read as one.

use std::borrow::Cow;

use mongodb::bson::{Document, doc};
use serde_json::Value as Tree;
use storage_core::{Error, ErrorKind, Filter, Path, Result, Test};

use crate::backend::JSON_DEPTH;
use crate::convert::tree_value;
use crate::layout::json_path;

/// The most that filters may be nested: each level takes two of the 200 that a command has, and an operand may need
/// [`JSON_DEPTH`].
const LEVELS: usize = 48;

/// The longest regular expression that the server takes, in bytes.
const MAX_PATTERN: usize = 32_764;

/// The condition that finds, among the JSON records, those for which [`Filter::matches`].
///
/// # Errors
/// [`TooLarge`](ErrorKind::TooLarge) for a filter that is nested deeper than [`LEVELS`], and for a text to be contained that
/// is longer than a regular expression may be.
pub(crate) fn condition(filter: &Filter) -> Result<Document> {
    write(filter, LEVELS)
}

fn write(filter: &Filter, levels: usize) -> Result<Document> {
    if levels == 0 {
        let message = format!("the filter is nested deeper than {LEVELS} levels");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let all = |parts: &[&Filter]| -> Result<Vec<Document>> {
        parts.iter().map(|part| write(part, levels - 1)).collect()
    };
    Ok(match filter {
        Filter::And(parts) => {
            let mut flat = Vec::with_capacity(parts.len());
            flatten(parts, &mut flat, |part| match part {
                Filter::And(parts) => Some(parts),
                _ => None,
            });
            if flat.is_empty() {
                Document::new()
            } else {
                doc! {"$and": all(&flat)?}
            }
        }
        Filter::Or(parts) => {
            let parts = alternatives(parts);
            if parts.is_empty() {
                nothing()
            } else {
                doc! {"$or": all(&parts)?}
            }
        }
        Filter::Not(part) => match part.as_ref() {
            Filter::Not(part) => write(part, levels)?,
            Filter::Or(parts) => {
                let parts = alternatives(parts);
                if parts.is_empty() {
                    Document::new()
                } else {
                    doc! {"$nor": all(&parts)?}
                }
            }
            part => doc! {"$nor": all(&[part])?},
        },
        Filter::Field(path, test) => field(path, test)?,
    })
}

fn alternatives(parts: &[Filter]) -> Vec<&Filter> {
    let mut flat = Vec::with_capacity(parts.len());
    flatten(parts, &mut flat, |part| match part {
        Filter::Or(parts) => Some(parts),
        _ => None,
    });
    flat
}

/// The parts, with those of the same kind in their place, however deep.
fn flatten<'a>(
    parts: &'a [Filter],
    out: &mut Vec<&'a Filter>,
    of: fn(&'a Filter) -> Option<&'a Vec<Filter>>,
) {
    let mut rest: Vec<&Filter> = parts.iter().rev().collect();
    while let Some(part) = rest.pop() {
        match of(part) {
            Some(parts) => rest.extend(parts.iter().rev()),
            None => out.push(part),
        }
    }
}

/// What no record matches.
fn nothing() -> Document {
    doc! {"$nor": [{}]}
}

fn field(path: &Path, test: &Test) -> Result<Document> {
    let operators = match test {
        Test::Eq(value) | Test::Ne(value) => equal([value]),
        Test::In(values) | Test::Nin(values) => equal(values),
        Test::Gt(to) => ordered("$gt", to),
        Test::Gte(to) => ordered("$gte", to),
        Test::Lt(to) => ordered("$lt", to),
        Test::Lte(to) => ordered("$lte", to),
        Test::Exists(_) => vec![doc! {"$exists": true}],
        Test::Prefix(prefix) => vec![prefixed(prefix)?],
        Test::Contains(part) if part.is_empty() => vec![texts()],
        Test::Contains(part) => vec![doc! {"$regex": pattern("", part)?}],
    };
    let ends_in_position =
        path.segments().last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    let path = json_path(path);
    let mut any = Vec::with_capacity(2 * operators.len());
    for operators in operators {
        if ends_in_position && !matches!(test, Test::Exists(_)) {
            any.push(doc! {&path: {"$elemMatch": operators.clone()}});
        }
        any.push(doc! {&path: operators});
    }
    let is_negative = matches!(test, Test::Ne(_) | Test::Nin(_) | Test::Exists(false));
    Ok(match (any.len(), is_negative) {
        (0, true) => Document::new(),
        (0, false) => nothing(),
        (_, true) => doc! {"$nor": any},
        (1, false) => any.remove(0),
        (_, false) => doc! {"$or": any},
    })
}

/// The operators, of which any may find a value that equals one of these.
fn equal<'a>(values: impl IntoIterator<Item = &'a Tree>) -> Vec<Document> {
    let (mut null, mut others) = (false, Vec::new());
    for value in values {
        match value {
            Tree::Null => null = true,
            // No record holds a deeper one.
            value if fits(value, JSON_DEPTH) => others.push(tree_value(value)),
            _ => {}
        }
    }
    let mut operators = Vec::with_capacity(2);
    match others.len() {
        0 => {}
        1 => operators.push(doc! {"$eq": others.remove(0)}),
        _ => operators.push(doc! {"$in": others}),
    }
    if null {
        operators.push(doc! {"$type": "null"});
    }
    operators
}

/// Whether a value is nested at most so deep.
fn fits(value: &Tree, levels: usize) -> bool {
    match value {
        Tree::Array(items) => levels > 0 && items.iter().all(|item| fits(item, levels - 1)),
        Tree::Object(fields) => levels > 0 && fields.values().all(|field| fits(field, levels - 1)),
        _ => true,
    }
}

fn ordered(operator: &str, to: &Tree) -> Vec<Document> {
    match to {
        Tree::Number(_) | Tree::String(_) | Tree::Bool(_) => vec![doc! {operator: tree_value(to)}],
        Tree::Null | Tree::Array(_) | Tree::Object(_) => Vec::new(),
    }
}

/// Any text.
fn texts() -> Document {
    doc! {"$gte": ""}
}

fn prefixed(prefix: &str) -> Result<Document> {
    if prefix.is_empty() {
        return Ok(texts());
    }
    // The expression alone says it all. Only by a comparison the server sees that a unique index, which has no arrays and
    // objects, has all of these.
    Ok(doc! {"$regex": pattern("^", prefix)?, "$gte": prefix})
}

/// A regular expression for a literal text, after an anchor or nothing.
fn pattern(anchor: &str, text: &str) -> Result<String> {
    let literal: String = text.chars().map(escape).collect();
    if anchor.len() + literal.len() <= MAX_PATTERN {
        return Ok(format!("{anchor}{literal}"));
    }
    let message = format!(
        "a text to look for takes {} bytes as a regular expression: the limit is {MAX_PATTERN}",
        anchor.len() + literal.len()
    );
    Err(Error::new(ErrorKind::TooLarge, message))
}

fn escape(char: char) -> Cow<'static, str> {
    match char {
        // It would end the expression.
        '\0' => Cow::Borrowed(r"\x00"),
        '\\' | '^' | '$' | '.' | '[' | ']' | '|' | '(' | ')' | '?' | '*' | '+' | '{' | '}' => {
            Cow::Owned(format!("\\{char}"))
        }
        char => Cow::Owned(char.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(filter: Tree) -> Document {
        condition(&Filter::try_from(filter).unwrap()).unwrap()
    }

    #[test]
    fn operands_that_look_like_operators_are_values() {
        assert_eq!(of(json!({"a": {"$eq": {"$gt": ""}}})), doc! {"json.a": {"$eq": {"%24gt": ""}}});
        assert_eq!(
            of(json!({"a": {"$in": [{"$ne": 1}, ["$x"]]}})),
            doc! {"json.a": {"$in": [{"%24ne": 1}, ["$x"]]}}
        );
        assert_eq!(of(json!({"$and": [{"a": "$b"}]})), doc! {"$and": [{"json.a": {"$eq": "$b"}}]});
        assert_eq!(of(json!({"a": {"$contains": "a.*$"}})), doc! {"json.a": {"$regex": r"a\.\*\$"}});
    }

    #[test]
    fn null_is_not_missing() {
        assert_eq!(of(json!({"a": null})), doc! {"json.a": {"$type": "null"}});
        assert_eq!(
            of(json!({"a": {"$nin": [null, 1]}})),
            doc! {"$nor": [{"json.a": {"$eq": 1}}, {"json.a": {"$type": "null"}}]}
        );
    }

    #[test]
    fn nesting_is_limited_where_it_alternates() {
        let field = Filter::eq(Path::new("a").unwrap(), 1);
        let nested = |levels: usize, wrap: fn(Filter, usize) -> Filter| (0..levels).fold(field.clone(), wrap);
        for wrap in [
            |filter, _| Filter::Not(Box::new(filter)),
            |filter, _| Filter::And(vec![filter]),
            |filter, _| Filter::Or(vec![filter]),
        ] as [fn(Filter, usize) -> Filter; 3]
        {
            assert!(condition(&nested(1_000, wrap)).is_ok());
        }
        let alternating: fn(Filter, usize) -> Filter =
            |filter, level| if level % 2 == 0 { Filter::And(vec![filter]) } else { Filter::Or(vec![filter]) };
        assert!(condition(&nested(LEVELS - 1, alternating)).is_ok());
        let error = condition(&nested(LEVELS, alternating)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
}
