//! Every test that this machine can run.

use anyhow::Result;

use crate::step::{Session, cargo};
use crate::{capabilities, guide, readme, services};

/// Runs all tests, then what README.md and the guide tell people to run.
///
/// A test that cannot run here (for want of root, say) writes a line that begins with `not run: ` straight to
/// the standard error; the summary repeats it, so that it never counts as passed.
pub(crate) fn run(session: &mut Session, long: bool) -> Result<()> {
    services::install(session)?;
    let mut test = cargo(["test", "--workspace", "--no-fail-fast"]);
    test.args(["--exclude", "storage-bench"]);
    if long {
        test.env("STORAGE_LONG", "1");
    }
    let mut tally = Tally::default();
    let tested = session.watch(&mut test, |line| tally.count(line));
    tally.report(session);
    tested?;
    readme::run(session)?;
    guide::run(session)?;
    capabilities::run(session, true, false)?;
    if !long {
        session.note("NOT RUN: the long variants (to have them: cargo xtask test --long)");
    }
    Ok(())
}

/// What the test harness said.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: Vec<String>,
    ignored: u64,
    not_run: Vec<String>,
    /// What to pass to `cargo test -p` to run a failed target alone.
    again: Vec<String>,
}

impl Tally {
    fn count(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += number_before(counts, " passed");
            self.ignored += number_before(counts, " ignored");
        } else if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            self.failed.push(name.to_owned());
        } else if let Some(target) = line.strip_prefix("    `-p ").and_then(|l| l.strip_suffix('`')) {
            self.again.push(target.to_owned());
        } else if let Some(what) = line.split("not run: ").nth(1).filter(|_| !line.starts_with("test ")) {
            self.not_run.push(what.to_owned());
        }
    }

    fn report(self, session: &mut Session) {
        session.note(format!(
            "   tests  {} passed, {} failed, {} ignored, {} not run",
            self.passed,
            self.failed.len(),
            self.ignored,
            self.not_run.len()
        ));
        for name in self.failed {
            session.note(format!("  FAILED  {name}"));
        }
        for target in self.again {
            session.note(format!("To run it again: cargo test -p {target}"));
        }
        for what in self.not_run {
            session.note(format!("NOT RUN: {what}"));
        }
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().unwrap_or_default();
    before.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_counts_what_the_harness_prints() {
        let mut tally = Tally::default();
        for line in [
            "test name::long ... ok",
            "test name::bad ... FAILED",
            "not run: power cuts, which need root",
            "error: 1 target failed:",
            "    `-p storage-cli --test it`",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "test result: FAILED. 30 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            tally.count(line);
        }
        assert_eq!((tally.passed, tally.ignored), (42, 1));
        assert_eq!(tally.failed, ["name::bad"]);
        assert_eq!(tally.again, ["storage-cli --test it"]);
        assert_eq!(tally.not_run, ["power cuts, which need root"]);
    }
}
