//! The configuration of a directory store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Tree, json};
use storage_core::{Error, Result, StoreUrl, decode_config};

/// The configuration of a directory store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryConfig {
    /// The directory that holds the store; made if it is missing.
    pub path: PathBuf,
}

impl DirectoryConfig {
    /// A store in this directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn from_url(url: &str) -> Result<Tree> {
        let url = StoreUrl::parse(url)?;
        if url.authority().is_some_and(|host| !host.is_empty()) || url.path().is_empty() {
            return Err(Error::invalid(
                "a directory URL names a directory and no host: write directory:./dir or directory:///dir",
            ));
        }
        let mut config = url.query_config(&Self::schema())?;
        if config.insert("path".to_owned(), url.path().into()).is_some() {
            return Err(Error::invalid(
                "the directory URL names its path twice: leave the parameter path out",
            ));
        }
        Ok(Tree::Object(config))
    }

    pub(crate) fn decode(config: &Tree) -> Result<Self> {
        let decoded: Self = decode_config("directory", config, &["path"])?;
        if decoded.path.as_os_str().is_empty() {
            return Err(Error::invalid("the configuration of directory: path is empty: name a directory"));
        }
        Ok(decoded)
    }

    pub(crate) fn schema() -> Tree {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "required": ["path"],
            "additionalProperties": false,
            "properties": {
                "path": {"type": "string", "minLength": 1, "description": "directory that holds the store"},
            },
        })
    }
}
