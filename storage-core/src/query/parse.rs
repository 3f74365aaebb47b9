//! Filters from MongoDB's operator form.

use std::str::FromStr;

use serde_json::{Map, Value as Tree};

use super::{Filter, Path, Test};
use crate::{Error, Json, Result};

const OPERATORS: [&str; 15] = [
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$in",
    "$nin",
    "$exists",
    "$prefix",
    "$contains",
    "$not",
    "$and",
    "$or",
    "$nor",
];

impl FromStr for Filter {
    type Err = Error;

    /// Parses JSON text in operator form.
    fn from_str(text: &str) -> Result<Self> {
        let tree = Json::parse(text.as_bytes().to_vec()).and_then(|json| json.tree());
        tree.map_err(|error| Error::invalid(format!("filter: {}", error.message())))?.try_into()
    }
}

impl TryFrom<Tree> for Filter {
    type Error = Error;

    fn try_from(tree: Tree) -> Result<Self> {
        match tree {
            Tree::Object(fields) => object(fields),
            other => Err(Error::invalid(format!(
                "filter: expected an object such as {{\"age\":{{\"$gte\":18}}}}, found {other}"
            ))),
        }
    }
}

fn object(fields: Map<String, Tree>) -> Result<Filter> {
    let mut parts = Vec::with_capacity(fields.len());
    for (name, operand) in fields {
        match name.as_str() {
            "$and" => parts.push(Filter::And(filters(&name, operand)?)),
            "$or" => parts.push(Filter::Or(filters(&name, operand)?)),
            "$nor" => parts.push(Filter::Not(Box::new(Filter::Or(filters(&name, operand)?)))),
            "$not" => parts.push(Filter::Not(Box::new(operand.try_into()?))),
            operator if operator.starts_with('$') => return Err(unknown(operator)),
            path => parts.push(field(&Path::new(path)?, operand)?),
        }
    }
    Ok(all(parts))
}

fn all(mut parts: Vec<Filter>) -> Filter {
    if parts.len() == 1 { parts.remove(0) } else { Filter::And(parts) }
}

fn filters(operator: &str, operand: Tree) -> Result<Vec<Filter>> {
    let Tree::Array(items) = operand else {
        return Err(Error::invalid(format!("filter: {operator} takes an array of filters")));
    };
    items.into_iter().map(Filter::try_from).collect()
}

/// `{"path": operand}`: operators if the operand is an object whose keys begin with `$`, else equality.
fn field(path: &Path, operand: Tree) -> Result<Filter> {
    let Tree::Object(tests) = operand else { return Ok(Filter::Field(path.clone(), Test::Eq(operand))) };
    let operators = tests.keys().filter(|name| name.starts_with('$')).count();
    if operators == 0 {
        return Ok(Filter::Field(path.clone(), Test::Eq(Tree::Object(tests))));
    }
    if operators < tests.len() {
        return Err(Error::invalid(format!(
            "filter: {path} mixes operators with plain names; to compare with an object use {{\"$eq\": …}}"
        )));
    }
    let parts: Result<Vec<Filter>> =
        tests.into_iter().map(|(name, value)| test(path, &name, value)).collect();
    Ok(all(parts?))
}

