//! Walking collections in the order of their keys: scans, queries and counts.

use std::collections::{BTreeMap, VecDeque};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all, try_join_all};
use redis::Value as Reply;
use storage_core::query::{Counting, Selection};
use storage_core::{
    Address, CollectionName, Count, Cursor, Key, Page, Query, Record, Result, Scan, Timestamp,
};

use crate::client::{Client, items, number, slot, text};
use crate::convert::{HEADER, Stored};
use crate::read::PAGE_BYTES;
use crate::script::{COUNT, FORGET, REMOVE};

/// Keys read from the index, and records after them, at a time.
const STEP: usize = 256;

/// Records removed at a time.
const REMOVED_AT_ONCE: usize = 500;

/// What a script that removes did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Removed {
    pub(crate) seen: u64,
    /// Records that had not expired.
    pub(crate) live: u64,
    /// Records that had, and members of the index without a record.
    pub(crate) expired: u64,
}

/// Where the keys of a collection come from: its shards, merged in order.
struct Walk<'a> {
    client: &'a Client,
    collection: &'a CollectionName,
    prefix: &'a str,
    shards: Vec<Shard>,
    step: usize,
}

struct Shard {
    index: String,
    slot: u16,
    keys: VecDeque<Key>,
    /// The last key that was read from the index.
    last: Option<Key>,
    ended: bool,
}

impl<'a> Walk<'a> {
    fn new(client: &'a Client, collection: &'a CollectionName, prefix: &'a str, after: Option<&Key>) -> Self {
        let count = client.layout.shards();
        let shard = |number| {
            let index = client.layout.index(collection, number);
            Shard { slot: slot(&index), index, keys: VecDeque::new(), last: after.cloned(), ended: false }
        };
        let step = (2 * STEP / usize::from(count)).clamp(8, STEP);
        Self { client, collection, prefix, shards: (0..count).map(shard).collect(), step }
    }

    /// Reads on where a shard has nothing left.
    async fn refill(&mut self) -> Result<()> {
        let (client, prefix, step) = (self.client, self.prefix, self.step);
        let empty = self.shards.iter_mut().filter(|shard| shard.keys.is_empty() && !shard.ended);
        try_join_all(empty.map(|shard| async move {
            let mut command = redis::cmd("ZRANGEBYLEX");
            command.arg(&shard.index);
            match &shard.last {
                Some(last) if last.as_str() >= prefix => command.arg(format!("({last}")),
                _ if prefix.is_empty() => command.arg("-"),
                _ => command.arg(format!("[{prefix}")),
            };
            if prefix.is_empty() {
                command.arg("+");
            } else {
                // No UTF-8 text has this byte: the bound is after every key that begins with the prefix.
                command.arg([b"(", prefix.as_bytes(), b"\xff"].concat());
            }
            command.arg("LIMIT").arg(0).arg(step);
            let found = items(client.link.one(shard.slot, command).await?)?;
            shard.ended = found.len() < step;
            for key in found {
                shard.keys.push_back(Key::new(text(key)?)?);
            }
            shard.last = shard.keys.back().cloned().or(shard.last.take());
            Ok(())
        }))
        .await
        .map(drop)
    }

    /// The next keys in order, at most `most`; none at the end.
    async fn next(&mut self, most: usize) -> Result<Vec<Address>> {
        let mut found = Vec::new();
        while found.len() < most {
            self.refill().await?;
            let least = self
                .shards
                .iter()
                .enumerate()
                .filter_map(|(at, shard)| Some((shard.keys.front()?, at)))
                .min();
            let Some((_, at)) = least else { break };
            if let Some(key) = self.shards[at].keys.pop_front() {
                found.push(Address { collection: self.collection.clone(), key });
            }
        }
        Ok(found)
    }
}

