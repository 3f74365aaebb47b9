//! The servers that tests run against: what has to be installed for them and for other tests, and servers that outlast one run.
//!
//! Tests start servers themselves (`storage_testkit::servers`) and end them. Those that are started here save that time,
//! and can be looked at: tests use them where the variables that `up` prints are set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use crate::step::{Session, cargo};
use crate::{secantusdb, workspace};

/// A command that tests need, which has to know `--version`, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 9] = [
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("postgres", "postgresql"),
    ("psql", "postgresql-client"),
    ("pgbouncer", "pgbouncer"),
    // Without this part of it, python3 makes no virtual environments.
    ("python3 -m ensurepip", "python3-venv"),
    ("make", "make"),
    ("c++", "g++"),
    ("valgrind", "valgrind"),
];

/// What `up` can start.
const NAMES: [&str; 11] = [
    "redis",
    "redis-tls",
    "redis-cluster",
    "redis-sentinel",
    "postgres",
    "postgres-replica",
    "postgres-tls",
    "pgbouncer",
    "mongo",
    "mongo-standalone",
    "mongo-tls",
];

/// How long a server may take to end by itself, after each way in which it is asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where Debian has the programs of PostgreSQL, by version and outside of `PATH`.
const POSTGRES: &str = "/usr/lib/postgresql";

/// Says whether services start when their packages are installed; a machine has it only if it wants others to be asked.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Starts and ends servers for tests, on free loopback ports, with their files under target/services
///
/// With Docker, compose.yaml has them too.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  eval \"$(cargo xtask services up)\"     start all, and let the tests of this shell use them
  cargo xtask services up redis         one of redis, redis-tls, redis-cluster, redis-sentinel, postgres,
                                        postgres-replica, postgres-tls, pgbouncer, mongo,
                                        mongo-standalone, mongo-tls
  cargo xtask services down             end what was started, and remove its files"
)]
pub(crate) struct Services {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Installs the programs that are missing, as root on Debian and its like; elsewhere says what is missing
    Install,
    /// Starts servers that are not running, and prints the variables that lead tests to them
    Up {
        /// Which; all if none is named
        names: Vec<String>,
    },
    /// Ends servers that `up` started, and removes their files
    Down {
        /// Which; all if none is named
        names: Vec<String>,
    },
    /// Prints which servers run, and the variables that lead tests to them
    Status {
        /// Which; all if none is named
        names: Vec<String>,
    },
}

/// Does what was asked for.
pub(crate) fn run(session: &mut Session, asked: &Services) -> Result<()> {
    match &asked.action {
        Action::Install => install(session),
        Action::Up { names } => {
            let services = Service::named(names)?;
            install(session)?;
            services.iter().try_for_each(|service| service.up(session))
        }
        Action::Down { names } => Service::named(names)?.iter().try_for_each(|service| service.down(session)),
        Action::Status { names } => {
            Service::named(names)?.iter().try_for_each(|service| service.status(session))
        }
    }
}

/// One kind of server, with a directory of its own.
struct Service {
    name: &'static str,
    directory: PathBuf,
}

/// What is noted of a service that was started.
#[derive(Default)]
struct State {
    processes: Vec<Started>,
    exports: Vec<String>,
}

/// A process, and when it was born: its number alone may be another's by now.
struct Started {
    id: u32,
    birth: String,
}

impl Service {
    fn named(names: &[String]) -> Result<Vec<Self>> {
        if let Some(unknown) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
            bail!("there is no service {unknown:?}: name some of {}", NAMES.join(", "));
        }
        let all = directory()?;
        let chosen = NAMES.into_iter().filter(|name| names.is_empty() || names.iter().any(|n| n == name));
        Ok(chosen.map(|name| Self { name, directory: all.join(name) }).collect())
    }

    /// Starts it, unless it runs.
    fn up(&self, session: &mut Session) -> Result<()> {
        if let Some(state) = self.state()?.filter(State::runs) {
            session.note(format!("{}: was running", self.name));
            state.print();
            return Ok(());
        }
        self.down(session)?;
        fs::create_dir_all(&self.directory).with_context(|| self.directory.display().to_string())?;
        let build = ["run", "--quiet", "--package", "storage-testkit", "--features", "tls"];
        let mut start = cargo(build.into_iter().chain(["--example", "services", "--", self.name]));
        let told = session.output(start.env("TMPDIR", &self.directory))?;
        let mut state = State::default();
        for line in told.lines() {
            if let Some(id) = line.strip_prefix("process ") {
                let id = id.parse().with_context(|| format!("{}: {line:?}", self.name))?;
                let birth = birth(id).with_context(|| format!("{}: process {id} has ended", self.name))?;
                state.processes.push(Started { id, birth });
            } else {
                state.exports.push(line.to_owned());
            }
        }
        fs::write(self.file(), state.text()).with_context(|| self.file().display().to_string())?;
        state.print();
        Ok(())
    }

    /// Ends its processes, and no others, and removes its directory.
    fn down(&self, session: &mut Session) -> Result<()> {
        let Some(state) = self.state()? else { return Ok(()) };
        for process in state.processes.iter().filter(|process| process.runs()) {
            process.end();
            session.note(format!("{}: ended process {}", self.name, process.id));
        }
        fs::remove_dir_all(&self.directory).with_context(|| self.directory.display().to_string())
    }

    fn status(&self, session: &mut Session) -> Result<()> {
        let told = match self.state()? {
            None => "is not running".to_owned(),
            Some(state) if state.runs() => {
                state.print();
                format!("runs in {}", self.directory.display())
            }
            Some(state) => {
                let ended = state.processes.iter().filter(|process| !process.runs()).count();
                format!(
                    "{ended} of {} processes ended; see {}",
                    state.processes.len(),
                    self.directory.display()
                )
            }
        };
        session.note(format!("{}: {told}", self.name));
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// What is noted; `None` if it was not started.
    fn state(&self) -> Result<Option<State>> {
        match fs::read_to_string(self.file()) {
            Ok(text) => Ok(Some(State::parse(&text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| self.file().display().to_string()),
        }
    }
}

impl State {
    fn runs(&self) -> bool {
        self.processes.iter().all(Started::runs)
    }

    #[expect(clippy::print_stdout, reason = "a shell evaluates it")]
    fn print(&self) {
        for line in &self.exports {
            println!("{line}");
        }
    }

    fn text(&self) -> String {
        let processes =
            self.processes.iter().map(|process| format!("process {} {}\n", process.id, process.birth));
        processes.chain(self.exports.iter().map(|line| format!("{line}\n"))).collect()
    }

    fn parse(text: &str) -> Self {
        let mut state = Self::default();
        for line in text.lines() {
            let process = line.strip_prefix("process ").and_then(|rest| rest.split_once(' '));
            match process.and_then(|(id, birth)| Some((id.parse().ok()?, birth))) {
                Some((id, birth)) => state.processes.push(Started { id, birth: birth.to_owned() }),
                None => state.exports.push(line.to_owned()),
            }
        }
        state
    }
}

impl Started {
    fn runs(&self) -> bool {
        birth(self.id).as_ref() == Some(&self.birth)
    }

    fn end(&self) {
        // PostgreSQL waits for its clients after a TERM, and sends them away after an INT.
        for signal in ["TERM", "INT"] {
            kill(signal, self.id);
            let asked = Instant::now();
            while self.runs() && asked.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(20));
            }
            if !self.runs() {
                return;
            }
        }
        kill("KILL", self.id);
    }
}

