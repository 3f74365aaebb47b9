//! Small C programs that do what safe Rust has no call for, compiled when a test needs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Failure, Outcome};

/// The system call that cuts a file system off; see `cut.c`.
pub(super) const CUT: &str = include_str!("cut.c");
/// Makes chosen calls fail in a process that it is loaded into; see `fault.c`.
pub(super) const FAULT: &str = include_str!("fault.c");

/// Compiles `source` into `directory`. Rust links with `cc`, so it is there wherever tests are compiled.
pub(super) fn compile(directory: &Path, name: &str, source: &str, flags: &[&str]) -> Outcome<PathBuf> {
    let (code, made) = (directory.join(format!("{name}.c")), directory.join(name));
    std::fs::write(&code, source).map_err(Failure::broken)?;
    run(Command::new("cc").args(["-O1", "-Wall"]).args(flags).arg("-o").arg(&made).arg(&code))
        .map_err(Failure::NotRun)?;
    Ok(made)
}

/// Runs a command to its end; its output, or why it failed.
pub(super) fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', " ");
    Err(format!("{program}: {}: {said}", done.status))
}
