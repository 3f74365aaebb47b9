//! Each cargo feature by itself.

use anyhow::Result;

use crate::step::{Session, cargo};
use crate::workspace;

/// Checks each package that has features without any, with each alone and with all, warnings denied.
pub(crate) fn run(session: &mut Session) -> Result<()> {
    for (package, features) in workspace::features(&workspace::metadata()?) {
        let mut check = |with: &[&str]| {
            // Clippy checks all that `cargo check` does, and here its `-D warnings` reaches this package alone:
            // RUSTFLAGS would rebuild every dependency.
            let args = ["clippy", "--package", &package, "--all-targets"];
            let deny = ["--", "-D", "warnings"];
            session.run(&mut cargo(args.iter().chain(with).chain(&deny)))
        };
        if features.is_empty() {
            continue;
        }
        check(&["--no-default-features"])?;
        for feature in features.iter().filter(|feature| *feature != "default") {
            check(&["--no-default-features", "--features", feature])?;
        }
        check(&["--all-features"])?;
    }
    Ok(())
}
