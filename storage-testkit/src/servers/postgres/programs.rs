//! Where the programs of PostgreSQL are, and running them.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use storage_core::{Error, ErrorKind, Result};

use super::super::process::{not_installed, trouble};

pub(super) const INSTALL: &str =
    "run `cargo xtask services install`, or install Debian's postgresql and pgbouncer";

/// Where Debian and its like have PostgreSQL, by version: outside of `PATH`, so that several can be installed.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A program of the newest PostgreSQL of the machine, or else the one on `PATH`.
pub(super) fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let found = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let path = entry.path().join("bin").join(name);
        path.exists().then_some((version, path))
    });
    found.max().map_or_else(|| on_path_or_sbin(name), |(_, path)| path)
}

/// Who is not root may not have the directories of servers on `PATH`.
fn on_path_or_sbin(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    directories
        .find_map(|d| Some(d.join(name)).filter(|p| p.exists()))
        .unwrap_or_else(|| Path::new(name).into())
}

/// Runs a program to its end with a text as its input, and returns its output.
pub(super) fn finished(mut command: Command, name: &str, input: &str) -> Result<String> {
    // Settings for the user's own servers.
    for (variable, _) in std::env::vars_os() {
        if variable.to_str().is_some_and(|variable| variable.starts_with("PG")) {
            command.env_remove(variable);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_installed(name, INSTALL),
        _ => trouble(name, &error),
    })?;
    let mut stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Beside reading what it prints, so that neither waits for the other. What it does not read is no error.
        scope.spawn(move || {
            let _ = stdin.as_mut().map(|stdin| stdin.write_all(input.as_bytes()));
        });
        child.wait_with_output()
    });
    let output = output.map_err(|error| trouble(name, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(ErrorKind::Unavailable, format!("{name}: {}", told.trim())))
}
