//! Secondary indexes: made, listed, dropped.
//!
//! An index on a path is one of the server's, on the field that the path names. A plain one is sparse: it has the records in
//! which the path leads anywhere.
//!
//! A unique one is partial: it has the records in which the path leads to a scalar. Otherwise the server would take lists
//! without items, and objects, for values that may be there once. That they are scalars is said by comparisons, from which
//! the server sees for which queries the index is of use.

use futures_util::TryStreamExt as _;
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::error::ErrorKind as Driver;
use storage_core::{CollectionName, Error, ErrorKind, IndexSpec, Path, Result, Retry, Timestamp};

use crate::client::Client;
use crate::error::{DUPLICATE, driver};
use crate::layout::{date, field, json_path};
use crate::names::field_key;

/// What the names of the indexes on paths begin with, before the name of the field.
const NAME: &str = "storage_";

impl Client {
    /// Makes an index, and returns whether it was new. Waits for one that another client is making.
    pub(crate) async fn ensure_index(&self, spec: &IndexSpec) -> Result<bool> {
        self.check_open()?;
        if spec.unique {
            // What has expired holds nothing.
            let expired = doc! {field::EXPIRES_AT: {"$lte": date(Timestamp::now())}};
            self.patiently(self.records(&spec.collection).delete_many(expired).into_future()).await?;
        }
        let command =
            doc! {"createIndexes": self.layout.records(&spec.collection), "indexes": [definition(spec)]};
        self.known_indexes.forget(&spec.collection);
        let making = self.database.run_command(command);
        let made = self.patiently(async { Ok(making.await) }).await;
        self.known_indexes.forget(&spec.collection);
        match made? {
            Ok(reply) => Ok(count(&reply, "numIndexesAfter") > count(&reply, "numIndexesBefore")),
            Err(error) if matches!(error.kind.as_ref(), Driver::Command(told) if told.code == DUPLICATE) => {
                Err(duplicate(spec))
            }
            Err(error) => {
                // There may be one of the other kind, which has the same name.
                self.check_kind(spec).await?;
                Err(driver(error))
            }
        }
    }

    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if there is an index of the other kind.
    async fn check_kind(&self, wanted: &IndexSpec) -> Result<()> {
        let there = self.list_indexes(&wanted.collection).await?;
        match there.iter().find(|there| there.path == wanted.path && there.unique != wanted.unique) {
            Some(there) => Err(other_kind(there)),
            None => Ok(()),
        }
    }

    /// The indexes of a collection, by path.
    pub(crate) async fn list_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        self.check_open()?;
        let records = self.records(collection);
        let listing = async { records.list_indexes().await?.try_collect::<Vec<IndexModel>>().await };
        let found = match self.within(listing).await {
            // There is no such collection.
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            found => found?,
        };
        let mut specs: Vec<IndexSpec> = found.iter().filter_map(|index| spec(collection, index)).collect();
        specs.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(specs)
    }

    /// The unique indexes that a collection has, or had a moment ago.
    pub(crate) async fn unique_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        let known = self.known_indexes.of(collection, self.list_indexes(collection)).await?;
        Ok(known.iter().filter(|spec| spec.unique).cloned().collect())
    }

    /// Drops an index, and returns whether there was one.
    pub(crate) async fn drop_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        self.check_open()?;
        let command = doc! {"dropIndexes": self.layout.records(collection), "index": name(&json_path(path))};
        let dropped = self.command(command, None).await;
        self.known_indexes.forget(collection);
        match dropped {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn name(field: &str) -> String {
    format!("{NAME}{field}")
}

fn definition(spec: &IndexSpec) -> Document {
    let path = json_path(&spec.path);
    let mut definition = doc! {"key": {&path: 1}, "name": name(&path)};
    if spec.unique {
        let scalar = [
            doc! {&path: {"$gte": ""}},
            doc! {&path: {"$gte": f64::NEG_INFINITY}},
            doc! {&path: {"$gte": false}},
            doc! {&path: {"$type": "null"}},
        ];
        definition.insert("unique", true);
        definition.insert("partialFilterExpression", doc! {"$or": scalar.to_vec()});
    } else {
        definition.insert("sparse", true);
    }
    definition
}

/// What an index of the server is for, if it is one of ours.
fn spec(collection: &CollectionName, index: &IndexModel) -> Option<IndexSpec> {
    let options = index.options.as_ref()?;
    let mut keys = index.keys.keys();
    let (Some(field), None) = (keys.next(), keys.next()) else { return None };
    if options.name.as_deref()? != name(field) {
        return None;
    }
    let names = field.strip_prefix(field::JSON)?.strip_prefix('.')?.split('.');
    let segments: Vec<_> = names.map(field_key).collect();
    let path = Path::new(segments.join(".")).ok()?;
    Some(IndexSpec { collection: collection.clone(), path, unique: options.unique == Some(true) })
}

fn count(reply: &Document, name: &str) -> i32 {
    reply.get_i32(name).unwrap_or(0)
}

fn other_kind(IndexSpec { collection, path, unique }: &IndexSpec) -> Error {
    let kind = if *unique { "unique" } else { "not unique" };
    let message = format!("the index {path} of {collection} is there and is {kind}: drop it first");
    Error::new(ErrorKind::Conflict, message).with_retry(Retry::Never)
}

fn duplicate(IndexSpec { collection, path, .. }: &IndexSpec) -> Error {
    let message = format!("two records of {collection} hold the same {path}: it cannot have a unique index");
    Error::new(ErrorKind::Conflict, message).with_retry(Retry::Never)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_known_by_what_they_are_made_as() {
        let collection = CollectionName::new("users").unwrap();
        let index = |definition: &Document| {
            let options = mongodb::options::IndexOptions::builder()
                .name(definition.get_str("name").unwrap().to_owned())
                .unique(definition.get_bool("unique").ok())
                .build();
            IndexModel::builder()
                .keys(definition.get_document("key").unwrap().clone())
                .options(options)
                .build()
        };
        for path in ["email", "a.b", "l.0", "$", "100%", "expires_at", "é ü"] {
            for unique in [false, true] {
                let made =
                    IndexSpec { unique, ..IndexSpec::new(collection.clone(), Path::new(path).unwrap()) };
                assert_eq!(spec(&collection, &index(&definition(&made))), Some(made));
            }
        }
        for (name, keys) in [
            ("storage_expires_at", doc! {"expires_at": 1}),
            ("json.a_1", doc! {"json.a": 1}),
            ("storage_json.a", doc! {"json.a": 1, "_id": 1}),
            ("storage_json", doc! {"json": 1}),
        ] {
            assert_eq!(spec(&collection, &index(&doc! {"name": name, "key": keys})), None, "{name}");
        }
    }
}
