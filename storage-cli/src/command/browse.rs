//! `list`, `query`, `collections` and `count`: what is there.

use std::sync::Arc;

use clap::Args;
use serde_json::json;
use storage_core::{
    Backend, CollectionName, Count, Cursor, Filter, Key, Page, Query, Record, Scan, Sort, Value,
};

use super::Outcome;
use crate::exit::{Failure, Status};
use crate::output::{Commas, Output, RecordView, key_line, value_line};

/// List keys, a page at a time.
///
/// If more follow, the cursor that goes on is the last line on standard error, as `next: CURSOR`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage list users
  storage list users --prefix a --limit 1000 --values
  storage list users --after CURSOR")]
pub(crate) struct List {
    /// The collection
    collection: CollectionName,
    /// Only keys that begin with this text, taken literally
    #[arg(long, default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    prefix: String,
    /// The most records
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on where a page ended
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    after: Option<Cursor>,
    /// Print the values too
    #[arg(long)]
    values: bool,
}

impl List {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        let mut scan =
            Scan { collection: self.collection, prefix: self.prefix, after: self.after, limit: self.limit };
        let mut listing = Listing::begin(out, if self.values { "records" } else { "keys" })?;
        let most = backend.info().capabilities.limits.page_len;
        let mut left = self.limit;
        loop {
            scan.limit = left.min(most);
            let (count, next) = if self.values {
                // Pages with values are kept small: they may be large.
                scan.limit = scan.limit.min(100);
                let page = backend.scan(&scan).await?;
                (listing.records(&page)?, page.next)
            } else {
                let page = backend.keys(&scan).await?;
                (listing.keys(&page)?, page.next)
            };
            left = left.saturating_sub(count);
            scan.after = next;
            if left == 0 || scan.after.is_none() {
                break;
            }
        }
        listing.end(scan.after)
    }
}

/// Find JSON records, a page at a time.
///
/// The filter is in MongoDB's operator form, with dotted paths: $eq $ne $gt $gte $lt $lte $in $nin $exists
/// $prefix $contains $and $or $not. If more follow, the cursor that goes on is the last line on standard
/// error, as `next: CURSOR`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage query users --filter '{\"age\":{\"$gte\":18}}'
  storage query users --filter '{\"$or\":[{\"city\":\"Bern\"},{\"tags\":\"vip\"}]}' --sort age:desc --sort name
  storage query users --filter '{\"age\":{\"$lt\":18}}' --count")]
pub(crate) struct Find {
    /// The collection
    collection: CollectionName,
    /// What to match; all JSON records without it
    #[arg(long, value_name = "JSON")]
    filter: Option<Filter>,
    /// Order by this path, path:asc or path:desc; may be given more than once
    #[arg(long, value_name = "PATH")]
    sort: Vec<Sort>,
    /// The most records
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on where a page ended
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    after: Option<Cursor>,
    /// Print only how many match
    #[arg(long, conflicts_with_all = ["sort", "limit", "after"])]
    count: bool,
}

impl Find {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        let filter = self.filter.unwrap_or_else(Filter::all);
        if self.count {
            return count(backend, out, self.collection, Some(filter)).await;
        }
        let mut query = Query { sort: self.sort, after: self.after, ..Query::new(self.collection, filter) };
        let mut listing = Listing::begin(out, "records")?;
        let most = backend.info().capabilities.limits.page_len.min(1_000);
        let mut left = self.limit;
        loop {
            query.limit = left.min(most);
            let page = backend.query(&query).await?;
            left = left.saturating_sub(listing.records(&page)?);
            query.after = page.next;
            if left == 0 || query.after.is_none() {
                break;
            }
        }
        listing.end(query.after)
    }
}

/// Pages on their way out: a table on a terminal, else lines, or one JSON object.
struct Listing<'o> {
    out: &'o mut Output,
    commas: Commas,
    rows: Vec<Vec<String>>,
}

impl<'o> Listing<'o> {
    fn begin(out: &'o mut Output, name: &str) -> Result<Self, Failure> {
        if out.is_json() {
            out.raw(format!("{{\"{name}\":[").as_bytes())?;
        }
        Ok(Self { out, commas: Commas::default(), rows: Vec::new() })
    }

    fn keys(&mut self, page: &Page<Key>) -> Result<u32, Failure> {
        for key in &page.items {
            if self.out.is_json() {
                self.out.raw(self.commas.next())?;
                self.out.value(&key.as_str())?;
            } else {
                self.out.line(key_line(key.as_str()))?;
            }
        }
        Ok(count_of(page))
    }

    fn records(&mut self, page: &Page<Record>) -> Result<u32, Failure> {
        for record in &page.items {
            let key = key_line(record.address.key.as_str());
            if self.out.is_json() {
                self.out.raw(self.commas.next())?;
                self.out.value(&RecordView::new(record))?;
            } else if self.out.is_terminal() {
                let value = match &record.value {
                    Value::Json(_) => value_line(&record.value),
                    other => format!("({}) {}", other.kind(), value_line(other)),
                };
                self.rows.push(vec![key, shortened(&value)]);
            } else {
                self.out.line(format!("{key}\t{}", value_line(&record.value)))?;
            }
        }
        Ok(count_of(page))
    }

    fn end(self, next: Option<Cursor>) -> Outcome {
        if self.out.is_json() {
            self.out.raw(b"],\"next\":")?;
            self.out.value(&next)?;
            self.out.raw(b"}\n")?;
            return Ok(Status::Done);
        }
        if !self.rows.is_empty() {
            self.out.table(&["KEY", "VALUE"], self.rows)?;
        }
        if let Some(next) = next {
            self.out.note(format!("next: {next}"))?;
        }
        Ok(Status::Done)
    }
}

fn count_of<T>(page: &Page<T>) -> u32 {
    u32::try_from(page.items.len()).unwrap_or(u32::MAX)
}

/// Enough of a value to know it by, in a table. Escapes of a terminal do not get through.
fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    let text = text.replace(char::is_control, " ");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// List the collections.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage collections")]
pub(crate) struct Collections {}

pub(crate) async fn collections(backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
    let collections = backend.collections().await?;
    if out.is_json() {
        out.json(&json!({"collections": collections}))?;
    } else {
        for collection in collections {
            out.line(collection)?;
        }
    }
    Ok(Status::Done)
}

/// Count the records of a collection, of every kind.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage count users
  storage query users --filter '{\"age\":{\"$gte\":18}}' --count")]
pub(crate) struct CountRecords {
    /// The collection
    collection: CollectionName,
}

impl CountRecords {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        count(backend, out, self.collection, None).await
    }
}

async fn count(
    backend: &Arc<dyn Backend>,
    out: &mut Output,
    collection: CollectionName,
    filter: Option<Filter>,
) -> Outcome {
    let count = Count { collection, filter };
    let counted = backend.count(&count).await?;
    out.either(&json!({"collection": count.collection, "count": counted}), counted)?;
    Ok(Status::Done)
}
