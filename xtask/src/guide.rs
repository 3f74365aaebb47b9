//! What docs/writing-a-backend.md shows: its code is that of the examples, and its commands work.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::document::{bash, blocks, scratch};
use crate::step::{Session, cargo};
use crate::workspace::{metadata, root, target_dir};

const PAGE: &str = "docs/writing-a-backend.md";

/// Holds the code of the guide against its sources, and runs its commands with an empty home directory.
pub(crate) fn run(session: &mut Session) -> Result<()> {
    let text = check_quotes()?;
    let target = target_dir(&metadata()?)?;
    let home = scratch(&target, "guide")?;
    session.run(&mut cargo(["build", "--quiet", "--package", "storage-cli"]))?;
    for block in blocks(&text) {
        block.run(session, PAGE, |line| at_home(bash(line, &target), &home))?;
    }
    Ok(())
}

/// Checks that all code of the guide is quoted, and quoted well. Returns the guide.
fn check_quotes() -> Result<String> {
    let text = std::fs::read_to_string(root().join(PAGE)).context(PAGE)?;
    for block in blocks(&text) {
        if matches!(block.language, "rust" | "c" | "toml") && block.source.is_none() {
            bail!(
                "{PAGE}: nothing compiles this: quote it from an example, with <!-- from FILE --> before it\n{}",
                block.text
            );
        }
        block.check_quote(PAGE)?;
    }
    Ok(text)
}

/// A command for which `home` is the user's home directory. Only cargo and rustup stay where they are.
fn at_home(mut command: Command, home: &Path) -> Command {
    for (name, directory) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        if let (None, Some(user)) = (std::env::var_os(name), std::env::home_dir()) {
            command.env(name, user.join(directory));
        }
    }
    for name in ["XDG_DATA_HOME", "STORAGE_PLUGIN_DIR", "STORAGE_URL"] {
        command.env_remove(name);
    }
    command.env("HOME", home);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_quotes_its_sources() {
        let text = check_quotes().unwrap();
        let quoted = blocks(&text).iter().filter(|block| block.source.is_some()).count();
        assert!(quoted > 10, "only {quoted} blocks are quoted");
    }
}
