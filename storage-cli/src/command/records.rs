//! `put`, `get` and `delete`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use storage_core::{
    Address, Backend, Batch, Blob, CollectionName, Effect, ErrorKind, Key, ListRange, Mutation, Precondition,
    Record, Timestamp, Value, Version,
};

use super::{Outcome, write_one};
use crate::exit::{Failure, Status};
use crate::input;
use crate::output::{Commas, Output, RecordView, one_line, value_line};

/// Put a record, and print its new version.
///
/// The value is JSON: an argument, a file, or standard input. With --bytes it is taken as it is.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage put users ada '{\"name\":\"Ada\",\"born\":1815}'
  storage put sessions s1 '{\"user\":\"ada\"}' --ttl 30m
  storage put users ada --if-absent < ada.json -
  storage put photos ada --file ada.png --bytes --media-type image/png
  storage put users ada '{}' --if-version 00000000000000a7")]
pub(crate) struct Put {
    /// The collection
    collection: CollectionName,
    /// The key, 1 to 512 bytes
    key: Key,
    /// The value as JSON, or - for standard input
    #[arg(value_name = "JSON", required_unless_present = "file", allow_negative_numbers = true)]
    text: Option<String>,
    /// Read the value from this file (- for standard input)
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Take the input as bytes rather than JSON (with --file, or - for standard input)
    #[arg(long)]
    bytes: bool,
    /// The media type of the bytes
    #[arg(long, value_name = "TYPE", requires = "bytes", default_value = Blob::OCTET_STREAM)]
    media_type: String,
    /// Let the record expire after this time, such as 30s, 15m or "1h 30m"
    #[arg(long, value_name = "DURATION", value_parser = input::ttl)]
    ttl: Option<Duration>,
    /// Only if there is no such record
    #[arg(long, conflicts_with = "if_version")]
    if_absent: bool,
    /// Only if the record has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<Version>,
}

impl Put {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        let value = self.value(backend.info().capabilities.limits.value_bytes)?;
        let address = Address { collection: self.collection, key: self.key };
        let expires_at = self.ttl.map(Timestamp::after).transpose()?;
        let mut put = Mutation::put(address.clone(), value).expiring(expires_at);
        put.precondition = if self.if_absent {
            Some(Precondition::Absent)
        } else {
            self.if_version.map(Precondition::Version)
        };
        // None if the time to live was over before the write was.
        let version = write_one(backend, put).await?.version;
        let told = json!({"collection": address.collection, "key": address.key, "version": version});
        out.either(&told, version.as_ref().map_or("-", Version::as_str))?;
        Ok(Status::Done)
    }

    fn value(&self, limit: usize) -> Result<Value, Failure> {
        let input = match (&self.file, self.text.as_deref()) {
            (Some(file), _) => input::read(file, limit)?,
            (None, Some("-")) => input::read(Path::new("-"), limit)?,
            (None, Some(_)) if self.bytes => {
                return Err(Failure::invalid("put", "--bytes takes --file FILE, or - for standard input"));
            }
            (None, text) => text.unwrap_or_default().to_owned().into(),
        };
        if self.bytes {
            return Ok(Value::Bytes(Blob::new(input).with_media_type(self.media_type.as_str())));
        }
        input::json(input).map(Value::Json)
    }
}

/// Print values.
///
/// One JSON value a line, in the order of the keys. Of one key alone, bytes are printed as they are; of
/// several, as base64 in an object. A list is printed as an array. Keys that are not there are named on
/// standard error, and the exit status is 1.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage get users ada
  storage get users ada bob --meta
  storage get photos ada > ada.png")]
pub(crate) struct Get {
    /// The collection
    collection: CollectionName,
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<Key>,
    /// Print whole records: version, times, expiry and value
    #[arg(long)]
    meta: bool,
}

