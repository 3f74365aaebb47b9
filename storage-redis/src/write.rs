//! Writing batches.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use redis::{Cmd, RedisWrite as _, Value as Reply};
use smol_str::SmolStr;
use storage_core::{
    Address, Atomicity, Batch, Change, CollectionName, Effect, Error, ErrorKind, Mutation, Precondition,
    Result, Retry, Timestamp, Value, Version, Written,
};

use crate::client::{Client, items, malformed, number, slot, text};
use crate::convert::{COUNTERS, HEADER, LIST, NEVER, Payload, expiry, payload, time};
use crate::error::MOVED_AWAY;
use crate::layout::{Place, Places};
use crate::script::{PUT, WRITE};

/// Most mutations, and about most bytes, in one call of a script: while it runs, no other client is served.
const MUTATIONS_AT_ONCE: usize = 512;
const BYTES_AT_ONCE: usize = 1 << 20;

impl Client {
    pub(crate) async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        self.check_open()?;
        if batch.mutations.is_empty() {
            return Ok(Vec::new());
        }
        let makes = |mutation: &&Mutation| !matches!(mutation.change, Change::Delete | Change::Check);
        let made = batch.mutations.iter().filter(makes).map(|mutation| &mutation.address.collection);
        self.announce(made).await?;
        let now = time(Timestamp::now());
        let results = match batch.atomicity {
            Atomicity::Atomic => self.write_atomic(&batch.mutations, &now).await?,
            Atomicity::Independent => self.write_independent(&batch.mutations, &now).await?,
        };
        let applied = results.iter().filter(|result| result.is_ok()).count();
        self.writes.fetch_add(applied as u64, Ordering::Relaxed);
        Ok(results)
    }

    async fn write_atomic(&self, mutations: &[Mutation], now: &str) -> Result<Vec<Result<Written>>> {
        let all: Vec<(usize, &Mutation)> = mutations.iter().enumerate().collect();
        let places = self.layout.places(mutations.iter().map(|mutation| &mutation.address));
        let replies = self.run(&all, &places, "a", now).await?;
        if let [Reply::BulkString(word), position, failure] = replies.as_slice()
            && word == b"failed"
        {
            let position = usize::try_from(number(position.clone())?).unwrap_or(usize::MAX);
            let mutation = mutations.get(position).ok_or_else(|| malformed("the position of no mutation"))?;
            let error = refused(mutation, items(failure.clone())?);
            return Err(if mutations.len() > 1 { error.mutation(position) } else { error });
        }
        self.results(&all, replies)?.into_iter().map(Ok).collect()
    }

    async fn write_independent(&self, mutations: &[Mutation], now: &str) -> Result<Vec<Result<Written>>> {
        // Mutations of one record are always in one group, where they keep their order.
        let mut groups: BTreeMap<(&CollectionName, u16), Vec<(usize, &Mutation)>> = BTreeMap::new();
        for (position, mutation) in mutations.iter().enumerate() {
            let Address { collection, key } = &mutation.address;
            groups.entry((collection, self.layout.shard_of(key))).or_default().push((position, mutation));
        }
        let written = groups.into_iter().map(|((collection, shard), group)| async move {
            if group.iter().all(|(_, mutation)| is_plain(mutation)) {
                self.put_group(collection, shard, &group, now).await
            } else {
                self.write_group(&group, now).await
            }
        });
        let mut results: Vec<Option<Result<Written>>> = Vec::new();
        results.resize_with(mutations.len(), || None);
        for (position, result) in join_all(written).await.into_iter().flatten() {
            results[position] = Some(result);
        }
        let missing = || Err(malformed("no result for a mutation"));
        let results: Vec<_> = results.into_iter().map(|result| result.unwrap_or_else(missing)).collect();
        match of_the_whole(&results) {
            Some(error) => Err(error),
            None => Ok(results),
        }
    }

    /// Unconditional puts without expiry.
    async fn put_group(
        &self,
        collection: &CollectionName,
        shard: u16,
        group: &[(usize, &Mutation)],
        now: &str,
    ) -> Vec<(usize, Result<Written>)> {
        let index = self.layout.index(collection, shard);
        let slot = slot(&index);
        let mut results = Vec::with_capacity(group.len());
        let mut gone = None;
        for chunk in chunks(group) {
            if let Some(error) = &gone {
                results.extend(chunk.iter().map(|(position, _)| (*position, not_sent(error))));
                continue;
            }
            let mut puts = Vec::with_capacity(chunk.len());
            for (position, mutation) in chunk {
                match self.plain(mutation) {
                    Ok((payload, version)) => puts.push((*position, *mutation, payload, version)),
                    Err(error) => results.push((*position, Err(error))),
                }
            }
            if puts.is_empty() {
                continue;
            }
            let places = self.layout.places(puts.iter().map(|(_, mutation, ..)| &mutation.address));
            let bytes = puts.iter().zip(places.iter());
            let bytes =
                bytes.map(|((_, _, payload, _), place)| place.key.len() + HEADER + payload.len()).sum();
            let fill = |command: &mut Cmd| {
                command.arg(puts.len() + 1);
                places.iter().for_each(|place| command.write_arg(place.key.as_bytes()));
                command.arg(&index).arg(now).arg(places.at(0).skip);
                for (_, _, payload, version) in &puts {
                    let mut argument = command.writer_for_next_arg();
                    let head = [
                        b"1",
                        &[payload.kind][..],
                        now.as_bytes(),
                        now.as_bytes(),
                        NEVER.as_bytes(),
                        version,
                    ];
                    for part in head.into_iter().chain([&*payload.head, payload.body]) {
                        // Writing to memory cannot fail.
                        let _ = argument.write_all(part);
                    }
                }
            };
            let done = PUT.run_filled(&self.link, slot, (2 * puts.len() + 4, bytes), fill).await;
            let done = done.and_then(found_instead);
            gone = done.as_ref().err().filter(|error| is_gone(error)).cloned();
            results.extend(puts.into_iter().enumerate().map(|(at, (position, mutation, _, version))| {
                let written = match &done {
                    Err(error) => Err(error.clone()),
                    Ok(found) => match found.get(at).filter(|found| !found.is_empty()) {
                        Some(found) => Err(foreign_key(&mutation.address, found)),
                        None => as_version(&version)
                            .map(|version| Written { version: Some(version), effect: Effect::Done }),
                    },
                };
                (position, written)
            }));
        }
        results
    }

    /// What a plain put writes, and the version it makes.
    fn plain<'a>(&self, mutation: &'a Mutation) -> Result<(Payload<'a>, [u8; 16])> {
        let Change::Put { value, .. } = &mutation.change else { return Err(malformed("no put")) };
        let payload = payload(value, self.serializer)?.ok_or_else(|| malformed("no plain value"))?;
        Ok((payload, self.versions.next()))
    }

    async fn write_group(&self, group: &[(usize, &Mutation)], now: &str) -> Vec<(usize, Result<Written>)> {
        let mut results = Vec::with_capacity(group.len());
        let mut gone = None;
        for chunk in chunks(group) {
            if let Some(error) = &gone {
                results.extend(chunk.iter().map(|(position, _)| (*position, not_sent(error))));
                continue;
            }
            let places = self.layout.places(chunk.iter().map(|(_, mutation)| &mutation.address));
            let done = self.run(chunk, &places, "i", now).await;
            gone = done.as_ref().err().filter(|error| is_gone(error)).cloned();
            match done.and_then(|replies| self.results(chunk, replies)) {
                Ok(written) => results.extend(chunk.iter().map(|(position, _)| *position).zip(written)),
                Err(error) => {
                    results.extend(chunk.iter().map(|(position, _)| (*position, Err(error.clone()))));
                }
            }
        }
        results
    }

    /// Runs the general script over mutations of one slot.
    async fn run(
        &self,
        mutations: &[(usize, &Mutation)],
        places: &Places,
        mode: &str,
        now: &str,
    ) -> Result<Vec<Reply>> {
        let mut arguments = Vec::with_capacity(mutations.len() + 2);
        arguments.push(now.as_bytes().to_vec());
        arguments.push(mode.as_bytes().to_vec());
        for ((_, mutation), place) in mutations.iter().zip(places.iter()) {
            arguments.push(self.argument(mutation, place)?);
        }
        let beside =
            mutations.iter().zip(places.iter()).filter_map(|((_, mutation), place)| match &mutation.change {
                Change::Increment { .. } | Change::Put { value: Value::Counters(_), .. } => {
                    Some(place.companion(COUNTERS))
                }
                Change::Append { .. } => Some(place.companion(LIST)),
                _ => None,
            });
        let others: BTreeSet<String> = places.iter().map(|place| place.index()).chain(beside).collect();
        let keys: Vec<&str> =
            places.iter().map(|place| place.key).chain(others.iter().map(String::as_str)).collect();
        let slot = keys.first().map_or(0, |key| slot(key));
        items(WRITE.run(&self.link, slot, &keys, &arguments).await?)
    }

    /// One mutation as the script reads it.
    fn argument(&self, mutation: &Mutation, place: Place<'_>) -> Result<Vec<u8>> {
        let mut packed = Packed(Vec::new());
        let precondition = match &mutation.precondition {
            None => String::new(),
            Some(Precondition::Absent) => "a".to_owned(),
            Some(Precondition::Present) => "p".to_owned(),
            Some(Precondition::Version(version)) => format!("v{version}"),
        };
        let version = self.versions.next();
        let mut head = |parts: u32, operation: &str| {
            packed.array(4 + parts);
            packed.text(place.skip.to_string().as_bytes());
            packed.text(precondition.as_bytes());
            packed.text(operation.as_bytes());
            packed.text(&version);
        };
        match &mutation.change {
            Change::Put { value, expires_at } => {
                head(3, "put");
                match (payload(value, self.serializer)?, value) {
                    (Some(payload), _) => {
                        packed.text(&[payload.kind]);
                        packed.text(expiry(*expires_at).as_bytes());
                        packed.texts([&payload.head, payload.body]);
                    }
                    (None, Value::Counters(fields)) => {
                        packed.text(b"c");
                        packed.text(expiry(*expires_at).as_bytes());
                        packed.fields(fields);
                    }
                    (None, _) => return Err(Error::invalid("a list cannot be put: append its items")),
                }
            }
            Change::Delete => head(0, "delete"),
            Change::Check => head(0, "check"),
            Change::Touch { expires_at } => {
                head(1, "touch");
                packed.text(expiry(*expires_at).as_bytes());
            }
            Change::Increment { fields, expires_at } => {
                head(2, "increment");
                packed.text(expiry(*expires_at).as_bytes());
                packed.fields(fields);
            }
            Change::Append { items, expires_at } => {
                head(2, "append");
                packed.text(expiry(*expires_at).as_bytes());
                packed.array(u32::try_from(items.len()).unwrap_or(u32::MAX));
                for item in items {
                    packed.text(item.as_bytes());
                }
            }
        }
        Ok(packed.0)
    }

    fn results(&self, mutations: &[(usize, &Mutation)], replies: Vec<Reply>) -> Result<Vec<Result<Written>>> {
        if replies.len() != mutations.len() {
            return Err(malformed("another number of results than there are mutations"));
        }
        mutations.iter().zip(replies).map(|((_, mutation), reply)| outcome(mutation, items(reply)?)).collect()
    }
}

