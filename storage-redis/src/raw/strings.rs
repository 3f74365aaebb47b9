//! Reading and writing plain strings.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::join_all;
use redis::{Cmd, Value as Reply};
use storage_core::{
    Address, Atomicity, Batch, Blob, Change, Effect, Error, ErrorKind, Feature, Json, Mutation, Record,
    Result, Retry, Timestamp, Value, Version, Written,
};
use xxhash_rust::xxh3::xxh3_128;

use super::names::Names;
use crate::client::{bytes, items, malformed, number, slot, text};
use crate::config::{RawValues, RedisConfig};
use crate::link::Link;
use crate::read::KEYS_AT_ONCE;
use crate::script::RAW;
use crate::write::of_the_whole;

/// Plain strings of a database.
pub(crate) struct Strings {
    pub(crate) link: Link,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) closed: AtomicBool,
    names: Names,
    values: RawValues,
}

/// A mutation as a command, and how to read its reply.
struct Step {
    position: usize,
    slot: u16,
    command: Cmd,
    meaning: Meaning,
}

enum Meaning {
    /// The value was set, or removed at once if it had expired already.
    Put(Option<Version>),
    /// The number of keys removed.
    Deleted,
    /// The value whose expiry was set.
    Touched,
    /// The value that was removed because its new expiry has passed.
    TouchedAway,
    /// The value.
    Checked,
}

impl Strings {
    pub(crate) async fn open(config: &RedisConfig) -> Result<Self> {
        Ok(Self {
            link: Link::open(config).await?,
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            names: Names::new(config.collections.as_ref()),
            values: config.values.unwrap_or_default(),
        })
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the store has been closed"));
        }
        Ok(())
    }

    pub(crate) async fn get(&self, addresses: &[Address]) -> Result<Vec<Option<Record>>> {
        self.check_open()?;
        self.reads.fetch_add(addresses.len() as u64, Ordering::Relaxed);
        let keys: Vec<String> =
            addresses.iter().map(|address| self.names.key(address)).collect::<Result<_>>()?;
        // On a cluster plain keys are seldom of one slot, and a command over several fails while their slot moves.
        let at_once = if self.link.is_cluster() { 1 } else { KEYS_AT_ONCE };
        let read = keys.chunks(at_once).map(|keys| async move {
            let slot = keys.first().map_or(0, |key| slot(key));
            let replies = items(RAW.run(&self.link, slot, keys, &[] as &[&str]).await?)?;
            if replies.len() == keys.len() { Ok(replies) } else { Err(malformed("too few values")) }
        });
        let replies = join_all(read).await.into_iter().collect::<Result<Vec<_>>>()?;
        let now = Timestamp::now();
        let records = addresses.iter().zip(replies.into_iter().flatten());
        records.map(|(address, reply)| self.record(address, reply, now)).collect()
    }

    fn record(&self, address: &Address, reply: Reply, now: Timestamp) -> Result<Option<Record>> {
        if matches!(reply, Reply::Nil | Reply::Boolean(false)) {
            return Ok(None);
        }
        let mut parts = items(reply)?.into_iter();
        let (Some(value), Some(expiry)) = (parts.next(), parts.next()) else {
            return Err(malformed("a value without its expiry"));
        };
        if matches!(value, Reply::Nil | Reply::Boolean(false)) {
            return Err(unreadable(address, &text(expiry)?));
        }
        let expires_at = match expiry {
            Reply::Int(at) => Some(Timestamp::from_millis(at)).filter(|at| at.as_millis() >= 0),
            _ => return Err(malformed("an expiry that is no number")),
        };
        let data = bytes(value)?;
        let version = version(&data)?;
        let value = match self.values {
            RawValues::Bytes => Value::bytes(data),
            RawValues::Json => Value::Json(Json::parse(data).map_err(|_| not_json(address))?),
        };
        let (created_at, updated_at) = (Timestamp::from_millis(0), Timestamp::from_millis(0));
        let record = Record { address: address.clone(), value, version, created_at, updated_at, expires_at };
        Ok(Some(record).filter(|record| !record.is_expired(now)))
    }

    pub(crate) async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        self.check_open()?;
        let mutations = &batch.mutations;
        let now = Timestamp::now();
        let mut results: Vec<Option<Result<Written>>> = Vec::new();
        results.resize_with(mutations.len(), || None);
        // Commands of one wave may run in any order, so each has a key at most once.
        let mut waves: Vec<Vec<Step>> = Vec::new();
        let mut next_wave: HashMap<&Address, usize> = HashMap::new();
        for (position, mutation) in mutations.iter().enumerate() {
            match self.step(position, mutation, now) {
                Ok(step) => {
                    let wave = next_wave.entry(&mutation.address).or_default();
                    if *wave == waves.len() {
                        waves.push(Vec::new());
                    }
                    waves[*wave].push(step);
                    *wave += 1;
                }
                Err(error) => results[position] = Some(Err(error)),
            }
        }
        let mut broken = None;
        for mut wave in waves {
            while !wave.is_empty() {
                let rest = wave.split_off(wave.len().min(KEYS_AT_ONCE));
                self.send(std::mem::replace(&mut wave, rest), mutations, &mut results, &mut broken).await;
            }
        }
        let missing = || Err(malformed("no result for a mutation"));
        let results: Vec<_> = results.into_iter().map(|result| result.unwrap_or_else(missing)).collect();
        let applied = results.iter().filter(|result| result.is_ok()).count();
        self.writes.fetch_add(applied as u64, Ordering::Relaxed);
        match results.first() {
            // The guard lets atomic batches of one mutation through.
            Some(Err(error)) if batch.atomicity == Atomicity::Atomic => Err(error.clone()),
            _ => of_the_whole(&results).map_or(Ok(results), Err),
        }
    }

    /// Sends commands; nothing once the database could not be reached.
    async fn send(
        &self,
        steps: Vec<Step>,
        mutations: &[Mutation],
        results: &mut [Option<Result<Written>>],
        broken: &mut Option<Error>,
    ) {
        if let Some(error) = broken {
            for step in steps {
                results[step.position] = Some(Err(error.clone().with_retry(Retry::Safe)));
            }
            return;
        }
        let (commands, read): (Vec<_>, Vec<_>) =
            steps.into_iter().map(|step| ((step.slot, step.command), (step.position, step.meaning))).unzip();
        for ((position, meaning), reply) in read.into_iter().zip(self.link.many(commands).await) {
            let address = &mutations[position].address;
            let result = reply
                .map_err(|error| match error.kind() {
                    ErrorKind::TypeMismatch => unreadable(address, "it is of another kind"),
                    _ => error,
                })
                .and_then(|reply| written(address, meaning, reply));
            if let Err(error) = &result
                && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
            {
                *broken = Some(error.clone());
            }
            results[position] = Some(result);
        }
    }

    fn step(&self, position: usize, mutation: &Mutation, now: Timestamp) -> Result<Step> {
        let Mutation { address, precondition, change } = mutation;
        if precondition.is_some() {
            return Err(Error::unsupported(Feature::Preconditions));
        }
        let key = self.names.key(address)?;
        let command = |name: &str| {
            let mut command = redis::cmd(name);
            command.arg(&key);
            command
        };
        let (command, meaning) = match change {
            Change::Put { value, expires_at } => {
                let data = self.data(address, value)?;
                match expires_at {
                    Some(at) if *at <= now => (command("UNLINK"), Meaning::Put(None)),
                    at => {
                        let mut set = Cmd::with_capacity(5, key.len() + data.len() + 32);
                        set.arg("SET").arg(&key).arg(data);
                        if let Some(at) = at {
                            set.arg("PXAT").arg(at.as_millis());
                        }
                        (set, Meaning::Put(Some(version(data)?)))
                    }
                }
            }
            Change::Touch { expires_at: Some(at) } if *at <= now => (command("GETDEL"), Meaning::TouchedAway),
            Change::Touch { expires_at } => {
                let mut touch = command("GETEX");
                match expires_at {
                    Some(at) => touch.arg("PXAT").arg(at.as_millis()),
                    None => touch.arg("PERSIST"),
                };
                (touch, Meaning::Touched)
            }
            Change::Delete => (command("UNLINK"), Meaning::Deleted),
            Change::Check => (command("GET"), Meaning::Checked),
            Change::Increment { .. } => return Err(Error::unsupported(Feature::Counters)),
            Change::Append { .. } => return Err(Error::unsupported(Feature::Lists)),
        };
        Ok(Step { position, slot: slot(&key), command, meaning })
    }

    /// The bytes of a value, if they say all there is to it.
    fn data<'a>(&self, address: &Address, value: &'a Value) -> Result<&'a [u8]> {
        match (self.values, value) {
            (RawValues::Json, Value::Json(json)) => Ok(json.as_bytes()),
            (RawValues::Bytes, Value::Bytes(blob)) if blob.media_type == Blob::OCTET_STREAM => Ok(&blob.data),
            (RawValues::Bytes, Value::Bytes(blob)) => Err(Error::invalid(format!(
                "put of {address}: a raw value has no place for the media type {}; put it as {}",
                blob.media_type,
                Blob::OCTET_STREAM
            ))),
            (values, value) => Err(Error::invalid(format!(
                "put of {address}: the values of this store are {values}, and this one is {}; configure values",
                value.kind()
            ))),
        }
    }
}