fn test(path: &Path, operator: &str, operand: Tree) -> Result<Filter> {
    let wrong = |wanted: &str| Error::invalid(format!("filter: {path}: {operator} takes {wanted}"));
    let ordered = |operand: Tree| match operand {
        Tree::Number(_) | Tree::String(_) | Tree::Bool(_) => Ok(operand),
        _ => Err(wrong("a number, a string or a boolean")),
    };
    let text = |operand: Tree| match operand {
        Tree::String(text) => Ok(text),
        _ => Err(wrong("a string")),
    };
    let list = |operand: Tree| match operand {
        Tree::Array(values) => Ok(values),
        _ => Err(wrong("an array of values")),
    };
    let test = match operator {
        "$eq" => Test::Eq(operand),
        "$ne" => Test::Ne(operand),
        "$gt" => Test::Gt(ordered(operand)?),
        "$gte" => Test::Gte(ordered(operand)?),
        "$lt" => Test::Lt(ordered(operand)?),
        "$lte" => Test::Lte(ordered(operand)?),
        "$in" => Test::In(list(operand)?),
        "$nin" => Test::Nin(list(operand)?),
        "$exists" => Test::Exists(operand.as_bool().ok_or_else(|| wrong("true or false"))?),
        "$prefix" => Test::Prefix(text(operand)?),
        "$contains" => Test::Contains(text(operand)?),
        "$not" => {
            let inner @ Tree::Object(_) = operand else { return Err(wrong("an object of operators")) };
            return Ok(Filter::Not(Box::new(field(path, inner)?)));
        }
        other => return Err(unknown(other)),
    };
    Ok(Filter::Field(path.clone(), test))
}

fn unknown(operator: &str) -> Error {
    let nearest =
        crate::nearest(operator, OPERATORS).map(|n| format!(" (did you mean {n}?)")).unwrap_or_default();
    Error::invalid(format!(
        "filter: unknown operator {}{nearest}; known: {}",
        crate::name::shown(operator),
        OPERATORS.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(text: &str) -> Filter {
        text.parse().unwrap()
    }

    #[test]
    fn text_form_round_trips() {
        for text in [
            "{}",
            r#"{"a":1}"#,
            r#"{"a":{"$gte":1,"$lt":5},"b.c":null}"#,
            r#"{"$or":[{"a":{"$in":[1,"x"]}},{"$not":{"b":{"$exists":false}}}]}"#,
            r#"{"a":{"$not":{"$prefix":"x"}},"o":{"k":{"$eq":{"$gt":""}}}}"#,
        ] {
            let filter = parse(text);
            assert_eq!(Filter::try_from(filter.to_json()).unwrap(), filter, "{text}");
        }
    }

    #[test]
    fn bad_filters_say_what_is_wrong() {
        for (text, says) in [
            ("[]", "expected an object"),
            ("{", "not valid JSON"),
            (r#"{"a":{"$gtt":1}}"#, "did you mean $gt?"),
            (r#"{"$gt":1}"#, "unknown operator"),
            (r#"{"a":{"$in":1}}"#, "$in takes an array"),
            (r#"{"a":{"$gt":null}}"#, "$gt takes a number"),
            (r#"{"a":{"$gt":1,"b":2}}"#, "mixes operators"),
            (r#"{"a..b":1}"#, "path"),
            (r#"{"$and":{}}"#, "$and takes an array"),
        ] {
            let error = text.parse::<Filter>().unwrap_err();
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn meaning() {
        let tree = json!({"n": 5, "f": 5.0, "s": "naïve", "z": null, "l": [1, "a", [2]], "o": [{"k": 1}, {"k": "b"}]});
        for (text, expected) in [
            (r#"{"n":5.0,"f":5}"#, true),
            (r#"{"z":null}"#, true),
            (r#"{"missing":null}"#, false),
            (r#"{"missing":{"$ne":null}}"#, true),
            (r#"{"z":{"$exists":true},"missing":{"$exists":false}}"#, true),
            (r#"{"l":"a"}"#, true),
            (r#"{"l":2}"#, false),
            (r#"{"l":[1,"a",[2]]}"#, true),
            (r#"{"l.2.0":2}"#, true),
            (r#"{"o.k":"b"}"#, true),
            (r#"{"o.1.k":1}"#, false),
            (r#"{"o.k":{"$gt":"a"}}"#, true),
            (r#"{"s":{"$gt":4}}"#, false),
            (r#"{"s":{"$contains":"ïv"}}"#, true),
            (r#"{"s":{"$prefix":"N"}}"#, false),
            (r#"{"n":{"$nin":[1,2]}}"#, true),
            (r#"{"$or":[]}"#, false),
            (r#"{"$not":{"n":5}}"#, false),
        ] {
            assert_eq!(parse(text).matches(&tree), expected, "{text}");
        }
    }
}
