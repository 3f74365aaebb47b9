//! Ends servers whose test process is gone: killed, aborted, or simply over while a `static` held them.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::process::Signal;

/// Reads lines until its input ends, which is when the test process is gone: `+pid signal directory` and `-pid`.
///
/// Servers that are asked by a signal have ten seconds, also those that are frozen; then, as all others, they are killed.
const SCRIPT: &str = r#"
while read -r line; do
  case "$line" in
    +*) held="$held
${line#+}" ;;
    -*) held=$(printf '%s\n' "$held" | grep -v "^${line#-} ") ;;
  esac
done
asked=
while read -r pid signal directory; do
  [ -n "$pid" ] && [ "$signal" != 9 ] && kill -"$signal" "$pid" 2>/dev/null && kill -CONT "$pid" && asked="$asked $pid"
done <<END
$held
END
for pid in $asked; do
  waited=0
  while [ $waited -lt 100 ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; waited=$((waited + 1)); done
done
while read -r pid signal directory; do
  [ -n "$pid" ] && kill -9 "$pid" 2>/dev/null
  case "$directory" in */storage-test-*) rm -rf "$directory" ;; esac
done <<END
$held
END
"#;

/// The input of the guardian; `None` if it could not be started, which only costs what it is for.
static GUARDIAN: LazyLock<Mutex<Option<ChildStdin>>> = LazyLock::new(|| {
    let started = Command::new("sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    Mutex::new(started.ok().and_then(|child| child.stdin))
});

/// Has a process ended by a signal, and its directory removed, once this process is gone.
pub(super) fn watch(process: u32, signal: Signal, directory: &Path) {
    tell(&format!("+{process} {} {}\n", signal.as_raw(), directory.display()));
}

/// The process has ended, or is left to somebody else.
pub(super) fn forget(process: u32) {
    tell(&format!("-{process}\n"));
}

fn tell(line: &str) {
    if let Some(guardian) = GUARDIAN.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        let _ = guardian.write_all(line.as_bytes());
    }
}
