//! What every store under test does, and what it promises.

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

/// One operation that a peer may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Scans by prefix that return values.
    Scan,
    /// Increments of which none is lost under concurrency.
    Increment,
}

/// When a peer acknowledges a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Durability {
    /// After fsync or fdatasync: it survives a power cut.
    Synced,
    /// Before: a power cut may take it back.
    NotSynced,
}

/// What there is to know of a peer besides its speed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PeerInfo {
    /// The name on the command line and in the table.
    pub(crate) name: &'static str,
    /// The library and its version.
    pub(crate) version: String,
    /// When it acknowledges a write.
    pub(crate) durability: Durability,
    /// How it is driven.
    pub(crate) how: &'static str,
}

/// Part of a scan; `next` continues it.
pub(crate) struct Page {
    pub(crate) items: Vec<(String, Bytes)>,
    pub(crate) next: Option<String>,
}

/// A store under test. Every write is durable, as far as [`PeerInfo::durability`] says, when it returns.
#[async_trait]
pub(crate) trait Peer: Send + Sync {
    fn info(&self) -> &PeerInfo;

    /// Whether the peer has an operation; those it has not are left out of the table, not emulated.
    fn has(&self, feature: Feature) -> bool;

    async fn get(&self, key: &str) -> Result<Option<Bytes>>;

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()>;

    /// In order, with `None` for what is not there.
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>>;

    /// All in one commit where the peer has such a thing, else one after the other.
    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()>;

    /// In order of key, from behind `after` on, which is the `next` of the page before.
    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page>;

    /// Adds one to a counter that starts at zero, and returns the new value.
    async fn increment(&self, key: &str) -> Result<i64>;

    /// The process that it runs in, if that is another.
    fn elsewhere(&self) -> Option<&crate::elsewhere::Elsewhere> {
        None
    }

    /// How many commands it has sent to its server, if that is known.
    async fn commands(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}
