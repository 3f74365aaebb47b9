//! The PostgreSQL server that peers share, and the tables of those that make none.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use storage_testkit::servers::{PostgresServer, PostgresSettings};

use crate::sync_delay;

/// The settings that differ from those of the tests: room for the records, and no checkpoint within most rounds.
const SETTINGS: [&str; 2] = ["shared_buffers = 512MB", "max_wal_size = 4GB"];

/// A server with `fsync` on.
pub(crate) struct Postgres {
    server: PostgresServer,
    sync_delay: Option<Duration>,
}

impl Postgres {
    /// Starts it. With a delay, this process has to be one that [`sync_delay::run_again`] started.
    pub(crate) fn start(sync_delay: Option<Duration>) -> Result<Self> {
        let server = PostgresServer::start(&PostgresSettings::with(SETTINGS))?;
        let postgres = Self { server, sync_delay };
        if let Some(delay) = sync_delay {
            let process = postgres.server.process().id().context("the server has ended")?;
            sync_delay::check_loaded(process)?;
            postgres.check_delay(delay)?;
        }
        Ok(postgres)
    }

    pub(crate) fn server(&self) -> &PostgresServer {
        &self.server
    }

    /// The server's version, and the settings that matter.
    pub(crate) fn describe(&self) -> Result<String> {
        let version = self.server.psql("SHOW server_version")?;
        let (fsync, wal) = (self.server.psql("SHOW fsync")?, self.server.psql("SHOW wal_sync_method")?);
        let delay = self.sync_delay.map_or(String::new(), |delay| {
            format!("; every sync takes {} at least", humantime::format_duration(delay))
        });
        Ok(format!("PostgreSQL {version}, fsync = {fsync} ({wal}), {}{delay}", SETTINGS.join(", ")))
    }

    /// Makes a table for records and one for counters, which belong to the role of the peers: `name_records (key,
    /// value)` and `name_counters (key, n)`.
    pub(crate) fn tables(&self, name: &str) -> Result<()> {
        self.server.psql(&format!(
            "SET ROLE {role};
             CREATE TABLE {name}_records (key text COLLATE \"C\" PRIMARY KEY, value bytea NOT NULL);
             CREATE TABLE {name}_counters (key text COLLATE \"C\" PRIMARY KEY, n bigint NOT NULL);",
            role = PostgresServer::NAME
        ))?;
        Ok(())
    }

    /// Makes sure that commits wait for slow syncs: another `wal_sync_method` would sync without the calls that are slowed.
    fn check_delay(&self, delay: Duration) -> Result<()> {
        const COMMITS: u32 = 100;
        let inserts = "INSERT INTO delayed VALUES (1);\n".repeat(COMMITS as usize);
        self.server.psql("CREATE TABLE delayed (n int)")?;
        let started = Instant::now();
        self.server.psql(&inserts)?;
        let took = started.elapsed();
        self.server.psql("DROP TABLE delayed")?;
        ensure!(took >= delay * COMMITS, "{COMMITS} commits took {took:?}, with syncs of {delay:?}");
        Ok(())
    }
}

/// The first text behind all that begin with a prefix, whose last character is not the highest.
pub(crate) fn end_of(prefix: &str) -> String {
    let mut end: Vec<char> = prefix.chars().collect();
    if let Some(last) = end.last_mut() {
        *last = char::from_u32(u32::from(*last) + 1).unwrap_or(char::MAX);
    }
    end.into_iter().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_prefix_ends_before_the_next_character() {
        assert_eq!(super::end_of("record/"), "record0");
    }
}
