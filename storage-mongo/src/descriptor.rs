//! The storage type `mongo`.

use std::sync::Arc;

use async_trait::async_trait;
use semver::Version as Semver;
use serde_json::{Value as Tree, json};
use storage_core::{Backend, Capabilities, Result, TypeDescriptor};

use crate::backend::MongoBackend;
use crate::config::MongoConfig;

/// The storage type `mongo`, opened by connection strings of MongoDB.
#[derive(Debug)]
pub struct MongoType;

/// The one [`MongoType`].
pub static MONGO: MongoType = MongoType;

storage_plugin::export_backend!(MONGO, name = "mongo", version = "1.0.0");

impl MongoType {
    pub(crate) const NAME: &str = "mongo";

    pub(crate) fn type_version() -> Semver {
        Semver::new(1, 0, 0)
    }
}

#[async_trait]
impl TypeDescriptor for MongoType {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> Semver {
        Self::type_version()
    }

    fn summary(&self) -> &str {
        "A MongoDB server, replica set or sharded cluster"
    }

    fn schemes(&self) -> &[&str] {
        &["mongodb", "mongodb+srv"]
    }

    fn capabilities(&self) -> Capabilities {
        MongoBackend::capabilities(true)
    }

    fn config_schema(&self) -> Tree {
        schema()
    }

    fn config_from_url(&self, url: &str) -> Result<Tree> {
        MongoConfig::tree_from_url(url)
    }

    fn validate(&self, config: &Tree) -> Result<()> {
        MongoConfig::decode(config).map(drop)
    }

    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(MongoBackend::open(MongoConfig::decode(&config)?).await?))
    }
}

/// The JSON Schema of [`MongoConfig`].
pub(crate) fn schema() -> Tree {
    let text = |about: &str| json!({"type": "string", "description": about});
    let defaulted =
        |default: &str, about: &str| json!({"type": "string", "default": default, "description": about});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "hosts": {"type": "array", "items": {"type": "string"}, "description": "host:port of servers"},
            "srv": {"type": "boolean", "default": false,
                "description": "whether SRV records of the one host tell the servers"},
            "database": defaulted("storage", "database"),
            "user": text("user"),
            "password": {"type": "string", "writeOnly": true, "description": "the user's password"},
            "password_file": text("file with the user's password"),
            "tls": {"type": "boolean",
                "description": "whether connections are encrypted and verified; default true, and false on loopback"},
            "ca_file": text("PEM file with the certificates to trust, instead of the Mozilla root program's"),
            "cert_file": text("PEM file with this client's certificate and its key"),
            "prefix": defaulted("storage.", "what the names of the store's collections in the database begin with"),
            "timeout": defaulted("10s", "how long a call may take"),
            "options": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]},
                "description": "options of MongoDB's connection strings, such as replicaSet, maxPoolSize or w"},
        },
    })
}
