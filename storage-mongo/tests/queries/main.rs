//! Queries and counts of JSON records.

use mongodb::bson::{Document, RawDocument, RawDocumentBuf, doc, serialize_to_vec};
use storage_core::query::SortKey;
use storage_core::{Count, Cursor, Error, ErrorKind, Filter, Key, Page, Query, Record, Result, Timestamp};

use crate::client::Client;
use crate::convert::{MAX_VALUE_BYTES, record};
use crate::filter::condition;
use crate::layout::{field, live};
use crate::read::by_key;
use crate::sort::stages;

/// Where a record stands in the order of a query.
type Position = (Vec<SortKey>, Key);

impl Client {
    /// A page of the JSON records that match.
    pub(crate) async fn query(&self, query: &Query) -> Result<Page<Record>> {
        self.check_open()?;
        let after: Option<Position> =
            query.after.as_ref().map(|cursor| cursor.open(&query.identity())).transpose()?;
        let documents = self.records(&query.collection);
        let mut matching = matching(&query.filter)?;
        let read = |found: &RawDocument| record(&query.collection, found);
        let (items, more) = if query.sort.is_empty() {
            if let Some((_, key)) = after {
                matching.insert(field::ID, doc! {"$gt": key.as_str()});
            }
            self.page(query.limit, by_key(documents.find(matching), query.limit), read).await?
        } else {
            let most = query.limit.saturating_add(1);
            let mut pipeline = vec![doc! {"$match": matching}];
            pipeline.extend(stages(&query.sort, after.as_ref())?);
            pipeline.push(doc! {"$limit": i64::from(most)});
            let sorted = documents.aggregate(pipeline).allow_disk_use(true).batch_size(most);
            self.page(query.limit, sorted.with_type::<RawDocumentBuf>(), read).await?
        };
        let next = match items.last() {
            Some(last) if more => Some(Cursor::seal(&query.identity(), &position(query, last)?)?),
            _ => None,
        };
        Ok(Page { items, next })
    }

    /// The number of records, or of JSON records that match.
    pub(crate) async fn count(&self, count: &Count) -> Result<u64> {
        self.check_open()?;
        let matching = match &count.filter {
            Some(filter) => matching(filter)?,
            None => doc! {field::EXPIRES_AT: live(Timestamp::now())},
        };
        let collection = self.records(&count.collection);
        self.within(collection.count_documents(matching).into_future()).await
    }
}

/// Which documents a filter asks for.
///
/// # Errors
/// As [`condition`], and [`TooLarge`](ErrorKind::TooLarge) for a filter that does not fit a document.
fn matching(filter: &Filter) -> Result<Document> {
    let mut matching = doc! {
        field::JSON: {"$exists": true},
        field::EXPIRES_AT: live(Timestamp::now()),
    };
    if filter.is_all() {
        return Ok(matching);
    }
    matching.insert("$and", [condition(filter)?].to_vec());
    let size = serialize_to_vec(&matching).map_or(usize::MAX, |bytes| bytes.len());
    if size <= MAX_VALUE_BYTES {
        return Ok(matching);
    }
    let message = format!("the filter takes {size} bytes as a document: the limit is {MAX_VALUE_BYTES}");
    Err(Error::new(ErrorKind::TooLarge, message))
}

fn position(query: &Query, record: &Record) -> Result<Position> {
    let tree = match record.value.as_json() {
        Some(json) if !query.sort.is_empty() => json.tree()?,
        _ => serde_json::Value::Null,
    };
    Ok((query.sort.iter().map(|sort| sort.key(&tree)).collect(), record.address.key.clone()))
}

#[cfg(test)]
mod plans;
