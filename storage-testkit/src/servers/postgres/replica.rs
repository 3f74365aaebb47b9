//! A server that follows another.

use storage_core::Result;

use super::super::process::directory;
use super::super::user::User;
use super::super::wait;
use super::database::Database;
use super::programs::finished;
use super::{DATA, PostgresServer};

/// A streaming replica: it has what its primary has a moment later, and takes no writes until it is promoted.
pub struct PostgresReplica {
    server: PostgresServer,
}

impl PostgresReplica {
    /// Copies the database of a running server by `pg_basebackup`, and follows it.
    ///
    /// # Errors
    /// As [`Process::start`](super::Process::start).
    pub fn start(primary: &PostgresServer) -> Result<Self> {
        let user = User::instead_of_root(&["postgres", "nobody"])?;
        let directory = directory(user.as_ref())?;
        let database = Database { data: directory.path().join(DATA), user };
        let mut copy = database.command("pg_basebackup");
        let port = primary.port();
        let connection = format!("host=127.0.0.1 port={port} user=postgres application_name=replica");
        copy.args(["--dbname", &connection, "--pgdata", &database.data.to_string_lossy()]);
        copy.args([
            "--write-recovery-conf",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
            "--no-password",
        ]);
        finished(copy, "pg_basebackup", "")?;
        let server = PostgresServer::launch(primary.settings.clone(), directory, user)?;
        wait("the replica does not follow its primary", || {
            let following = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
            primary.psql(following).is_ok_and(|count| count != "0")
        })?;
        Ok(Self { server })
    }

    /// The server; its [`url`](PostgresServer::url) is that of the replica alone.
    pub fn server(&self) -> &PostgresServer {
        &self.server
    }

    /// Waits until it shows what its primary has committed until now.
    ///
    /// # Errors
    /// [`Unavailable`](storage_core::ErrorKind::Unavailable) if it does not within a minute.
    pub fn catch_up(&self, primary: &PostgresServer) -> Result<()> {
        let position = primary.psql("SELECT pg_current_wal_flush_lsn()")?;
        let reached = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
        wait("the replica does not catch up", || {
            self.server.psql(&reached).is_ok_and(|reached| reached == "t")
        })
    }

    /// Makes it a primary of its own, and waits until it takes writes. The one that it followed has to be stopped by
    /// the caller, who otherwise has two.
    ///
    /// # Errors
    /// [`Unavailable`](storage_core::ErrorKind::Unavailable) if it does not within a minute.
    pub fn promote(&self) -> Result<()> {
        self.server.psql("SELECT pg_promote(true, 60)")?;
        wait("the replica does not take writes", || {
            self.server.psql("SELECT pg_is_in_recovery()").is_ok_and(|replica| replica == "f")
        })
    }

    /// Leaves the server running; see [`Process::detach`](super::Process::detach).
    pub fn detach(self) -> (Option<u32>, std::path::PathBuf) {
        self.server.detach()
    }
}
