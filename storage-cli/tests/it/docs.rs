//! The examples in `docs/cli.md` are what the binary does.

use std::process::Command;

use serde_json::{Map, Value as Tree};

use crate::plugins::compile;
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
    compile(&shell.directory.path().join("libc_memory.so"), "1.0.0", &[]);
    compile(&shell.directory.path().join("libc_memory-1.1.0.so"), "1.1.0", &[]);
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_storage")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let (mut lines, mut ran) = (DOCS.lines().peekable(), 0);
    while let Some(line) = lines.next() {
        let Some(script) = line.strip_prefix("$ ") else { continue };
        let mut sh = Command::new("sh");
        sh.args(["-c", script]).current_dir(shell.directory.path()).env("PATH", &path);
        sh.env("STORAGE_URL", "file:./store?durability=eventual").env("STORAGE_PLUGIN_DIR", "plugins");
        let output = sh.output().unwrap();
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

/// The names of the commands that a help text lists.
fn commands(help: &str) -> Vec<&str> {
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What is indented further goes on with the description above it.
    let named = lines.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let names = named.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

#[test]
fn every_command_is_on_the_page() {
    let shell = Shell::new();
    let (help, plugin_help) = (shell.ok(&["--help"]), shell.ok(&["plugin", "--help"]));
    let (names, plugin_names) = (commands(&help), commands(&plugin_help));
    assert!(names.len() > 20, "{help}");
    assert!(plugin_names.len() > 15, "{plugin_help}");
    let plugin_names = plugin_names.iter().map(|name| format!("plugin {name}"));
    for name in names.iter().map(ToString::to_string).chain(plugin_names) {
        assert!(DOCS.contains(&format!("storage --json {name}")), "{name} has no JSON example");
    }
}
