//! What a store has open: its link, its layout, and what it has done.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crc16::{State, XMODEM};
use redis::Value;
use storage_core::{CollectionName, Error, ErrorKind, Result};

use crate::config::{RedisConfig, Serializer};
use crate::layout::{LAYOUT, Layout};
use crate::link::Link;

/// An open connection to a database.
pub(crate) struct Client {
    pub(crate) link: Link,
    pub(crate) layout: Layout,
    pub(crate) serializer: Serializer,
    pub(crate) versions: Versions,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) closed: AtomicBool,
    /// Collections that this client has put into the set of names.
    announced: RwLock<HashSet<CollectionName>>,
}

impl Client {
    pub(crate) async fn open(config: &RedisConfig) -> Result<Self> {
        let client = Self {
            link: Link::open(config).await?,
            layout: Layout::new(&config.prefix, config.shards()),
            serializer: config.serializer,
            versions: Versions::new(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            announced: RwLock::default(),
        };
        client.agree().await?;
        Ok(client)
    }

    /// Checks that the data was written in this layout; the first client says which it is.
    async fn agree(&self) -> Result<()> {
        let meta = self.layout.meta();
        let slot = slot(&meta);
        let shards = self.layout.shards().to_string();
        for (field, ours) in [("layout", LAYOUT), ("shards", shards.as_str())] {
            let mut read = redis::cmd("HGET");
            read.arg(&meta).arg(field);
            let mut found = self.link.one(slot, read.clone()).await?;
            if found == Value::Nil {
                let mut claim = redis::cmd("HSETNX");
                claim.arg(&meta).arg(field).arg(ours);
                self.link.one(slot, claim).await?;
                found = self.link.one(slot, read).await?;
            }
            let theirs = text(found)?;
            if theirs != ours {
                return Err(Error::invalid(format!(
                    "the data under {meta} was written with {field} = {theirs}, and this store is configured with {ours}: \
                     configure {field} = {theirs}, or another prefix"
                )));
            }
        }
        Ok(())
    }

    /// Makes sure that a collection is in the set of names before something is written into it.
    pub(crate) async fn announce<'a>(
        &self,
        collections: impl Iterator<Item = &'a CollectionName>,
    ) -> Result<()> {
        let new: HashSet<&CollectionName> = {
            let known = self.announced.read().unwrap_or_else(PoisonError::into_inner);
            collections.filter(|collection| !known.contains(*collection)).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let names = self.layout.collections();
        let mut command = redis::cmd("SADD");
        command.arg(&names);
        for collection in &new {
            command.arg(collection.as_str());
        }
        self.link.one(slot(&names), command).await?;
        let mut known = self.announced.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(new.into_iter().cloned());
        Ok(())
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the store has been closed"));
        }
        Ok(())
    }
}

/// Makes versions that no other program makes: 48 random bits of this client, then a number that counts up.
pub(crate) struct Versions {
    client: u64,
    next: AtomicU64,
}

impl Versions {
    fn new() -> Self {
        // Seeded by the system: what is derived from a clock could be the same on two machines that start together.
        Self { client: RandomState::new().hash_one(()) >> 16, next: AtomicU64::new(0) }
    }

    /// The next version: 16 characters of the URL-safe base64 alphabet.
    pub(crate) fn next(&self) -> [u8; 16] {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let bits = (u128::from(self.client) << 48) | u128::from(number & ((1 << 48) - 1));
        let mut text = [0; 16];
        for (position, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[((bits >> (90 - 6 * position)) & 63) as usize];
        }
        text
    }
}

/// The slot of a key in a cluster: of its tag, if it has one.
///
/// See <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>.
pub(crate) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    State::<XMODEM>::calculate(hashed.as_bytes()) % 16_384
}

/// The bytes of a reply.
pub(crate) fn bytes(value: Value) -> Result<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        other => Err(unexpected("text", &other)),
    }
}

/// The text of a reply.
pub(crate) fn text(value: Value) -> Result<String> {
    String::from_utf8(bytes(value)?).map_err(|_| malformed("text that is not UTF-8"))
}

/// The number of a reply.
pub(crate) fn number(value: Value) -> Result<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).map_err(|_| malformed("a negative number")),
        other => text(other)?.parse().map_err(|_| malformed("text where a number belongs")),
    }
}

/// The items of a reply.
pub(crate) fn items(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        Value::Map(pairs) => Ok(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        other => Err(unexpected("an array", &other)),
    }
}

fn unexpected(wanted: &str, found: &Value) -> Error {
    let found = match found {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) => "text",
        Value::Array(_) => "an array",
        _ => "something else",
    };
    malformed(&format!("{found} where {wanted} belongs"))
}

/// The error for a reply that does not answer the request.
pub(crate) fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("the server's reply holds {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // `CLUSTER KEYSLOT` of Redis 7.0.
        assert_eq!(slot("123456789"), 12739);
        assert_eq!(slot("{app:users}:r:ada"), slot("{app:users}:i"));
        assert_eq!(slot("foo{}{bar}"), slot("foo{}{bar}"));
        assert_ne!(slot("foo{}{bar}"), slot("bar"));
    }

    #[test]
    fn versions_never_repeat() {
        let versions = Versions::new();
        let made: HashSet<_> = (0..10_000).map(|_| versions.next()).collect();
        assert_eq!(made.len(), 10_000);
        let others = Versions::new();
        assert!((0..10_000).all(|_| !made.contains(&others.next())), "clients do not share their versions");
        assert!(
            made.iter().all(|text| storage_core::Version::new(std::str::from_utf8(text).unwrap()).is_ok())
        );
    }
}
