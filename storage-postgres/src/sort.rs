//! Orders as SQL: what to order by, and where in that order a page begins.
//!
//! A sort key is four expressions of the value, none of them NULL: its rank among the types, its number, the head of
//! its text, and the whole text. The first three are the columns of an index, and they decide unless two texts are
//! equal over the whole length of a head. So a page is read in the order of those three, and only if such a long text
//! comes up again in the order of all four.

use std::fmt::Write as _;

use storage_core::query::SortKey;
use storage_core::{Direction, Key, Sort};

use crate::convert::escape;
use crate::filter::first;
use crate::numbers::decimal;
use crate::path::{HEAD, Place, Values, head, number, rank, ranks, text};

/// An order, ready to be written into a statement that selects from the records as `r`.
pub(crate) struct Order {
    parts: Vec<Part>,
    whole: bool,
}

struct Part {
    direction: Direction,
    /// Rank, number and head of text; and the whole text where it matters.
    columns: Vec<String>,
}

/// The columns by which records of one value are told from others.
pub(crate) struct Group {
    pub(crate) rank: String,
    pub(crate) number: String,
    pub(crate) head: String,
    /// The three of a position.
    pub(crate) position: Option<String>,
}

impl Order {
    /// The order by `sort` and then by key. `whole` says whether to compare texts beyond their heads.
    pub(crate) fn new(sort: &[Sort], whole: bool, values: &mut Values<'_>) -> Self {
        let part = |sort: &Sort| {
            let value = Place::new("r.json", &sort.path, values).value();
            let mut columns = vec![rank(&value), number(&value), head(&value)];
            if whole {
                columns.push(text(&value));
            }
            Part { direction: sort.direction, columns }
        };
        Self { parts: sort.iter().map(part).collect(), whole }
    }

    /// What stands after `ORDER BY`.
    pub(crate) fn by(&self) -> String {
        let mut out = String::new();
        for part in &self.parts {
            let direction = if part.direction == Direction::Asc { "ASC" } else { "DESC" };
            for column in &part.columns {
                // Writing to a string cannot fail.
                let _ = write!(out, "{column} {direction}, ");
            }
        }
        out.push_str("r.key ASC");
        out
    }

    /// What the first part of the order looks at, and that of a position.
    pub(crate) fn first(&self, position: Option<&[SortKey]>, values: &mut Values<'_>) -> Group {
        let mut columns = self.parts.iter().flat_map(|part| part.columns.iter().cloned());
        let mut column = || columns.next().unwrap_or_else(|| "0".to_owned());
        let (rank, number, head) = (column(), column(), column());
        let key = position.and_then(|keys| keys.first());
        Group { rank, number, head, position: key.map(|key| operands(key, 3, values).join(", ")) }
    }

    /// Whether the texts of a record are so long that the whole of them matters: a boolean, never NULL.
    pub(crate) fn is_open(&self) -> String {
        let long = self.parts.iter().filter_map(|part| part.columns.get(2));
        let long: Vec<String> = long.map(|head| format!("length({head}) = {HEAD}")).collect();
        if self.whole || long.is_empty() { "FALSE".to_owned() } else { format!("({})", long.join(" OR ")) }
    }

    /// The condition that a record comes after this position.
    pub(crate) fn after(&self, keys: &[SortKey], key: &Key, values: &mut Values<'_>) -> String {
        let operands: Vec<Vec<String>> = self
            .parts
            .iter()
            .zip(keys)
            .map(|(part, key)| operands(key, part.columns.len(), values))
            .collect();
        let key = values.text(key.as_str());
        let all = self.parts.iter().zip(&operands);
        if self.parts.iter().all(|part| part.direction == Direction::Asc) {
            let columns = self.parts.iter().flat_map(|part| part.columns.iter().map(String::as_str));
            let columns: Vec<&str> = columns.chain(["r.key"]).collect();
            let operands: Vec<&str> =
                operands.iter().flatten().map(String::as_str).chain([key.as_str()]).collect();
            return format!("({}) > ({})", columns.join(", "), operands.join(", "));
        }
        let mut condition = format!("r.key > {key}");
        let mut bound = String::new();
        for (part, operands) in all.rev() {
            let (columns, operands) = (part.columns.join(", "), operands.join(", "));
            let sign = if part.direction == Direction::Asc { '>' } else { '<' };
            condition =
                format!("(({columns}) {sign} ({operands}) OR (({columns}) = ({operands}) AND {condition}))");
            bound = format!("({columns}) {sign}= ({operands})");
        }
        // It follows from the rest, and an index can begin there.
        format!("({bound} AND {condition})")
    }
}

/// Whether a text of the position is so long that the whole of it matters.
pub(crate) fn is_open(keys: &[SortKey]) -> bool {
    keys.iter().any(|key| matches!(key, SortKey::Text(text) if escape(text).chars().nth(HEAD - 1).is_some()))
}

/// The values of a sort key's columns.
fn operands(key: &SortKey, columns: usize, values: &mut Values<'_>) -> Vec<String> {
    let rank = match key {
        SortKey::Missing => ranks::MISSING,
        SortKey::Null => ranks::NULL,
        SortKey::Bool(false) => ranks::FALSE,
        SortKey::Bool(true) => ranks::TRUE,
        SortKey::Number(_) => ranks::NUMBER,
        SortKey::Text(_) => ranks::TEXT,
        SortKey::Compound => ranks::COMPOUND,
    };
    let number = match key {
        SortKey::Number(number) => format!("{}::numeric", values.text(&decimal(number))),
        _ => "0::numeric".to_owned(),
    };
    let text = match key {
        SortKey::Text(text) => escape(text),
        _ => "".into(),
    };
    let mut all = vec![rank.to_string(), number, values.text(first(&text))];
    if columns > all.len() {
        all.push(values.text(&text));
    }
    all
}
