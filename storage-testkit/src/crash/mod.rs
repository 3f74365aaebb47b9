//! The crash tester: kills, power cuts, full disks and failing disks under a writing program.
//!
//! A test program of its own (`harness = false` in `Cargo.toml`) starts itself anew as the *writer*: a child
//! that opens the store and writes without pause in several lanes, printing a line for each write that
//! was acknowledged. The parent ends the child, or the disk under it, starts the next child on the same store,
//! and holds what that one finds against what had been acknowledged.
//!
//! The whole of `tests/kill.rs` of a backend, for whose URL `{dir}` becomes a directory of the test:
//!
//! ```no_run
//! # use storage_core::MEMORY;
//! fn main() -> std::process::ExitCode {
//!     storage_testkit::crash::main(&MEMORY, [storage_testkit::crash::kills("file:{dir}")])
//! }
//! ```
//!
//! What a test needs and a machine lacks (root, loop devices, a C compiler) makes the test *ignored*, with the
//! reason beside its name and in a line `not run: …` on the standard error; it never passes unseen. With
//! `STORAGE_LONG=1` the runs are the long ones.

use std::env;
use std::fmt;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use storage_core::TypeDescriptor;

mod child;
mod disk;
mod fault;
mod full;
mod kill;
mod lane;
mod ledger;
mod parent;
mod power;
mod tool;

pub use fault::{failing_syncs, failing_writes};
pub use full::full_disk;
pub use kill::kills;
pub use power::{power_cuts, power_cuts_eventual, power_cuts_unsynced};

use parent::Program;

/// One crash test, to be handed to [`main`].
pub struct Test {
    name: &'static str,
    run: fn(&Program) -> Outcome,
    url: &'static str,
}

impl fmt::Debug for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Test").field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}

/// A summary of what was done, or why the test did not pass.
type Outcome<T = String> = Result<T, Failure>;

/// Why a test did not pass.
#[derive(Debug)]
enum Failure {
    /// This machine lacks something.
    NotRun(String),
    /// The store broke a promise, or the test itself failed.
    Broken(String),
}

impl Failure {
    fn broken(what: impl fmt::Display) -> Self {
        Self::Broken(what.to_string())
    }
}

/// The `main` of a crash test program: runs the tests, or is the writer that one of them started.
///
/// The stores are those of `descriptor`, opened by the URL of each test.
pub fn main(descriptor: &'static dyn TypeDescriptor, tests: impl IntoIterator<Item = Test>) -> ExitCode {
    if let Ok(role) = env::var(parent::ROLE) {
        return child::main(descriptor, &role);
    }
    let trials =
        tests.into_iter().map(|test| Trial::ignorable_test(test.name, move || run(descriptor, &test)));
    let mut arguments = Arguments::from_args();
    // The tests time what they do to each other's disks and processes.
    arguments.test_threads.get_or_insert(1);
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

#[expect(clippy::print_stderr, reason = "what was done, and what was not, must be seen")]
fn run(descriptor: &'static dyn TypeDescriptor, test: &Test) -> Result<Completion, Failed> {
    let program = Program::new(descriptor, test.url);
    match (test.run)(&program) {
        Ok(summary) => {
            eprintln!("\n{}: {summary}", test.name);
            Ok(Completion::Completed)
        }
        Err(Failure::NotRun(reason)) => {
            eprintln!("\nnot run: {}: {reason}", test.name);
            Ok(Completion::ignored_with(reason))
        }
        Err(Failure::Broken(what)) => Err(what.into()),
    }
}

/// How many rounds to run: the long runs are for releases.
fn rounds(normal: usize, long: usize) -> usize {
    if env::var_os("STORAGE_LONG").is_some_and(|value| value == "1") { long } else { normal }
}
