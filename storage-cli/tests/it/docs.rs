//! The examples in `docs/cli.md` are what the binary does.

use std::process::Command;

use serde_json::{Map, Value as Tree};

use crate::shell::Shell;

const DOCS: &str = include_str!("../../../docs/cli.md");

/// What counts of an answer: its names and types, not its texts and numbers. Arrays by their first item.
fn shape(tree: &Tree) -> Tree {
    match tree {
        Tree::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), shape(value)));
            Tree::Object(fields.collect::<Map<_, _>>())
        }
        Tree::Array(items) => Tree::Array(items.iter().take(1).map(shape).collect()),
        Tree::String(_) => "text".into(),
        Tree::Number(_) => 0.into(),
        other => other.clone(),
    }
}

/// Runs every `$ storage …` line of the page, in order, in one store.
#[test]
fn the_page_is_a_script_that_runs() {
    let shell = Shell::new();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/countries.ndjson");
    std::fs::copy(data, shell.directory.path().join("countries.ndjson")).unwrap();
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_storage")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let (mut lines, mut ran) = (DOCS.lines().peekable(), 0);
    while let Some(line) = lines.next() {
        let Some(script) = line.strip_prefix("$ ") else { continue };
        let mut sh = Command::new("sh");
        sh.args(["-c", script]).current_dir(shell.directory.path()).env("PATH", &path);
        let output = sh.env("STORAGE_URL", "file:./store?durability=eventual").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && !line.starts_with("```")) {
            expected.push(line);
        }
        let answer =
            if output.stdout.is_empty() { error.clone() } else { String::from_utf8(output.stdout).unwrap() };
        let answer: Vec<&str> = answer.lines().collect();
        ran += 1;
        if script.contains("--json") {
            assert_eq!(expected.len(), 1, "{script}: {error}");
            let read = |text: &str| {
                serde_json::from_str::<Tree>(text).unwrap_or_else(|e| panic!("{script}: {e}: {text}"))
            };
            if expected[0].ends_with('…') {
                continue;
            }
            assert_eq!(shape(&read(answer[0])), shape(&read(expected[0])), "{script}: {answer:?}");
        } else {
            assert_eq!(answer.len(), expected.len(), "{script}: {answer:?} {error}");
        }
    }
    assert!(ran > 30, "only {ran} examples were found");
}

#[test]
fn every_command_is_on_the_page() {
    let shell = Shell::new();
    let help = shell.ok(&["--help"]);
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 20, "{help}");
    for name in names.iter().filter(|name| **name != "help") {
        assert!(DOCS.contains(&format!("storage --json {name}")), "{name} has no JSON example");
    }
}
