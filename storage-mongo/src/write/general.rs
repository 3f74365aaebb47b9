//! One mutation at a time: by one command where the database can decide, and else by what the record is.

use std::time::Duration;

use mongodb::bson::doc;
use storage_core::apply::{Next, Outcome, apply, precondition_failed};
use storage_core::{
    Change, Effect, Error, ErrorKind, Mutation, Precondition, Result, Retry, Timestamp, Value, Written,
};
use tokio::time::Instant;

use super::append::{Added, FULL_BYTES, Tail, head_fields};
use super::header::{Header, ListHead};
use super::increment::Sum;
use super::modify::Modify;
use super::results::{Step, not_sent};
use super::send::{Refusal, Reply};
use super::statement::{kind_field, store};
use super::{Class, Item};
use crate::client::Client;
use crate::layout::{field, live};

/// What is known of a record before a mutation of it.
pub(super) enum Seen {
    /// Nothing: the database may be able to decide.
    Nothing,
    /// It was this, or nothing, just now.
    Record(Option<Box<Header>>),
}

impl Client {
    /// Mutations of one record, each after the one before.
    pub(super) async fn one_by_one<'m>(
        &self,
        items: Vec<Item<'m>>,
        seen: Seen,
        now: Timestamp,
    ) -> Vec<(Item<'m>, Step)> {
        let mut steps = Vec::with_capacity(items.len());
        let (mut seen, mut gone) = (Some(seen), None);
        for item in items {
            let result = match &gone {
                Some(error) => Err(not_sent(error)),
                None => self.one(item.1, seen.take().unwrap_or(Seen::Nothing), now).await,
            };
            if let Err(error) = &result
                && (error.retry() == Retry::IfIdempotent || !super::results::is_of_mutation(error))
            {
                gone.get_or_insert_with(|| error.clone());
            }
            steps.push((item, Step::Settled(result)));
        }
        steps
    }

    /// One mutation, tried again while others get in its way.
    async fn one(&self, mutation: &Mutation, mut seen: Seen, now: Timestamp) -> Result<Written> {
        let pace = &mut Pace::new(self.timeout);
        loop {
            let header = match seen {
                Seen::Record(header) => header.map(|header| *header),
                Seen::Nothing => {
                    if Class::of(mutation, now) != Class::General
                        && let Step::Settled(result) = self.at_once(mutation, now).await?
                    {
                        return result;
                    }
                    self.header(&mutation.address).await.map_err(nothing_done)?
                }
            };
            let version = self.new_version();
            let Outcome { next, written } =
                apply(mutation, header.as_ref().map(|header| &header.record), now, version)?;
            if next == Next::Keep {
                return Ok(written);
            }
            if !self.fits_at_once(mutation, header.as_ref(), now).await?
                && self.replace(mutation, header.as_ref(), next, now).await?
            {
                return Ok(written);
            }
            pace.again().await?;
            seen = Seen::Nothing;
        }
    }

    /// Lets the database decide; [`Step::Left`] if the record has to be looked at to say why nothing was done.
    async fn at_once(&self, mutation: &Mutation, now: Timestamp) -> Result<Step> {
        let version = self.new_version();
        let only = |written: Option<Vec<Written>>| match written.and_then(|mut written| written.pop()) {
            Some(written) => Step::Settled(Ok(written)),
            None => Step::Left,
        };
        match &mutation.change {
            Change::Delete => self.delete(mutation, now).await,
            Change::Increment { .. } => match Sum::new(&mutation.address, vec![((0, mutation), version)]) {
                Some(sum) => self.increment(&sum, now).await.map(only),
                None => Ok(Step::Left),
            },
            Change::Append { .. } => {
                let tail = Tail::new(&mutation.address, vec![((0, mutation), version)]);
                self.append(&tail, now).await.map(only)
            }
            _ => {
                let statement = self.statement(mutation, &version, now)?;
                let mut replies = self.send(vec![statement], None).await?;
                match replies.pop() {
                    Some(reply) => self.settle(mutation, version, reply, now).await,
                    None => Ok(Step::Left),
                }
            }
        }
    }

    /// What became of a mutation whose statement had this reply.
    pub(super) async fn settle(
        &self,
        mutation: &Mutation,
        version: storage_core::Version,
        reply: Reply,
        now: Timestamp,
    ) -> Result<Step> {
        Ok(match reply {
            Reply::Found => Step::Settled(Ok(match mutation.change {
                Change::Delete => Written { version: None, effect: Effect::Deleted { existed: true } },
                _ => Written { version: Some(version), effect: Effect::Done },
            })),
            Reply::NotFound => Step::Left,
            Reply::Refused(refusal) if refusal.is_of_key() => match mutation.precondition {
                Some(Precondition::Absent) => Step::Settled(Err(precondition_failed(mutation, None))),
                _ => Step::Left,
            },
            Reply::Refused(refusal) if refusal.is_of_others() => Step::Left,
            Reply::Refused(refusal) => {
                let namespace = self.layout.records(&mutation.address.collection);
                match refusal.is_of_value() && self.free_value(&namespace, &refusal, now).await? {
                    true => Step::Left,
                    false => Step::Settled(Err(refusal.error)),
                }
            }
        })
    }

    /// Deletes a record and the items of its list, and tells whether it was there.
    async fn delete(&self, mutation: &Mutation, now: Timestamp) -> Result<Step> {
        let mut query = doc! {field::ID: mutation.address.key.as_str()};
        if mutation.precondition.is_some() {
            query.insert(field::EXPIRES_AT, live(now));
        }
        if let Some(Precondition::Version(wanted)) = &mutation.precondition {
            query.insert(field::VERSION, wanted.as_str());
        }
        let mut fields = head_fields();
        fields.insert(field::EXPIRES_AT, 1);
        let modify = Modify { query, update: None, fields, after: false };
        let document = match self.modify(&mutation.address.collection, modify).await {
            Ok(document) => document,
            Err(refusal) if refusal.is_of_others() => return Ok(Step::Left),
            Err(refusal) => return Err(refusal.error),
        };
        let existed = match &document {
            None if mutation.precondition.is_some() => return Ok(Step::Left),
            None => false,
            Some(document) => {
                if let Ok(list) = document.get_document(field::LIST) {
                    self.remove_spilled(mutation, &ListHead::of(list)?).await;
                }
                let expires_at = document.get_datetime(field::EXPIRES_AT);
                expires_at.map_or(true, |at| at.timestamp_millis() > now.as_millis())
            }
        };
        Ok(Step::Settled(Ok(Written { version: None, effect: Effect::Deleted { existed } })))
    }

    /// Whether the database can decide about a mutation that is to be done to this record. Makes it so for an append to a
    /// list whose document is full.
    async fn fits_at_once(
        &self,
        mutation: &Mutation,
        header: Option<&Header>,
        now: Timestamp,
    ) -> Result<bool> {
        if Class::of(mutation, now) == Class::General {
            return Ok(false);
        }
        let Some(Header { record, list }) = header else { return Ok(true) };
        if let (Change::Append { .. }, Some(list)) = (&mutation.change, list)
            && list.bytes >= FULL_BYTES
            && !record.is_expired(now)
        {
            self.spill(&mutation.address, &list.id).await.map_err(nothing_done)?;
        }
        Ok(match &mutation.change {
            Change::Put { .. } if mutation.precondition == Some(Precondition::Absent) => true,
            Change::Put { value, .. } => {
                !record.is_expired(now) && kind_field(value) == kind_field(&record.value)
            }
            Change::Increment { .. } | Change::Append { .. } => !record.is_expired(now),
            _ => true,
        })
    }

    /// Stores what a mutation made of a record if it is still that; returns whether it is.
    async fn replace(
        &self,
        mutation: &Mutation,
        header: Option<&Header>,
        next: Next,
        now: Timestamp,
    ) -> Result<bool> {
        let address = &mutation.address;
        let kept = header.and_then(|header| header.list.as_ref()).filter(|_| !drops_items(&next));
        let mut appended = None;
        let update = match &next {
            Next::Store { record, .. } => {
                if let (Change::Append { items, .. }, Some(list)) = (&mutation.change, kept) {
                    if list.bytes >= FULL_BYTES {
                        self.spill(address, &list.id).await.map_err(nothing_done)?;
                        return Ok(false);
                    }
                    appended = Some(Added::new(items)?);
                }
                Some(store(mutation, record, appended.as_ref())?)
            }
            Next::Remove | Next::Keep => None,
        };
        let Some(header) = header else {
            return match self.make(address, update.unwrap_or_default(), mutation.size()).await? {
                Reply::Found => Ok(true),
                Reply::NotFound => Ok(false),
                Reply::Refused(refusal) => self.refused(mutation, refusal, now).await,
            };
        };
        let query = doc! {field::ID: address.key.as_str(), field::VERSION: header.record.version.as_str()};
        let modify = Modify { query, update, fields: head_fields(), after: false };
        let document = match self.modify(&address.collection, modify).await {
            Ok(Some(document)) => document,
            Ok(None) => return Ok(false),
            Err(refusal) => return self.refused(mutation, refusal, now).await,
        };
        if let Ok(list) = document.get_document(field::LIST) {
            let list = ListHead::of(list)?;
            match (&appended, kept) {
                (Some(added), _) => self.spill_if_long(address, &added.after(&list), added).await,
                (None, None) => self.remove_spilled(mutation, &list).await,
                (None, Some(_)) => {}
            }
        }
        Ok(true)
    }

    /// False if it may be tried again at once.
    async fn refused(&self, mutation: &Mutation, refusal: Refusal, now: Timestamp) -> Result<bool> {
        if refusal.is_of_key() || refusal.is_of_others() {
            return Ok(false);
        }
        let namespace = self.layout.records(&mutation.address.collection);
        if refusal.is_of_value() && self.free_value(&namespace, &refusal, now).await? {
            return Ok(false);
        }
        Err(refusal.error)
    }

    async fn remove_spilled(&self, mutation: &Mutation, list: &ListHead) {
        if list.spilled > 0 {
            self.remove_items(&mutation.address.collection, &list.id).await;
        }
    }
}

fn drops_items(next: &Next) -> bool {
    match next {
        Next::Keep => false,
        Next::Remove => true,
        Next::Store { record, drops_items } => *drops_items || !matches!(record.value, Value::List { .. }),
    }
}

/// The error of a request that only read.
pub(super) fn nothing_done(error: Error) -> Error {
    not_sent(&error)
}

/// How often, and for how long, something is tried again that others get in the way of.
#[derive(Clone)]
pub(super) struct Pace {
    deadline: Instant,
    attempts: u32,
}

impl Pace {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout, attempts: 0 }
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Waits for a while, longer each time.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) once the time is over.
    pub(super) async fn again(&mut self) -> Result<()> {
        if self.is_over() {
            return Err(Error::new(ErrorKind::Conflict, "others are in the way again and again"));
        }
        self.attempts += 1;
        let most = 1_u64 << self.attempts.min(6);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..most))).await;
        Ok(())
    }
}
