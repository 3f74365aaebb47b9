//! Where records are, and the names of what a document has.

use mongodb::bson::{Bson, DateTime, doc};
use storage_core::{CollectionName, Path, Timestamp};

use crate::names::field_name;

/// The names of the fields of a record's document.
pub(crate) mod field {
    /// The record's key.
    pub(crate) const ID: &str = "_id";
    /// The version.
    pub(crate) const VERSION: &str = "version";
    /// When the record was made.
    pub(crate) const CREATED_AT: &str = "created_at";
    /// When it was written last.
    pub(crate) const UPDATED_AT: &str = "updated_at";
    /// When it expires; absent if never.
    pub(crate) const EXPIRES_AT: &str = "expires_at";
    /// A JSON value.
    pub(crate) const JSON: &str = "json";
    /// The text of a JSON value, where numbers of it have digits that BSON has not.
    pub(crate) const TEXT: &str = "text";
    /// Bytes.
    pub(crate) const BYTES: &str = "bytes";
    /// The media type of bytes.
    pub(crate) const MEDIA_TYPE: &str = "media_type";
    /// Counters by name.
    pub(crate) const COUNTERS: &str = "counters";
    /// A list: `id`, `length`, `spilled` and `tail`.
    pub(crate) const LIST: &str = "list";
    /// Only within a transaction that locks a record.
    pub(crate) const LOCK: &str = "lock";
    /// The fields of which a value has some: those of another kind are removed when one is put.
    pub(crate) const VALUES: [&str; 6] = [JSON, TEXT, BYTES, MEDIA_TYPE, COUNTERS, LIST];
}

/// Which collections of the database are the store's.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    prefix: String,
}

/// What the name of the collection ends with that has the items of a collection's long lists. No name of a collection
/// has a colon.
const ITEMS: &str = ":items";

impl Layout {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// What the names of all collections begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of the collection with the records of a collection.
    pub(crate) fn records(&self, collection: &CollectionName) -> String {
        format!("{}{collection}", self.prefix)
    }

    /// The name of the collection with the items of its long lists.
    pub(crate) fn items(&self, collection: &CollectionName) -> String {
        format!("{}{collection}{ITEMS}", self.prefix)
    }

    /// The collection whose records are in a collection of the database, if it is one of the store's.
    pub(crate) fn collection_of(&self, name: &str) -> Option<CollectionName> {
        CollectionName::new(name.strip_prefix(&self.prefix)?).ok()
    }
}

/// What `expires_at` of a record is that has not expired.
pub(crate) fn live(now: Timestamp) -> Bson {
    // Not `$gt`: a record that never expires has no such field.
    Bson::Document(doc! {"$not": {"$lte": date(now)}})
}

/// A time as BSON.
pub(crate) fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.as_millis())
}

/// A path as the database writes it.
pub(crate) fn json_path(path: &Path) -> String {
    let mut text = field::JSON.to_owned();
    for segment in path.segments() {
        text.push('.');
        text.push_str(&field_name(segment));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collections_are_told_from_those_of_others() {
        let layout = Layout::new("storage.");
        let users = CollectionName::new("users").unwrap();
        assert_eq!(layout.records(&users), "storage.users");
        assert_eq!(layout.collection_of("storage.users"), Some(users.clone()));
        for other in ["users", "storage.", &layout.items(&users), "storage._x"] {
            assert_eq!(layout.collection_of(other), None, "{other}");
        }
    }

    #[test]
    fn paths_name_fields() {
        assert_eq!(json_path(&Path::new("a.$b.0").unwrap()), "json.a.%24b.0");
    }
}
