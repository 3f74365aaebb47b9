//! Trying a plugin in a process of its own, which it may end without harm.

use std::env;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use storage_core::{Error, ErrorKind, Result, Retry};
use storage_plugin::abi::{ABI_MAJOR, ABI_MINOR};
use storage_plugin::host::LoadLimits;

use super::directory::State;
use super::options::variable;
use super::{Description, Digest, MajorMinor, TrialOptions, trial_process};

/// Names the program that tries plugins.
const PROGRAM_VARIABLE: &str = "STORAGE_PLUGIN_TRIAL_PROGRAM";
/// The programs beside this one that can try plugins.
const PROGRAMS: [&str; 2] = ["storage-plugin-trial", "storage"];
/// The most that a plugin has to say about itself, in bytes.
const MAX_OUTPUT: u64 = 4 << 20;
/// How much of what the process wrote to its standard error is told, in bytes.
const ERROR_TAIL: usize = 1_000;
/// How long after its end the output of a process is waited for: processes that it started may hold it open.
const OUTPUT_LIMIT: Duration = Duration::from_secs(5);

/// That a library was tried with success, and with what: another C library or host is another matter.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    abi: MajorMinor,
    glibc: Option<MajorMinor>,
    description: Description,
}

/// What a library said when it was tried on a system as this one; none if it was not.
pub(super) fn recorded(state: &State, sha256: &Digest) -> Option<Description> {
    let record: Record = state.read(State::TRIALS, &sha256.to_string())?;
    (record.abi == abi() && record.glibc == glibc()).then_some(record.description)
}

/// What a library said when it was last tried, on whatever system.
pub(super) fn last_description(state: &State, sha256: &Digest) -> Option<Description> {
    let record: Record = state.read(State::TRIALS, &sha256.to_string())?;
    Some(record.description)
}

/// Remembers that a library was tried with success.
pub(super) fn remember(state: &State, sha256: &Digest, description: &Description) -> Result<()> {
    let record = Record { abi: abi(), glibc: glibc(), description: description.clone() };
    state.write(State::TRIALS, &sha256.to_string(), &record)
}

pub(super) fn forget(state: &State, sha256: &Digest) -> Result<()> {
    state.remove(State::TRIALS, &sha256.to_string())
}

fn abi() -> MajorMinor {
    (ABI_MAJOR, ABI_MINOR).into()
}

fn glibc() -> Option<MajorMinor> {
    storage_plugin::host::glibc_version().map(|(major, minor)| MajorMinor { major, minor })
}

/// Loads a library in a process of its own, and returns what it says about itself. `shown` stands for the library in
/// messages.
///
/// # Errors
/// None is worth a retry.
/// - [`InvalidInput`](ErrorKind::InvalidInput) if the library is no good: it ended the process, or was refused there.
/// - [`Timeout`](ErrorKind::Timeout) if it took too long.
/// - [`Unavailable`](ErrorKind::Unavailable) if there is no program to try it with.
pub(super) fn run(
    library: &Path,
    shown: &Path,
    options: &TrialOptions,
    limits: &LoadLimits,
) -> Result<Description> {
    let failed = |kind: ErrorKind, why: String| {
        Error::new(kind, format!("{}: {why}", shown.display())).with_retry(Retry::Never)
    };
    let program = program(options).ok_or_else(|| {
        failed(
            ErrorKind::Unavailable,
            format!(
                "it was never loaded here, and there is no program to try it in first: call `run_trial_if_asked` at \
                 the beginning of `main`, put `storage-plugin-trial` beside this program, or name it in \
                 {PROGRAM_VARIABLE}"
            ),
        )
    })?;
    let unstarted = |error: std::io::Error| {
        failed(
            ErrorKind::Unavailable,
            format!("the program {} that would try it first does not start: {error}", program.display()),
        )
    };
    let mut command = Command::new(&program);
    command.env_clear().envs(environment());
    command.env(trial_process::LIBRARY, library);
    command.env(trial_process::INIT_LIMIT, limits.init.as_millis().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(unstarted)?;
    let output = collect(child.stdout.take());
    let errors = collect(child.stderr.take());
    let status = wait(&mut child, options.limit).map_err(unstarted)?;
    let said = || tail(&errors.recv_timeout(OUTPUT_LIMIT).unwrap_or_default());
    let Some(status) = status else {
        let why = format!(
            "it did not load within {:?} when it was tried in a process of its own{}",
            options.limit,
            said()
        );
        return Err(failed(ErrorKind::Timeout, why));
    };
    if !status.success() {
        let why = format!("when it was tried in a process of its own, that ended with {status}{}", said());
        return Err(failed(ErrorKind::InvalidInput, why));
    }
    let output = output.recv_timeout(OUTPUT_LIMIT).unwrap_or_default();
    trial_process::answer(&output).ok_or_else(|| {
        let why = format!(
            "when it was tried in a process of its own, the program {} did not answer as it should",
            program.display()
        );
        failed(ErrorKind::InvalidInput, why + &said())
    })
}

fn program(options: &TrialOptions) -> Option<PathBuf> {
    let named = options.program.clone().or_else(|| variable(PROGRAM_VARIABLE));
    named.or_else(|| {
        let this = env::current_exe().ok()?;
        if trial_process::is_hooked() {
            return Some(this);
        }
        let dir = this.parent()?;
        PROGRAMS.iter().map(|name| dir.join(name)).find(|path| path.is_file() && *path != this)
    })
}

/// Secrets in the environment of the program are none of the business of a plugin that is only tried. What the
/// system's loader, sanitizers and the C library go by is passed on.
fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    const NAMES: [&str; 6] = ["PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_ALL"];
    env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        NAMES.contains(&&*name) || name.starts_with("LD_") || name.ends_with("SAN_OPTIONS")
    })
}

/// Waits for a process to end; none if it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Reads on a thread of its own, so that a process that writes much is not held up.
fn collect(from: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let read = move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes);
            let _ = sender.send(bytes);
            let _ = std::io::copy(&mut from, &mut std::io::sink());
        }
    };
    // Without a thread there is no output, which is told as such.
    let _ = thread::Builder::new().name("plugin-trial".to_owned()).spawn(read);
    receiver
}

/// The end of what a process wrote, in one line.
fn tail(errors: &[u8]) -> String {
    let end = &errors[errors.len().saturating_sub(ERROR_TAIL)..];
    let lines = String::from_utf8_lossy(end);
    let lines: Vec<_> =
        lines.split(char::is_control).map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ")) }
}
