//! MongoDB servers: SecantusDB, which speaks MongoDB's protocol, keeps its data in WiredTiger and is installed from PyPI.
//!
//! Where it differs from MongoDB is in `docs/mongodb-stand-in.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::process::Signal;
use storage_core::{Error, ErrorKind, Result};

use super::process::{Launch, directory, not_installed, trouble};
use super::{Certificates, Process, free_port};

const INSTALL: &str = "run `cargo xtask services install`, or `pip install secantusdb`";

/// Where `cargo xtask services install` puts the server, below cargo's target directory.
const INSTALLED: &str = "services/secantusdb/bin";

/// The directory of the database, in that of the process.
const DATA: &str = "data";

/// Makes the users, which a server that asks for a password cannot have made.
const CREATE_USERS: &str = r#"
import sys, pymongo
port, name, password, subject = sys.argv[1:]
client = pymongo.MongoClient("127.0.0.1", int(port), directConnection=True)
roles = [{"role": "readWrite", "db": name}]
scram = ["SCRAM-SHA-256", "SCRAM-SHA-1"]
client[name].command("createUser", name, pwd=password, roles=roles, mechanisms=scram)
if subject:
    client["$external"].command("createUser", subject, roles=roles, mechanisms=["MONGODB-X509"])
"#;

/// What a MongoDB server is started with, besides its port.
#[derive(Clone, Default)]
pub struct MongoSettings {
    /// The password of the user `storage`; without it, none is asked for.
    pub password: Option<String>,
    /// Encryption; without it, connections are plain.
    pub tls: Option<MongoTls>,
    /// Whether it is a server alone, without transactions and change streams. If not, it is the primary of a replica set
    /// of one.
    pub standalone: bool,
    /// Whether what was written is on the disk before it is acknowledged, as MongoDB does for a majority. It takes about
    /// three times as long; without it, a kill can lose what was acknowledged just before.
    pub journaled: bool,
    /// More of the server's arguments: `["--oplog-max-entries", "100"]`.
    pub more: Vec<String>,
}

/// How a server encrypts; it takes no plain connections then.
#[derive(Clone)]
pub struct MongoTls {
    /// What it shows, and whom it trusts.
    pub certificates: Arc<Certificates>,
    /// Whether clients have to show a certificate of the same authority. With a password set, the
    /// [client's](Certificates::client) is that of a user, too (X.509).
    pub verify_clients: bool,
}

impl MongoSettings {
    /// A replica set of one without password or encryption, with these arguments.
    pub fn with<const N: usize>(more: [&str; N]) -> Self {
        Self { more: more.map(str::to_owned).into(), ..Self::default() }
    }

    fn arguments(&self) -> Vec<String> {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut arguments = Vec::new();
        if self.password.is_some() {
            arguments.push("--auth".to_owned());
        }
        if let Some(tls) = &self.tls {
            let server = tls.certificates.server();
            let files = [
                ("--tls-cert-file", server.certificate),
                ("--tls-key-file", server.key),
                ("--tls-ca-file", tls.certificates.authority()),
            ];
            arguments.extend(files.into_iter().flat_map(|(name, file)| [name.to_owned(), path(file)]));
            if tls.verify_clients {
                arguments.push("--tls-require-client-cert".to_owned());
            }
        }
        if self.standalone {
            arguments.push("--standalone".to_owned());
        }
        if self.journaled {
            arguments.push("--sync-on-commit".to_owned());
        }
        arguments.extend(self.more.iter().cloned());
        arguments
    }
}

/// One MongoDB server with fail points (`configureFailPoint`).
///
/// Where it asks for a password, it has a user `storage` who may read and write in the database `storage`, and no other.
pub struct MongoServer {
    process: Process,
    settings: MongoSettings,
}

impl MongoServer {
    /// The name of the user and of the database.
    pub const NAME: &str = "storage";

    /// Starts a server.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start(settings: &MongoSettings) -> Result<Self> {
        let port = free_port()?;
        let base = ["--port", &port.to_string(), "--storage-path", DATA, "--enable-test-commands"];
        let base: Vec<String> = base.map(str::to_owned).into();
        let complete: Vec<String> = base.iter().cloned().chain(settings.arguments()).collect();
        let first = if settings.password.is_some() { base } else { complete.clone() };
        let program = program("secantusd-py").to_string_lossy().into_owned();
        let launch =
            Launch { program, arguments: first, port, install: INSTALL, user: None, quit: Signal::KILL };
        let mut process = Process::launch(launch, directory(None)?)?;
        if let Some(password) = &settings.password {
            let x509 = settings.tls.as_ref().is_some_and(|tls| tls.verify_clients);
            create_users(port, password, if x509 { "CN=client" } else { "" })?;
            process.stop(Signal::TERM)?;
            process.set_arguments(complete);
            process.restart()?;
        }
        Ok(Self { process, settings: settings.clone() })
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// `mongodb://storage:password@127.0.0.1:port/storage`, without parameters.
    pub fn url(&self) -> String {
        self.url_of(&self.address())
    }

    /// As [`url`](Self::url), with another address. Clients go to the addresses that the server tells, past a proxy,
    /// unless they are told `directConnection=true`.
    pub fn url_of(&self, address: &str) -> String {
        let name = Self::NAME;
        let user = self.settings.password.as_ref().map(|password| format!("{name}:{password}@"));
        format!("mongodb://{}{address}/{name}", user.unwrap_or_default())
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.process.directory().join("output.log")).unwrap_or_default()
    }

    /// Stops it as an administrator does.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not running.
    pub fn stop(&self) -> Result<()> {
        self.process.stop(Signal::TERM)
    }

    /// Kills it. What was acknowledged is there after [`restart`](Self::restart) if it is
    /// [journaled](MongoSettings::journaled).
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not running.
    pub fn kill(&self) -> Result<()> {
        self.process.stop(Signal::KILL)
    }

    /// Starts it again after it was stopped or killed, and waits until it takes connections.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn restart(&self) -> Result<()> {
        self.process.restart()
    }

    /// Freezes it: connections stay open, new ones are taken by the system, and no byte passes.
    ///
    /// # Errors
    /// As [`Process::freeze`].
    pub fn freeze(&self) -> Result<()> {
        self.process.freeze()
    }

    /// Ends [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not running.
    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Leaves the server running; see [`Process::detach`].
    pub fn detach(self) -> (Option<u32>, PathBuf) {
        self.process.detach()
    }
}

/// A program of the server's environment: the one that was installed for this build, or else the one on `PATH`.
fn program(name: &str) -> PathBuf {
    let build = std::env::current_exe().unwrap_or_default();
    let mut installed = build.ancestors().map(|directory| directory.join(INSTALLED).join(name));
    installed.find(|path| path.exists()).unwrap_or_else(|| Path::new(name).into())
}

/// Makes the user `storage`, and one who is known by a certificate's subject if there is one.
fn create_users(port: u16, password: &str, subject: &str) -> Result<()> {
    let mut python = Command::new(program("python3"));
    python.args(["-c", CREATE_USERS, &port.to_string(), MongoServer::NAME, password, subject]);
    let output = python.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => not_installed("python3", INSTALL),
        _ => trouble("python3", &error),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let last = told.trim().lines().last().unwrap_or_default();
    Err(Error::new(ErrorKind::Unavailable, format!("the server makes no user: {last}")))
}
