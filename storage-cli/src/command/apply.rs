//! `apply`: an atomic batch of changes, written as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;
use smol_str::SmolStr;
use storage_core::{
    Address, Batch, Blob, Change, Effect, ErrorKind, Idempotent, Json, Mutation, Precondition, Store,
    Timestamp, Value, Version, Written, nearest,
};

use super::Outcome;
use crate::exit::{Failure, Status};
use crate::input;
use crate::output::Output;

/// Apply a batch of changes, all or none.
///
/// The file holds a JSON array of objects, each with its op (put, delete, touch, increment, append or
/// check), collection and key. A put takes value (any JSON), or bytes (base64) and media_type, or counters;
/// an increment takes fields; an append takes items. All but delete and check take ttl or expires_at.
/// Any takes if: \"absent\", \"present\" or {\"version\": …}. Nothing is done unless all of it can be done.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage apply changes.json
  storage apply changes.json --idempotency-key order-4711
  echo '[{\"op\":\"put\",\"collection\":\"users\",\"key\":\"ada\",\"value\":{\"name\":\"Ada\"},\"if\":\"absent\"},
         {\"op\":\"increment\",\"collection\":\"totals\",\"key\":\"users\",\"fields\":{\"count\":1}}]' | storage apply -")]
pub(crate) struct Apply {
    /// The file, or - for standard input
    file: PathBuf,
    /// Do it once, however often it is repeated under this key within a day; takes expires_at, not ttl
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

/// What a change did, as `--json` shows it.
#[derive(Serialize)]
struct ResultView<'a> {
    op: &'static str,
    collection: &'a str,
    key: &'a str,
    version: Option<&'a Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    existed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<&'a BTreeMap<SmolStr, i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
}

impl Apply {
    pub(crate) async fn run(self, store: &Store, out: &mut Output) -> Outcome {
        let limits = &store.backend().info().capabilities.limits;
        let most = (limits.batch_bytes / 3).saturating_mul(4).saturating_add(1 << 20);
        let mutations = mutations(&input::read(&self.file, most)?, self.idempotency_key.is_none())?;
        let told: Vec<(&'static str, Address)> =
            mutations.iter().map(|mutation| (mutation.change.name(), mutation.address.clone())).collect();
        let (written, before) = match &self.idempotency_key {
            Some(key) => match store.write_idempotent(key, mutations).await? {
                Idempotent::Applied(written) => (written, None),
                Idempotent::AlreadyApplied { at } => (Vec::new(), Some(at)),
            },
            None => {
                let results = store.backend().write(&Batch::atomic(mutations)).await?;
                (results.into_iter().collect::<Result<Vec<Written>, _>>()?, None)
            }
        };
        let results = told.iter().zip(&written).map(|((op, address), written)| view(op, address, written));
        if out.is_json() {
            let before = before.map(|at| at.to_string());
            out.json(&json!({"already_applied_at": before, "results": results.collect::<Vec<_>>()}))?;
        } else if let Some(before) = before {
            out.line(format!("already applied at {before}: nothing was done now"))?;
        } else {
            for (result, (_, address)) in results.zip(&told) {
                let what = match (result.existed, result.counters, result.length) {
                    (Some(existed), ..) => if existed { "deleted" } else { "was not there" }.to_owned(),
                    (_, Some(fields), _) => json!(fields).to_string(),
                    (.., Some(length)) => format!("length {length}"),
                    _ => "done".to_owned(),
                };
                let version = result.version.map_or("-", Version::as_str);
                out.line(format!(
                    "{} {address:?} {what} {version}",
                    result.op,
                    address = address.to_string()
                ))?;
            }
        }
        Ok(Status::Done)
    }
}

fn view<'a>(op: &'static str, address: &'a Address, written: &'a Written) -> ResultView<'a> {
    let mut view = ResultView {
        op,
        collection: address.collection.as_str(),
        key: address.key.as_str(),
        version: written.version.as_ref(),
        existed: None,
        counters: None,
        length: None,
    };
    match &written.effect {
        Effect::Done => {}
        Effect::Deleted { existed } => view.existed = Some(*existed),
        Effect::Counters(fields) => view.counters = Some(fields),
        Effect::Length(length) => view.length = Some(*length),
    }
    view
}

/// The changes of a batch. `relative` says whether a ttl is allowed: a repeat of the batch would shift it.
fn mutations(text: &[u8], relative: bool) -> Result<Vec<Mutation>, Failure> {
    let objects: Vec<&RawValue> = serde_json::from_slice(text).map_err(|error| {
        Failure::invalid("apply", format!("the batch is not a JSON array of changes: {error}"))
    })?;
    let numbered = objects.into_iter().enumerate();
    numbered
        .map(|(i, object)| {
            mutation(object, relative).map_err(|failure| failure.prefixed(format!("change {i} (from 0)")))
        })
        .collect()
}

