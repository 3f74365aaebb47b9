//! Where the order of the mutations of a batch can be seen.
//!
//! One statement writes many records at once, and of each only its last value. Mutations are applied in order: so where a
//! collection has a unique index, a value that is replaced within the batch may have been taken, and one that a record gives
//! back is not free for the mutations before.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Tree;
use storage_core::{Address, Change, CollectionName, IndexSpec, Json, Mutation, Path, Record, Result, Value};

use super::Item;
use crate::client::Client;

impl Client {
    /// The unique indexes of those collections of a batch in which its order may matter.
    pub(super) async fn unique_among(&self, items: &[Item<'_>]) -> Result<Vec<IndexSpec>> {
        let mut count: HashMap<&CollectionName, (usize, bool)> = HashMap::new();
        for (_, mutation) in items {
            let (count, json) = count.entry(&mutation.address.collection).or_default();
            (*count, *json) = (*count + 1, *json || put_json(mutation).is_some());
        }
        let mut unique = Vec::new();
        for (collection, (count, json)) in count {
            if count > 1 && json {
                unique.extend(self.unique_indexes(collection).await?);
            }
        }
        Ok(unique)
    }

    /// Whether a mutation takes a value that the record of another holds.
    pub(super) async fn passes_values(&self, items: &[Item<'_>], unique: &[IndexSpec]) -> Result<bool> {
        let mut taken: HashMap<(&Path, &CollectionName, String), Vec<&Address>> = HashMap::new();
        for (_, mutation) in items {
            let Some(json) = put_json(mutation) else { continue };
            let address = &mutation.address;
            for spec in unique.iter().filter(|spec| spec.collection == address.collection) {
                for value in values(json, &spec.path)? {
                    taken.entry((&spec.path, &spec.collection, value)).or_default().push(address);
                }
            }
        }
        if taken.is_empty() || items.len() < 2 {
            return Ok(false);
        }
        let of_them = |address: &&Address| unique.iter().any(|spec| spec.collection == address.collection);
        let addresses: HashSet<&Address> = items.iter().map(|(_, m)| &m.address).filter(of_them).collect();
        let addresses: Vec<Address> = addresses.into_iter().cloned().collect();
        for Record { address, value, .. } in self.read_many(&addresses).await?.into_iter().flatten() {
            let Value::Json(json) = &value else { continue };
            for spec in unique.iter().filter(|spec| spec.collection == address.collection) {
                for value in values(json, &spec.path)? {
                    let takers = taken.get(&(&spec.path, &spec.collection, value));
                    if takers.is_some_and(|takers| takers.iter().any(|taker| **taker != address)) {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }
}

/// Mutations in their order, cut into parts that have each record once.
pub(super) fn unrepeated<'a, 'm>(items: &'a [Item<'m>]) -> Vec<&'a [Item<'m>]> {
    let (mut parts, mut start, mut seen) = (Vec::new(), 0, HashSet::new());
    for (at, (_, mutation)) in items.iter().enumerate() {
        if !seen.insert(&mutation.address) {
            parts.push(&items[start..at]);
            start = at;
            seen = HashSet::from([&mutation.address]);
        }
    }
    parts.push(&items[start..]);
    parts
}

fn put_json(mutation: &Mutation) -> Option<&Json> {
    match &mutation.change {
        Change::Put { value, .. } => value.as_json(),
        _ => None,
    }
}

/// The scalars at a path, as texts that are the same for values that are equal.
fn values(json: &Json, path: &Path) -> Result<Vec<String>> {
    let tree = json.tree()?;
    let scalars = path.candidates(&tree).into_iter().filter(|tree| !tree.is_array() && !tree.is_object());
    let text = |scalar: &Tree| match scalar {
        // Numbers that are not equal but near may look the same: that costs only time.
        Tree::Number(number) => format!("{:e}", number.as_f64().unwrap_or(0.0) + 0.0),
        other => other.to_string(),
    };
    Ok(scalars.map(text).collect())
}