/// Whether the fast script can do it.
fn is_plain(mutation: &Mutation) -> bool {
    let plain =
        matches!(&mutation.change, Change::Put { value: Value::Json(_) | Value::Bytes(_), expires_at: None });
    plain && mutation.precondition.is_none()
}

/// The error of the whole call, for the layers above to see, where the database was not reached for any mutation. Parts
/// of a batch may differ: if the outcome of one is unknown, it is that of the whole, which must not be repeated then.
pub(crate) fn of_the_whole(results: &[Result<Written>]) -> Option<Error> {
    let errors = results.iter().map(|result| result.as_ref().err().filter(|error| is_of_the_link(error)));
    let errors: Vec<&Error> = errors.collect::<Option<_>>()?;
    let unknown = errors.iter().find(|error| error.retry() == Retry::IfIdempotent);
    unknown.or(errors.first()).map(|error| (*error).clone())
}

/// Whether the database does not answer: the next part of the batch would wait as long again.
fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

/// The result of a mutation that was not sent, because the part before it got this error.
fn not_sent(error: &Error) -> Result<Written> {
    Err(error.clone().with_retry(Retry::Safe))
}

/// Whether an error came over the connection, not from a mutation.
fn is_of_the_link(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge)
        && std::error::Error::source(error).is_some_and(|source| source.is::<redis::RedisError>())
}

