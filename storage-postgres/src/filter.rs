//! Filters as SQL conditions.
//!
//! A test of a path becomes `T(value) OR (meets an array AND EXISTS (candidate with T(candidate)))`, where `T` is made
//! of rank, number and first characters of a value: the columns of the index on that path, see [`crate::index`]. So
//! the first half is a range of the index, the second a look into the other one, which has the records with arrays.
//! It is the same with an index or without, and it is exact: both halves say what the reference says.

use serde_json::{Number, Value as Tree};
use storage_core::{Error, ErrorKind, Filter, Json, Path, Result, Test};

use crate::convert::{StoredJson, escape};
use crate::numbers;
use crate::path::{HEAD, Place, Values, head, number, rank, ranks};

/// Up to so many values, `$in` asks the index of arrays for each.
const LISTED: usize = 16;

/// Parameters a statement may have, with some left for what stands around the filter.
const PARAMETERS: usize = 65_000;

/// The condition for a statement that selects from the records as `r`: a boolean expression that is never NULL where
/// `r.json` is not, never fails, and is what [`Filter::matches`] says.
///
/// # Errors
/// [`TooLarge`](ErrorKind::TooLarge) for a filter with more operands than a statement takes.
pub(crate) fn condition(filter: &Filter, values: &mut Values<'_>) -> Result<String> {
    let mut out = String::new();
    write(filter, &mut out, values)?;
    Ok(out)
}

/// The same as two conditions that exclude each other: one for the records of which the index on `path` finds a range,
/// one for those in which the path meets an array. `None` if the filter does not limit the values at the path.
///
/// # Errors
/// As [`condition`].
pub(crate) fn split(filter: &Filter, path: &Path, values: &mut Values<'_>) -> Result<Option<[String; 2]>> {
    let mut parts = Vec::new();
    flatten(std::slice::from_ref(filter), &mut parts);
    let (mut tests, mut rest) = (Vec::new(), String::new());
    for part in parts {
        match part {
            Filter::Field(at, test) if at == path && is_positive(test) => tests.push(test),
            part => {
                rest.push_str(" AND ");
                write(part, &mut rest, values)?;
            }
        }
    }
    if tests.is_empty() {
        return Ok(None);
    }
    let place = Place::new("r.json", path, values);
    Ok(Halves::new(&place, &tests, values).map(|Halves { ranges, arrays }| {
        let meets_array = place.meets_array();
        [format!("({ranges} AND NOT {meets_array}{rest})"), format!("({arrays}{rest})")]
    }))
}

fn write(filter: &Filter, out: &mut String, values: &mut Values<'_>) -> Result<()> {
    match filter {
        Filter::And(parts) => all(parts, out, values),
        Filter::Or(parts) => {
            out.push_str("(FALSE");
            for part in parts {
                out.push_str(" OR ");
                write(part, out, values)?;
            }
            out.push(')');
            Ok(())
        }
        Filter::Not(part) => {
            out.push_str("(NOT ");
            write(part, out, values)?;
            out.push(')');
            Ok(())
        }
        Filter::Field(path, test) => {
            let place = Place::new("r.json", path, values);
            let any = match test {
                Test::Exists(false) => any(&place, &[&Test::Exists(true)], values),
                test => any(&place, &[test], values),
            };
            out.push_str(&if is_positive(test) { any } else { format!("(NOT {any})") });
            within(values)
        }
    }
}

/// All of these. Tests of one path go together, so that they are one range of the index.
fn all(parts: &[Filter], out: &mut String, values: &mut Values<'_>) -> Result<()> {
    let mut flat = Vec::new();
    flatten(parts, &mut flat);
    let mut groups: Vec<(&Path, Vec<&Test>)> = Vec::new();
    out.push_str("(TRUE");
    for part in flat {
        match part {
            Filter::Field(path, test) if is_positive(test) => {
                match groups.iter_mut().find(|(at, _)| *at == path) {
                    Some((_, tests)) => tests.push(test),
                    None => groups.push((path, vec![test])),
                }
            }
            part => {
                out.push_str(" AND ");
                write(part, out, values)?;
            }
        }
    }
    for (path, tests) in groups {
        let place = Place::new("r.json", path, values);
        out.push_str(" AND ");
        out.push_str(&any(&place, &tests, values));
        within(values)?;
    }
    out.push(')');
    Ok(())
}

