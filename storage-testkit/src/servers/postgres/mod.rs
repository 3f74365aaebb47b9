//! PostgreSQL servers: alone, with TLS, with a replica, and behind PgBouncer.

mod bouncer;
mod database;
mod programs;
mod replica;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustix::process::Signal;
use storage_core::{Error, ErrorKind, Result};

use super::process::{Launch, directory};
use super::user::User;
use super::{Certificates, Process, family, free_port, wait};
use database::Database;
use programs::{INSTALL, finished, program};

pub use bouncer::PgBouncer;
pub use replica::PostgresReplica;

/// The directory of the database, in that of the process.
const DATA: &str = "data";

/// What a PostgreSQL server is started with, besides its port.
#[derive(Clone, Default)]
pub struct PostgresSettings {
    /// The password that the role `storage` gives; without it, none is asked for.
    pub password: Option<String>,
    /// Encryption; without it, connections are plain.
    pub tls: Option<PostgresTls>,
    /// Lines of `postgresql.conf`: `work_mem = '4MB'`.
    pub more: Vec<String>,
}

/// How a server encrypts; it takes no plain connections of the role `storage` then.
#[derive(Clone)]
pub struct PostgresTls {
    /// What it shows, and whom it trusts.
    pub certificates: Arc<Certificates>,
    /// Whether clients have to show a certificate of the same authority.
    pub verify_clients: bool,
}

impl PostgresSettings {
    /// A server without password or encryption, with these lines of configuration.
    pub fn with<const N: usize>(more: [&str; N]) -> Self {
        Self { more: more.map(str::to_owned).into(), ..Self::default() }
    }
}

/// One PostgreSQL server with a database `storage`, which belongs to the role of the same name.
///
/// It is durable: `fsync` is on. Where the machine's PostgreSQL can, texts are ordered as in English by default, so that
/// a statement that relies on the order of code points has to say so. The role `storage` is not a superuser; the
/// superuser is `postgres`, whom the server takes from this machine without a password, also unencrypted, for
/// [`psql`](Self::psql). As root, the server runs as the user `postgres`, or `nobody`.
pub struct PostgresServer {
    process: Process,
    settings: PostgresSettings,
    detached: bool,
}

impl PostgresServer {
    /// The name of the role and of the database.
    pub const NAME: &str = "storage";

