//! The C and C++ compilers of the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A path within this crate: `include` has the header as it is now, `tests/abi/1.0` what was frozen with ABI 1.0.
pub(crate) fn path(within: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(within)
}

/// A command that runs the C compiler, or the one that `CC` names.
pub(crate) fn cc() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

/// Runs a command that has to succeed, and returns what it printed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?} cannot be run ({error}): install a C and a C++ compiler, and make")
    });
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed, {}:\n{printed}{errors}", output.status);
    printed.into_owned()
}
