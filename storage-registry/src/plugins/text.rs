//! TOML files that say what is wrong with them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use storage_core::{Error, ErrorKind, Result, nearest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::entry::shown;

/// The keys that a table of a file may have.
pub(super) struct Table<'keys> {
    /// The tables that lead to it, from the top; empty for the one at the top.
    pub(super) path: &'keys [&'keys str],
    pub(super) keys: &'keys [&'keys str],
}

/// Decodes a file, of which `tables` have no other keys than theirs.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) with line and column; an unknown key comes with the nearest known one.
pub(super) fn decode<T: DeserializeOwned>(text: &str, tables: &[Table<'_>]) -> Result<T> {
    let top = DeTable::parse(text).map_err(|error| wrong(text, &error))?;
    for Table { path, keys } in tables {
        let mut path = path.iter();
        let table = path.try_fold(top.get_ref(), |table, name| table.get(*name)?.get_ref().as_table());
        if let Some(table) = table {
            check_keys(text, table, keys)?;
        }
    }
    toml::from_str(text).map_err(|error| wrong(text, &error))
}

/// As [`decode`], where `array` is an array of tables that have the keys `entry`.
pub(super) fn decode_list<T: DeserializeOwned>(text: &str, array: &str, entry: &[&str]) -> Result<T> {
    let table = DeTable::parse(text).map_err(|error| wrong(text, &error))?;
    check_keys(text, table.get_ref(), &[array])?;
    if let Some(DeValue::Array(entries)) = table.get_ref().get(array).map(Spanned::get_ref) {
        for value in entries.iter() {
            if let DeValue::Table(table) = value.get_ref() {
                check_keys(text, table, entry)?;
            }
        }
    }
    toml::from_str(text).map_err(|error| wrong(text, &error))
}

/// Encodes a file.
///
/// # Errors
/// [`Internal`](ErrorKind::Internal) if the value has no form in TOML.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<String> {
    toml::to_string_pretty(value).map_err(|error| {
        Error::new(ErrorKind::Internal, format!("this cannot be written as TOML: {error}")).with_source(error)
    })
}

fn check_keys(text: &str, table: &DeTable<'_>, known: &[&str]) -> Result<()> {
    let unknown = table.keys().find(|key| !known.contains(&key.get_ref().as_ref()));
    let Some(key) = unknown else { return Ok(()) };
    let (line, column) = position(text, key.span().start);
    let name = key.get_ref();
    let meant = nearest(name, known.iter().copied());
    let meant = meant.map(|meant| format!(", did you mean {meant:?}?")).unwrap_or_default();
    Err(Error::invalid(format!(
        "line {line}, column {column}: unknown key {}{meant} (known: {})",
        shown(name),
        known.join(", ")
    )))
}

/// One line, without the excerpt that `toml` draws over several.
fn wrong(text: &str, error: &toml::de::Error) -> Error {
    let message = error.message().replace('\n', " ");
    Error::invalid(match error.span() {
        Some(span) => {
            let (line, column) = position(text, span.start);
            format!("line {line}, column {column}: {message}")
        }
        None => message,
    })
}

/// Line and column, from 1, of a byte.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Named {
        #[expect(dead_code, reason = "only decoded")]
        name: String,
    }

    #[test]
    fn errors_say_where() {
        let error = |text| {
            decode::<Named>(text, &[Table { path: &[], keys: &["name"] }]).unwrap_err().message().to_owned()
        };
        assert!(
            error("\n  nam = 1").starts_with("line 2, column 3: unknown key \"nam\", did you mean \"name\"?")
        );
        assert!(error("completely = 1").ends_with("unknown key \"completely\" (known: name)"));
        assert!(error("name = 1").starts_with("line 1, column 8: invalid type"), "{}", error("name = 1"));
        assert!(error("name = ").starts_with("line 1, column "));
        assert!(error("").contains("missing field `name`"));
    }
}
