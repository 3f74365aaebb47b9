//! The table of what each storage type offers, made from the types' own descriptors.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::step::{Session, cargo};
use crate::workspace::root;

const BEGIN: &str = "<!-- capabilities: written by `cargo xtask capabilities --write` -->\n";
const END: &str = "<!-- end of capabilities -->";

/// Prints the table, or compares it with the one in README.md, or writes it there.
pub(crate) fn run(session: &mut Session, check: bool, write: bool) -> Result<()> {
    let asked = ["run", "--quiet", "--package", "storage-cli", "--", "--json", "types"];
    let json = session.output(&mut cargo(asked))?;
    let table = table(&serde_json::from_str(&json).context("`storage --json types` printed no JSON")?)?;
    if !check && !write {
        println!("{table}");
        return Ok(());
    }
    let path = root().join("README.md");
    let text = std::fs::read_to_string(&path).context("README.md")?;
    let (head, shown, tail) = block(&text).context("README.md has no capabilities block")?;
    if write {
        std::fs::write(&path, format!("{head}{table}{tail}")).context("README.md")?;
    } else if shown != table {
        bail!(
            "the capability table in README.md is out of date. To write it: cargo xtask capabilities --write"
        );
    }
    Ok(())
}

fn block(text: &str) -> Option<(&str, &str, &str)> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text.get(begin..)?.find(END)?;
    Some((&text[..begin], &text[begin..end], &text[end..]))
}

/// One column for each type and one row for each feature; what is emulated is explained under the table.
fn table(types: &Value) -> Result<String> {
    let types = types.get("types").unwrap_or(types).as_array().context("no list of types")?;
    let name = |kind: &Value| kind["name"].as_str().unwrap_or("?").to_owned();
    let offered = |kind: &Value| kind["capabilities"]["features"].as_object().cloned().unwrap_or_default();
    let features: BTreeSet<String> =
        types.iter().flat_map(|kind| offered(kind).into_iter().map(|f| f.0)).collect();

    let mut out = String::from("| |");
    let mut rule = String::from("|---|");
    for kind in types {
        write!(out, " {} |", name(kind))?;
        rule.push_str(":-:|");
    }
    writeln!(out, "\n{rule}")?;
    let mut notes = Vec::new();
    for feature in &features {
        write!(out, "| {} |", feature.replace('_', " "))?;
        for kind in types {
            match offered(kind).get(feature) {
                None => out.push_str(" – |"),
                Some(support) => match support.get("emulated") {
                    None => out.push_str(" yes |"),
                    Some(cost) => {
                        notes.push(format!("{} of {}: {}", feature, name(kind), cost.as_str().unwrap_or("")));
                        write!(out, " emulated ({}) |", notes.len())?;
                    }
                },
            }
        }
        out.push('\n');
    }
    let limits: BTreeSet<String> = types
        .iter()
        .filter_map(|kind| kind["capabilities"]["limits"].as_object())
        .flat_map(|limits| limits.keys().cloned())
        .collect();
    for limit in limits {
        write!(out, "| limit: {} |", limit.replace('_', " "))?;
        for kind in types {
            write!(out, " {} |", shown(&limit, &kind["capabilities"]["limits"][&limit]))?;
        }
        out.push('\n');
    }
    for (position, note) in notes.iter().enumerate() {
        writeln!(out, "\n({}) {note}", position + 1)?;
    }
    Ok(out)
}

/// A limit with its unit; a dash where a type does not name one.
fn shown(limit: &str, value: &Value) -> String {
    match value.as_u64() {
        None => "–".into(),
        Some(bytes) if limit.ends_with("_bytes") && bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        Some(number) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_native_from_emulated_and_absent() {
        let types = serde_json::json!([
            {"name": "file", "capabilities": {"features": {"get": "native", "sort": {"emulated": "reads all"}}}},
            {"name": "memory", "capabilities": {"features": {"get": "native"}, "limits": {"batch_len": 10, "value_bytes": 1 << 26}}},
        ]);
        let table = table(&types).unwrap();
        assert!(table.contains("| get | yes | yes |\n"), "{table}");
        assert!(table.contains("| sort | emulated (1) | – |\n"), "{table}");
        assert!(table.contains("(1) sort of file: reads all\n"), "{table}");
        assert!(table.contains("| limit: batch len | – | 10 |\n"), "{table}");
        assert!(table.contains("| limit: value bytes | – | 64 MiB |\n"), "{table}");
    }

    #[test]
    fn the_block_of_the_readme_is_found() {
        let text = format!("a\n{BEGIN}old\n{END}\nb");
        assert_eq!(block(&text).unwrap().1, "old\n");
        assert!(block("a").is_none());
    }
}
