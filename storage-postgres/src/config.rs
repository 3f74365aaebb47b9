//! The configuration of a PostgreSQL store.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Tree;
use storage_core::{Error, Result, Secret, StoreUrl, decode_config};

use crate::descriptor::schema;
use crate::partition::PartitionSet;
use crate::pool::PoolSettings;

/// Whether connections are encrypted, and what of the server's certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server offers it; nothing is verified, so an attacker on the way can read everything.
    Prefer,
    /// Encrypted; nothing is verified.
    Require,
    /// Encrypted, and the certificate is of a trusted authority.
    VerifyCa,
    /// Encrypted, the certificate is of a trusted authority and names the host.
    VerifyFull,
}

/// Which of several hosts will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The first that takes writes.
    #[default]
    Primary,
    /// The first that answers.
    Any,
}

/// The configuration of a PostgreSQL store.
///
/// ```
/// use storage_postgres::PostgresConfig;
///
/// let config = PostgresConfig::from_url("postgres://ada@localhost/app?schema=store")?;
/// assert_eq!((config.hosts, config.schema.as_str()), (vec!["localhost:5432".to_owned()], "store"));
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresConfig {
    /// Where servers are, as `host:port`, tried in order; the port is 5432 unless said. Default: `localhost`.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The directory of the Unix socket of a server on this machine, instead of hosts; the port is 5432.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// Which of the hosts will do; default: `primary`. With one host that is not looked at.
    #[serde(default)]
    pub target: Target,
    /// The database; default: the one named like the user.
    #[serde(default)]
    pub database: Option<String>,
    /// The role; default: `postgres`.
    #[serde(default = "default_user")]
    pub user: String,
    /// The role's password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file with the role's password, whose last line end does not count.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Whether connections are encrypted. Default: `verify-full`, as what passes a network unverified can be read and
    /// changed; `disable` if all hosts are loopback addresses or `localhost`, or there is a socket.
    #[serde(default)]
    pub tls: Option<TlsMode>,
    /// A PEM file with the certificates to trust, instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A PEM file with this client's certificate.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// A PEM file with the key of this client's certificate.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The schema in which the tables are; 1 to 63 bytes, default `storage`.
    #[serde(default = "default_schema")]
    pub schema: String,
    /// What the names of the tables begin with; at most 32 bytes, default none.
    #[serde(default)]
    pub table_prefix: String,
    /// How many connections are kept even if idle; default 0.
    #[serde(default)]
    pub pool_min: u32,
    /// The most connections, 1 to 1,000; default 10.
    #[serde(default = "default_pool_max")]
    pub pool_max: u32,
    /// How long a call may wait for a connection to be free; default: 5 s.
    #[serde(default = "default_acquire", with = "storage_core::duration")]
    pub acquire_timeout: Duration,
    /// After which time an idle connection is closed; default: 10 min.
    #[serde(default = "default_idle", with = "storage_core::duration")]
    pub idle_timeout: Duration,
    /// After which time a connection is replaced; default: 30 min.
    #[serde(default = "default_lifetime", with = "storage_core::duration")]
    pub max_lifetime: Duration,
    /// How long connecting to one host may take; default: 5 s.
    #[serde(default = "default_connect", with = "storage_core::duration")]
    pub connect_timeout: Duration,
    /// How long a reply may take; default: 10 s.
    #[serde(default = "default_timeout", with = "storage_core::duration")]
    pub timeout: Duration,
    /// After which time the server gives a statement up; default: nine tenths of `timeout`, so that it is the server that
    /// says so, and the outcome is known.
    #[serde(default, with = "storage_core::duration::optional")]
    pub statement_timeout: Option<Duration>,
    /// The name under which the server lists this client; default: `storage`.
    #[serde(default = "default_application")]
    pub application_name: String,
    /// Whether statements are prepared once for each connection; default: `true`. Set it to `false` behind a pooler that
    /// gives each transaction another connection, such as PgBouncer in transaction mode: each call is then a
    /// transaction of its own, of four round trips.
    #[serde(default = "default_true")]
    pub prepared_statements: bool,
    /// Whether tables are made and upgraded when the store is opened; default: `true`. With `false` that is done by
    /// `storage schema apply`, and opening needs no right to do it.
    #[serde(default = "default_true")]
    pub create_schema: bool,
    /// Whether the feed of changes is offered; default: `false`. It takes triggers, which log every change from when a
    /// store is first opened with it, whoever makes the change, until [`stop_changes`](crate::stop_changes).
    #[serde(default)]
    pub changes: bool,
    /// How long changes stay in the log, from which a sweep removes them; default: 1 day.
    #[serde(default = "default_retention", with = "storage_core::duration")]
    pub changes_retention: Duration,
    /// How the records are divided among tables; default: as they are. A [`Compact`](storage_core::Maintenance::Compact)
    /// moves them there, and back into one table for an empty list; a [`Sweep`](storage_core::Maintenance::Sweep) makes and
    /// removes the tables of logs. All programs that do either should say the same.
    #[serde(default)]
    pub partitions: Option<Vec<PartitionSet>>,
}

