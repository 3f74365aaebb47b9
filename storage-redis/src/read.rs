//! Reading records by key.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use redis::Value as Reply;
use smol_str::SmolStr;
use storage_core::{Address, Error, ErrorKind, Json, ListItems, ListRange, Record, Result, Timestamp, Value};

use crate::client::{Client, bytes, items, malformed, number, slot, text};
use crate::convert::{COUNTERS, LIST, Stored, damaged};
use crate::error::code;
use crate::layout::Places;
use crate::script::{RANGE, READ};

/// Most keys in one command, so that no other client waits long.
pub(crate) const KEYS_AT_ONCE: usize = 512;
/// Soft limit of a page's size in bytes: a page ends once it is passed.
pub(crate) const PAGE_BYTES: usize = 4 << 20;

/// Records of one slot that are read together.
struct Group {
    slot: u16,
    /// Positions in the request.
    positions: Vec<usize>,
}

impl Client {
    pub(crate) async fn get(&self, addresses: &[Address]) -> Result<Vec<Option<Record>>> {
        self.check_open()?;
        self.reads.fetch_add(addresses.len() as u64, Ordering::Relaxed);
        let places = self.layout.places(addresses.iter());
        let groups = self.groups(&places);
        let read = groups.iter().map(|group| self.get_group(&places, group));
        let read = join_all(read).await;
        let now = Timestamp::now();
        let mut records = Vec::with_capacity(addresses.len());
        records.resize_with(addresses.len(), || None);
        let mut elsewhere = BTreeMap::new();
        for (group, replies) in groups.iter().zip(read) {
            for (position, reply) in group.positions.iter().zip(replies?) {
                if reply == Reply::Nil {
                    continue;
                }
                let address = &addresses[*position];
                let stored = Stored::parse(address, bytes(reply)?)?;
                if stored.is_expired(now) {
                    continue;
                }
                if stored.is_elsewhere() {
                    elsewhere.insert(*position, places.at(*position).companion(stored.kind));
                } else {
                    records[*position] = Some(stored.into_record(address.clone())?);
                }
            }
        }
        if !elsewhere.is_empty() {
            self.get_elsewhere(addresses, &places, &elsewhere, &mut records).await?;
        }
        Ok(records)
    }

