//! From collections and keys to the keys of other programs.

use std::collections::BTreeMap;

use storage_core::{Address, CollectionName, Error, Result};

/// What the keys of each collection begin with.
pub(crate) enum Names {
    /// The collection and a colon.
    ByCollection,
    /// As configured, and there are no other collections.
    Listed(BTreeMap<CollectionName, String>),
}

impl Names {
    pub(crate) fn new(listed: Option<&BTreeMap<CollectionName, String>>) -> Self {
        listed.map_or(Self::ByCollection, |listed| Self::Listed(listed.clone()))
    }

    /// The key of the database.
    pub(crate) fn key(&self, address: &Address) -> Result<String> {
        let Address { collection, key } = address;
        match self {
            Self::ByCollection => Ok(format!("{collection}:{key}")),
            Self::Listed(listed) => match listed.get(collection) {
                Some(prefix) => Ok(format!("{prefix}{key}")),
                None => Err(Error::invalid(format!(
                    "the configuration of redis names no collection {collection}: add it to collections, with what \
                     its keys begin with"
                ))),
            },
        }
    }
}

/// Two collections that could hold the same key, if there are any.
pub(crate) fn overlap(
    listed: &BTreeMap<CollectionName, String>,
) -> Option<(&CollectionName, &CollectionName)> {
    let mut prefixes: Vec<(&str, &CollectionName)> =
        listed.iter().map(|(collection, prefix)| (prefix.as_str(), collection)).collect();
    prefixes.sort_unstable();
    // What begins with a text follows it in order, with nothing else in between.
    let overlapping = prefixes.windows(2).find(|pair| pair[1].0.starts_with(pair[0].0))?;
    Some((overlapping[0].1, overlapping[1].1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(pairs: &[(&str, &str)]) -> BTreeMap<CollectionName, String> {
        let name = |text: &str| CollectionName::new(text).unwrap();
        pairs.iter().map(|(collection, prefix)| (name(collection), (*prefix).to_owned())).collect()
    }

    #[test]
    fn every_key_can_be_named() {
        let ada = Address::new("cache", "user:ada").unwrap();
        assert_eq!(Names::ByCollection.key(&ada).unwrap(), "cache:user:ada");
        let all = Names::new(Some(&listed(&[("cache", "")])));
        assert_eq!(all.key(&ada).unwrap(), "user:ada");
        let other = Address::new("other", "user:ada").unwrap();
        assert!(all.key(&other).unwrap_err().to_string().contains("no collection other"));
    }

    #[test]
    fn overlaps_are_found() {
        for (pairs, overlapping) in [
            (&[("a", "x:"), ("b", "y:"), ("c", "x")][..], true),
            (&[("a", "x:"), ("b", "y:")], false),
            (&[("a", ""), ("b", "y:")], true),
            (&[("a", "x:"), ("b", "x:")], true),
            (&[("a", "x:"), ("b", "x;"), ("c", "x:y")], true),
            (&[], false),
        ] {
            assert_eq!(overlap(&listed(pairs)).is_some(), overlapping, "{pairs:?}");
        }
    }
}
