//! `plugin test`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value as Tree, json};
use storage_core::ErrorKind;
use storage_registry::{Registry, TypeEntry};
use storage_testkit::{Case, Harness, Outcome as Ended, cases};

use super::failed_on_file;
use crate::command::Outcome;
use crate::conformance::{self, Stores, Verdict};
use crate::exit::{Failure, Status};
use crate::output::Output;
use crate::plugins::PluginArgs;

const OPERATION: &str = "plugin test";

/// Run the conformance suite against a plugin, and print the results by group.
///
/// The plugin is loaded for this alone, after a trial in a process of its own; it need be neither signed nor
/// installed. Each case gets a store of its own, at --url: there, {dir} stands for a new, empty directory, removed
/// afterwards, and {number} for a number that was never used before.
///
/// Without --url it is the plugin's first scheme, followed by {dir} if its configuration has a `path`. A case for
/// a capability that the plugin does not declare checks that such requests are refused. The cases that stop and
/// cut the server behind a store need power over it, and are not run here.
///
/// The exit status is 0 if no case failed, else 5.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage plugin test ./libstorage_example.so
  storage plugin test ./libc_memory.so --volatile
  storage plugin test ./example-1.0.0 --url 'example://localhost/test-{number}'")]
pub(crate) struct Test {
    /// The plugin: a shared library, or the directory of a package
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// The URL of a store, with {dir} and {number} where each store needs its own
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Stores keep nothing when they are closed
    #[arg(long)]
    volatile: bool,
}

impl Test {
    pub(crate) fn run(self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let (registry, entry) = plugins.load_alone(&self.path).map_err(failed_on_file(OPERATION))?;
        let pattern = self.pattern(&entry)?;
        check(&registry, &pattern)?;
        let stores: Arc<dyn Harness> = Arc::new(Stores::new(registry, pattern, !self.volatile));
        let (server, cases): (Vec<&Case>, Vec<&Case>) = cases().iter().partition(|case| case.server);

        let bar = progress(cases.len(), out);
        let started = Instant::now();
        let verdicts = conformance::run(&stores, &cases, |verdict| {
            bar.set_message(verdict.case.group);
            bar.inc(1);
        });
        bar.finish_and_clear();
        let verdicts = verdicts.map_err(|error| Failure::io(OPERATION, &error))?;
        let seconds = started.elapsed().as_secs_f64();
        let report = Report { entry, verdicts, not_run: server, seconds, volatile: self.volatile };
        report.print(out)
    }

    fn pattern(&self, entry: &TypeEntry) -> Result<String, Failure> {
        match (&self.url, entry.schemes.first()) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(scheme)) => Ok(Stores::default_pattern(scheme, &entry.config_schema)),
            (None, None) => Err(Failure::invalid(
                OPERATION,
                format!("{entry} has no URL scheme, so that nothing can be tested"),
            )),
        }
    }
}

/// A URL that is no good fails here once, and not in each of some two hundred cases.
fn check(registry: &Registry, pattern: &str) -> Result<(), Failure> {
    let url = pattern.replace(conformance::DIRECTORY, "/tmp").replace(conformance::NUMBER, "0");
    let planned = registry.plan(&url);
    planned.map(drop).map_err(|error| {
        let nowhere = error.kind() == ErrorKind::NotFound;
        let failure = Failure::from(error.operation(OPERATION)).suffixed("--url gives the URL of a store");
        if nowhere { failure.with_status(Status::BadInput) } else { failure }
    })
}

fn progress(cases: usize, out: &Output) -> ProgressBar {
    if out.is_json() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
    ProgressBar::new(cases as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

struct Report {
    entry: Arc<TypeEntry>,
    verdicts: Vec<Verdict>,
    /// The cases that need a server.
    not_run: Vec<&'static Case>,
    seconds: f64,
    volatile: bool,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    passed: u64,
    refused: u64,
    failed: u64,
}

impl Counts {
    fn add(&mut self, outcome: &Ended) {
        match outcome {
            Ended::Passed => self.passed += 1,
            Ended::Refused(_) => self.refused += 1,
            Ended::Failed(_) => self.failed += 1,
        }
    }

    fn row(self, group: &str) -> Vec<String> {
        vec![group.to_owned(), self.passed.to_string(), self.refused.to_string(), self.failed.to_string()]
    }
}

impl Report {
    fn print(&self, out: &mut Output) -> Outcome {
        let mut total = Counts::default();
        for verdict in &self.verdicts {
            total.add(&verdict.outcome);
        }
        if out.is_json() {
            self.json(total, out)?
        } else {
            self.text(total, out)?
        }
        if total.failed == 0 {
            return Ok(Status::Done);
        }
        let hint = if self.volatile {
            ""
        } else {
            ". If its stores keep nothing when they are closed, add --volatile"
        };
        let message = format!(
            "{} of {} cases failed; each says above what it expects{hint}",
            total.failed,
            self.verdicts.len()
        );
        Err(Failure::new(ErrorKind::Internal, OPERATION, message))
    }

    fn text(&self, total: Counts, out: &mut Output) -> Result<(), Failure> {
        // In the order of the suite.
        let (mut groups, mut counts) = (Vec::new(), BTreeMap::<&str, Counts>::new());
        for verdict in &self.verdicts {
            let group = verdict.case.group;
            if !counts.contains_key(group) {
                groups.push(group);
            }
            counts.entry(group).or_default().add(&verdict.outcome);
        }
        let mut rows: Vec<_> = groups.iter().map(|group| counts[group].row(group)).collect();
        rows.push(total.row("all"));
        out.table(&["GROUP", "PASSED", "REFUSED", "FAILED"], rows)?;
        for Verdict { case, outcome } in &self.verdicts {
            if let Ended::Failed(why) = outcome {
                out.line(format!("failed: {case:?}: {}", why.replace(char::is_control, " ")))?;
            }
        }
        out.note(format!(
            "{} in {:.1} s; not run: {} cases that need power over a server",
            self.entry,
            self.seconds,
            self.not_run.len()
        ))
    }

    fn json(&self, total: Counts, out: &mut Output) -> Result<(), Failure> {
        let case = |Verdict { case, outcome }: &Verdict| -> Tree {
            let (ended, feature, message) = match outcome {
                Ended::Passed => ("passed", None, None),
                Ended::Refused(feature) => ("refused", Some(feature), None),
                Ended::Failed(why) => ("failed", None, Some(why)),
            };
            json!({
                "group": case.group, "case": case.name, "outcome": ended, "feature": feature, "message": message,
            })
        };
        let not_run = |case: &&Case| json!({"group": case.group, "case": case.name});
        out.json(&json!({
            "name": self.entry.name,
            "version": self.entry.version,
            "passed": total.passed,
            "refused": total.refused,
            "failed": total.failed,
            "cases": self.verdicts.iter().map(case).collect::<Vec<_>>(),
            "not_run": self.not_run.iter().map(not_run).collect::<Vec<_>>(),
            "seconds": (self.seconds * 1e3).round() / 1e3,
        }))
    }
}
