//! The storage type `postgres`.

use std::sync::Arc;

use async_trait::async_trait;
use semver::Version as Semver;
use serde_json::{Value as Tree, json};
use storage_core::{Backend, Capabilities, Result, TypeDescriptor};

use crate::backend::PostgresBackend;
use crate::config::PostgresConfig;

/// The storage type `postgres`, opened by the URLs that the crate's documentation lists.
#[derive(Debug)]
pub struct PostgresType;

/// The one [`PostgresType`].
pub static POSTGRES: PostgresType = PostgresType;

storage_plugin::export_backend!(POSTGRES, name = "postgres", version = "1.0.0");

impl PostgresType {
    pub(crate) const NAME: &str = "postgres";

    pub(crate) fn type_version() -> Semver {
        Semver::new(1, 0, 0)
    }
}

#[async_trait]
impl TypeDescriptor for PostgresType {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> Semver {
        Self::type_version()
    }

    fn summary(&self) -> &str {
        "A PostgreSQL server, or a primary with its replicas"
    }

    fn schemes(&self) -> &[&str] {
        &["postgres", "postgresql"]
    }

    fn capabilities(&self) -> Capabilities {
        PostgresBackend::capabilities()
    }

    fn config_schema(&self) -> Tree {
        schema()
    }

    fn config_from_url(&self, url: &str) -> Result<Tree> {
        PostgresConfig::tree_from_url(url)
    }

    fn validate(&self, config: &Tree) -> Result<()> {
        PostgresConfig::decode(config).map(drop)
    }

    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(PostgresBackend::open(PostgresConfig::decode(&config)?).await?))
    }
}

/// The JSON Schema of [`PostgresConfig`].
pub(crate) fn schema() -> Tree {
    let text = |about: &str| json!({"type": "string", "description": about});
    let defaulted =
        |default: &str, about: &str| json!({"type": "string", "default": default, "description": about});
    let flag = |about: &str| json!({"type": "boolean", "default": true, "description": about});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "hosts": {"type": "array", "items": {"type": "string"}, "description": "host:port of servers, tried in order"},
            "socket": text("directory of the Unix socket of a server on this machine, instead of hosts"),
            "target": {"enum": ["primary", "any"], "default": "primary", "description": "which of several hosts will do"},
            "database": text("database; default: the one named like the user"),
            "user": defaulted("postgres", "role"),
            "password": {"type": "string", "writeOnly": true, "description": "the role's password"},
            "password_file": text("file with the role's password"),
            "tls": {"enum": ["disable", "prefer", "require", "verify-ca", "verify-full"],
                "description": "whether connections are encrypted; default verify-full, and disable on loopback"},
            "ca_file": text("PEM file with the certificates to trust, instead of the system's"),
            "cert_file": text("PEM file with this client's certificate"),
            "key_file": text("PEM file with the key of this client's certificate"),
            "schema": defaulted("storage", "schema in which the tables are"),
            "table_prefix": defaulted("", "what the names of the tables begin with"),
            "pool_min": {"type": "integer", "minimum": 0, "maximum": 1000, "default": 0,
                "description": "connections kept even if idle"},
            "pool_max": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10, "description": "most connections"},
            "acquire_timeout": defaulted("5s", "how long a call may wait for a connection to be free"),
            "idle_timeout": defaulted("10m", "after which time an idle connection is closed"),
            "max_lifetime": defaulted("30m", "after which time a connection is replaced"),
            "connect_timeout": defaulted("5s", "how long connecting to one host may take"),
            "timeout": defaulted("10s", "how long a reply may take"),
            "statement_timeout": {"type": ["string", "null"],
                "description": "after which time the server gives a statement up; default nine tenths of timeout"},
            "application_name": defaulted("storage", "name under which the server lists this client"),
            "prepared_statements": flag("whether statements are prepared; false behind a pooler in transaction mode"),
            "create_schema": flag("whether tables are made and upgraded when the store is opened"),
            "changes": {"type": "boolean", "default": false,
                "description": "whether the feed of changes is offered, and changes are logged for it"},
            "changes_retention": defaulted("1d", "how long changes stay in the log"),
            "partitions": partitions(),
        },
    })
}

/// The schema of [`PartitionSet`](crate::PartitionSet)s.
fn partitions() -> Tree {
    let text = |about: &str| json!({"type": "string", "description": about});
    json!({"type": ["array", "null"], "maxItems": 100, "description":
        "how the records are divided among tables, by maintenance; default: as they are",
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["collections"],
            "oneOf": [{"required": ["hash"]}, {"required": ["range"]}],
            "properties": {
                "collections": {"type": "array", "items": {"type": "string"}, "minItems": 1,
                    "description": "collections that share a table of their own"},
                "hash": {"type": "integer", "minimum": 1, "maximum": 256,
                    "description": "how many tables divide them, by the hash of the key"},
                "range": text("a log: the span of time of each table, whole hours, by the time in the key"),
                "key_time": {"enum": ["iso", "uuid7"], "default": "iso",
                    "description": "how keys of a log begin with their time"},
                "ahead": {"type": "integer", "minimum": 1, "maximum": 100, "default": 3,
                    "description": "spans of a log for which tables are made ahead of time"},
                "retention": text("after which time a span of a log goes; default never"),
                "expired": {"enum": ["drop", "detach"], "default": "drop",
                    "description": "whether a span that goes is removed, or its table stays outside the store"},
            },
        },
    })
}
