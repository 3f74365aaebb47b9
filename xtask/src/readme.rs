//! What README.md tells people to type, done as they would do it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::step::{Session, cargo};
use crate::workspace::{metadata, root, target_dir};

/// Runs the commands of README.md on a store of their own, compares the output it shows, and holds its Rust
/// example against the one that is compiled.
pub(crate) fn run(session: &mut Session) -> Result<()> {
    let text = std::fs::read_to_string(root().join("README.md")).context("README.md")?;
    let target = target_dir(&metadata()?)?;
    let scratch = target.join("readme");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).context("clearing the last run of the README")?;
    }
    std::fs::create_dir_all(&scratch)?;
    session.run(&mut cargo(["build", "--quiet", "--package", "storage-cli"]))?;
    for block in blocks(&text) {
        match block.language {
            "sh" | "console" => {
                for (line, expected) in commands(&block) {
                    let output = session.output(&mut shell(&line, &scratch, &target))?;
                    compare(&line, &expected, &output)?;
                }
            }
            "rust" => quickstart(session, block.text)?,
            _ => {}
        }
    }
    Ok(())
}

struct Block<'a> {
    language: &'a str,
    text: &'a str,
}

/// The fenced code blocks of a Markdown text.
fn blocks(text: &str) -> Vec<Block<'_>> {
    // Between fences, every second piece is code.
    let pieces = text.split("```").skip(1).step_by(2);
    pieces
        .filter_map(|piece| piece.split_once('\n'))
        .map(|(language, text)| Block { language, text })
        .collect()
}

/// The commands of a block with the output shown under each. In `console` blocks a command follows `$ `; in
/// `sh` blocks each line is one, and no output is shown. This chore itself is left out.
fn commands(block: &Block<'_>) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.text.lines().filter(|line| !line.trim().is_empty()) {
        let command = if block.language == "sh" { Some(line) } else { line.strip_prefix("$ ") };
        match (command, found.last_mut()) {
            (Some(command), _) => found.push((command.to_owned(), Vec::new())),
            (None, Some(last)) => last.1.push(line.to_owned()),
            (None, None) => {}
        }
    }
    found.retain(|(command, _)| {
        let command = command.trim_start();
        !command.starts_with('#') && !command.starts_with("cargo xtask")
    });
    found
}

fn shell(line: &str, scratch: &Path, target: &Path) -> Command {
    let mut path = std::ffi::OsString::from(target.join("debug"));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", line]).current_dir(root());
    command.env("STORAGE_URL", format!("file:{}", scratch.join("store").display())).env("PATH", path);
    command
}

/// A shown line may end in `…` where the rest differs from run to run.
fn compare(command: &str, expected: &[String], output: &str) -> Result<()> {
    if expected.is_empty() {
        return Ok(());
    }
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let same = |(shown, line): (&String, &&str)| match shown.strip_suffix('…') {
        Some(head) => line.starts_with(head),
        None => shown.trim_end() == line.trim_end(),
    };
    if lines.len() == expected.len() && expected.iter().zip(&lines).all(same) {
        return Ok(());
    }
    bail!(
        "README.md: `{command}` prints\n{}\nand README.md shows\n{}",
        lines.join("\n"),
        expected.join("\n")
    );
}

/// The README's example is the file that cargo compiles, word by word, and it runs.
fn quickstart(session: &mut Session, shown: &str) -> Result<()> {
    const FILE: &str = "storage-registry/examples/quickstart.rs";
    let text = std::fs::read_to_string(root().join(FILE)).context(FILE)?;
    let code = text
        .split_once("\n\n")
        .map_or(text.as_str(), |(head, rest)| if head.starts_with("//!") { rest } else { text.as_str() });
    if code.trim() != shown.trim() {
        bail!("README.md: the Rust example differs from {FILE}, which is the one that is compiled");
    }
    session.run(&mut cargo(["run", "--quiet", "--package", "storage-registry", "--example", "quickstart"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "A\n```sh\ntour.sh  # all\ncargo xtask test\n```\nB\n```console\n$ storage count c\n2\n$ storage types\nfile  0.1…\n```\n";

    #[test]
    fn commands_come_with_the_output_shown() {
        let found: Vec<_> = blocks(TEXT).iter().flat_map(commands).collect();
        let names: Vec<_> = found.iter().map(|(command, _)| command.as_str()).collect();
        assert_eq!(names, ["tour.sh  # all", "storage count c", "storage types"]);
        assert_eq!(found[1].1, ["2"]);
    }

    #[test]
    fn output_is_compared_line_by_line() {
        let shown = ["file  0.1…".to_owned()];
        assert!(compare("types", &shown, "file  0.1.7\n").is_ok());
        assert!(compare("types", &shown, "memory  0.1.7\n").is_err());
        assert!(compare("types", &shown, "file  0.1.7\nmore\n").is_err());
    }
}