fn flatten<'a>(parts: &'a [Filter], out: &mut Vec<&'a Filter>) {
    for part in parts {
        match part {
            Filter::And(parts) => flatten(parts, out),
            part => out.push(part),
        }
    }
}

fn within(values: &Values<'_>) -> Result<()> {
    if values.count() <= PARAMETERS {
        return Ok(());
    }
    let message = format!("the filter has more than about {PARAMETERS} names and operands");
    Err(Error::new(ErrorKind::TooLarge, message))
}

/// Whether a test says that there is a candidate of some kind, and not that there is none.
fn is_positive(test: &Test) -> bool {
    !matches!(test, Test::Ne(_) | Test::Nin(_) | Test::Exists(false))
}

/// Whether for each of the tests there is a candidate that passes.
fn any(place: &Place, tests: &[&Test], values: &mut Values<'_>) -> String {
    match Halves::new(place, tests, values) {
        Some(Halves { ranges, arrays }) => format!("({ranges} OR {arrays})"),
        None => "FALSE".to_owned(),
    }
}

/// A condition in two halves, as SQL.
struct Halves {
    /// About the one value that the path leads to through objects and positions. It holds for no record for which the
    /// condition does not.
    ranges: String,
    /// About all candidates, where the path meets an array.
    arrays: String,
}

impl Halves {
    /// `None` if nothing passes.
    fn new(place: &Place, tests: &[&Test], values: &mut Values<'_>) -> Option<Self> {
        let value = place.value();
        let (mut ranges, mut arrays) = (String::from("(TRUE"), format!("({}", place.meets_array()));
        for test in tests {
            let passing = Passing::new(test, values);
            if passing.0.is_empty() {
                return None;
            }
            ranges.push_str(&format!(" AND {}", passing.of(&value)));
            arrays.push_str(&format!(
                "{} AND EXISTS (SELECT FROM ({}) c WHERE {})",
                passing.hint(place, values),
                place.candidates(values),
                passing.of("c.v"),
            ));
        }
        Some(Self { ranges: ranges + ")", arrays: arrays + ")" })
    }
}

/// What a value has to be: any of these. The texts are SQL.
struct Passing(Vec<Form>);

/// A form of values.
enum Form {
    /// Of any type.
    Anything,
    /// A rank from here to there: `null`, and booleans.
    Ranks(i32, i32),
    /// A number: comparison and operand.
    Number(String),
    /// A text: comparisons of its head, and maybe of the whole text.
    Text { head: String, whole: Option<String> },
    /// An array or object: comparison and operand.
    Compound(String),
    /// Values to be found with `@>` among elements: never alone.
    Contained(Vec<String>),
}

impl Passing {
    fn new(test: &Test, values: &mut Values<'_>) -> Self {
        match test {
            Test::Eq(value) | Test::Ne(value) => Self::equal([value], values),
            Test::In(list) | Test::Nin(list) => Self::equal(list, values),
            Test::Gt(to) => Self::ordered(to, ">", values),
            Test::Gte(to) => Self::ordered(to, ">=", values),
            Test::Lt(to) => Self::ordered(to, "<", values),
            Test::Lte(to) => Self::ordered(to, "<=", values),
            Test::Exists(_) => Self(vec![Form::Anything]),
            Test::Prefix(prefix) => Self(vec![prefixed(&escape(prefix), values)]),
            Test::Contains(part) => {
                let part = values.text(&escape(part));
                Self(vec![Form::Text { head: String::new(), whole: Some(format!("strpos(#, {part}) > 0")) }])
            }
        }
    }

