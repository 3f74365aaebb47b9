//! Stores made from the pattern of a URL, one for each case.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value as Tree;
use storage_core::{Backend, Error, ErrorKind, Result, StoreUrl};
use storage_registry::Registry;
use storage_testkit::{Fixture, Harness};
use tempfile::TempDir;

/// Stands for a new, empty directory in the pattern of a URL.
pub(crate) const DIRECTORY: &str = "{dir}";
/// Stands for a number that was never used before.
pub(crate) const NUMBER: &str = "{number}";

/// What a path may hold as it is in a URL.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Makes stores of one type, each by a URL of its own.
#[derive(Debug)]
pub(crate) struct Stores {
    registry: Arc<Registry>,
    /// A URL in which [`DIRECTORY`] and [`NUMBER`] are filled in for each store.
    pattern: String,
    /// Whether a store keeps its records when it is closed.
    persistent: bool,
}

impl Stores {
    pub(crate) fn new(registry: Arc<Registry>, pattern: String, persistent: bool) -> Self {
        Self { registry, pattern, persistent }
    }

    /// The pattern for a type of which nothing is known but its scheme and the schema of its configuration.
    pub(crate) fn default_pattern(scheme: &str, config_schema: &Tree) -> String {
        let has_path = config_schema.pointer("/properties/path").is_some();
        format!("{scheme}:{}", if has_path { DIRECTORY } else { "" })
    }
}

#[async_trait]
impl Harness for Stores {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let directory = self.pattern.contains(DIRECTORY).then(tempfile::tempdir).transpose();
        let directory = directory.map_err(|error| {
            let message = "a temporary directory cannot be made: TMPDIR says where";
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        })?;
        let mut url = self.pattern.replace(NUMBER, &unused_number().to_string());
        if let Some(directory) = &directory {
            let path = directory.path().to_string_lossy();
            url = url.replace(DIRECTORY, &utf8_percent_encode(&path, IN_PATH).to_string());
        }
        let (registry, persistent) = (Arc::clone(&self.registry), self.persistent);
        Ok(Box::new(OneStore { registry, url, persistent, _directory: directory }))
    }
}

/// One store, at its URL.
struct OneStore {
    registry: Arc<Registry>,
    url: String,
    persistent: bool,
    /// Removed with the fixture.
    _directory: Option<TempDir>,
}

#[async_trait]
impl Fixture for OneStore {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        self.registry.open_backend(&self.url).await
    }

    fn persistent(&self) -> bool {
        self.persistent
    }

    fn secrets(&self) -> Vec<String> {
        password(&self.url)
    }

    /// With a configuration key that no type has: the one thing that every type has to refuse. Handed to the
    /// type itself, as the registry would refuse it first.
    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        let plan = self.registry.plan(&self.url)?;
        let mut config = plan.config().clone();
        if let Some(keys) = config.as_object_mut() {
            keys.insert("no-such-key".to_owned(), Tree::Bool(true));
        }
        plan.entry().descriptor().open(config).await
    }
}

impl fmt::Debug for OneStore {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneStore").field("persistent", &self.persistent).finish_non_exhaustive()
    }
}

/// The password in a URL, as written and decoded.
fn password(url: &str) -> Vec<String> {
    let authority = StoreUrl::split_scheme(url)
        .and_then(|(_, rest)| rest.strip_prefix("//"))
        .and_then(|rest| rest.split(['/', '?', '#']).next());
    let user_info =
        authority.and_then(|authority| authority.rsplit_once('@')).map(|(user_info, _)| user_info);
    let Some((_, password)) = user_info.and_then(|user_info| user_info.split_once(':')) else {
        return Vec::new();
    };
    let mut texts = vec![password.to_owned(), percent_decode_str(password).decode_utf8_lossy().into_owned()];
    texts.retain(|text| !text.is_empty());
    texts.dedup();
    texts
}

/// The microseconds since 1970, and always more than the last time.
fn unused_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
    let (Ok(last) | Err(last)) = last;
    now.max(last + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_used_once() {
        let numbers: HashSet<u64> = (0..10_000).map(|_| unused_number()).collect();
        assert_eq!(numbers.len(), 10_000);
    }

    #[test]
    fn a_type_with_a_path_gets_a_directory() {
        let schema = json!({"properties": {"path": {"type": "string"}}});
        assert_eq!(Stores::default_pattern("file", &schema), "file:{dir}");
        assert_eq!(Stores::default_pattern("memory", &json!({})), "memory:");
    }

    #[test]
    fn passwords_are_found() {
        assert_eq!(password("redis://ada:p%40ss@host/0"), ["p%40ss", "p@ss"]);
        assert_eq!(password("redis://ada:pass@host"), ["pass"]);
        for url in ["file:./data", "redis://host:6379/0?x=a:b@c", "redis://ada@host", "redis://ada:@host"] {
            assert!(password(url).is_empty(), "{url}");
        }
    }

    #[tokio::test]
    async fn each_store_has_its_url() {
        let registry = Arc::new(Registry::linked());
        let stores = Stores::new(registry, "file:{dir}/data-{number}?durability=eventual".to_owned(), true);
        let (one, other) = (stores.create().await.unwrap(), stores.create().await.unwrap());
        let (a, b) = (one.open().await.unwrap(), other.open().await.unwrap());
        assert_ne!(a.info().location, b.info().location);
        a.close().await.unwrap();
        b.close().await.unwrap();
        let error = one.open_bad_endpoint().await.map(drop).unwrap_err();
        assert!(error.message().contains("no-such-key"), "{error}");
    }
}