const ALWAYS: [&str; 4] = ["op", "collection", "key", "if"];
const OPERATIONS: [(&str, &[&str]); 6] = [
    ("put", &["value", "bytes", "media_type", "counters", "ttl", "expires_at"]),
    ("delete", &[]),
    ("touch", &["ttl", "expires_at"]),
    ("increment", &["fields", "ttl", "expires_at"]),
    ("append", &["items", "ttl", "expires_at"]),
    ("check", &[]),
];

/// The fields of a change, each of which is taken once.
struct Fields<'t>(BTreeMap<String, &'t RawValue>);

impl Fields<'_> {
    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        let read = serde_json::from_str(text.get());
        read.map(Some).map_err(|error| Failure::invalid("apply", format!("field {name}: {error}")))
    }

    fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Failure> {
        self.take(name)?.ok_or_else(|| Failure::invalid("apply", format!("field {name} is missing")))
    }

    fn expiry(&mut self) -> Result<Option<Timestamp>, Failure> {
        let (ttl, at) = (self.take::<Option<String>>("ttl")?, self.take::<Option<String>>("expires_at")?);
        match (ttl.flatten(), at.flatten()) {
            (Some(_), Some(_)) => Err(Failure::invalid("apply", "ttl and expires_at exclude each other")),
            (Some(ttl), None) => {
                let ttl =
                    input::ttl(&ttl).map_err(|why| Failure::invalid("apply", format!("field ttl: {why}")))?;
                Ok(Some(Timestamp::after(ttl)?))
            }
            (None, at) => at.as_deref().map(input::time).transpose(),
        }
    }
}

fn mutation(object: &RawValue, relative: bool) -> Result<Mutation, Failure> {
    let fields = serde_json::from_str(object.get())
        .map_err(|error| Failure::invalid("apply", format!("not an object: {error}")))?;
    let mut fields = Fields(fields);
    let op: String = fields.need("op")?;
    let Some((op, own)) = OPERATIONS.iter().find(|(name, _)| *name == op) else {
        return Err(unknown("op", &op, OPERATIONS.map(|(name, _)| name)));
    };
    let known = || ALWAYS.iter().chain(own.iter()).copied();
    if let Some(field) = fields.0.keys().find(|name| !known().any(|known| known == name.as_str())) {
        return Err(unknown(&format!("field of {op}"), field, known()));
    }
    let address = Address::new(fields.need::<String>("collection")?, fields.need::<String>("key")?)?;
    let precondition: Option<Precondition> = fields
        .take("if")
        .map_err(|failure| failure.suffixed("it is \"absent\", \"present\" or {\"version\": \"…\"}"))?;
    if *op == "check" && precondition.is_none() {
        return Err(Failure::invalid("apply", "a check needs its condition in the field if"));
    }
    if !relative && fields.0.contains_key("ttl") {
        return Err(Failure::invalid(
            "apply",
            "ttl counts from now, so a repeat would be another batch: write expires_at with an idempotency key",
        ));
    }
    let expires_at = fields.expiry()?;
    let change = match *op {
        "put" => Change::Put { value: value(&mut fields)?, expires_at },
        "delete" => Change::Delete,
        "touch" => Change::Touch { expires_at },
        "increment" => Change::Increment { fields: fields.need("fields")?, expires_at },
        "append" => Change::Append { items: fields.need("items")?, expires_at },
        _ => Change::Check,
    };
    Ok(Mutation { address, precondition, change })
}

fn value(fields: &mut Fields<'_>) -> Result<Value, Failure> {
    let media_type: Option<SmolStr> = fields.take("media_type")?;
    let (bytes, counters) = (fields.take::<String>("bytes")?, fields.take("counters")?);
    let json: Option<Json> = fields.take("value")?;
    match (json, bytes, counters) {
        (_, None, _) if media_type.is_some() => Err(Failure::invalid("apply", "media_type belongs to bytes")),
        (Some(json), None, None) => Ok(Value::Json(json)),
        (None, Some(text), None) => {
            let data = BASE64
                .decode(text)
                .map_err(|error| Failure::invalid("apply", format!("field bytes is not base64: {error}")))?;
            let media_type = media_type.unwrap_or(SmolStr::new_static(Blob::OCTET_STREAM));
            Ok(Value::Bytes(Blob::new(data).with_media_type(media_type)))
        }
        (None, None, Some(counters)) => Ok(Value::Counters(counters)),
        _ => Err(Failure::new(
            ErrorKind::InvalidInput,
            "apply",
            "a put needs one of value (JSON), bytes (base64) and counters",
        )),
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Failure {
    let known: Vec<&str> = known.into_iter().collect();
    let near = nearest(name, known.iter().copied()).map(|near| format!("; did you mean {near:?}?"));
    let shown: String = name.chars().take(40).collect();
    let message =
        format!("unknown {what} {shown:?}{} Known: {}", near.unwrap_or(".".into()), known.join(", "));
    Failure::invalid("apply", message)
}
