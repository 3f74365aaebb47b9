//! Mutations as statements of the database: a filter, and what happens to the document that it finds.

use mongodb::bson::{Bson, Document, doc};
use storage_core::{Change, Mutation, Precondition, Record, Result, Timestamp, Value, Version};

use super::append::Added;
use crate::client::Client;
use crate::convert::value_fields;
use crate::layout::{date, field, live};

/// One update or delete of at most one document.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// The collection of the database.
    pub(crate) namespace: String,
    pub(crate) filter: Document,
    pub(crate) kind: Kind,
    /// About how many bytes it takes, not less.
    pub(crate) weight: usize,
}

/// What a statement does.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Changes the document, and makes one with `upsert` if there is none.
    Update {
        update: Bson,
        upsert: bool,
    },
    Delete,
}

impl Statement {
    pub(crate) fn update(
        namespace: String,
        filter: Document,
        update: Document,
        upsert: bool,
        size: usize,
    ) -> Self {
        let kind = Kind::Update { update: Bson::Document(update), upsert };
        Self { namespace, filter, kind, weight: weight(size) }
    }

    pub(crate) fn delete(namespace: String, filter: Document) -> Self {
        Self { namespace, filter, kind: Kind::Delete, weight: weight(0) }
    }

    /// Whether it changes a document whatever there is, unless it fails.
    pub(crate) fn is_certain(&self) -> bool {
        matches!(self.kind, Kind::Update { upsert: true, .. })
    }
}

/// How many bytes a statement takes at most that carries `size` bytes of keys and values: JSON as BSON takes at most seven
/// times as much, which a list of one-digit numbers comes near.
fn weight(size: usize) -> usize {
    size * 7 + 1_024
}

impl Client {
    /// The statement of a put, delete or touch. If it changes nothing, the record has to be looked at to say why.
    pub(crate) fn statement(
        &self,
        mutation: &Mutation,
        version: &Version,
        now: Timestamp,
    ) -> Result<Statement> {
        let namespace = self.layout.records(&mutation.address.collection);
        let mut filter = doc! {field::ID: mutation.address.key.as_str()};
        let absent = mutation.precondition == Some(Precondition::Absent);
        if absent {
            filter.insert(field::EXPIRES_AT, doc! {"$lte": date(now)});
        } else {
            filter.insert(field::EXPIRES_AT, live(now));
        }
        if let Some(Precondition::Version(wanted)) = &mutation.precondition {
            filter.insert(field::VERSION, wanted.as_str());
        }
        let (mut set, mut unset) = (Document::new(), Document::new());
        let mut update = Document::new();
        match &mutation.change {
            Change::Put { value, expires_at } => {
                if absent {
                    set = put_fields(value, &mut unset)?;
                } else {
                    // A value of another kind has fields, and maybe items elsewhere, that would have to go.
                    filter.insert(kind_field(value), doc! {"$exists": true});
                    set = value_fields(value)?;
                    if matches!(value, Value::Json(_)) && !set.contains_key(field::TEXT) {
                        unset.insert(field::TEXT, "");
                    }
                }
                expiry(*expires_at, &mut set, &mut unset);
                if absent {
                    // What has expired counts as absent, so its time of creation goes too.
                    set.insert(field::CREATED_AT, date(now));
                } else if mutation.precondition.is_none() {
                    update.insert("$setOnInsert", doc! {field::CREATED_AT: date(now)});
                }
            }
            Change::Touch { expires_at } => expiry(*expires_at, &mut set, &mut unset),
            _ => {
                filter.extend(unspilled());
                return Ok(Statement::delete(namespace, filter));
            }
        }
        set.insert(field::VERSION, version.as_str());
        set.insert(field::UPDATED_AT, date(now));
        update.insert("$set", set);
        if !unset.is_empty() {
            update.insert("$unset", unset);
        }
        let put = matches!(mutation.change, Change::Put { .. });
        let upsert = put && (absent || mutation.precondition.is_none());
        Ok(Statement::update(namespace, filter, update, upsert, mutation.size()))
    }
}

/// What makes the stored document, or none, into `record`, which is what `mutation` left.
///
/// With `added`, these items are added to the list that is there.
pub(super) fn store(mutation: &Mutation, record: &Record, added: Option<&Added>) -> Result<Document> {
    let (mut set, mut unset) = (Document::new(), Document::new());
    let mut update = Document::new();
    match (&mutation.change, added) {
        (Change::Touch { .. }, _) => {}
        (Change::Append { .. }, Some(added)) => {
            update.insert("$push", added.push());
            update.insert("$inc", added.counts());
        }
        (Change::Append { items, .. }, None) => {
            set.insert(field::LIST, Added::new(items)?.list(&record.version));
            unset.extend(field::VALUES.iter().filter(|name| **name != field::LIST).map(removed));
        }
        _ => set = put_fields(&record.value, &mut unset)?,
    }
    expiry(record.expires_at, &mut set, &mut unset);
    set.insert(field::VERSION, record.version.as_str());
    set.insert(field::CREATED_AT, date(record.created_at));
    set.insert(field::UPDATED_AT, date(record.updated_at));
    update.insert("$set", set);
    if !unset.is_empty() {
        update.insert("$unset", unset);
    }
    Ok(update)
}

/// The fields of a value; those of values of other kinds are added to `unset`.
fn put_fields(value: &Value, unset: &mut Document) -> Result<Document> {
    let fields = value_fields(value)?;
    unset.extend(field::VALUES.iter().filter(|name| !fields.contains_key(**name)).map(removed));
    Ok(fields)
}

/// The field that all values of a kind have, and no others.
pub(super) fn kind_field(value: &Value) -> &'static str {
    match value {
        Value::Json(_) => field::JSON,
        Value::Bytes(_) => field::BYTES,
        Value::Counters(_) => field::COUNTERS,
        Value::List { .. } => field::LIST,
    }
}

fn removed(name: &&str) -> (String, Bson) {
    ((*name).to_owned(), Bson::String(String::new()))
}

fn expiry(expires_at: Option<Timestamp>, set: &mut Document, unset: &mut Document) {
    match expires_at {
        Some(at) => set.insert(field::EXPIRES_AT, date(at)),
        None => unset.insert(field::EXPIRES_AT, ""),
    };
}

/// The condition that a record is no list with items outside of its document: those would have to go with it.
fn unspilled() -> Document {
    doc! {"list.spilled": {"$not": {"$gt": 0}}}
}
