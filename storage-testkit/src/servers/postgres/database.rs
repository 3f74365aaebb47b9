//! The files of a database, before its server is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use storage_core::Result;

use super::super::process::trouble;
use super::super::user::User;
use super::PostgresSettings;
use super::programs::{finished, program};

/// What every server is configured with.
///
/// Durable as in production. Its shared memory is in its directory, and goes with it.
const CONFIGURATION: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = on
synchronous_commit = on
full_page_writes = on
dynamic_shared_memory_type = mmap
shared_buffers = 64MB
max_connections = 300
wal_level = logical
max_wal_senders = 10
wal_keep_size = 256MB
hot_standby = on
logging_collector = off
password_encryption = 'scram-sha-256'
";

/// The files of a database whose server is not running.
pub(super) struct Database {
    pub(super) data: PathBuf,
    pub(super) user: Option<User>,
}

impl Database {
    /// Makes them, with the role and the database that tests use.
    pub(super) fn init(&self) -> Result<()> {
        let data = self.data.to_string_lossy();
        let mut initdb = self.command("initdb");
        // What is lost of it in a power cut is only a test.
        initdb.args([
            "--no-sync",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]);
        let icu = self.command("initdb").arg("--help").output();
        if icu.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--icu-locale")) {
            initdb.args(["--locale-provider=icu", "--icu-locale=en-US"]);
        }
        initdb.args(["-D", &data]);
        finished(initdb, "initdb", "")?;
        let mut single = self.command("postgres");
        single.args(["--single", "-F", "-j", "-D", &data, "postgres"]);
        let made = "CREATE ROLE storage LOGIN;\n\nCREATE DATABASE storage OWNER storage;\n\n";
        finished(single, "postgres --single", made).map(drop)
    }

    /// Writes the configuration and who may connect.
    pub(super) fn configure(&self, settings: &PostgresSettings) -> Result<()> {
        let mut lines = CONFIGURATION.to_owned();
        let (mut connections, mut certificate) = ("host", "");
        if let Some(tls) = &settings.tls {
            let (certificates, server) = (&tls.certificates, tls.certificates.server());
            self.add("ca.crt", &read(&certificates.authority())?)?;
            self.add("server.crt", &read(&server.certificate)?)?;
            self.add("server.key", &read(&server.key)?)?;
            lines.push_str("ssl = on\nssl_ca_file = 'ca.crt'\n");
            connections = "hostssl";
            if tls.verify_clients {
                certificate = " clientcert=verify-ca";
            }
        }
        for line in &settings.more {
            lines.push_str(line);
            lines.push('\n');
        }
        let mut configuration = read(&self.data.join("postgresql.conf"))?;
        configuration.push_str(&lines);
        self.add("postgresql.conf", &configuration)?;
        let method = if settings.password.is_some() { "scram-sha-256" } else { "trust" };
        let access = format!(
            "host all,replication postgres 127.0.0.1/32 trust\n{connections} all all 127.0.0.0/8 {method}{certificate}\n"
        );
        self.add("pg_hba.conf", &access)
    }

    /// Writes a file that only the server's user may read.
    fn add(&self, name: &str, text: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.data.join(name);
        let written = fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
            .and_then(|()| self.user.map_or(Ok(()), |user| user.own(&path)));
        written.map_err(|error| trouble(name, &error))
    }

    /// A program of PostgreSQL, run as the server's user.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        if let Some(user) = self.user {
            user.run(&mut command);
        }
        // Where the tests run, that user may have no business.
        command.current_dir(self.data.parent().unwrap_or(&self.data));
        command
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| trouble(&path.to_string_lossy(), &error))
}
