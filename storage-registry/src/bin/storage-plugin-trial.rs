//! Tries plugins for programs that load them but do not call `run_trial_if_asked` themselves: put it beside them.

use std::process::ExitCode;

fn main() -> ExitCode {
    storage_registry::plugins::run_trial_if_asked();
    // Reached only if nothing is to be tried.
    ExitCode::from(2)
}
