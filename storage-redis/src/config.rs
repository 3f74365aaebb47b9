//! The configuration of a Redis store.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Tree, json};
use storage_core::{CollectionName, Error, Result, Secret, StoreUrl, decode_config};

use crate::raw::overlap;

/// How the servers hang together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// One server.
    #[default]
    Standalone,
    /// A Redis Cluster, of which `hosts` names some nodes.
    Cluster,
    /// A master found through sentinels, which `hosts` names.
    Sentinel,
}

/// How JSON is kept in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serializer {
    /// As its text.
    #[default]
    Json,
    /// As MessagePack: smaller, and unreadable to people. Numbers outside 64 bits become doubles.
    Msgpack,
}

/// What stands in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Records with version, times and expiry, under a prefix of their own: [`RedisBackend`](crate::RedisBackend).
    #[default]
    Record,
    /// Plain strings, which other programs read and write too: [`RawBackend`](crate::RawBackend).
    Raw,
}

/// What the plain strings of [`Format::Raw`] are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawValues {
    /// JSON texts.
    #[default]
    Json,
    /// Bytes of any kind, without a media type.
    Bytes,
}

impl fmt::Display for RawValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Bytes => "bytes",
        })
    }
}

/// The configuration of a Redis store.
///
/// ```
/// use storage_redis::RedisConfig;
///
/// let config = RedisConfig::from_url("redis://localhost/0?prefix=app")?;
/// assert_eq!((config.hosts, config.prefix.as_str()), (vec!["localhost:6379".to_owned()], "app"));
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisConfig {
    /// How the servers hang together; default: `standalone`.
    #[serde(default)]
    pub topology: Topology,
    /// Where servers are, as `host:port`; the port is 6379 (26379 for sentinels) unless said.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The Unix socket of a server on this machine, instead of hosts.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// The name under which sentinels know the master.
    #[serde(default)]
    pub master: Option<String>,
    /// The number of the database, 0 by default; a cluster has only 0.
    #[serde(default)]
    pub database: u16,
    /// The user (ACL); without one, the server's default user.
    #[serde(default)]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The user of the sentinels, if they have one.
    #[serde(default)]
    pub sentinel_username: Option<String>,
    /// The password of the sentinels, if they have one.
    #[serde(default)]
    pub sentinel_password: Option<Secret>,
    /// Whether connections are encrypted; certificates are always verified.
    #[serde(default)]
    pub tls: bool,
    /// A PEM file with the certificates to trust, instead of the system's.
    #[serde(default)]
    pub tls_ca: Option<PathBuf>,
    /// A PEM file with this client's certificate.
    #[serde(default)]
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with the key of this client's certificate.
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
    /// The name under which the server lists this client.
    #[serde(default)]
    pub client_name: Option<String>,
    /// How many connections are kept, each shared by many requests; 1 to 64, default 2. A cluster keeps one to each node.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// How long connecting may take; default: 5 s.
    #[serde(default = "default_connect", with = "storage_core::duration")]
    pub connect_timeout: Duration,
    /// How long a reply may take; default: 10 s.
    #[serde(default = "default_response", with = "storage_core::duration")]
    pub response_timeout: Duration,
    /// What all keys begin with; 1 to 64 characters of `A-Z a-z 0-9 _ . -`, default `storage`.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// Over how many slots of a cluster a collection is spread, 1 to 4,096; fixed once data is there. Default: 1, and 64
    /// on a cluster.
    #[serde(default)]
    pub shards: Option<u16>,
    /// How JSON is kept; default: `json`.
    #[serde(default)]
    pub serializer: Serializer,
    /// What stands in the database; default: `record`. With `raw`, keys and values are plain, and `prefix`, `shards` and
    /// `serializer` do not apply.
    #[serde(default)]
    pub format: Format,
    /// With the format `raw`, what the values are; default: `json`.
    #[serde(default)]
    pub values: Option<RawValues>,
    /// With the format `raw`, the collections and what the keys of each begin with, such as `{"cache": "app:cache:"}`;
    /// there are no others then. By default every collection's keys begin with its name and a colon.
    #[serde(default)]
    pub collections: Option<BTreeMap<CollectionName, String>>,
}

fn default_connections() -> usize {
    2
}

fn default_connect() -> Duration {
    Duration::from_secs(5)
}

fn default_response() -> Duration {
    Duration::from_secs(10)
}

fn default_prefix() -> String {
    "storage".to_owned()
}

