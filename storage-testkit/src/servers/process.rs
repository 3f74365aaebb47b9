//! One server process.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use storage_core::{Error, ErrorKind, Result};
use tempfile::TempDir;

use super::guardian;
use super::user::User;

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(30);

/// How long a server may take to stand still, or to end when it is asked to because its value is dropped.
const END: Duration = Duration::from_secs(10);

/// A loopback port on which nothing listens, and on the port 10,000 above neither (the bus of a Redis Cluster). It is
/// not given out again, in this process or in another one of the same user, as long as this process lives.
///
/// # Errors
/// [`Unavailable`](ErrorKind::Unavailable) if none is found.
pub fn free_port() -> Result<u16> {
    // Locked while this process lives: a server that starts does not listen yet, and one that is restarted not always.
    static GIVEN: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let locks =
        std::env::temp_dir().join(format!("storage-test-ports-{}", rustix::process::getuid().as_raw()));
    std::fs::create_dir_all(&locks).map_err(|error| trouble(&locks.display().to_string(), &error))?;
    for _ in 0..200 {
        // Below the range from which the system gives ports to clients, so that none takes it in between.
        let port = fastrand::u16(16_000..22_000);
        let lock = File::create(locks.join(port.to_string()));
        let lock = lock.map_err(|error| trouble(&locks.display().to_string(), &error))?;
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if lock.try_lock().is_ok() && free(port) && free(port + 10_000) {
            GIVEN.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return Ok(port);
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "no free port among 200 tried between 16000 and 22000"))
}

/// What a process is started with.
pub(super) struct Launch<'a> {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) port: u16,
    /// How to have the program installed.
    pub(super) install: &'a str,
    /// As whom it runs, if not as who runs the tests.
    pub(super) user: Option<User>,
    /// What ends it when nobody needs it any more: KILL, unless it has to clean up behind itself.
    pub(super) quit: Signal,
}

/// A server process with its directory; both go when the value is dropped, or when this process ends however it does.
pub struct Process {
    program: String,
    arguments: Vec<String>,
    user: Option<User>,
    quit: Signal,
    directory: Option<TempDir>,
    path: PathBuf,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Starts a program in a temporary directory and waits until it listens on the port.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not installed (`install` says how to), ends at once, or does
    /// not listen within 30 seconds; the message has the last lines of its output.
    pub fn start(program: &str, arguments: Vec<String>, port: u16, install: &str) -> Result<Self> {
        let launch =
            Launch { program: program.to_owned(), arguments, port, install, user: None, quit: Signal::KILL };
        Self::launch(launch, directory(None)?)
    }

    /// Starts a program in a directory that is made already, and has what it needs in it.
    pub(super) fn launch(launch: Launch<'_>, directory: TempDir) -> Result<Self> {
        let Launch { program, arguments, port, install, user, quit } = launch;
        let path = directory.path().to_owned();
        let (directory, child) = (Some(directory), Mutex::new(None));
        let process = Self { program, arguments, user, quit, directory, path, port, child };
        process.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_installed(&process.program, install),
            _ => trouble(&process.program, &error),
        })?;
        process.wait_for_port()?;
        Ok(process)
    }

    /// The directory in which it runs.
    pub fn directory(&self) -> &Path {
        &self.path
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of the process; `None` while it is stopped.
    pub fn id(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Ends it with a signal and waits until it is gone: `TERM` lets it finish what it does, `KILL` does not.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not running.
    pub fn stop(&self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        if let Some(mut child) = self.child().take() {
            child.wait().map_err(|error| trouble(&self.program, &error))?;
            guardian::forget(child.id());
        }
        Ok(())
    }

    /// Starts it again, with the same directory and port.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&self) -> Result<()> {
        self.spawn().map_err(|error| trouble(&self.program, &error))?;
        self.wait_for_port()
    }

    /// What [`restart`](Self::restart) starts it with.
    pub(super) fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    /// Sends it a signal, and returns at once.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).map_err(|error| trouble(&self.program, &error.into()))
    }

    /// Freezes it: when this returns, none of its threads runs. A [`signal`](Self::signal) `CONT` lets it go on.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not running, or does not stand still within 10 seconds.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let (pid, asked) = (self.pid()?, Instant::now());
        // Threads that were about to run do so until they see the signal.
        let stands = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while asked.elapsed() < END {
            match waitid(WaitId::Pid(pid), stands) {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(Some(_)) => return Ok(()),
                Err(error) => return Err(trouble(&self.program, &error.into())),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("{} does not stand still", self.program)))
    }

    fn pid(&self) -> Result<Pid> {
        let pid = self.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        pid.ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("{} is not running", self.program)))
    }

    /// Leaves process and directory behind: returns the number of the process and the directory, for who ends it later.
    pub fn detach(mut self) -> (Option<u32>, PathBuf) {
        self.leave()
    }

    /// As [`detach`](Self::detach), for a server whose value goes at once.
    pub(super) fn leave(&mut self) -> (Option<u32>, PathBuf) {
        let id = self.child().take().map(|child| child.id());
        if let Some(id) = id {
            guardian::forget(id);
        }
        if let Some(directory) = self.directory.take() {
            let _ = directory.keep();
        }
        (id, self.path.clone())
    }

    fn spawn(&self) -> io::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path.join("output.log"))?;
        let mut command = Command::new(&self.program);
        if let Some(user) = &self.user {
            user.run(&mut command);
        }
        command.args(&self.arguments).current_dir(&self.path).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        // A Ctrl-C at the terminal is for the tests; they end their servers.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn()?;
        guardian::watch(child.id(), self.quit, &self.path);
        *self.child() = Some(child);
        Ok(())
    }

    fn wait_for_port(&self) -> Result<()> {
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let ended = self.child().as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))));
            if ended || started.elapsed() > START {
                let log = std::fs::read_to_string(self.path.join("output.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(8).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                let what = if ended { "ended at once" } else { "does not listen" };
                let message = format!("{} {what} (port {}): {tail}", self.program, self.port);
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Asks it to end if it is one that has to be asked, and kills it.
    fn end(&self, child: &mut Child) {
        let pid = Pid::from_raw(child.id().cast_signed()).filter(|_| self.quit != Signal::KILL);
        if let Some(pid) = pid {
            // It may be frozen.
            let _ = (kill_process(pid, self.quit), kill_process(pid, Signal::CONT));
            let asked = Instant::now();
            while matches!(child.try_wait(), Ok(None)) && asked.elapsed() < END {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child().take() {
            self.end(&mut child);
            guardian::forget(child.id());
        }
    }
}

/// A new temporary directory, of that user if one is given.
pub(super) fn directory(user: Option<&User>) -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix("storage-test-").tempdir();
    let made = made.map_err(|error| trouble("a directory", &error))?;
    if let Some(user) = user {
        user.own(made.path()).map_err(|error| trouble("a directory", &error))?;
    }
    Ok(made)
}

pub(super) fn not_installed(program: &str, install: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{program} is not installed: {install}"))
}

pub(super) fn trouble(what: &str, error: &io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: HashSet<u16> = (0..500).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 500);
    }
}