fn default_user() -> String {
    "postgres".to_owned()
}

fn default_schema() -> String {
    "storage".to_owned()
}

fn default_application() -> String {
    "storage".to_owned()
}

fn default_pool_max() -> u32 {
    10
}

fn default_acquire() -> Duration {
    Duration::from_secs(5)
}

fn default_connect() -> Duration {
    Duration::from_secs(5)
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_idle() -> Duration {
    Duration::from_secs(10 * 60)
}

fn default_lifetime() -> Duration {
    Duration::from_secs(30 * 60)
}

fn default_retention() -> Duration {
    Duration::from_secs(24 * 60 * 60)
}

fn default_true() -> bool {
    true
}

/// Parameters that `libpq` knows by other names.
const ALIASES: [(&str, &str); 5] = [
    ("sslmode", "tls"),
    ("sslrootcert", "ca_file"),
    ("sslcert", "cert_file"),
    ("sslkey", "key_file"),
    ("dbname", "database"),
];

impl PostgresConfig {
    pub(crate) const KEYS: [&str; 27] = [
        "hosts",
        "socket",
        "target",
        "database",
        "user",
        "password",
        "password_file",
        "tls",
        "ca_file",
        "cert_file",
        "key_file",
        "schema",
        "table_prefix",
        "pool_min",
        "pool_max",
        "acquire_timeout",
        "idle_timeout",
        "max_lifetime",
        "connect_timeout",
        "timeout",
        "statement_timeout",
        "application_name",
        "prepared_statements",
        "create_schema",
        "changes",
        "changes_retention",
        "partitions",
    ];

    /// The configuration that a URL stands for; the crate's documentation lists the forms.
    ///
    /// # Errors
    /// [`InvalidInput`](storage_core::ErrorKind::InvalidInput) that names the part that is wrong.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::decode(&Self::tree_from_url(url)?)
    }

    pub(crate) fn tree_from_url(url: &str) -> Result<Tree> {
        let url = StoreUrl::parse(url)?;
        let mut config = url.query_config(&schema())?;
        for (theirs, ours) in ALIASES {
            if let Some(value) = config.remove(theirs)
                && config.insert(ours.to_owned(), value).is_some()
            {
                return Err(Error::invalid(format!("the URL says {ours} twice, once as {theirs}")));
            }
        }
        let mut set = |key: &str, value: Tree| match config.insert(key.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(Error::invalid(format!("the URL says {key} twice: leave the parameter out"))),
        };
        match url.path().trim_start_matches('/') {
            "" => {}
            database if database.contains('/') => {
                return Err(Error::invalid("write the URL as postgres://user@host:5432/database"));
            }
            database => set("database", database.into())?,
        }
        for (key, value) in url.authority_config("user")? {
            set(&key, value)?;
        }
        Ok(Tree::Object(config))
    }

    /// The configuration that a tree of keys and values stands for, as configuration files have it.
    ///
    /// # Errors
    /// [`InvalidInput`](storage_core::ErrorKind::InvalidInput) that names the key that is wrong.
    pub fn decode(config: &Tree) -> Result<Self> {
        let mut decoded: Self = decode_config("postgres", config, &Self::KEYS)?;
        decoded.check()?;
        Ok(decoded)
    }

    fn check(&mut self) -> Result<()> {
        let refuse = |text: String| Err(Error::invalid(format!("the configuration of postgres: {text}")));
        if self.hosts.is_empty() && self.socket.is_none() {
            self.hosts.push("localhost".to_owned());
        }
        for host in &mut self.hosts {
            *host = match split_port(host) {
                Some((_, Some(_))) => std::mem::take(host),
                Some((_, None)) => format!("{host}:5432"),
                None => return refuse(format!("hosts: {host:?} is no host:port")),
            };
        }
        if self.socket.is_some() && !self.hosts.is_empty() {
            return refuse("socket: name a socket or hosts, not both".into());
        }
        if self.password.is_some() && self.password_file.is_some() {
            return refuse("password_file: name a password or a file with it, not both".into());
        }
        let certificates = self.ca_file.is_some() || self.cert_file.is_some() || self.key_file.is_some();
        if self.tls_mode() == TlsMode::Disable && certificates {
            return refuse("certificates are named, but tls is disabled: set tls to verify-full".into());
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return refuse("cert_file and key_file belong together".into());
        }
        if !(1..=1_000).contains(&self.pool_max) {
            return refuse(format!("pool_max: {} is not between 1 and 1,000", self.pool_max));
        }
        if self.pool_min > self.pool_max {
            return refuse(format!("pool_min: {} is more than pool_max", self.pool_min));
        }
        let mut durations = vec![
            ("acquire_timeout", self.acquire_timeout),
            ("idle_timeout", self.idle_timeout),
            ("max_lifetime", self.max_lifetime),
            ("connect_timeout", self.connect_timeout),
            ("timeout", self.timeout),
        ];
        durations.extend(self.statement_timeout.map(|duration| ("statement_timeout", duration)));
        if let Some((key, _)) = durations.iter().find(|(_, duration)| duration.as_millis() == 0) {
            return refuse(format!("{key} is 0: it is at least 1ms"));
        }
        if self.schema.is_empty() || self.schema.len() > 63 || self.schema.contains('\0') {
            return refuse("schema: 1 to 63 bytes, no NUL".into());
        }
        if self.schema.starts_with("pg_") {
            return refuse("schema: names that begin with pg_ are the server's own".into());
        }
        if self.table_prefix.len() > 32 || self.table_prefix.contains('\0') {
            return refuse("table_prefix: at most 32 bytes, no NUL".into());
        }
        if let Some(fault) = self.partitions.as_ref().and_then(|sets| crate::partition::check(sets).err()) {
            return refuse(format!("partitions: {fault}"));
        }
        let texts = [("user", Some(&self.user)), ("database", self.database.as_ref())];
        match texts.iter().find(|(_, text)| text.is_some_and(|text| text.is_empty() || text.contains('\0'))) {
            Some((key, _)) => refuse(format!("{key}: at least one character, no NUL")),
            None => Ok(()),
        }
    }

    /// What of the configuration can be changed while the store is open.
    pub fn pool(&self) -> PoolSettings {
        PoolSettings {
            min: self.pool_min,
            max: self.pool_max,
            acquire_timeout: self.acquire_timeout,
            idle_timeout: self.idle_timeout,
            max_lifetime: self.max_lifetime,
        }
    }

    /// Whether connections are encrypted, also if the configuration does not say.
    pub(crate) fn tls_mode(&self) -> TlsMode {
        let local = |host: &String| {
            let host = split_port(host).map_or("", |(host, _)| host);
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        self.tls.unwrap_or_else(|| {
            if self.hosts.iter().all(local) { TlsMode::Disable } else { TlsMode::VerifyFull }
        })
    }

    /// After which time the server gives a statement up.
    pub(crate) fn statement_timeout(&self) -> Duration {
        self.statement_timeout.unwrap_or_else(|| (self.timeout * 9 / 10).max(Duration::from_millis(1)))
    }

    /// Where the data is, without secrets.
    pub(crate) fn location(&self) -> String {
        let database = self.database.as_ref().unwrap_or(&self.user);
        let mut location = match &self.socket {
            Some(socket) => {
                format!("postgres:///{database}?socket={}&schema={}", socket.display(), self.schema)
            }
            None => format!("postgres://{}/{database}?schema={}", self.hosts.join(","), self.schema),
        };
        if !self.table_prefix.is_empty() {
            location.push_str("&table_prefix=");
            location.push_str(&self.table_prefix);
        }
        location
    }
}

/// The host and port of `host`, `host:port`, `[::1]` or `[::1]:port`.
pub(crate) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
        _ => (text, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(bare) => bare,
        None if host.contains(':') => return None,
        None => host,
    };
    let legal = |c: char| !c.is_whitespace() && !c.is_control() && !"/?#@[]".contains(c);
    (!host.is_empty() && host.chars().all(legal)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let config =
            PostgresConfig::from_url("postgresql://ada:p%40ss@db,[::1]:6000/app?target=any&pool_max=3");
        let config = config.unwrap();
        assert_eq!(config.hosts, ["db:5432", "[::1]:6000"]);
        assert_eq!((config.user.as_str(), config.database.as_deref()), ("ada", Some("app")));
        assert_eq!(config.password.as_ref().map(Secret::reveal), Some("p@ss"));
        assert_eq!((config.target, config.pool_max), (Target::Any, 3));
        assert_eq!(config.tls_mode(), TlsMode::VerifyFull);
        assert_eq!(config.location(), "postgres://db:5432,[::1]:6000/app?schema=storage");
        assert!(!format!("{config:?}").contains("p@ss"));
        let local = PostgresConfig::from_url("postgres://").unwrap();
        assert_eq!(
            (local.hosts.as_slice(), local.tls_mode()),
            (&["localhost:5432".to_owned()][..], TlsMode::Disable)
        );
        assert_eq!(local.statement_timeout(), Duration::from_secs(9));
        let theirs = PostgresConfig::from_url("postgres://db/x?sslmode=require&sslrootcert=/ca.pem").unwrap();
        assert_eq!((theirs.tls, theirs.ca_file), (Some(TlsMode::Require), Some("/ca.pem".into())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, word) in [
            ("postgres://h/a/b", "postgres://user@host"),
            ("postgres://h:port", "host:port"),
            ("postgres://h?pool_max=0", "pool_max"),
            ("postgres://h?pool_min=11", "pool_min"),
            ("postgres://h?timeout=0s", "timeout"),
            ("postgres://h?schema=pg_mine", "schema"),
            ("postgres://h?schema=", "schema"),
            ("postgres://h?tls=maybe", "maybe"),
            ("postgres://h?tls=require&sslmode=require", "twice"),
            ("postgres://localhost?ca_file=/x", "tls"),
            ("postgres://h?cert_file=/x", "key_file"),
            ("postgres://u:p@h?password_file=/x", "password_file"),
            ("postgres://h?sockte=/tmp", "socket"),
        ] {
            let error = PostgresConfig::from_url(url).unwrap_err();
            assert_eq!(error.kind(), storage_core::ErrorKind::InvalidInput);
            assert!(error.message().contains(word), "{url}: {error}");
        }
    }
}
