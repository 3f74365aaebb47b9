//! Appends to lists.

use mongodb::bson::{Array, Bson, Document, doc, serialize_to_vec};
use storage_core::{
    Address, Change, Effect, Error, ErrorKind, Json, Mutation, Result, Timestamp, Version, Written,
};

use super::Item;
use super::header::ListHead;
use super::modify::Modify;
use super::send::Reply;
use crate::client::Client;
use crate::convert::{damaged, item_value};
use crate::layout::{date, field, live};
use crate::list::{TAIL_BYTES, TAIL_ITEMS};

/// Most bytes of items that one append carries: beside those that are in the document, they fit it.
const MAX_BYTES: usize = 12 << 20;

/// How many bytes of items a document may hold that takes another append.
pub(super) const FULL_BYTES: u64 = 1 << 20;

/// Items that are added to a list.
pub(super) struct Added {
    items: Array,
    /// Their size as BSON.
    bytes: u64,
}

impl Added {
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge) for more than fits a document.
    pub(super) fn new<'j>(items: impl IntoIterator<Item = &'j Json>) -> Result<Self> {
        let items = items.into_iter().map(item_value).collect::<Result<Array>>()?;
        let size = serialize_to_vec(&doc! {"": &items}).map_err(damaged)?.len();
        if size > MAX_BYTES {
            let message =
                format!("the items of one append take {size} bytes as a document: the limit is {MAX_BYTES}");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        Ok(Self { items, bytes: size as u64 })
    }

    /// The operand of `$push`.
    pub(super) fn push(&self) -> Document {
        doc! {"list.tail": {"$each": &self.items}}
    }

    /// The operand of `$inc`.
    pub(super) fn counts(&self) -> Document {
        doc! {"list.length": as_i64(self.items.len()), "list.bytes": as_i64(self.bytes)}
    }

    /// A list of these items.
    pub(super) fn list(&self, version: &Version) -> Document {
        doc! {
            "id": version.as_str(), "length": as_i64(self.items.len()), "spilled": 0_i64,
            "bytes": as_i64(self.bytes), "tail": &self.items,
        }
    }

    /// Their size in bytes.
    pub(super) fn size(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// What `list` is with these items.
    pub(super) fn after(&self, list: &ListHead) -> ListHead {
        let (length, bytes) = (list.length + self.items.len() as u64, list.bytes + self.bytes);
        ListHead { length, bytes, ..list.clone() }
    }
}

/// The appends to one list, one after the other.
pub(super) struct Tail<'m> {
    address: &'m Address,
    pub(super) items: Vec<(Item<'m>, Version)>,
    expires_at: Option<Timestamp>,
}

impl<'m> Tail<'m> {
    pub(super) fn new(address: &'m Address, items: Vec<(Item<'m>, Version)>) -> Self {
        // Only the append that makes the list gives it its expiry.
        let expires_at = match items.first().map(|((_, mutation), _)| &mutation.change) {
            Some(Change::Append { expires_at, .. }) => *expires_at,
            _ => None,
        };
        Self { address, items, expires_at }
    }

    fn added(&self) -> Result<Added> {
        Added::new(self.items.iter().flat_map(|((_, mutation), _)| match &mutation.change {
            Change::Append { items, .. } => items.as_slice(),
            _ => &[],
        }))
    }

    /// What each append is told, given the length after the last.
    fn written(&self, after: u64) -> Vec<Written> {
        let count = |mutation: &Mutation| match &mutation.change {
            Change::Append { items, .. } => items.len() as u64,
            _ => 0,
        };
        let all: u64 = self.items.iter().map(|((_, mutation), _)| count(mutation)).sum();
        let mut length = after.saturating_sub(all);
        let written = self.items.iter().map(|((_, mutation), version)| {
            length += count(mutation);
            Written { version: Some(version.clone()), effect: Effect::Length(length) }
        });
        written.collect()
    }
}

impl Client {
    /// Appends by one command, and makes a list by another; `None` if the record has to be looked at: it is of another kind,
    /// has expired, or its document is full.
    pub(super) async fn append(&self, tail: &Tail<'_>, now: Timestamp) -> Result<Option<Vec<Written>>> {
        let Some((_, version)) = tail.items.last() else { return Ok(Some(Vec::new())) };
        let added = tail.added()?;
        let query = doc! {
            field::ID: tail.address.key.as_str(), field::EXPIRES_AT: live(now),
            "list.bytes": {"$lt": as_i64(FULL_BYTES)},
        };
        let mut set = doc! {field::VERSION: version.as_str(), field::UPDATED_AT: date(now)};
        let update = doc! {"$push": added.push(), "$inc": added.counts(), "$set": set.clone()};
        let modify = Modify { query, update: Some(update), fields: head_fields(), after: true };
        match self.modify(&tail.address.collection, modify).await {
            Ok(Some(document)) => {
                let list = ListHead::of(document.get_document(field::LIST).map_err(damaged)?)?;
                self.spill_if_long(tail.address, &list, &added).await;
                return Ok(Some(tail.written(list.length)));
            }
            Ok(None) => {}
            Err(refusal) if refusal.is_of_others() => return Ok(None),
            Err(refusal) => return Err(refusal.error),
        }
        let list = added.after(&ListHead::new(version));
        set.extend(doc! {field::CREATED_AT: date(now), field::LIST: added.list(version)});
        set.extend(tail.expires_at.map(|at| (field::EXPIRES_AT.to_owned(), Bson::DateTime(date(at)))));
        match self.make(tail.address, doc! {"$set": set}, added.size()).await? {
            Reply::Found => {
                self.spill_if_long(tail.address, &list, &added).await;
                Ok(Some(tail.written(list.length)))
            }
            Reply::Refused(refusal) if !refusal.is_of_key() && !refusal.is_of_others() => Err(refusal.error),
            Reply::Refused(_) | Reply::NotFound => Ok(None),
        }
    }

    /// Spills a list that has become long by what was added. If that fails, the next time does it.
    pub(super) async fn spill_if_long(&self, address: &Address, list: &ListHead, added: &Added) {
        let items = list.length.saturating_sub(list.spilled);
        // By one of those that append, not by all of them until it is done.
        let grows_over = |after: u64, by: u64, most: u64| after / most > after.saturating_sub(by) / most;
        if (grows_over(items, added.items.len() as u64, TAIL_ITEMS)
            || grows_over(list.bytes, added.bytes, TAIL_BYTES))
            && let Err(error) = self.spill(address, &list.id).await
        {
            tracing::debug!(%address, %error, "the items of a long list stay in its document");
        }
    }
}

/// The fields of a [`ListHead`], and no others.
pub(super) fn head_fields() -> Document {
    doc! {"list.id": 1, "list.length": 1, "list.spilled": 1, "list.bytes": 1}
}

fn as_i64(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