    /// Equal to any of these values.
    fn equal<'a>(list: impl IntoIterator<Item = &'a Tree>, values: &mut Values<'_>) -> Self {
        let (mut forms, mut contained) = (Vec::new(), Some(Vec::new()));
        let (mut numbers, mut short, mut long, mut compound) =
            (Vec::<&Number>::new(), Vec::new(), Vec::new(), Vec::new());
        for value in list {
            match value {
                Tree::Null => forms.push(Form::Ranks(ranks::NULL, ranks::NULL)),
                Tree::Bool(false) => forms.push(Form::Ranks(ranks::FALSE, ranks::FALSE)),
                Tree::Bool(true) => forms.push(Form::Ranks(ranks::TRUE, ranks::TRUE)),
                Tree::Number(number) => numbers.push(number),
                Tree::String(text) => {
                    let text = escape(text);
                    if is_short(&text) { short.push(text) } else { long.push(text) }
                }
                Tree::Array(_) | Tree::Object(_) => compound.push(json(value)),
            }
            // An array equals one at the path itself, which is not among the elements.
            contained = contained.filter(|list: &Vec<String>| list.len() < LISTED && !value.is_array());
            if let Some(contained) = &mut contained {
                contained.push(json(value));
            }
        }
        if !numbers.is_empty() {
            let numbers: Vec<String> = numbers.into_iter().map(numbers::decimal).collect();
            forms.push(Form::Number(one_of(&numbers, "numeric", values)));
        }
        if !short.is_empty() {
            forms.push(Form::Text { head: format!("# {}", one_of(&short, "text", values)), whole: None });
        }
        if !long.is_empty() {
            let heads: Vec<&str> = long.iter().map(|text| first(text)).collect();
            let (head, whole) = (one_of(&heads, "text", values), one_of(&long, "text", values));
            forms.push(Form::Text { head: format!("# {head}"), whole: Some(format!("# {whole}")) });
        }
        if !compound.is_empty() {
            forms.push(Form::Compound(one_of(&compound, "jsonb", values)));
        }
        if let Some(contained) = contained
            && !forms.is_empty()
        {
            forms.push(Form::Contained(contained.iter().map(|json| values.text(json)).collect()));
        }
        Self(forms)
    }

    fn ordered(to: &Tree, comparison: &str, values: &mut Values<'_>) -> Self {
        Self(match to {
            Tree::Number(to) => {
                let to = values.text(&numbers::decimal(to));
                vec![Form::Number(format!("{comparison} {to}::numeric"))]
            }
            Tree::String(to) => {
                let to = escape(to);
                let of_head = values.text(first(&to));
                if is_short(&to) {
                    vec![Form::Text { head: format!("# {comparison} {of_head}"), whole: None }]
                } else {
                    // Heads may be equal where the texts are not.
                    let of_heads = if comparison.starts_with('>') { ">=" } else { "<=" };
                    let whole = Some(format!("# {comparison} {}", values.text(&to)));
                    vec![Form::Text { head: format!("# {of_heads} {of_head}"), whole }]
                }
            }
            Tree::Bool(to) => {
                let passes = |value: bool| match comparison {
                    ">" => value & !to,
                    ">=" => value >= *to,
                    "<" => !value & to,
                    _ => value <= *to,
                };
                let from = if passes(false) { ranks::FALSE } else { ranks::TRUE };
                let to = if passes(true) { ranks::TRUE } else { ranks::FALSE };
                if from <= to { vec![Form::Ranks(from, to)] } else { Vec::new() }
            }
            Tree::Null | Tree::Array(_) | Tree::Object(_) => Vec::new(),
        })
    }

    /// The condition on a value given as SQL.
    fn of(&self, value: &str) -> String {
        let forms: Vec<String> = self.0.iter().filter_map(|form| form.of(value)).collect();
        format!("({})", forms.join(" OR "))
    }

    /// What an index of the elements can find first; it holds for every record that passes.
    fn hint(&self, place: &Place, values: &mut Values<'_>) -> String {
        let elements = place.elements(values);
        let contained = self.0.iter().find_map(|form| match form {
            // By a position an element may be reached that is not among those of the names.
            Form::Contained(list) if !place.has_positions() => Some(list),
            _ => None,
        });
        match contained {
            Some(list) => {
                let each = list.iter().map(|json| format!("{elements} @> jsonb_build_array({json}::jsonb)"));
                format!(" AND ({})", each.collect::<Vec<_>>().join(" OR "))
            }
            // True, and found in the index all the same.
            None => format!(" AND {elements} @> '[]'::jsonb"),
        }
    }
}

