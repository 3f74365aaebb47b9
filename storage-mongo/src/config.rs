//! The configuration of a MongoDB store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value as Tree};
use storage_core::{Error, Result, Secret, StoreUrl, decode_config};

use crate::descriptor::schema;

/// The configuration of a MongoDB store.
///
/// ```
/// use storage_mongo::MongoConfig;
///
/// let config = MongoConfig::from_url("mongodb://localhost/app?replicaSet=rs0&prefix=store.")?;
/// assert_eq!((config.database(), config.prefix.as_str()), ("app", "store."));
/// assert_eq!(config.options["replicaSet"], "rs0");
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MongoConfig {
    /// Where servers are, as `host:port`; the port is 27017 unless said. Default: `localhost`.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Whether the one host is a name whose SRV and TXT records tell the servers, as in `mongodb+srv://`.
    #[serde(default)]
    pub srv: bool,
    /// The database; default: `storage`.
    #[serde(default)]
    pub database: Option<String>,
    /// The user. The option `authSource` says in which database the user is; default: in that of the store if it is named,
    /// else in `admin`.
    #[serde(default)]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file with the user's password, whose last line end does not count.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Whether connections are encrypted, and the server's certificate is verified. Default: yes, as what passes a network
    /// unencrypted can be read and changed; no if all hosts are loopback addresses, `localhost` or Unix sockets.
    #[serde(default)]
    pub tls: Option<bool>,
    /// A PEM file with the certificates to trust, instead of those of the Mozilla root program.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A PEM file with this client's certificate and its key.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// What the names of the store's collections in the database begin with; 1 to 64 characters, default `storage.`.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// How long a call may take; default: 10 s.
    #[serde(default = "default_timeout", with = "storage_core::duration")]
    pub timeout: Duration,
    /// Options of MongoDB's connection strings under the names that they have there, such as `replicaSet`, `maxPoolSize`,
    /// `readPreference`, `w` or `authMechanism`.
    #[serde(default, deserialize_with = "texts")]
    pub options: BTreeMap<String, String>,
}

fn default_prefix() -> String {
    "storage.".to_owned()
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

/// Texts, and numbers and booleans as texts.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let trees = BTreeMap::<String, Tree>::deserialize(deserializer)?;
    let texts = trees.into_iter().map(|(name, value)| match value {
        Tree::String(text) => Ok((name, text)),
        Tree::Bool(_) | Tree::Number(_) => Ok((name, value.to_string())),
        _ => Err(serde::de::Error::custom(format!("options: {name} is no text, number or boolean"))),
    });
    texts.collect()
}

/// Options of connection strings that are keys of ours.
const ALIASES: [(&str, &str); 3] =
    [("ssl", "tls"), ("tlsCAFile", "ca_file"), ("tlsCertificateKeyFile", "cert_file")];

impl MongoConfig {
    pub(crate) const KEYS: [&str; 12] = [
        "hosts",
        "srv",
        "database",
        "user",
        "password",
        "password_file",
        "tls",
        "ca_file",
        "cert_file",
        "prefix",
        "timeout",
        "options",
    ];

