//! Formatting, lints, documentation and the dependency tree.

use anyhow::Result;

use crate::services::installed;
use crate::step::{Session, cargo};

/// Checks everything that can be said of the code without running it.
pub(crate) fn run(session: &mut Session) -> Result<()> {
    session.run(&mut cargo(["fmt", "--all", "--check"]))?;
    session.run(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    session.run(
        cargo(["doc", "--workspace", "--no-deps", "--exclude", "storage-bench", "--exclude", "xtask"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    if installed("cargo-deny") {
        session.run(&mut cargo(["deny", "--workspace", "check"]))?;
    } else {
        session.note("NOT RUN: licences and advisories (to have them: cargo install --locked cargo-deny)");
    }
    Ok(())
}
