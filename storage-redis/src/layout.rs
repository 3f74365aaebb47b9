//! Where records are, and how their strings look. The crate's README shows the same to people.

use std::fmt::Write as _;

use storage_core::{Address, CollectionName, Key};
use xxhash_rust::xxh3::xxh3_64;

/// The version of this layout, kept in the database.
pub(crate) const LAYOUT: &str = "1";

/// Names of keys under one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    prefix: String,
    shards: u16,
}

/// A record's key, and how much of it stands before the record's own.
pub(crate) struct Place {
    pub(crate) key: String,
    pub(crate) skip: usize,
}

impl Place {
    /// The sorted set of the keys of the record's shard.
    pub(crate) fn index(&self) -> String {
        format!("{}i", self.base())
    }

    /// What stands beside a record of this kind: the hash of counters, the list.
    pub(crate) fn companion(&self, kind: u8) -> String {
        format!("{}{}:{}", self.base(), char::from(kind), &self.key[self.skip..])
    }

    fn base(&self) -> &str {
        &self.key[..self.skip - 2]
    }
}

impl Layout {
    pub(crate) fn new(prefix: &str, shards: u16) -> Self {
        Self { prefix: prefix.to_owned(), shards: shards.max(1) }
    }

    pub(crate) fn shards(&self) -> u16 {
        self.shards
    }

    pub(crate) fn shard_of(&self, key: &Key) -> u16 {
        if self.shards == 1 {
            return 0;
        }
        u16::try_from(xxh3_64(key.as_str().as_bytes()) % u64::from(self.shards)).unwrap_or(0)
    }

    /// What all keys of a shard begin with. The braces make a cluster keep them together.
    fn base(&self, collection: &CollectionName, shard: u16, room: usize) -> String {
        let mut base = String::with_capacity(self.prefix.len() + collection.as_str().len() + 12 + room);
        base.push('{');
        base.push_str(&self.prefix);
        base.push(':');
        base.push_str(collection.as_str());
        if self.shards > 1 {
            let _ = write!(base, ":{shard}");
        }
        base.push_str("}:");
        base
    }

    /// The string of a record.
    pub(crate) fn record(&self, address: &Address) -> Place {
        let shard = self.shard_of(&address.key);
        let mut key = self.base(&address.collection, shard, 2 + address.key.as_str().len());
        key.push_str("r:");
        let skip = key.len();
        key.push_str(address.key.as_str());
        Place { key, skip }
    }

    /// The sorted set of the keys of a shard.
    pub(crate) fn index(&self, collection: &CollectionName, shard: u16) -> String {
        self.base(collection, shard, 1) + "i"
    }

    /// The set of names of collections.
    pub(crate) fn collections(&self) -> String {
        format!("{}:collections", self.prefix)
    }

    /// The hash with what all programs have to agree on.
    pub(crate) fn meta(&self) -> String {
        format!("{}:meta", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_shard_share_their_tag() {
        let address = Address::new("users", "a:{b}").unwrap();
        let plain = Layout::new("app", 1);
        let place = plain.record(&address);
        assert_eq!((place.key.as_str(), &place.key[place.skip..]), ("{app:users}:r:a:{b}", "a:{b}"));
        assert_eq!(plain.index(&address.collection, 0), "{app:users}:i");
        assert_eq!(
            (place.index(), place.companion(b'c')),
            ("{app:users}:i".into(), "{app:users}:c:a:{b}".into())
        );

        let sharded = Layout::new("app", 16);
        let (place, shard) = (sharded.record(&address), sharded.shard_of(&address.key));
        assert_eq!(place.key, format!("{{app:users:{shard}}}:r:a:{{b}}"));
        assert_eq!(sharded.index(&address.collection, shard), format!("{{app:users:{shard}}}:i"));
    }
}
