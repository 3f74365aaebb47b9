//! Secondary indexes: which entries a record has, and where a test finds its entries.
//!
//! An entry is the index's id, the encoded scalar and the record's key. Encoded scalars order as the values
//! do, but not all exactly: numbers are rounded to doubles and long strings are cut. An index therefore
//! finds a superset, and every record found is tested again.

use std::ops::Bound;

use serde::{Deserialize, Serialize};
use serde_json::Value as Tree;
use storage_core::{Address, CollectionName, Error, ErrorKind, IndexSpec, Path, Record, Result, Test};

/// Strings are indexed by this many bytes.
const TEXT_BYTES: usize = 128;

/// An index that is there.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) spec: IndexSpec,
    pub(crate) id: u32,
}

/// The stored form of an index, under its collection and path.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredIndex {
    pub(crate) id: u32,
    pub(crate) unique: bool,
}

/// All indexes of a store; few, so a list serves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog(pub(crate) Vec<Index>);

impl Catalog {
    pub(crate) fn of<'a>(&'a self, collection: &'a CollectionName) -> impl Iterator<Item = &'a Index> {
        self.0.iter().filter(move |index| index.spec.collection == *collection)
    }

    pub(crate) fn find(&self, collection: &CollectionName, path: &Path) -> Option<&Index> {
        self.0.iter().find(|index| index.spec.collection == *collection && index.spec.path == *path)
    }
}

impl Index {
    /// The keys of the entries of a record, without duplicates.
    pub(crate) fn entries(&self, record: &Record) -> Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> =
            self.scalars(record)?.iter().map(|s| self.entry(s, &record.address)).collect();
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// The encoded scalars of a record, as they begin their entries: what another record's unique value could
    /// clash with.
    pub(crate) fn scalars(&self, record: &Record) -> Result<Vec<Vec<u8>>> {
        let Some(json) = record.value.as_json() else { return Ok(Vec::new()) };
        let tree = json.tree()?;
        Ok(self.spec.path.candidates(&tree).into_iter().filter_map(|tree| self.scalar(tree)).collect())
    }

    fn entry(&self, scalar: &[u8], address: &Address) -> Vec<u8> {
        let mut key = scalar.to_vec();
        key.extend_from_slice(address.key.as_str().as_bytes());
        key
    }

    /// The beginning of all entries of a scalar; `None` for arrays and objects, which are not indexed.
    pub(crate) fn scalar(&self, tree: &Tree) -> Option<Vec<u8>> {
        let mut key = self.id.to_be_bytes().to_vec();
        match tree {
            Tree::Null => key.push(1),
            Tree::Bool(value) => key.extend_from_slice(&[2, u8::from(*value)]),
            Tree::Number(number) => {
                key.push(3);
                key.extend_from_slice(&ordered_bits(number.as_f64().unwrap_or(f64::NAN)).to_be_bytes());
            }
            Tree::String(text) => {
                push_text(&mut key, text);
                key.extend_from_slice(&[0, 1]);
            }
            Tree::Array(_) | Tree::Object(_) => return None,
        }
        Some(key)
    }

    /// The ranges of entries that hold every record passing the test; `None` if the index cannot say.
    pub(crate) fn ranges(&self, test: &Test) -> Option<Vec<KeyRange>> {
        let all_of = |tree: &Tree| self.scalar(tree).map(KeyRange::prefix);
        match test {
            Test::Eq(value) => Some(vec![all_of(value)?]),
            Test::In(values) => values.iter().map(all_of).collect(),
            Test::Gt(value) | Test::Gte(value) => {
                Some(vec![KeyRange { from: self.scalar(value)?, to: self.type_end(value) }])
            }
            Test::Lt(value) | Test::Lte(value) => Some(vec![KeyRange {
                from: self.type_start(value),
                to: KeyRange::prefix(self.scalar(value)?).to,
            }]),
            Test::Prefix(text) => {
                let mut key = self.id.to_be_bytes().to_vec();
                push_text(&mut key, text);
                Some(vec![KeyRange::prefix(key)])
            }
            Test::Ne(_) | Test::Nin(_) | Test::Exists(_) | Test::Contains(_) => None,
        }
    }