impl Form {
    fn of(&self, value: &str) -> Option<String> {
        let rank = rank(value);
        Some(match self {
            Self::Anything => format!("{rank} > {}", ranks::MISSING),
            Self::Ranks(from, to) if from == to => format!("{rank} = {from}"),
            Self::Ranks(from, to) => format!("({rank} >= {from} AND {rank} <= {to})"),
            Self::Number(comparison) => {
                format!("({rank} = {} AND {} {comparison})", ranks::NUMBER, number(value))
            }
            Self::Text { head: of_head, whole } => {
                // The number is part of the condition for the index: it stands between rank and head.
                let mut condition = format!("({rank} = {} AND {} = 0::numeric", ranks::TEXT, number(value));
                for (of, comparison) in
                    [(head(value), Some(of_head)), (crate::path::text(value), whole.as_ref())]
                {
                    if let Some(comparison) = comparison.filter(|text| !text.is_empty()) {
                        condition.push_str(" AND ");
                        condition.push_str(&comparison.replace('#', &of));
                    }
                }
                condition.push(')');
                condition
            }
            Self::Compound(comparison) => {
                format!("({rank} = {} AND {value} {comparison})", ranks::COMPOUND)
            }
            Self::Contained(_) => return None,
        })
    }
}

fn prefixed(prefix: &str, values: &mut Values<'_>) -> Form {
    if prefix.is_empty() {
        return Form::Text { head: String::new(), whole: None };
    }
    if !is_short(prefix) {
        let head = format!("# = {}", values.text(first(prefix)));
        return Form::Text { head, whole: Some(format!("starts_with(#, {})", values.text(prefix))) };
    }
    let mut head = format!("# >= {}", values.text(prefix));
    if let Some(end) = after_prefix(prefix) {
        head.push_str(&format!(" AND # < {}", values.text(&end)));
    }
    Form::Text { head, whole: None }
}

/// The first text after all that begin with `prefix`; `None` if there is none.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // A range of characters passes over the surrogates.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// A comparison with one value, or with any of many.
fn one_of<T: AsRef<str>>(list: &[T], kind: &str, values: &mut Values<'_>) -> String {
    if let [one] = list {
        return format!("= {}::{kind}", values.text(one.as_ref()));
    }
    let list: Vec<String> = list.iter().map(|value| value.as_ref().to_owned()).collect();
    format!("= ANY ({}::{kind}[])", values.texts(list))
}

/// Whether a text differs from every longer one in what the index has of it.
fn is_short(text: &str) -> bool {
    text.chars().nth(HEAD - 1).is_none()
}

/// What the index has of a text.
pub(crate) fn first(text: &str) -> &str {
    text.char_indices().nth(HEAD).map_or(text, |(end, _)| &text[..end])
}

/// A JSON value as the database has it.
fn json(tree: &Tree) -> String {
    StoredJson::new(&Json::from(tree.clone())).text.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Sql;

    #[test]
    fn texts_after_a_prefix() {
        for (prefix, end) in [
            ("a", Some("b")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("\u{d7ff}", Some("\u{e000}")),
            ("é", Some("ê")),
        ] {
            assert_eq!(after_prefix(prefix).as_deref(), end, "{prefix:?}");
        }
    }

    #[test]
    fn values_are_never_part_of_the_text() {
        let filter: Filter =
            r#"{"na'me": {"$in": ["o'ne", 7654, null]}, "b": {"$prefix": "secret"}}"#.parse().unwrap();
        let mut sql = Sql::new();
        let text = condition(&filter, &mut Values::bound(&mut sql)).unwrap();
        for part in ["na'me", "o'ne", "7654", "secret"] {
            assert!(!text.contains(part), "{part} in {text}");
        }
    }
}