fn kill(signal: &str, id: u32) {
    // One that ends meanwhile has ended.
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {id}")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// When a process began, as the system tells it; `None` if there is none.
fn birth(id: u32) -> Option<String> {
    if Path::new("/proc/self/stat").exists() {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // After the name, which may hold anything: the state, then 18 fields, then the time. A zombie has ended.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        return if fields.next()? == "Z" { None } else { fields.nth(18).map(str::to_owned) };
    }
    let ps = Command::new("ps").args(["-o", "lstart=", "-p", &id.to_string()]).stdin(Stdio::null()).output();
    let told = String::from_utf8_lossy(&ps.ok()?.stdout).trim().to_owned();
    (!told.is_empty()).then_some(told)
}

/// Where servers and their files are.
fn directory() -> Result<PathBuf> {
    Ok(workspace::target_dir(&workspace::metadata()?)?.join("services"))
}

/// Installs what is missing: packages where this may be done, as root on Debian and its like; elsewhere says which are
/// missing.
pub(crate) fn install(session: &mut Session) -> Result<()> {
    install_packages(session)?;
    secantusdb::install(session, &directory()?)
}

fn install_packages(session: &mut Session) -> Result<()> {
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !installed(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    if !(installed("apt-get") && is_root()) {
        bail!("missing: {}. To have them: sudo apt-get install {}", names(&missing), packages.join(" "));
    }
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    session.run(&mut apt(&["update", "--quiet"]))?;
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend(&packages);
    let policy = Policy::none_starts()?;
    let done = session.run(&mut apt(&arguments));
    drop(policy);
    done?;
    match missing.iter().find(|(program, _)| !installed(program)) {
        Some((program, package)) => bail!("the package {package} is installed, and brought no {program}"),
        None => Ok(()),
    }
}

fn names(programs: &[&(&str, &str)]) -> String {
    programs.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", ")
}

/// Keeps Debian from starting the services of what is installed while it lives: tests start their own servers.
struct Policy {
    /// Whether it was made here, and has to go.
    made: bool,
}

impl Policy {
    /// A machine that has a policy keeps it.
    fn none_starts() -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY);
        match file {
            Ok(mut file) => {
                let made = Self { made: true };
                std::io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n").context(POLICY)?;
                Ok(made)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self { made: false }),
            Err(error) => Err(error).context(POLICY),
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.made {
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Where a program of PostgreSQL is outside of `PATH`.
fn of_postgres(program: &str) -> Option<PathBuf> {
    let versions = fs::read_dir(POSTGRES).into_iter().flatten().flatten();
    let mut paths = versions.map(|version| version.path().join("bin").join(program));
    paths.find(|path| path.exists())
}

/// Whether a command is there and tells its version.
pub(crate) fn installed(command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let path = of_postgres(program).unwrap_or_else(|| program.into());
    let quiet = Command::new(path)
        .args(words)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_birth() {
        let own = std::process::id();
        let here = Started { id: own, birth: birth(own).expect("this process runs") };
        assert!(here.runs());
        let other = Started { id: own, birth: "another time".to_owned() };
        assert!(!other.runs(), "the same number, and another process");
        let state = State { processes: vec![here, other], exports: vec!["export A='b c'".to_owned()] };
        let read = State::parse(&state.text());
        assert_eq!(read.text(), state.text());
        assert_eq!((read.processes.len(), read.exports.len(), read.runs()), (2, 1, false));
    }
}