/// Cuts mutations into parts that do not keep the server for long.
fn chunks<'a, 'm>(group: &'a [(usize, &'m Mutation)]) -> impl Iterator<Item = &'a [(usize, &'m Mutation)]> {
    let mut rest = group;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |(_, mutation): &&(usize, &Mutation)| {
            bytes += mutation.size();
            bytes <= BYTES_AT_ONCE
        };
        let count = rest.iter().take(MUTATIONS_AT_ONCE).take_while(fits).count().max(1);
        let (chunk, after) = rest.split_at_checked(count)?;
        rest = after;
        Some(chunk)
    })
}

/// What the fast script found in the place of each record that is no record, or nothing if all is well.
fn found_instead(reply: Reply) -> Result<Vec<String>> {
    match reply {
        Reply::Array(found) => found.into_iter().map(text).collect(),
        _ => Ok(Vec::new()),
    }
}

/// What the script says of one mutation.
fn outcome(mutation: &Mutation, mut parts: Vec<Reply>) -> Result<Result<Written>> {
    let mut parts = parts.drain(..);
    let mut next = || parts.next().ok_or_else(|| malformed("an outcome that is cut short"));
    let word = text(next()?)?;
    if word == "failed" {
        return Ok(Err(refused(mutation, items(next()?)?)));
    }
    if word == "deleted" {
        let existed = number(next()?)? == 1;
        return Ok(Ok(Written { version: None, effect: Effect::Deleted { existed } }));
    }
    let version = text(next()?)?;
    let version = if version.is_empty() { None } else { Some(Version::new(version)?) };
    let effect = match (word.as_str(), &mutation.change) {
        ("done", _) => Effect::Done,
        ("length", _) => Effect::Length(number(next()?)?),
        ("counters", Change::Increment { fields, .. }) => {
            let sums = items(next()?)?.into_iter().map(|sum| {
                text(sum)?.parse::<i64>().map_err(|_| malformed("a counter that is no 64-bit number"))
            });
            let sums: Vec<i64> = sums.collect::<Result<_>>()?;
            Effect::Counters(fields.keys().cloned().zip(sums).collect())
        }
        _ => return Err(malformed("an outcome that is not known")),
    };
    Ok(Ok(Written { version, effect }))
}

