//! Where the order of the mutations of a batch can be seen.
//!
//! A backend may do mutations of different records by kind, or several at once. Under a unique index that shows: a value is
//! taken by the first that puts it, is free once its record gave it back, and not before. Such a batch has to be done one
//! mutation after the other.

use std::collections::{HashMap, HashSet};

use crate::{Address, Change, CollectionName, IndexSpec, Json, Mutation, Path, Record, Result};

/// Collections that a batch has more than one mutation of, a put of JSON among them: of these it matters what unique indexes they
/// have.
pub fn crowded<'m>(mutations: impl IntoIterator<Item = &'m Mutation>) -> Vec<&'m CollectionName> {
    let mut written: HashMap<&CollectionName, (usize, bool)> = HashMap::new();
    for mutation in mutations {
        let (count, json) = written.entry(&mutation.address.collection).or_default();
        (*count, *json) = (*count + 1, *json || put_json(mutation).is_some());
    }
    written.into_iter().filter(|(_, (count, json))| *count > 1 && *json).map(|(name, _)| name).collect()
}

/// Mutations in their order, cut into parts that have each record once.
pub fn unrepeated<'a, 'm>(mutations: &'a [(usize, &'m Mutation)]) -> Vec<&'a [(usize, &'m Mutation)]> {
    let (mut parts, mut start, mut seen) = (Vec::new(), 0, HashSet::new());
    for (at, (_, mutation)) in mutations.iter().enumerate() {
        if !seen.insert(&mutation.address) {
            parts.push(&mutations[start..at]);
            start = at;
            seen = HashSet::from([&mutation.address]);
        }
    }
    parts.push(&mutations[start..]);
    parts
}

/// The values of unique indexes that mutations take, of which each record has one.
pub struct Taken<'m> {
    unique: &'m [IndexSpec],
    /// By whom: the first of them.
    by: HashMap<(&'m Path, &'m CollectionName, String), &'m Address>,
    addresses: Vec<Address>,
    rivals: bool,
}

impl<'m> Taken<'m> {
    /// What is put under unique indexes.
    ///
    /// # Errors
    /// [`Decode`](crate::ErrorKind::Decode) if a JSON text is damaged.
    pub fn new(mutations: impl IntoIterator<Item = &'m Mutation>, unique: &'m [IndexSpec]) -> Result<Self> {
        let mut taken = Self { unique, by: HashMap::new(), addresses: Vec::new(), rivals: false };
        for mutation in mutations {
            let address = &mutation.address;
            let mut indexed = false;
            for spec in unique.iter().filter(|spec| spec.collection == address.collection) {
                indexed = true;
                for value in put_json(mutation).map_or(Ok(Vec::new()), |json| scalars(json, &spec.path))? {
                    let taker = taken.by.entry((&spec.path, &spec.collection, value)).or_insert(address);
                    taken.rivals |= *taker != address;
                }
            }
            if indexed {
                taken.addresses.push(address.clone());
            }
        }
        Ok(taken)
    }

    /// The records of the batch that may hold a value which another takes.
    pub fn holders(&self) -> &[Address] {
        if self.by.is_empty() || self.addresses.len() < 2 { &[] } else { &self.addresses }
    }

    /// Whether two records are to have the same value.
    pub fn has_rivals(&self) -> bool {
        self.rivals
    }

    /// Whether a value goes from one record to another, given the records at [`holders`](Self::holders).
    ///
    /// # Errors
    /// [`Decode`](crate::ErrorKind::Decode) if a stored JSON text is damaged.
    pub fn is_passed_on<'r>(&self, stored: impl IntoIterator<Item = &'r Record>) -> Result<bool> {
        for Record { address, value, .. } in stored {
            let Some(json) = value.as_json() else { continue };
            for spec in self.unique.iter().filter(|spec| spec.collection == address.collection) {
                for value in scalars(json, &spec.path)? {
                    let taker = self.by.get(&(&spec.path, &spec.collection, value));
                    if taker.is_some_and(|taker| *taker != address) {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }
}

fn put_json(mutation: &Mutation) -> Option<&Json> {
    match &mutation.change {
        Change::Put { value, .. } => value.as_json(),
        _ => None,
    }
}

/// The scalars at a path, as texts that are the same for values that are equal.
fn scalars(json: &Json, path: &Path) -> Result<Vec<String>> {
    let tree = json.tree()?;
    let scalars = path.candidates(&tree).into_iter().filter(|tree| !tree.is_array() && !tree.is_object());
    let text = |scalar: &serde_json::Value| match scalar {
        // Numbers that are not equal but near may look the same: that costs only time.
        serde_json::Value::Number(number) => format!("{:e}", number.as_f64().unwrap_or(0.0) + 0.0),
        other => other.to_string(),
    };
    Ok(scalars.map(text).collect())
}