impl Get {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        // Small pieces: the values of one may take much memory.
        const PIECE: usize = 16;
        let (mut missing, mut commas) = (Vec::new(), Commas::default());
        if out.is_json() {
            out.raw(b"{\"records\":[")?;
        }
        for keys in self.keys.chunks(PIECE) {
            let addresses: Vec<Address> = keys.iter().map(|key| self.address(key)).collect();
            let found = backend.get(&addresses).await?;
            for (address, record) in addresses.into_iter().zip(found) {
                match record {
                    None => missing.push(address),
                    Some(record) if out.is_json() => {
                        out.raw(commas.next())?;
                        out.value(&RecordView::new(&record))?;
                    }
                    Some(record) if self.meta => out.json(&RecordView::new(&record))?,
                    Some(record) => self.print(backend, &record, out).await?,
                }
            }
        }
        if out.is_json() {
            out.raw(b"],\"missing\":")?;
            out.value(&missing.iter().map(|address| address.key.as_str()).collect::<Vec<_>>())?;
            out.raw(b"}\n")?;
        }
        not_there("get", &missing)
    }

    fn address(&self, key: &Key) -> Address {
        Address { collection: self.collection.clone(), key: key.clone() }
    }

    async fn print(
        &self,
        backend: &Arc<dyn Backend>,
        record: &Record,
        out: &mut Output,
    ) -> Result<(), Failure> {
        match &record.value {
            Value::Bytes(blob) if self.keys.len() == 1 => out.raw(&blob.data),
            Value::List { .. } => print_list(backend, &record.address, out).await,
            value => out.line(value_line(value)),
        }
    }
}

/// Prints a list as one array, a page at a time.
async fn print_list(backend: &Arc<dyn Backend>, address: &Address, out: &mut Output) -> Result<(), Failure> {
    let (mut start, mut commas) = (0, Commas::default());
    out.raw(b"[")?;
    loop {
        let range = ListRange { address: address.clone(), start, limit: 100 };
        let Some(page) = backend.list_range(&range).await? else { break };
        for item in &page.items {
            out.raw(commas.next())?;
            out.raw(one_line(item).as_bytes())?;
        }
        start += page.items.len() as u64;
        if page.items.is_empty() || start >= page.length {
            break;
        }
    }
    out.raw(b"]\n")
}

/// Delete records.
///
/// Keys that are not there are named on standard error, and the exit status is 1.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage delete users ada
  storage delete users ada bob
  storage delete users ada --if-version 00000000000000a7")]
pub(crate) struct Delete {
    /// The collection
    collection: CollectionName,
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<Key>,
    /// Only if the record has this version; takes a single key
    #[arg(long, value_name = "VERSION")]
    if_version: Option<Version>,
}

impl Delete {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        if self.if_version.is_some() && self.keys.len() > 1 {
            return Err(Failure::invalid(
                "delete",
                "--if-version takes a single key: a version is that of one record",
            ));
        }
        let precondition = self.if_version.map(Precondition::Version);
        let (mut deleted, mut missing, mut failed) = (Vec::new(), Vec::new(), None);
        for keys in self.keys.chunks(backend.info().capabilities.limits.batch_len.clamp(1, 1_000)) {
            let mutations: Vec<Mutation> = (keys.iter())
                .map(|key| Address { collection: self.collection.clone(), key: key.clone() })
                .map(|address| Mutation { precondition: precondition.clone(), ..Mutation::delete(address) })
                .collect();
            let batch = Batch::independent(mutations);
            let results = backend.write(&batch).await?;
            for (mutation, result) in batch.mutations.into_iter().zip(results) {
                match result {
                    Ok(written) if written.effect == (Effect::Deleted { existed: false }) => {
                        missing.push(mutation.address);
                    }
                    Ok(_) => deleted.push(mutation.address),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
        }
        if out.is_json() {
            let names = |all: &[Address]| all.iter().map(|address| address.key.clone()).collect::<Vec<_>>();
            out.json(&json!({
                "collection": self.collection, "deleted": names(&deleted), "missing": names(&missing),
            }))?;
        }
        match failed {
            Some(error) => Err(error.into()),
            None => not_there("delete", &missing),
        }
    }
}

/// Done, or the keys that are not there.
fn not_there(operation: &str, missing: &[Address]) -> Outcome {
    let Some(first) = missing.first() else { return Ok(Status::Done) };
    let names: Vec<String> =
        missing.iter().take(10).map(|address| format!("{:?}", address.key.as_str())).collect();
    let more = missing.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let collection = &first.collection;
    Err(Failure::new(
        ErrorKind::NotFound,
        operation,
        format!(
            "{}{more} {} not in {collection}; `storage list {collection}` lists its keys",
            names.join(", "),
            if missing.len() == 1 { "is" } else { "are" }
        ),
    ))
}