impl Client {
    pub(crate) async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.page(scan, |client, addresses| client.get(addresses).boxed(), Record::size).await
    }

    pub(crate) async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.page(scan, |client, addresses| client.live(addresses).boxed(), |_| 0).await
    }

    /// A page of what `read` makes of keys; it makes nothing of those that expired or are gone.
    async fn page<T>(
        &self,
        scan: &Scan,
        read: impl for<'a> Fn(&'a Self, &'a [Address]) -> BoxFuture<'a, Result<Vec<Option<T>>>>,
        size: impl Fn(&T) -> usize,
    ) -> Result<Page<T>> {
        self.check_open()?;
        let after: Option<Key> =
            scan.after.as_ref().map(|cursor| cursor.open(&scan.identity())).transpose()?;
        let mut walk = Walk::new(self, &scan.collection, &scan.prefix, after.as_ref());
        let (limit, mut page, mut bytes) = (scan.limit as usize, Vec::new(), 0);
        let mut last: Option<Key> = None;
        loop {
            // One more than fits tells whether there is a next page.
            let addresses = walk.next((limit + 1 - page.len()).min(STEP)).await?;
            if addresses.is_empty() {
                return Ok(Page::last(page));
            }
            let items = read(self, &addresses).await?;
            self.forget(
                addresses.iter().zip(&items).filter(|(_, item)| item.is_none()).map(|(gone, _)| gone),
            )
            .await;
            for (address, item) in addresses.iter().zip(items) {
                let Some(item) = item else { continue };
                if page.len() == limit || bytes > PAGE_BYTES {
                    let next = last.map(|key| Cursor::seal(&scan.identity(), &key)).transpose()?;
                    return Ok(Page { items: page, next });
                }
                bytes += size(&item);
                page.push(item);
                last = Some(address.key.clone());
            }
        }
    }

    /// Removes members of the index whose records Redis has expired. That it fails costs only what it would have freed.
    async fn forget<'a>(&self, gone: impl Iterator<Item = &'a Address>) {
        let mut by_index: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for Address { collection, key } in gone {
            let index = self.layout.index(collection, self.layout.shard_of(key));
            by_index.entry(index).or_default().push(key.as_str());
        }
        let forgotten = by_index
            .iter()
            .map(|(index, keys)| FORGET.run(&self.link, slot(index), std::slice::from_ref(index), keys));
        for error in join_all(forgotten).await.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "members without a record stay in the index");
        }
    }

    /// The keys of those records that have not expired, without reading their values.
    async fn live(&self, addresses: &[Address]) -> Result<Vec<Option<Key>>> {
        let now = Timestamp::now();
        let heads = addresses.iter().map(|address| {
            let places = self.layout.place(address);
            let key = places.at(0).key;
            let mut command = redis::cmd("GETRANGE");
            command.arg(key).arg(0).arg(HEADER - 1);
            (slot(key), command)
        });
        let heads = self.link.many(heads.collect()).await;
        let live = addresses.iter().zip(heads).map(|(address, head)| {
            let head = crate::client::bytes(head?)?;
            if head.is_empty() || Stored::parse(address, head)?.is_expired(now) {
                return Ok(None);
            }
            Ok(Some(address.key.clone()))
        });
        live.collect()
    }

    pub(crate) async fn query(&self, query: &Query) -> Result<Page<Record>> {
        self.check_open()?;
        let mut selection = Selection::new(query)?;
        let mut walk = Walk::new(self, &query.collection, "", selection.resume_after());
        loop {
            let addresses = walk.next(STEP).await?;
            if addresses.is_empty() {
                return selection.finish();
            }
            for record in self.get(&addresses).await?.into_iter().flatten() {
                if !selection.offer(record)? {
                    return selection.finish();
                }
            }
        }
    }

    pub(crate) async fn count(&self, count: &Count) -> Result<u64> {
        self.check_open()?;
        if count.filter.is_none() {
            let shards = (0..self.layout.shards()).map(|shard| self.count_shard(&count.collection, shard));
            return Ok(try_join_all(shards).await?.into_iter().sum());
        }
        let mut counting = Counting::new(count.filter.as_ref());
        let mut walk = Walk::new(self, &count.collection, "", None);
        loop {
            let addresses = walk.next(STEP).await?;
            if addresses.is_empty() {
                return Ok(counting.total());
            }
            for record in self.get(&addresses).await?.into_iter().flatten() {
                counting.offer(&record)?;
            }
        }
    }

    async fn count_shard(&self, collection: &CollectionName, shard: u16) -> Result<u64> {
        let index = self.layout.index(collection, shard);
        let now = crate::convert::time(Timestamp::now());
        let (mut after, mut live) = (String::new(), 0);
        loop {
            let arguments = [now.as_str(), after.as_str(), "1000"];
            let reply = COUNT.run(&self.link, slot(&index), &[&index], &arguments).await?;
            let [seen, counted, last, missing] = parts(reply)?;
            live += number(counted)?;
            let missing = items(missing)?;
            if self.link.is_cluster() && !missing.is_empty() {
                let address =
                    |key| Ok(Address { collection: collection.clone(), key: Key::new(text(key)?)? });
                let missing = missing.into_iter().map(address).collect::<Result<Vec<_>>>()?;
                live += self.live(&missing).await?.iter().flatten().count() as u64;
            }
            if number(seen)? < 1000 {
                return Ok(live);
            }
            after = text(last)?;
        }
    }

    pub(crate) async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.check_open()?;
        let names = self.layout.collections();
        let mut members = redis::cmd("SMEMBERS");
        members.arg(&names);
        let found = items(self.link.one(slot(&names), members).await?)?;
        let mut known =
            found.into_iter().map(|name| CollectionName::new(text(name)?)).collect::<Result<Vec<_>>>()?;
        known.sort_unstable();
        let sizes = join_all(known.iter().map(|collection| self.size(collection))).await;
        let sized = known.into_iter().zip(sizes).map(|(collection, size)| Ok((collection, size?)));
        let sized = sized.collect::<Result<Vec<_>>>()?;
        Ok(sized.into_iter().filter(|(_, size)| *size > 0).map(|(collection, _)| collection).collect())
    }

    /// The number of members of a collection's index: its records, and some that have expired.
    pub(crate) async fn size(&self, collection: &CollectionName) -> Result<u64> {
        let sizes = (0..self.layout.shards()).map(|shard| {
            let index = self.layout.index(collection, shard);
            let mut command = redis::cmd("ZCARD");
            command.arg(&index);
            (slot(&index), command)
        });
        let sizes = self.link.many(sizes.collect()).await;
        sizes.into_iter().map(|size| number(size?)).sum()
    }

    /// Removes all records of a collection, or those that have expired.
    pub(crate) async fn remove(&self, collection: &CollectionName, all: bool) -> Result<Removed> {
        self.check_open()?;
        let mut total = Removed::default();
        for shard in 0..self.layout.shards() {
            let index = self.layout.index(collection, shard);
            let slot = slot(&index);
            let mut after = "-".to_owned();
            loop {
                let mut page = redis::cmd("ZRANGEBYLEX");
                page.arg(&index).arg(after).arg("+").arg("LIMIT").arg(0).arg(REMOVED_AT_ONCE);
                let members = items(self.link.one(slot, page).await?)?;
                let members = members.into_iter().map(text).collect::<Result<Vec<_>>>()?;
                let Some(last) = members.last() else { break };
                after = format!("({last}");
                let base = index.strip_suffix('i').unwrap_or(&index);
                let records = members.iter().map(|key| format!("{base}r:{key}"));
                let keys: Vec<String> = std::iter::once(index.clone()).chain(records).collect();
                let now = crate::convert::time(Timestamp::now());
                let which = if all { "all" } else { "expired" };
                let arguments = [now, which.to_owned(), (base.len() + 2).to_string()];
                let [live, expired] = parts(REMOVE.run(&self.link, slot, &keys, &arguments).await?)?;
                total.seen += members.len() as u64;
                total.live += number(live)?;
                total.expired += number(expired)?;
                if members.len() < REMOVED_AT_ONCE {
                    break;
                }
            }
        }
        Ok(total)
    }
}

fn parts<const N: usize>(reply: Reply) -> Result<[Reply; N]> {
    let parts = items(reply)?;
    parts.try_into().map_err(|_| crate::client::malformed("another number of parts than was asked for"))
}