    /// Makes a database and starts its server.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start(settings: &PostgresSettings) -> Result<Self> {
        let user = User::instead_of_root(&["postgres", "nobody"])?;
        let directory = directory(user.as_ref())?;
        let data = directory.path().join(DATA);
        let made = Database { data, user };
        made.init()?;
        made.configure(settings)?;
        Self::launch(settings.clone(), directory, user)
    }

    /// The process; see also [`stop`](Self::stop), [`kill`](Self::kill) and [`freeze`](Self::freeze).
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

    /// `postgres://storage:password@127.0.0.1:port/storage`, without parameters.
    pub fn url(&self) -> String {
        self.url_of(&self.address())
    }

    /// As [`url`](Self::url), with other hosts: those of a proxy, or several with commas.
    pub fn url_of(&self, hosts: &str) -> String {
        let name = Self::NAME;
        let password =
            self.settings.password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
        format!("postgres://{name}{password}@{hosts}/{name}")
    }

    /// The directory of the database.
    pub fn data(&self) -> PathBuf {
        self.process.directory().join(DATA)
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.process.directory().join("output.log")).unwrap_or_default()
    }

    /// Runs SQL as the superuser in the database `storage`, by `psql`. Returns the rows as lines, their columns with
    /// `|` between. Each statement commits by itself unless the text has `BEGIN`.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable), with the server's words, if it fails.
    pub fn psql(&self, sql: &str) -> Result<String> {
        self.psql_in(Self::NAME, sql)
    }

    /// As [`psql`](Self::psql), in another database.
    ///
    /// # Errors
    /// As [`psql`](Self::psql).
    pub fn psql_in(&self, database: &str, sql: &str) -> Result<String> {
        let port = self.port();
        let connection = format!(
            "host=127.0.0.1 port={port} user=postgres dbname={database} sslmode=prefer connect_timeout=10"
        );
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-w", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &connection, "-f", "-"]);
        finished(psql, "psql", sql).map(|text| text.trim_end().to_owned())
    }

    /// Changes a setting of the whole server that needs no restart (`ALTER SYSTEM`); it stays over restarts.
    ///
    /// # Errors
    /// As [`psql`](Self::psql).
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        // A session takes it from the server that starts it.
        let loaded = || self.psql("SELECT pg_conf_load_time()");
        let (before, value) = (loaded()?, value.replace('\'', "''"));
        self.psql(&format!("ALTER SYSTEM SET {name} = '{value}';\nSELECT pg_reload_conf();"))?;
        wait(&format!("the server does not take {name}"), || loaded().is_ok_and(|time| time != before))
    }

    /// Stops it as an administrator does: connections are closed, transactions undone, and nothing is left to recover.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not running.
    pub fn stop(&self) -> Result<()> {
        self.process.stop(Signal::INT)
    }

    /// Kills it with all its processes, as a power cut does. What was committed is there after
    /// [`restart`](Self::restart).
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not running.
    pub fn kill(&self) -> Result<()> {
        let children = self.process.id().map(family::children).unwrap_or_default();
        self.process.stop(Signal::KILL)?;
        family::kill(&children);
        Ok(())
    }

    /// Starts it again after it was stopped or killed, and waits until it takes connections.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn restart(&self) -> Result<()> {
        self.process.restart()?;
        self.wait_until_ready()
    }

    /// Freezes it with all its processes: connections stay open, new ones are taken by the system, and no byte passes.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not running.
    pub fn freeze(&self) -> Result<()> {
        family::freeze(self.running()?);
        Ok(())
    }

    /// Ends [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it is not running.
    pub fn thaw(&self) -> Result<()> {
        family::thaw(self.running()?);
        Ok(())
    }

    /// Ends the connections of the role `storage`, at once, also in the middle of a statement. Returns how many.
    ///
    /// # Errors
    /// As [`psql`](Self::psql).
    pub fn terminate(&self) -> Result<u64> {
        let ended = self.psql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'storage';",
        )?;
        ended.parse().map_err(|_| Error::new(ErrorKind::Unavailable, format!("psql told {ended:?}")))
    }

    /// Leaves the server running; see [`Process::detach`].
    pub fn detach(mut self) -> (Option<u32>, PathBuf) {
        self.detached = true;
        self.process.leave()
    }

    /// Starts a server in a directory that has a database.
    fn launch(settings: PostgresSettings, directory: tempfile::TempDir, user: Option<User>) -> Result<Self> {
        let port = free_port()?;
        let arguments = ["-D", DATA, "-c", &format!("port={port}")].map(str::to_owned).into();
        let program = program("postgres").to_string_lossy().into_owned();
        // Asked so, it ends at once, with all its processes, and gives its shared memory back.
        let quit = Signal::QUIT;
        let launch = Launch { program, arguments, port, install: INSTALL, user, quit };
        let server = Self { process: Process::launch(launch, directory)?, settings, detached: false };
        server.wait_until_ready()?;
        server.set_password()?;
        Ok(server)
    }

    fn set_password(&self) -> Result<()> {
        match &self.settings.password {
            Some(password) if self.psql("SELECT pg_is_in_recovery()")? == "f" => {
                let password = password.replace('\'', "''");
                self.psql(&format!("ALTER ROLE storage PASSWORD '{password}'")).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn wait_until_ready(&self) -> Result<()> {
        wait("the server does not take connections, or psql does not reach it", || {
            self.psql("SELECT 1").is_ok()
        })
    }

    fn running(&self) -> Result<u32> {
        self.process.id().ok_or_else(|| Error::new(ErrorKind::Unavailable, "the server is not running"))
    }
}

impl Drop for PostgresServer {
    /// A server that was killed, and not started again, has left a piece of shared memory to the system.
    fn drop(&mut self) {
        if self.detached || self.process.id().is_some() {
            return;
        }
        let left = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let segment = left.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
        if let Some(segment) = segment {
            let mut ipcrm = Command::new("ipcrm");
            ipcrm.args(["-m", segment]);
            let _ = finished(ipcrm, "ipcrm", "");
        }
    }
}
