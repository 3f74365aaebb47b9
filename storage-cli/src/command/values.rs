//! `incr`, `append` and `range`: counters and lists.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use storage_core::{
    Address, Backend, CollectionName, Effect, ErrorKind, Json, Key, ListRange, Mutation, Timestamp,
};

use super::{Outcome, write_one};
use crate::exit::{Failure, Status};
use crate::input;
use crate::output::{Commas, Output, one_line};

/// Add to a counter, and print its new value.
///
/// Record and field begin at zero. A sum beyond a signed 64-bit integer is refused and changes nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage incr pages /index views
  storage incr stock apples left -3
  storage incr limits 10.0.0.7 requests --ttl 1m")]
pub(crate) struct Incr {
    /// The collection
    collection: CollectionName,
    /// The key
    key: Key,
    /// The name of the counter within the record
    field: String,
    /// How much to add; may be negative
    #[arg(default_value_t = 1, allow_negative_numbers = true, value_name = "N")]
    by: i64,
    /// If this makes the record, let it expire after this time
    #[arg(long, value_name = "DURATION", value_parser = input::ttl)]
    ttl: Option<Duration>,
}

impl Incr {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        let address = Address { collection: self.collection, key: self.key };
        let expires_at = self.ttl.map(Timestamp::after).transpose()?;
        let increment = Mutation::increment(address.clone(), &self.field, self.by).expiring(expires_at);
        let written = write_one(backend, increment).await?;
        let value = match &written.effect {
            Effect::Counters(fields) => fields.get(self.field.as_str()).copied(),
            _ => None,
        };
        let value = value.ok_or_else(|| unanswered("increment"))?;
        let told = json!({
            "collection": address.collection, "key": address.key, "field": self.field, "value": value,
            "version": written.version,
        });
        out.either(&told, value)?;
        Ok(Status::Done)
    }
}

/// Add items to the end of a list, and print its new length.
///
/// The list begins empty. A single - reads the items from standard input, one JSON value a line.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage append chats c1 '{\"from\":\"ada\",\"text\":\"hello\"}'
  storage append numbers n 1 2 -3
  storage append logs today --ttl 7d - < log.ndjson")]
pub(crate) struct Append {
    /// The collection
    collection: CollectionName,
    /// The key
    key: Key,
    /// The items as JSON, or - for standard input
    #[arg(required = true, allow_negative_numbers = true, value_name = "JSON")]
    items: Vec<String>,
    /// If this makes the list, let it expire after this time
    #[arg(long, value_name = "DURATION", value_parser = input::ttl)]
    ttl: Option<Duration>,
}

impl Append {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        let address = Address { collection: self.collection, key: self.key };
        let limits = &backend.info().capabilities.limits;
        let items = items(&self.items, limits.batch_bytes)?;
        let expires_at = self.ttl.map(Timestamp::after).transpose()?;
        let written =
            write_one(backend, Mutation::append(address.clone(), items).expiring(expires_at)).await?;
        let Effect::Length(length) = written.effect else { return Err(unanswered("append")) };
        let told = json!({
            "collection": address.collection, "key": address.key, "length": length, "version": written.version,
        });
        out.either(&told, length)?;
        Ok(Status::Done)
    }
}

fn items(arguments: &[String], limit: usize) -> Result<Vec<Json>, Failure> {
    if arguments != ["-"] {
        return arguments.iter().map(|text| input::json(text.clone().into())).collect();
    }
    let text = input::read(std::path::Path::new("-"), limit)?;
    let mut items = Vec::new();
    for (i, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if !line.is_empty() {
            let item = input::json(text.slice_ref(line));
            items.push(item.map_err(|failure| failure.prefixed(format!("line {}", i + 1)))?);
        }
    }
    Ok(items)
}

/// Print items of a list, one a line.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage range chats c1
  storage range chats c1 100 50")]
pub(crate) struct Range {
    /// The collection
    collection: CollectionName,
    /// The key
    key: Key,
    /// The position of the first item, from 0
    #[arg(default_value_t = 0)]
    start: u64,
    /// The most items to print
    #[arg(default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

impl Range {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        let address = Address { collection: self.collection, key: self.key };
        let most = backend.info().capabilities.limits.page_len;
        let (mut at, mut left, mut length) = (self.start, self.count, None);
        let mut commas = Commas::default();
        while left > 0 {
            let range = ListRange { address: address.clone(), start: at, limit: left.min(most) };
            let Some(page) = backend.list_range(&range).await? else { break };
            if length.is_none() && out.is_json() {
                out.raw(b"{\"items\":[")?;
            }
            length = Some(page.length);
            for item in &page.items {
                if out.is_json() {
                    out.raw(commas.next())?;
                    out.raw(one_line(item).as_bytes())?;
                } else {
                    out.line(one_line(item).as_str())?;
                }
            }
            at += page.items.len() as u64;
            left = left.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
            if page.items.is_empty() || at >= page.length {
                break;
            }
        }
        let Some(length) = length else {
            let message =
                format!("{address} is not there; `storage list {}` lists its keys", address.collection);
            return Err(Failure::new(ErrorKind::NotFound, "range", message));
        };
        let next = (at < length).then_some(at);
        if out.is_json() {
            out.raw(b"],")?;
            out.line(format!(
                "\"start\":{},\"length\":{length},\"next\":{}}}",
                self.start,
                next.map_or("null".to_owned(), |next| next.to_string())
            ))?;
        } else if let Some(next) = next {
            out.note(format!("next: {next} (of {length})"))?;
        }
        Ok(Status::Done)
    }
}

fn unanswered(operation: &str) -> Failure {
    Failure::new(ErrorKind::Internal, operation, "the backend did not say what came of it")
}