/// The error of a mutation that the script refused.
fn refused(mutation: &Mutation, parts: Vec<Reply>) -> Error {
    let address = &mutation.address;
    let words: Vec<String> = parts.into_iter().map(|part| text(part).unwrap_or_default()).collect();
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match word(0) {
        "precondition" => {
            storage_core::apply::precondition_failed(mutation, Version::new(word(1)).ok().as_ref())
        }
        "not_found" => Error::new(ErrorKind::NotFound, format!("{address} is not there to touch")),
        "kind" => {
            let (kind, operation) = (crate::convert::kind_name(word(1)), mutation.change.name());
            Error::new(ErrorKind::TypeMismatch, format!("{operation} of {address}: the record holds {kind}"))
        }
        "range" => Error::new(
            ErrorKind::OutOfRange,
            format!("{address}: {} plus {} leaves the range of 64 bits", word(2), word(3)),
        ),
        "server" => crate::error::refusal(word(1)),
        "foreign" => foreign_key(address, word(1)),
        other => malformed(&format!("the refusal {other:?}, which is not known")),
    }
}

/// The error for a key that holds something else than a string.
fn foreign_key(address: &Address, found: &str) -> Error {
    if found.contains(MOVED_AWAY) {
        let message = format!("a part of {address} is on its way to another node of the cluster: {found}");
        return Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Safe);
    }
    Error::new(
        ErrorKind::TypeMismatch,
        format!(
            "another program keeps something else under the key of {address}: {found}; give the store a prefix of its own"
        ),
    )
}

fn as_version(text: &[u8; 16]) -> Result<Version> {
    Version::new(std::str::from_utf8(text).unwrap_or_default())
}

/// MessagePack as the server's reader takes it.
struct Packed(Vec<u8>);

impl Packed {
    fn array(&mut self, length: u32) {
        // Writing to a vector cannot fail.
        let _ = rmp::encode::write_array_len(&mut self.0, length);
    }

    fn text(&mut self, bytes: &[u8]) {
        self.texts([bytes]);
    }

    /// One text in parts.
    fn texts<const N: usize>(&mut self, parts: [&[u8]; N]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let _ = rmp::encode::write_str_len(&mut self.0, u32::try_from(length).unwrap_or(u32::MAX));
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
    }

    fn fields(&mut self, fields: &BTreeMap<SmolStr, i64>) {
        self.array(u32::try_from(2 * fields.len()).unwrap_or(u32::MAX));
        for (name, number) in fields {
            self.text(name.as_bytes());
            self.text(number.to_string().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{During, driver};

    fn broken(during: During) -> Result<Written> {
        Err(driver(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into(), during))
    }

    #[test]
    fn one_unknown_outcome_makes_the_whole_call_unknown() {
        let (refused, lost) = (broken(During::Connect { tls: false }), broken(During::Request));
        let done = || Ok(Written { version: None, effect: Effect::Done });
        let retry = |results: &[Result<Written>]| of_the_whole(results).map(|error| error.retry());
        assert_eq!(retry(&[refused.clone(), refused.clone()]), Some(Retry::Safe));
        assert_eq!(retry(&[refused.clone(), lost.clone()]), Some(Retry::IfIdempotent));
        assert_eq!(retry(&[lost.clone(), refused.clone()]), Some(Retry::IfIdempotent));
        assert_eq!(retry(&[refused.clone(), done()]), None, "what was done is told");
        assert_eq!(retry(&[refused, Err(Error::new(ErrorKind::PreconditionFailed, "no"))]), None);
    }
}