    /// All entries of the index.
    pub(crate) fn whole(&self) -> KeyRange {
        KeyRange::prefix(self.id.to_be_bytes().to_vec())
    }

    fn type_start(&self, tree: &Tree) -> Vec<u8> {
        let mut key = self.id.to_be_bytes().to_vec();
        key.push(tag(tree));
        key
    }

    fn type_end(&self, tree: &Tree) -> Vec<u8> {
        let mut key = self.id.to_be_bytes().to_vec();
        key.push(tag(tree) + 1);
        key
    }
}

fn tag(tree: &Tree) -> u8 {
    match tree {
        Tree::Null => 1,
        Tree::Bool(_) => 2,
        Tree::Number(_) => 3,
        _ => 4,
    }
}

/// Text so that the end can be told from any character: NUL is escaped. Cut to its first bytes, and then
/// everything that begins alike has one scalar.
fn push_text(key: &mut Vec<u8>, text: &str) {
    key.push(4);
    for byte in text.bytes().take(TEXT_BYTES) {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
}

/// Bits that order as the doubles do: sign flipped for positive numbers, all flipped for negative ones.
fn ordered_bits(value: f64) -> u64 {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    if bits >> 63 == 0 { bits ^ 1 << 63 } else { !bits }
}

/// A half-open range of keys.
#[derive(Clone, Debug)]
pub(crate) struct KeyRange {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

impl KeyRange {
    /// All keys that begin with `prefix`, which is not all 0xff.
    pub(crate) fn prefix(prefix: Vec<u8>) -> Self {
        let mut to = prefix.clone();
        while to.last() == Some(&0xff) {
            to.pop();
        }
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        Self { from: prefix, to }
    }

    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(&self.from), Bound::Excluded(&self.to))
    }
}

/// An entry of this index cannot be what was written.
pub(crate) fn damaged(index: &Index) -> Error {
    let IndexSpec { collection, path, .. } = &index.spec;
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "the index {path} of {collection} is damaged: drop it and add it again, and verify the store"
        ),
    )
}

/// The record key within an entry, given how long the encoded scalar is.
pub(crate) fn entry_record(entry: &[u8]) -> Option<&str> {
    let scalar = entry.get(4..)?;
    let length = match scalar.first()? {
        1 => 1,
        2 => 2,
        3 => 9,
        4 => {
            let mut at = 1;
            // The end mark is NUL 1; a NUL within the text is NUL 0xff.
            loop {
                match (scalar.get(at)?, scalar.get(at + 1)) {
                    (0, Some(1)) => break at + 2,
                    (0, Some(0xff)) => at += 2,
                    _ => at += 1,
                }
            }
        }
        _ => return None,
    };
    std::str::from_utf8(scalar.get(length..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn index() -> Index {
        let spec = IndexSpec::new(CollectionName::new("c").unwrap(), Path::new("p").unwrap());
        Index { spec, id: 7 }
    }

    #[test]
    fn scalars_order_as_values() {
        let values = [
            json!(null),
            json!(false),
            json!(true),
            json!(-1e300),
            json!(-2),
            json!(-0.5),
            json!(0),
            json!(3),
            json!(18446744073709551615u64),
            json!(""),
            json!("\0"),
            json!("a"),
            json!("a\0b"),
            json!("ab"),
            json!("é"),
        ];
        let keys: Vec<_> = values.iter().map(|value| index().scalar(value).unwrap()).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(index().scalar(&json!(-0.0)), index().scalar(&json!(0)));
    }

    #[test]
    fn the_record_is_found_in_an_entry() {
        let address = Address::new("c", "key\u{1}é").unwrap();
        for value in [json!(null), json!(true), json!(1.5), json!("a\0\u{1}b"), json!("x".repeat(500))] {
            let entry = index().entry(&index().scalar(&value).unwrap(), &address);
            assert_eq!(entry_record(&entry), Some("key\u{1}é"), "{value}");
        }
    }
}
