//! The other side of a trial: the process that a plugin may end.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use storage_plugin::host::{LoadLimits, Plugin};

use super::Description;

/// The environment variable that asks for a trial, and names the library.
pub(super) const LIBRARY: &str = "STORAGE_PLUGIN_TRIAL";
/// How long `init` may take, in milliseconds.
pub(super) const INIT_LIMIT: &str = "STORAGE_PLUGIN_TRIAL_INIT_MS";
/// What the line with the answer begins with; the program may have printed others before.
const ANSWER: &str = "storage-plugin-trial ";

static HOOKED: AtomicBool = AtomicBool::new(false);

/// Makes this program one that can try plugins before it loads them. Call it first in `main`.
///
/// If the environment asks for a trial, the plugin is loaded, what it says about itself printed, and the process
/// ended: then this does not return. Else it returns at once.
pub fn run_trial_if_asked() {
    HOOKED.store(true, Ordering::Relaxed);
    let Some(library) = env::var_os(LIBRARY).filter(|_| !has_more_rights_than_its_user()) else { return };
    process::exit(match answer_trial(Path::new(&library)) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            1
        }
    })
}

/// Whether the program is set-user-id or set-group-id: then the environment is not to be trusted.
fn has_more_rights_than_its_user() -> bool {
    use rustix::process::{getegid, geteuid, getgid, getuid};

    getuid() != geteuid() || getgid() != getegid()
}

/// Whether this program can be used for trials.
pub(super) fn is_hooked() -> bool {
    HOOKED.load(Ordering::Relaxed)
}

fn answer_trial(library: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut limits = LoadLimits::default();
    if let Some(limit) = env::var(INIT_LIMIT).ok().and_then(|limit| limit.parse().ok()) {
        limits.init = Duration::from_millis(limit);
    }
    leave_no_core();
    let mut out = keep_stdout()?;
    let plugin = Plugin::load(library, limits)?;
    let description = serde_json::to_string(&Description::of(&*plugin))?;
    // In one piece, on a line of its own.
    out.write_all(format!("\n{ANSWER}{description}\n").as_bytes())?;
    Ok(())
}

/// A plugin that crashes here has done no harm, and its memory need not stay on disk.
fn leave_no_core() {
    use rustix::process::{Resource, Rlimit, setrlimit};

    // To lower a limit is always allowed.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Takes the standard output for the answer alone: what the plugin prints goes to the standard error from now on, also
/// what its C library still holds when the process ends.
fn keep_stdout() -> io::Result<File> {
    let out = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(File::from(out))
}

/// The answer in what a process printed.
pub(super) fn answer(output: &[u8]) -> Option<Description> {
    let mut lines = output.split(|byte| *byte == b'\n').rev();
    serde_json::from_slice(lines.find_map(|line| line.strip_prefix(ANSWER.as_bytes()))?).ok()
}
