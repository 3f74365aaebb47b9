//! Records as the columns of a statement that writes many.

use std::borrow::Cow;

use storage_core::{Address, Error, Result, Timestamp, Value};

use crate::convert::{StoredJson, Time, counters_text, escape, kind};
use crate::sql::Sql;

/// Rows to be written, an array for each column.
#[derive(Default)]
pub(crate) struct Rows<'a> {
    collections: Vec<&'a str>,
    keys: Vec<&'a str>,
    kinds: Vec<i8>,
    versions: Vec<i64>,
    expiries: Vec<Option<Time>>,
    texts: Vec<Option<Cow<'a, str>>>,
    bytes: Vec<Option<&'a [u8]>>,
    media_types: Vec<Option<Cow<'a, str>>>,
    counters: Vec<Option<String>>,
    list_ids: Vec<Option<i64>>,
    list_lens: Vec<Option<i64>>,
}

impl<'a> Rows<'a> {
    /// Adds a row; `list` is the number of the list that a list's record has.
    pub(crate) fn push(
        &mut self,
        address: &'a Address,
        value: &'a Value,
        version: i64,
        expires_at: Option<Timestamp>,
        list: i64,
    ) {
        self.collections.push(address.collection.as_str());
        self.keys.push(address.key.as_str());
        self.versions.push(version);
        self.expiries.push(expires_at.map(Time));
        let (mut text, mut bytes, mut media_type, mut counters, mut list_len) =
            (None, None, None, None, None);
        self.kinds.push(match value {
            Value::Json(json) => {
                let stored = StoredJson::new(json);
                (text, bytes) = (Some(stored.text), stored.exact);
                kind::JSON
            }
            Value::Bytes(blob) => {
                bytes = Some(&*blob.data);
                media_type = Some(escape(&blob.media_type));
                kind::BYTES
            }
            Value::Counters(fields) => {
                counters = Some(counters_text(fields));
                kind::COUNTERS
            }
            Value::List { length } => {
                list_len = Some(i64::try_from(*length).unwrap_or(i64::MAX));
                kind::LIST
            }
        });
        self.texts.push(text);
        self.bytes.push(bytes);
        self.media_types.push(media_type);
        self.counters.push(counters);
        self.list_ids.push(list_len.is_some().then_some(list));
        self.list_lens.push(list_len);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Gives a statement its arrays, in the order in which its text has them.
    pub(crate) fn bind(&self, sql: &mut Sql) {
        sql.value(&*self.collections);
        sql.value(&*self.keys);
        sql.value(&*self.kinds);
        sql.value(&*self.versions);
        sql.value(&*self.expiries);
        sql.value(borrowed(&self.texts));
        sql.value(&*self.bytes);
        sql.value(borrowed(&self.media_types));
        sql.value(&*self.counters);
        sql.value(&*self.list_ids);
        sql.value(&*self.list_lens);
    }

    /// Gives a statement the first row as plain values: the server has no arrays to take apart.
    pub(crate) fn bind_first(&self, sql: &mut Sql) {
        sql.value(self.collections.first().copied());
        sql.value(self.keys.first().copied());
        sql.value(self.kinds.first().copied());
        sql.value(self.versions.first().copied());
        sql.value(self.expiries.first().copied().flatten());
        sql.value(self.texts.first().and_then(Option::as_deref));
        sql.value(self.bytes.first().copied().flatten());
        sql.value(self.media_types.first().and_then(Option::as_deref));
        sql.value(self.counters.first().cloned().flatten());
        sql.value(self.list_ids.first().copied().flatten());
        sql.value(self.list_lens.first().copied().flatten());
    }
}

fn borrowed<'c>(texts: &'c [Option<Cow<'_, str>>]) -> Vec<Option<&'c str>> {
    texts.iter().map(Option::as_deref).collect()
}

/// Refuses what no record can be made of.
pub(crate) fn check(value: &Value) -> Result<()> {
    match value {
        Value::List { .. } => Err(Error::invalid("a list cannot be put: append its items")),
        _ => Ok(()),
    }
}