fn written(address: &Address, meaning: Meaning, reply: Reply) -> Result<Written> {
    let done = |version| Written { version, effect: Effect::Done };
    let value = |reply| match reply {
        Reply::Nil => Ok(None),
        reply => version(&bytes(reply)?).map(Some),
    };
    let not_found = || Error::new(ErrorKind::NotFound, format!("{address} is not there to touch"));
    match meaning {
        Meaning::Put(version) => Ok(done(version)),
        Meaning::Deleted => {
            Ok(Written { version: None, effect: Effect::Deleted { existed: number(reply)? > 0 } })
        }
        Meaning::Touched => Ok(done(Some(value(reply)?.ok_or_else(not_found)?))),
        Meaning::TouchedAway => value(reply)?.map(|_| done(None)).ok_or_else(not_found),
        Meaning::Checked => Ok(done(value(reply)?)),
    }
}

/// Tells values apart, not writes: there is no place to count those.
fn version(data: &[u8]) -> Result<Version> {
    Version::new(format!("{:032x}", xxh3_128(data)))
}

fn not_json(address: &Address) -> Error {
    Error::new(
        ErrorKind::Decode,
        format!("what is stored for {address} is no JSON: configure values = bytes to read it"),
    )
}

/// The error for a key that the server does not read as a string.
fn unreadable(address: &Address, why: &str) -> Error {
    Error::new(
        ErrorKind::TypeMismatch,
        format!(
            "what is stored for {address} is no string, and a store of the format raw has only those: {why}"
        ),
    )
}