impl RedisConfig {
    pub(crate) const KEYS: [&str; 23] = [
        "topology",
        "hosts",
        "socket",
        "master",
        "database",
        "username",
        "password",
        "sentinel_username",
        "sentinel_password",
        "tls",
        "tls_ca",
        "tls_cert",
        "tls_key",
        "client_name",
        "connections",
        "connect_timeout",
        "response_timeout",
        "prefix",
        "shards",
        "serializer",
        "format",
        "values",
        "collections",
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
        let mut config = url.query_config(&Self::schema())?;
        let (scheme, tls) = match url.scheme() {
            scheme if scheme.starts_with("rediss") => (scheme.replacen("rediss", "redis", 1), true),
            scheme => (scheme.to_owned(), false),
        };
        let mut set = |key: &str, value: Tree| match config.insert(key.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(Error::invalid(format!("the URL says {key} twice: leave the parameter out"))),
        };
        if tls {
            set("tls", true.into())?;
        }
        if scheme == "redis+unix" {
            if url.authority().is_some_and(|authority| !authority.is_empty()) || url.path().len() < 2 {
                return Err(Error::invalid("write the socket's path as redis+unix:///run/redis.sock"));
            }
            set("socket", url.path().into())?;
            return Ok(Tree::Object(config));
        }
        let path: Vec<&str> = url.path().split('/').filter(|part| !part.is_empty()).collect();
        let database = match (scheme.as_str(), path.as_slice()) {
            ("redis" | "redis+cluster", []) => None,
            ("redis", [database]) => Some(*database),
            ("redis+cluster", _) => {
                return Err(Error::invalid(
                    "a cluster has no numbered databases: end the URL after its hosts",
                ));
            }
            ("redis+sentinel", [master, rest @ ..]) if rest.len() < 2 => {
                set("master", (*master).into())?;
                rest.first().copied()
            }
            ("redis+sentinel", _) => {
                return Err(Error::invalid("write the URL as redis+sentinel://host1,host2/master/0"));
            }
            _ => return Err(Error::invalid("write the URL as redis://host:6379/0")),
        };
        if let Some(text) = database {
            let number: u16 = text.parse().map_err(|_| {
                Error::invalid("the path of the URL is not the number of a database, such as /0")
            })?;
            set("database", number.into())?;
        }
        match scheme.as_str() {
            "redis+cluster" => set("topology", "cluster".into())?,
            "redis+sentinel" => set("topology", "sentinel".into())?,
            _ => {}
        }
        for (key, value) in url.authority_config("username")? {
            set(&key, value)?;
        }
        Ok(Tree::Object(config))
    }

    pub(crate) fn decode(config: &Tree) -> Result<Self> {
        let mut decoded: Self = decode_config("redis", config, &Self::KEYS)?;
        decoded.check()?;
        Ok(decoded)
    }

