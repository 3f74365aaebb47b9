//! A storage type for tests: any name, version and schemes, over memory.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value as Tree, json};
use storage_registry::semver::Version as Semver;
use storage_registry::{
    Backend, Capabilities, Error, ErrorKind, MEMORY, MemoryBackend, Origin, Registry, Result, StoreUrl,
    TypeDescriptor, decode_config,
};

pub(crate) struct TestType {
    name: String,
    version: Semver,
    schemes: Vec<&'static str>,
}

/// The type of `reference`, such as `redis@1.2.0`, for these schemes.
pub(crate) fn test_type(reference: &str, schemes: &[&'static str]) -> Arc<TestType> {
    let (name, version) = reference.split_once('@').unwrap();
    Arc::new(TestType { name: name.to_owned(), version: version.parse().unwrap(), schemes: schemes.to_vec() })
}

pub(crate) fn version(text: &str) -> Semver {
    text.parse().unwrap()
}

pub(crate) fn plugin() -> Origin {
    Origin::Plugin { path: "plugins/libredis.so".into(), sha256: "0123456789abcdef".repeat(4) }
}

/// A registry of linked-in types with their names as schemes.
pub(crate) fn registry(references: &[&str]) -> Registry {
    let registry = Registry::new();
    for reference in references {
        registry.register(test_type(reference, &["redis"]), Origin::Linked).unwrap();
    }
    registry
}

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default)]
    url: String,
    #[serde(default, rename = "password")]
    _password: String,
    #[serde(default)]
    pool: u16,
}

#[async_trait]
impl TypeDescriptor for TestType {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> Semver {
        self.version.clone()
    }

    fn summary(&self) -> &str {
        "a type for tests"
    }

    fn schemes(&self) -> &[&str] {
        &self.schemes
    }

    fn capabilities(&self) -> Capabilities {
        MEMORY.capabilities()
    }

    fn config_schema(&self) -> Tree {
        json!({
            "type": "object",
            "properties": {
                "url": {"type": "string"},
                "password": {"type": "string", "writeOnly": true},
                "pool": {"type": "integer", "minimum": 1},
            },
            "additionalProperties": false,
        })
    }

    fn config_from_url(&self, url: &str) -> Result<Tree> {
        let parts = StoreUrl::parse(url)?;
        if parts.path() == "/careless" {
            return Err(Error::invalid(format!("no such path: {url}")));
        }
        let mut config = parts.query_config(&self.config_schema())?;
        config.insert("url".to_owned(), url.split('?').next().unwrap_or(url).into());
        Ok(Tree::Object(config))
    }

    fn validate(&self, config: &Tree) -> Result<()> {
        decode_config::<Config>(&self.name, config, &["url", "password", "pool"]).map(drop)
    }

    /// Careless on purpose: errors hold the whole URL, and so does their source.
    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>> {
        let config: Config = decode_config(&self.name, &config, &["url", "password", "pool"])?;
        if config.url.contains("unreachable") || config.pool == 99 {
            let cause = std::io::Error::other(format!("connecting to {}", config.url));
            let message = format!("{} does not answer", config.url);
            return Err(Error::new(ErrorKind::Unavailable, message).with_source(cause));
        }
        Ok(Arc::new(MemoryBackend::new()))
    }
}
