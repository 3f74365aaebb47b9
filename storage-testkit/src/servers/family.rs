//! The processes that a server has for its connections and its chores.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long processes that were killed may take until they are gone.
const END: Duration = Duration::from_secs(10);

/// The processes that a process has started and that still run.
pub(super) fn children(parent: u32) -> Vec<u32> {
    all().into_iter().filter(|process| process.parent == parent).map(|process| process.id).collect()
}

/// Sends a signal to those that still run.
pub(super) fn signal(processes: &[u32], signal: Signal) {
    for pid in processes.iter().filter_map(|id| Pid::from_raw(id.cast_signed())) {
        let _ = kill_process(pid, signal);
    }
}

/// Freezes them with all that they start meanwhile.
pub(super) fn freeze(parent: u32) {
    signal(&[parent], Signal::STOP);
    // One that was being started when its parent froze appears a little later.
    for _ in 0..3 {
        signal(&children(parent), Signal::STOP);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets them go on.
pub(super) fn thaw(parent: u32) {
    signal(&children(parent), Signal::CONT);
    signal(&[parent], Signal::CONT);
}

/// Kills processes and waits until they are gone.
pub(super) fn kill(processes: &[u32]) {
    signal(processes, Signal::KILL);
    let asked = Instant::now();
    while asked.elapsed() < END && all().iter().any(|process| processes.contains(&process.id)) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

struct Process {
    id: u32,
    parent: u32,
}

/// All processes that run; one that has ended and is only still listed is none.
fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return listed() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let found: Vec<Process> = ids.filter_map(process).collect();
    if found.is_empty() { listed() } else { found }
}

fn process(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // After the name, which may hold anything: the state, then the parent.
    let (state, rest) = stat.rsplit_once(") ")?.1.split_once(' ')?;
    let parent = rest.split(' ').next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(Process { id, parent })
}

/// As [`all`], where the system has no /proc as Linux has it.
fn listed() -> Vec<Process> {
    let mut ps = Command::new("ps");
    let output = ps.args(["-A", "-o", "pid=,ppid=,stat="]).stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let process = Process { id: words.next()?.parse().ok()?, parent: words.next()?.parse().ok()? };
        (!words.next()?.starts_with('Z')).then_some(process)
    });
    lines.collect()
}
