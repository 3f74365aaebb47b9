//! A pooler before a server.

use rustix::process::Signal;
use storage_core::Result;

use super::super::process::{Launch, directory, trouble};
use super::super::user::User;
use super::super::{Process, free_port};
use super::PostgresServer;
use super::programs::{INSTALL, program};

/// PgBouncer in transaction mode: each transaction may go over another connection to the server, so that nothing of a
/// session outlasts one; statements prepared under a name among them.
pub struct PgBouncer {
    process: Process,
    password: Option<String>,
}

impl PgBouncer {
    /// Starts one before a server without TLS. It takes the server's role and password, has at most five connections
    /// to the server, and lets clients wait for them. It takes no settings of a session when clients connect, not even the
    /// `extra_float_digits` that many drivers send.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start(server: &PostgresServer) -> Result<Self> {
        let user = User::instead_of_root(&["postgres", "nobody"])?;
        let directory = directory(user.as_ref())?;
        let (port, name) = (free_port()?, PostgresServer::NAME);
        let password = server.settings.password.clone();
        let method = if password.is_some() { "scram-sha-256" } else { "trust" };
        let configuration = format!(
            "[databases]\n{name} = host=127.0.0.1 port={} dbname={name}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = {method}\nauth_file = users.txt\npool_mode = transaction\ndefault_pool_size = 5\n\
             max_client_conn = 500\nserver_login_retry = 1\n",
            server.port()
        );
        let users = format!("\"{name}\" \"{}\"\n", password.clone().unwrap_or_default().replace('"', "\"\""));
        for (file, text) in [("pgbouncer.ini", &configuration), ("users.txt", &users)] {
            let path = directory.path().join(file);
            let written = std::fs::write(&path, text);
            let written = written.and_then(|()| user.map_or(Ok(()), |user| user.own(&path)));
            written.map_err(|error| trouble(file, &error))?;
        }
        let program = program("pgbouncer").to_string_lossy().into_owned();
        let arguments = vec!["pgbouncer.ini".to_owned()];
        let launch = Launch { program, arguments, port, install: INSTALL, user, quit: Signal::KILL };
        Ok(Self { process: Process::launch(launch, directory)?, password })
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// `postgres://storage:password@127.0.0.1:port/storage`, without parameters.
    pub fn url(&self) -> String {
        let (name, port) = (PostgresServer::NAME, self.process.port());
        let password = self.password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
        format!("postgres://{name}{password}@127.0.0.1:{port}/{name}")
    }

    /// Leaves it running; see [`Process::detach`].
    pub fn detach(self) -> (Option<u32>, std::path::PathBuf) {
        self.process.detach()
    }
}
