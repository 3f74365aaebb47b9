//! Starting writers, listening to them, and ending them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use storage_core::{Backend, Result, TypeDescriptor};

use super::{Failure, Outcome};

/// The environment variable that makes this program a writer.
pub(super) const ROLE: &str = "STORAGE_CRASH_ROLE";
/// The environment variable with the store's URL, for the writer.
pub(super) const URL: &str = "STORAGE_CRASH_URL";
/// The role that only writes.
const WRITE: &str = "write";
/// How long a writer may take to open the store and check it, and to close it.
const PATIENCE: Duration = Duration::from_secs(120);

/// This test program, which is also its own writer.
pub(super) struct Program {
    descriptor: &'static dyn TypeDescriptor,
    url: &'static str,
}

/// A line of a writer's.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    Found { lane: String, low: u64, high: u64 },
    Ready,
    Acknowledged { lane: String, step: u64, at: u64 },
    Trouble { at: u64, what: String },
    End,
}

impl Event {
    /// Makes an acknowledgement one that promised nothing.
    pub(super) fn after_the_cut(&mut self) {
        if let Self::Acknowledged { at, .. } = self {
            *at = u64::MAX;
        }
    }
}

impl Program {
    pub(super) fn new(descriptor: &'static dyn TypeDescriptor, url: &'static str) -> Self {
        Self { descriptor, url }
    }

    /// The URL of the store in this directory.
    fn url(&self, directory: &Path) -> String {
        self.url.replace("{dir}", &directory.display().to_string())
    }

    /// Opens the store in this directory in this process.
    pub(super) async fn open(&self, directory: &Path) -> Result<Arc<dyn Backend>> {
        open(self.descriptor, &self.url(directory)).await
    }

    /// A command that starts this program as a child of this role.
    pub(super) fn command(&self, role: &str, directory: &Path) -> Outcome<Command> {
        let mut command = Command::new(itself()?);
        command.env(ROLE, role).env(URL, self.url(directory));
        Ok(command)
    }

    /// Starts a writer on the store in this directory.
    pub(super) fn start(&self, directory: &Path) -> Outcome<Writer> {
        Writer::start(self.command(WRITE, directory)?)
    }

    /// Has a writer open the store, check it, write a step in each lane, and close it.
    pub(super) fn finish(&self, directory: &Path) -> Outcome<Vec<Event>> {
        self.start(directory)?.finish()
    }
}

/// This program's file.
fn itself() -> Outcome<PathBuf> {
    // Still the same program when its file has been replaced by a newer build.
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        return Ok(running.to_owned());
    }
    std::env::current_exe().map_err(Failure::broken)
}

pub(super) async fn open(descriptor: &dyn TypeDescriptor, url: &str) -> Result<Arc<dyn Backend>> {
    descriptor.open(descriptor.config_from_url(url)?).await
}

/// A running writer; killed when dropped.
pub(super) struct Writer {
    child: Child,
    lines: Receiver<Event>,
    events: Vec<Event>,
}

impl Writer {
    pub(super) fn start(mut command: Command) -> Outcome<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(Failure::broken)?;
        let output = child.stdout.take().ok_or_else(|| Failure::broken("the writer has no output"))?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = String::new();
            // A line without its end was cut off, and is none.
            while output.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
                let event =
                    parse(line.trim_end()).unwrap_or_else(|| Event::Trouble { at: 0, what: line.clone() });
                if sender.send(event).is_err() {
                    break;
                }
                line.clear();
            }
        });
        Ok(Self { child, lines, events: Vec::new() })
    }

    /// Waits until the writer begins to write, or has ended.
    pub(super) fn until_ready(&mut self) -> Outcome<()> {
        self.listen(|event| *event == Event::Ready)
    }

    /// Kills the writer with SIGKILL; everything it said. That it had ended by itself is trouble.
    pub(super) fn kill(mut self) -> Outcome<Vec<Event>> {
        let ended = self.child.try_wait().map_err(Failure::broken)?;
        self.child.kill().map_err(Failure::broken)?;
        self.child.wait().map_err(Failure::broken)?;
        self.listen(|_| false)?;
        if let Some(status) = ended {
            self.events.push(Event::Trouble { at: 0, what: format!("the writer ended by itself: {status}") });
        }
        Ok(std::mem::take(&mut self.events))
    }

    /// Has the writer stop and close the store; everything it said.
    pub(super) fn finish(mut self) -> Outcome<Vec<Event>> {
        drop(self.child.stdin.take());
        self.listen(|_| false)?;
        let status = self.child.wait().map_err(Failure::broken)?;
        if !status.success() || self.events.last() != Some(&Event::End) {
            self.events.push(unfinished(status));
        }
        Ok(std::mem::take(&mut self.events))
    }

    fn listen(&mut self, enough: impl Fn(&Event) -> bool) -> Outcome<()> {
        let limit = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(limit.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    let last = enough(&event);
                    self.events.push(event);
                    if last {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    let last = self.events.last();
                    return Err(Failure::broken(format!("the writer hangs after {last:?}")));
                }
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unfinished(status: ExitStatus) -> Event {
    Event::Trouble { at: 0, what: format!("the writer did not close the store: {status}") }
}

fn parse(line: &str) -> Option<Event> {
    match line {
        "ready" => return Some(Event::Ready),
        "end" => return Some(Event::End),
        _ => {}
    }
    let (mark, rest) = line.split_once(' ')?;
    if mark == "!" {
        let (at, what) = rest.split_once(' ')?;
        return Some(Event::Trouble { at: at.parse().ok()?, what: what.to_owned() });
    }
    let mut words = rest.split(' ');
    let (lane, first, second) =
        (words.next()?.to_owned(), words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    match mark {
        "=" => Some(Event::Found { lane, low: first, high: second }),
        "+" => Some(Event::Acknowledged { lane, step: first, at: second }),
        _ => None,
    }
}
