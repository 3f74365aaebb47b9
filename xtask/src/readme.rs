//! What README.md tells people to type, done as they would do it.

use anyhow::{Context, Result, bail};

use crate::document::{bash, blocks, scratch};
use crate::step::{Session, cargo};
use crate::workspace::{metadata, root, target_dir};

const PAGE: &str = "README.md";

/// Runs the commands of README.md on a store of their own, compares the output it shows, and holds its Rust
/// example against the one that is compiled.
pub(crate) fn run(session: &mut Session) -> Result<()> {
    let text = std::fs::read_to_string(root().join(PAGE)).context(PAGE)?;
    let target = target_dir(&metadata()?)?;
    let store = format!("file:{}", scratch(&target, "readme")?.join("store").display());
    session.run(&mut cargo(["build", "--quiet", "--package", "storage-cli"]))?;
    for block in blocks(&text) {
        block.run(session, PAGE, |line| {
            let mut command = bash(line, &target);
            command.env("STORAGE_URL", &store);
            command
        })?;
        if block.language == "rust" {
            quickstart(session, block.text)?;
        }
    }
    Ok(())
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