    /// Groups of records that one command may name: on a cluster, those of one slot.
    fn groups(&self, places: &Places) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        if !self.link.is_cluster() {
            let chunk = |from| (from..places.len().min(from + KEYS_AT_ONCE)).collect();
            let begins = (0..places.len()).step_by(KEYS_AT_ONCE);
            return begins.map(|from| Group { slot: 0, positions: chunk(from) }).collect();
        }
        let mut open: BTreeMap<u16, usize> = BTreeMap::new();
        for (position, place) in places.iter().enumerate() {
            let slot = slot(place.key);
            let group =
                open.get(&slot).copied().filter(|group| groups[*group].positions.len() < KEYS_AT_ONCE);
            let group = group.unwrap_or_else(|| {
                groups.push(Group { slot, positions: Vec::new() });
                groups.len() - 1
            });
            open.insert(slot, group);
            groups[group].positions.push(position);
        }
        groups
    }

    /// The strings of a group's records.
    async fn get_group(&self, places: &Places, group: &Group) -> Result<Vec<Reply>> {
        let key = |position: &usize| places.at(*position).key.as_bytes();
        let mut raw: Vec<Reply> = match group.positions.as_slice() {
            [position] => {
                let mut command = redis::cmd("GET");
                command.arg(key(position));
                vec![self.link.one(group.slot, command).await?]
            }
            positions => {
                let size = positions.iter().map(|position| key(position).len() + 16).sum();
                let mut command = redis::Cmd::with_capacity(1 + positions.len(), size);
                command.arg("MGET");
                for position in positions {
                    command.arg(key(position));
                }
                match self.link.at_once(group.slot, command).await {
                    Err(error) if code(&error) == Some("TRYAGAIN") => {
                        return self.get_singly(places, group).await;
                    }
                    read => items(read?)?,
                }
            }
        };
        if raw.len() != group.positions.len() {
            return Err(malformed("another number of values than was asked for"));
        }
        if group.positions.len() > 1 {
            self.find_foreign(places, group, &mut raw).await?;
        }
        Ok(raw)
    }

    /// Reads records one by one: those of a slot that is moving are on two nodes, and no command gets both.
    async fn get_singly(&self, places: &Places, group: &Group) -> Result<Vec<Reply>> {
        let gets = group.positions.iter().map(|position| {
            let mut get = redis::cmd("GET");
            get.arg(places.at(*position).key.as_bytes());
            (group.slot, get)
        });
        self.link.many(gets.collect()).await.into_iter().collect()
    }

    /// MGET answers nothing for a key that holds something else than a string. Such a key is no missing record but an
    /// error, and GET says so.
    async fn find_foreign(&self, places: &Places, group: &Group, raw: &mut [Reply]) -> Result<()> {
        let missing: Vec<usize> = (0..raw.len()).filter(|at| raw[*at] == Reply::Nil).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let key = |at: &usize| places.at(group.positions[*at]).key.as_bytes();
        let mut exists = redis::cmd("EXISTS");
        for at in &missing {
            exists.arg(key(at));
        }
        if number(self.link.one(group.slot, exists).await?)? == 0 {
            return Ok(());
        }
        let again = missing.iter().map(|at| {
            let mut get = redis::cmd("GET");
            get.arg(key(at));
            (group.slot, get)
        });
        for (at, value) in missing.iter().zip(self.link.many(again.collect()).await) {
            raw[*at] = value?;
        }
        Ok(())
    }

    /// Reads records whose content stands beside them, under the keys that are given, each in one step.
    async fn get_elsewhere(
        &self,
        addresses: &[Address],
        places: &Places,
        companions: &BTreeMap<usize, String>,
        records: &mut [Option<Record>],
    ) -> Result<()> {
        let now = Timestamp::now();
        let groups = self.groups_of(places, companions.keys());
        let read = groups.iter().map(|group| async move {
            let keys: Vec<&str> = group
                .positions
                .iter()
                .flat_map(|position| [places.at(*position).key, companions[position].as_str()])
                .collect();
            let skips: Vec<String> =
                group.positions.iter().map(|position| places.at(*position).skip.to_string()).collect();
            items(READ.run(&self.link, group.slot, &keys, &skips).await?)
        });
        for (group, replies) in groups.iter().zip(join_all(read).await) {
            for (position, reply) in group.positions.iter().zip(replies?) {
                let address = &addresses[*position];
                records[*position] = elsewhere(address, reply, now)?;
            }
        }
        Ok(())
    }

    fn groups_of<'a>(&self, places: &Places, positions: impl Iterator<Item = &'a usize>) -> Vec<Group> {
        let slot = |position: usize| if self.link.is_cluster() { slot(places.at(position).key) } else { 0 };
        let mut by_slot: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for position in positions {
            by_slot.entry(slot(*position)).or_default().push(*position);
        }
        let chunks = by_slot.iter().flat_map(|(slot, positions)| {
            positions.chunks(KEYS_AT_ONCE).map(|chunk| Group { slot: *slot, positions: chunk.to_vec() })
        });
        chunks.collect()
    }

    pub(crate) async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        self.check_open()?;
        let places = self.layout.place(&range.address);
        let place = places.at(0);
        let arguments = [
            place.skip.to_string(),
            range.start.to_string(),
            range.limit.to_string(),
            PAGE_BYTES.to_string(),
        ];
        let keys = [place.key, &place.companion(LIST)];
        let reply = RANGE.run(&self.link, slot(place.key), &keys, &arguments).await?;
        if reply == Reply::Nil {
            return Ok(None);
        }
        let mut parts = items(reply)?.into_iter();
        let raw = bytes(parts.next().unwrap_or(Reply::Nil))?;
        let stored = Stored::parse(&range.address, raw)?;
        if stored.is_expired(Timestamp::now()) {
            return Ok(None);
        }
        let (Some(length), Some(found)) = (parts.next(), parts.next()) else {
            let kind = stored.value_kind();
            let message = format!("range of {}: the record holds {kind}", range.address);
            return Err(Error::new(ErrorKind::TypeMismatch, message));
        };
        let read = items(found)?.into_iter().map(|item| Ok(Json::from_stored(bytes(item)?.into())));
        Ok(Some(ListItems { items: read.collect::<Result<_>>()?, length: number(length)? }))
    }
}

/// The record of a reply of the script that reads counters and lists.
fn elsewhere(address: &Address, reply: Reply, now: Timestamp) -> Result<Option<Record>> {
    if matches!(reply, Reply::Nil | Reply::Boolean(false)) {
        return Ok(None);
    }
    let mut parts = items(reply)?.into_iter();
    let stored = Stored::parse(address, bytes(parts.next().unwrap_or(Reply::Nil))?)?;
    if stored.is_expired(now) {
        return Ok(None);
    }
    let Some(content) = parts.next() else { return stored.into_record(address.clone()).map(Some) };
    let value = if stored.kind == COUNTERS {
        Value::Counters(counters(address, items(content)?)?)
    } else {
        Value::List { length: number(content)? }
    };
    Ok(Some(stored.with_value(address.clone(), value)))
}

fn counters(address: &Address, flat: Vec<Reply>) -> Result<BTreeMap<SmolStr, i64>> {
    let mut fields = BTreeMap::new();
    let mut flat = flat.into_iter();
    while let (Some(name), Some(sum)) = (flat.next(), flat.next()) {
        let sum = text(sum)?.parse().map_err(|_| damaged(address, "a counter is no 64-bit number"))?;
        fields.insert(SmolStr::new(text(name)?), sum);
    }
    Ok(fields)
}