    /// The configuration that a URL stands for: a connection string of MongoDB, whose parameters may also be keys of the
    /// configuration.
    ///
    /// # Errors
    /// [`InvalidInput`](storage_core::ErrorKind::InvalidInput) that names the part that is wrong.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::decode(&Self::tree_from_url(url)?)
    }

    pub(crate) fn tree_from_url(url: &str) -> Result<Tree> {
        let url = StoreUrl::parse(url)?;
        let (mut config, mut options) = (Map::new(), Map::new());
        for (key, value) in url.query_config(&schema())? {
            let ours =
                ALIASES.iter().find(|(theirs, _)| *theirs == key).map_or(key.as_str(), |(_, ours)| ours);
            if !Self::KEYS.contains(&ours) {
                options.insert(key, value);
            } else if config.insert(ours.to_owned(), truth(value)).is_some() {
                return Err(Error::invalid(format!("the URL says {ours} twice, once as {key}")));
            }
        }
        if !options.is_empty() {
            config.insert("options".to_owned(), options.into());
        }
        let mut set = |key: &str, value: Tree| match config.insert(key.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(Error::invalid(format!("the URL says {key} twice: leave the parameter out"))),
        };
        if url.scheme() == "mongodb+srv" {
            set("srv", true.into())?;
        }
        match url.path().trim_start_matches('/') {
            "" => {}
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
        let mut decoded: Self = decode_config("mongo", config, &Self::KEYS)?;
        decoded.check()?;
        Ok(decoded)
    }

    fn check(&mut self) -> Result<()> {
        let refuse = |text: String| Err(Error::invalid(format!("the configuration of mongo: {text}")));
        if self.hosts.is_empty() {
            self.hosts.push("localhost".to_owned());
        }
        if self.password.is_some() && self.password_file.is_some() {
            return refuse("password_file: name a password or a file with it, not both".into());
        }
        if self.user.is_none() && (self.password.is_some() || self.password_file.is_some()) {
            return refuse("user: there is a password, but no user".into());
        }
        let certificates = self.ca_file.is_some() || self.cert_file.is_some();
        if self.tls == Some(false) && certificates {
            return refuse("certificates are named, but tls is false: leave it out".into());
        }
        if self.timeout.as_millis() == 0 {
            return refuse("timeout is 0: it is at least 1ms".into());
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let begins = self.prefix.starts_with(|c: char| c.is_ascii_alphanumeric());
        if self.prefix.len() > 64 || !begins || !self.prefix.chars().all(legal) {
            return refuse("prefix: 1 to 64 of A-Z a-z 0-9 _ . -, a letter or digit first".into());
        }
        if self.prefix.starts_with("system.") {
            return refuse("prefix: names that begin with system. are the server's own".into());
        }
        if let Some(database) = &self.database
            && (!(1..=63).contains(&database.len())
                || database.contains(['/', '\\', '.', ' ', '"', '$', '\0']))
        {
            return refuse("database: 1 to 63 bytes, none of / \\ . space \" $".into());
        }
        for (theirs, ours) in ALIASES.into_iter().chain([("tls", "tls")]) {
            if self.options.keys().any(|name| name.eq_ignore_ascii_case(theirs)) {
                return refuse(format!("options: {theirs} is the key {ours}, beside the options"));
            }
        }
        self.check_connection()
    }

    /// The name of the database.
    pub fn database(&self) -> &str {
        self.database.as_deref().unwrap_or("storage")
    }

    /// Where the data is, without secrets.
    pub(crate) fn location(&self) -> String {
        let scheme = if self.srv { "mongodb+srv" } else { "mongodb" };
        format!("{scheme}://{}/{}?prefix={}", self.hosts.join(","), self.database(), self.prefix)
    }
}

/// A text that says whether, as connection strings have it.
fn truth(value: Tree) -> Tree {
    match value.as_str() {
        Some("true") => true.into(),
        Some("false") => false.into(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let config = MongoConfig::from_url(
            "mongodb://ada:p%40ss@a,b:27018/app?replicaSet=rs0&maxPoolSize=5&ssl=true&prefix=x.&timeout=2s&tlsCAFile=/ca",
        );
        let config = config.unwrap();
        assert_eq!(config.hosts, ["a", "b:27018"]);
        assert_eq!((config.user.as_deref(), config.database()), (Some("ada"), "app"));
        assert_eq!(config.password.as_ref().map(Secret::reveal), Some("p@ss"));
        assert_eq!((config.tls, config.ca_file.clone()), (Some(true), Some("/ca".into())));
        assert_eq!((config.prefix.as_str(), config.timeout), ("x.", Duration::from_secs(2)));
        assert_eq!(config.options["maxPoolSize"], "5");
        assert_eq!(config.location(), "mongodb://a,b:27018/app?prefix=x.");
        assert!(!format!("{config:?}").contains("p@ss"));

        let srv = MongoConfig::from_url("mongodb+srv://cluster.example").unwrap();
        assert!(srv.srv && srv.database() == "storage");
    }

    #[test]
    fn options_may_be_texts_numbers_or_booleans() {
        let config = serde_json::json!({"options": {"w": 1, "journal": true, "readPreference": "nearest"}});
        let options = MongoConfig::decode(&config).unwrap().options;
        assert_eq!(options.values().collect::<Vec<_>>(), ["true", "nearest", "1"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, word) in [
            ("mongodb://h/a.b", "database"),
            ("mongodb://h?timeout=0s", "timeout"),
            ("mongodb://h?prefix=", "prefix"),
            ("mongodb://h?prefix=system.x", "system."),
            ("mongodb://h?tls=maybe", "tls"),
            ("mongodb://h?tls=true&ssl=true", "twice"),
            ("mongodb://h?tls=false&ca_file=/x", "tls"),
            ("mongodb://h?password=p", "user"),
            ("mongodb://u:p@h?password_file=/x", "password_file"),
            ("mongodb://h?replicaset2=x", "replicaset2"),
            ("mongodb://h?maxPoolSize=many", "maxPoolSize"),
            ("mongodb://h:port", "port"),
            ("mongodb+srv://a,b", "srv"),
            ("mongodb://h?authMechanism=SCRAM-SHA-256", "username"),
        ] {
            let error = MongoConfig::from_url(url).unwrap_err();
            assert_eq!(error.kind(), storage_core::ErrorKind::InvalidInput, "{url}: {error}");
            assert!(error.message().to_lowercase().contains(&word.to_lowercase()), "{url}: {error}");
        }
    }
}
