//! Syncs that take as long as a real disk's: a small library loaded into the server by `LD_PRELOAD`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const SOURCE: &str = include_str!("../sync_delay.c");

/// Tells the library how long a sync takes, and this program that it runs with it.
const VARIABLE: &str = "STORAGE_BENCH_SYNC_DELAY_NS";

/// The file name of the library.
const LIBRARY: &str = "libstorage_bench_sync_delay.so";

/// Whether this process was started by [`run_again`].
pub(crate) fn is_on() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Compiles the library with `cc`, and runs this program again with it, as a process cannot change its own environment
/// safely once it has threads. The servers that the new one starts inherit it; the library acts in these alone.
pub(crate) fn run_again(delay: Duration) -> Result<ExitCode> {
    // The server runs as another user, who has to read it.
    let directory = tempfile::Builder::new()
        .prefix("storage-bench-sync-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir()?;
    let (source, library) = (directory.path().join("sync_delay.c"), directory.path().join(LIBRARY));
    std::fs::write(&source, SOURCE)?;
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let output = cc.output().context("cc, a C compiler, which --sync-delay needs")?;
    ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::set_permissions(&library, Permissions::from_mode(0o755))?;
    let preload = match std::env::var("LD_PRELOAD") {
        Ok(others) if !others.is_empty() => format!("{}:{others}", library.display()),
        _ => library.display().to_string(),
    };
    let status = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env("LD_PRELOAD", preload)
        .env(VARIABLE, delay.as_nanos().to_string())
        .status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes sure that a server process has the library.
pub(crate) fn check_loaded(process: u32) -> Result<()> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).context("the server's memory map")?;
    ensure!(maps.contains(LIBRARY), "the server runs without the library that slows its syncs");
    Ok(())
}
