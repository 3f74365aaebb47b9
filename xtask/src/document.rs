//! Code blocks of the Markdown pages: the commands in them, done as a reader would do them, and code that is quoted.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::step::{Session, forget_package};
use crate::workspace::root;

/// A fenced code block.
pub(crate) struct Block<'a> {
    pub(crate) language: &'a str,
    pub(crate) text: &'a str,
    /// The file it is quoted from, which stands in the line before it as `<!-- from FILE -->`.
    pub(crate) source: Option<&'a str>,
}

/// The fenced code blocks of a Markdown text.
pub(crate) fn blocks(text: &str) -> Vec<Block<'_>> {
    // Between fences, every second piece is code.
    let pieces: Vec<&str> = text.split("```").collect();
    let pairs = pieces.chunks_exact(2).filter_map(|pair| Some((pair[0], pair[1].split_once('\n')?)));
    pairs.map(|(before, (language, text))| Block { language, text, source: source(before) }).collect()
}

fn source(before: &str) -> Option<&str> {
    before.trim_end().lines().next_back()?.strip_prefix("<!-- from ")?.strip_suffix(" -->")
}

impl Block<'_> {
    /// The commands of the block with the output shown under each. In `console` blocks a command follows `$ `; in
    /// `sh` blocks each line is one, and no output is shown. In others there are none. The chore that all this is
    /// part of is left out.
    fn commands(&self) -> Vec<(&str, Vec<&str>)> {
        let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in self.text.lines().filter(|line| !line.trim().is_empty()) {
            let command = match self.language {
                "sh" => Some(line),
                "console" => line.strip_prefix("$ "),
                _ => return Vec::new(),
            };
            match (command, found.last_mut()) {
                (Some(command), _) => found.push((command, Vec::new())),
                (None, Some(last)) => last.1.push(line),
                (None, None) => {}
            }
        }
        found.retain(|(command, _)| {
            let command = command.trim_start();
            !command.starts_with('#') && !command.starts_with("cargo xtask test")
        });
        found
    }

    /// Runs the commands, each as `shell` makes it, and compares the output that `page` shows.
    pub(crate) fn run(
        &self,
        session: &mut Session,
        page: &str,
        shell: impl Fn(&str) -> Command,
    ) -> Result<()> {
        for (line, shown) in self.commands() {
            let output = session.output(&mut shell(line))?;
            if !shown.is_empty() && !is_shown(&shown, &output) {
                bail!("{page}: `{line}` prints\n{output}\nand {page} shows\n{}", shown.join("\n"));
            }
        }
        Ok(())
    }

    /// Checks that a quoted block stands in its source, word by word, be it with another indentation.
    pub(crate) fn check_quote(&self, page: &str) -> Result<()> {
        let Some(source) = self.source else { return Ok(()) };
        let text =
            std::fs::read_to_string(root().join(source)).with_context(|| format!("{page}: {source}"))?;
        if stands_in(self.text, &text) {
            return Ok(());
        }
        bail!("{page}: this is not in {source}, which is the one that is compiled:\n{}", self.text)
    }
}

/// A line for bash, in the workspace's directory and with its programs.
pub(crate) fn bash(line: &str, target: &Path) -> Command {
    let mut path = std::ffi::OsString::from(target.join("debug"));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", line]).current_dir(root()).env("PATH", path);
    forget_package(&mut command);
    command
}

/// An empty directory for what a page's commands write.
pub(crate) fn scratch(target: &Path, page: &str) -> Result<std::path::PathBuf> {
    let scratch = target.join(page);
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).with_context(|| format!("clearing {}", scratch.display()))?;
    }
    std::fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    Ok(scratch)
}

/// Whether this is the output shown. A shown line may end in `…` where the rest differs from run to run, and one that
/// is `…` alone stands for any lines.
fn is_shown(shown: &[&str], output: &str) -> bool {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    matches(shown, &lines)
}

fn matches(shown: &[&str], lines: &[&str]) -> bool {
    match (shown, lines) {
        ([], []) => true,
        (["…", rest @ ..], _) => (0..=lines.len()).any(|from| matches(rest, &lines[from..])),
        ([first, shown @ ..], [line, lines @ ..]) => {
            let same = match first.strip_suffix('…') {
                Some(head) => line.starts_with(head),
                None => first.trim_end() == line.trim_end(),
            };
            same && matches(shown, lines)
        }
        _ => false,
    }
}

fn stands_in(quote: &str, text: &str) -> bool {
    let (quote, text): (Vec<&str>, Vec<&str>) = (quote.lines().collect(), text.lines().collect());
    if quote.is_empty() {
        return false;
    }
    text.windows(quote.len()).any(|window| {
        let indent = &window[0][..window[0].len() - window[0].trim_start().len()];
        let same = |(line, quoted): (&&str, &&str)| match line.strip_prefix(indent) {
            Some(line) => line == *quoted,
            None => line.is_empty() && quoted.is_empty(),
        };
        window.iter().zip(&quote).all(same)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "A\n```sh\ntour.sh  # all\ncargo xtask test\n```\nB\n```console\n$ storage count c\n2\n$ storage types\nfile  0.1…\n```\n<!-- from a/b.rs -->\n```rust\nfn main() {}\n```\n";

    #[test]
    fn commands_come_with_the_output_shown() {
        let blocks = blocks(TEXT);
        let found: Vec<_> = blocks.iter().flat_map(Block::commands).collect();
        let names: Vec<_> = found.iter().map(|(command, _)| *command).collect();
        assert_eq!(names, ["tour.sh  # all", "storage count c", "storage types"]);
        assert_eq!(found[1].1, ["2"]);
        let sources: Vec<_> = blocks.iter().map(|block| block.source).collect();
        assert_eq!(sources, [None, None, Some("a/b.rs")]);
    }

    #[test]
    fn output_is_compared_line_by_line() {
        assert!(is_shown(&["file  0.1…"], "file  0.1.7\n"));
        assert!(!is_shown(&["file  0.1…"], "memory  0.1.7\n"));
        assert!(!is_shown(&["file  0.1…"], "file  0.1.7\nmore\n"));
        assert!(is_shown(&["a", "…", "c"], "a\nb\nb\nc\n"));
        assert!(is_shown(&["a", "…", "c"], "a\nc\n"));
        assert!(!is_shown(&["a", "…", "c"], "a\nb\n"));
    }

    #[test]
    fn a_quote_is_lines_of_its_source() {
        let text = "impl A {\n    fn b() {\n        c();\n\n        d();\n    }\n}\n";
        assert!(stands_in("fn b() {\n    c();\n\n    d();\n}\n", text));
        assert!(stands_in(text, text));
        assert!(!stands_in("fn b() {\n    d();\n", text));
        assert!(!stands_in("fn b() {\nc();\n", text));
        assert!(!stands_in("", text));
    }
}
