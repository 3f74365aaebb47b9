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
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) key: &'a str,
    pub(crate) skip: usize,
}

/// The places of records, in one string.
pub(crate) struct Places {
    text: String,
    /// Where each key ends, and its `skip`.
    ends: Vec<(usize, usize)>,
}

impl Places {
    pub(crate) fn at(&self, position: usize) -> Place<'_> {
        let begin = position.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let (end, skip) = self.ends[position];
        Place { key: &self.text[begin..end], skip }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Place<'_>> {
        (0..self.len()).map(|position| self.at(position))
    }
}

impl Place<'_> {
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
    fn base(&self, text: &mut String, collection: &CollectionName, shard: u16) {
        text.push('{');
        text.push_str(&self.prefix);
        text.push(':');
        text.push_str(collection.as_str());
        if self.shards > 1 {
            let _ = write!(text, ":{shard}");
        }
        text.push_str("}:");
    }

    /// The strings of records.
    pub(crate) fn places<'a>(&self, addresses: impl ExactSizeIterator<Item = &'a Address>) -> Places {
        let count = addresses.len();
        let mut places = Places {
            text: String::with_capacity(count * (self.prefix.len() + 40)),
            ends: Vec::with_capacity(count),
        };
        for address in addresses {
            let begin = places.text.len();
            self.base(&mut places.text, &address.collection, self.shard_of(&address.key));
            places.text.push_str("r:");
            let skip = places.text.len() - begin;
            places.text.push_str(address.key.as_str());
            places.ends.push((places.text.len(), skip));
        }
        places
    }

    /// The string of a record.
    pub(crate) fn place(&self, address: &Address) -> Places {
        self.places(std::iter::once(address))
    }

    /// The sorted set of the keys of a shard.
    pub(crate) fn index(&self, collection: &CollectionName, shard: u16) -> String {
        let mut text = String::new();
        self.base(&mut text, collection, shard);
        text.push('i');
        text
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
        let places = plain.places([&address, &address].into_iter());
        assert_eq!(places.iter().map(|place| place.key).collect::<Vec<_>>(), ["{app:users}:r:a:{b}"; 2]);
        let place = places.at(1);
        assert_eq!((place.key, &place.key[place.skip..]), ("{app:users}:r:a:{b}", "a:{b}"));
        assert_eq!(plain.index(&address.collection, 0), "{app:users}:i");
        assert_eq!(
            (place.index(), place.companion(b'c')),
            ("{app:users}:i".into(), "{app:users}:c:a:{b}".into())
        );

        let sharded = Layout::new("app", 16);
        let (places, shard) = (sharded.place(&address), sharded.shard_of(&address.key));
        assert_eq!(places.at(0).key, format!("{{app:users:{shard}}}:r:a:{{b}}"));
        assert_eq!(sharded.index(&address.collection, shard), format!("{{app:users:{shard}}}:i"));
    }
}