    fn check(&mut self) -> Result<()> {
        let refuse = |text: String| Err(Error::invalid(format!("the configuration of redis: {text}")));
        let port = if self.topology == Topology::Sentinel { 26379 } else { 6379 };
        if self.hosts.is_empty() && self.socket.is_none() {
            self.hosts.push("localhost".to_owned());
        }
        for host in &mut self.hosts {
            *host = match split_port(host) {
                Some((_, Some(_))) => std::mem::take(host),
                Some((_, None)) => format!("{host}:{port}"),
                None => return refuse(format!("hosts: {host:?} is no host:port")),
            };
        }
        if self.topology == Topology::Standalone && self.hosts.len() > 1 {
            return refuse("hosts: a standalone store has one; set topology to cluster or sentinel".into());
        }
        if self.topology != Topology::Standalone && self.socket.is_some() {
            return refuse("socket: only a standalone server is reached by one".into());
        }
        if self.socket.is_some() && !self.hosts.is_empty() {
            return refuse("socket: name a socket or hosts, not both".into());
        }
        if self.master.is_some() != (self.topology == Topology::Sentinel) {
            return refuse("master: it is named for the topology sentinel, and only there".into());
        }
        if self.topology == Topology::Cluster && self.database != 0 {
            return refuse("database: a cluster has only 0".into());
        }
        if !self.tls && (self.tls_ca.is_some() || self.tls_cert.is_some() || self.tls_key.is_some()) {
            return refuse("tls is false, but certificates are named: set tls, or write rediss://".into());
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return refuse("tls_cert and tls_key belong together".into());
        }
        if !(1..=64).contains(&self.connections) {
            return refuse(format!("connections: {} is not between 1 and 64", self.connections));
        }
        for (key, duration) in
            [("connect_timeout", self.connect_timeout), ("response_timeout", self.response_timeout)]
        {
            if duration.is_zero() {
                return refuse(format!("{key} is 0: it is at least 1ms"));
            }
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if !(1..=64).contains(&self.prefix.len()) || !self.prefix.bytes().all(legal) {
            return refuse("prefix: 1 to 64 characters of A-Z a-z 0-9 _ . -".into());
        }
        if self.shards.is_some_and(|shards| !(1..=4096).contains(&shards)) {
            return refuse("shards: 1 to 4,096".into());
        }
        self.check_format().or_else(refuse)
    }

    /// Refuses keys of one format with the other.
    fn check_format(&self) -> Result<(), String> {
        let of_records = [
            ("prefix", self.prefix != default_prefix()),
            ("shards", self.shards.is_some()),
            ("serializer", self.serializer != Serializer::default()),
        ];
        let of_raw = [("values", self.values.is_some()), ("collections", self.collections.is_some())];
        let (format, others): (_, &[(&str, bool)]) = match self.format {
            Format::Record => ("raw", &of_raw),
            Format::Raw => ("record", &of_records),
        };
        if let Some((key, _)) = others.iter().find(|(_, given)| *given) {
            return Err(format!("{key}: it belongs to the format {format}"));
        }
        match self.collections.as_ref().and_then(overlap) {
            Some((one, other)) => Err(format!(
                "collections: the keys of {one} and {other} overlap: let no text begin with another"
            )),
            None => Ok(()),
        }
    }

    /// Over how many slots a collection is spread.
    pub(crate) fn shards(&self) -> u16 {
        self.shards.unwrap_or(if self.topology == Topology::Cluster { 64 } else { 1 })
    }

    /// Where the data is, without secrets.
    pub(crate) fn location(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let data = match self.format {
            Format::Record => format!("prefix={}", self.prefix),
            Format::Raw => "format=raw".to_owned(),
        };
        if let Some(socket) = &self.socket {
            return format!("{scheme}+unix://{}?database={}&{data}", socket.display(), self.database);
        }
        let hosts = self.hosts.join(",");
        match (self.topology, &self.master) {
            (Topology::Cluster, _) => format!("{scheme}+cluster://{hosts}?{data}"),
            (Topology::Sentinel, Some(master)) => {
                format!("{scheme}+sentinel://{hosts}/{master}/{}?{data}", self.database)
            }
            _ => format!("{scheme}://{hosts}/{}?{data}", self.database),
        }
    }

    pub(crate) fn schema() -> Tree {
        let text = |about: &str| json!({"type": "string", "description": about});
        let with = |mut schema: Tree, more: Map<String, Tree>| {
            if let Tree::Object(fields) = &mut schema {
                fields.extend(more);
            }
            schema
        };
        let duration = |default: &str, about: &str| {
            with(text(about), [("default".to_owned(), default.into())].into_iter().collect())
        };
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "topology": {"enum": ["standalone", "cluster", "sentinel"], "default": "standalone",
                    "description": "how the servers hang together"},
                "hosts": {"type": "array", "items": {"type": "string"}, "description": "host:port of servers or sentinels"},
                "socket": text("Unix socket of a server on this machine, instead of hosts"),
                "master": text("name under which sentinels know the master"),
                "database": {"type": "integer", "minimum": 0, "maximum": 65535, "default": 0, "description": "number of the database"},
                "username": text("user (ACL)"),
                "password": with(text("the user's password"), [("writeOnly".to_owned(), true.into())].into_iter().collect()),
                "sentinel_username": text("user of the sentinels"),
                "sentinel_password": with(text("password of the sentinels"), [("writeOnly".to_owned(), true.into())].into_iter().collect()),
                "tls": {"type": "boolean", "default": false, "description": "whether connections are encrypted"},
                "tls_ca": text("PEM file with the certificates to trust, instead of the system's"),
                "tls_cert": text("PEM file with this client's certificate"),
                "tls_key": text("PEM file with the key of this client's certificate"),
                "client_name": text("name under which the server lists this client"),
                "connections": {"type": "integer", "minimum": 1, "maximum": 64, "default": default_connections(),
                    "description": "connections kept, each shared by many requests"},
                "connect_timeout": duration("5s", "how long connecting may take"),
                "response_timeout": duration("10s", "how long a reply may take"),
                "prefix": duration("storage", "what all keys begin with"),
                "shards": {"type": "integer", "minimum": 1, "maximum": 4096,
                    "description": "over how many slots a collection is spread; default 1, and 64 on a cluster"},
                "serializer": {"enum": ["json", "msgpack"], "default": "json", "description": "how JSON is kept"},
                "format": {"enum": ["record", "raw"], "default": "record",
                    "description": "what stands in the database: records of this layout, or plain strings of other programs"},
                "values": {"enum": ["json", "bytes"], "description": "with the format raw, what the values are; default json"},
                "collections": {"type": "object", "additionalProperties": {"type": "string"},
                    "description": "with the format raw, the collections and what the keys of each begin with"},
            },
        })
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
