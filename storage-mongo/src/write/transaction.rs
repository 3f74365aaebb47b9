//! Atomic batches as transactions.
//!
//! All records are read first, in one snapshot. The reference decides about each mutation, and what it decides is written in
//! the order of the batch: so a value that a unique index takes once is free for a mutation if one before gave it back.
//! Records that are only read are written too, in a way that leaves nothing: or else two transactions could each change what
//! the other has read.

use std::collections::HashMap;

use mongodb::ClientSession;
use mongodb::bson::doc;
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria};
use storage_core::apply::{Next, apply};
use storage_core::{Address, Change, Error, ErrorKind, Mutation, Record, Result, Retry, Timestamp, Written};

use super::Item;
use super::append::{Added, FULL_BYTES};
use super::general::{Pace, nothing_done};
use super::header::ListHead;
use super::results::is_of_mutation;
use super::send::{Refusal, Reply};
use super::statement::{Statement, store};
use crate::client::Client;
use crate::error::{code, has_label};
use crate::layout::field;

/// Most bytes of items that a document may hold after a transaction.
const MOST_BYTES: u64 = 13 << 20;

/// How a transaction ended that was not committed.
enum End {
    /// Others were in the way, and nothing was done.
    Again(Error),
    /// As `Again`, because the documents of these lists are full.
    Spill(Vec<(Address, String)>),
    /// As `Again`, because a value is taken, maybe by a record that has expired: of which collection, and by which mutation.
    Taken(Refusal, String, usize),
    /// It failed.
    Failed(Error),
}

/// What a transaction writes.
struct Plan<'m> {
    states: HashMap<&'m Address, State>,
    /// Statements, with the positions of the mutations that they are of.
    statements: Vec<(usize, Statement)>,
    written: Vec<Result<Written>>,
    /// Lists of which the items are to be removed.
    dropped: Vec<(&'m Address, String)>,
    /// Lists that got items.
    grown: Vec<(&'m Address, ListHead, Added)>,
}

/// A record while the mutations are applied.
#[derive(Default)]
struct State {
    current: Option<Record>,
    list: Option<ListHead>,
    /// Whether there is a document, be it of what has expired.
    stored: bool,
    changed: bool,
}

impl Client {
    /// All mutations or none.
    pub(super) async fn transact(&self, items: &[Item<'_>], now: Timestamp) -> Result<Vec<Result<Written>>> {
        for (_, mutation) in items {
            self.ensure_collection(&mutation.address.collection).await.map_err(nothing_done)?;
        }
        let mut pace = Pace::new(self.timeout);
        loop {
            match self.try_transaction(items, now, &pace).await {
                Ok(written) => return Ok(written),
                Err(End::Failed(error)) => return Err(error),
                Err(End::Again(error)) => {
                    if pace.is_over() {
                        let message = format!("others are in the way again and again: {}", error.message());
                        return Err(Error::new(ErrorKind::Conflict, message));
                    }
                }
                Err(End::Spill(lists)) => {
                    for (address, id) in lists {
                        self.spill(&address, &id).await.map_err(nothing_done)?;
                    }
                }
                Err(End::Taken(refusal, namespace, position)) => {
                    if !self.free_value(&namespace, &refusal, now).await? {
                        return Err(refusal.error.mutation(position));
                    }
                }
            }
            pace.again().await?;
        }
    }

    async fn try_transaction(
        &self,
        items: &[Item<'_>],
        now: Timestamp,
        pace: &Pace,
    ) -> Result<Vec<Result<Written>>, End> {
        let mut session =
            self.within(self.client.start_session().into_future()).await.map_err(before_commit)?;
        let starting = session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        self.within(starting.into_future()).await.map_err(before_commit)?;
        let plan = match self.run_transaction(items, now, &mut session).await {
            Ok(plan) => plan,
            Err(end) => {
                // If that fails, the server ends it by itself.
                let _ = self.within(session.abort_transaction().into_future()).await;
                return Err(end);
            }
        };
        self.commit(&mut session, pace).await?;
        for (address, id) in plan.dropped {
            self.remove_items(&address.collection, &id).await;
        }
        for (address, list, added) in plan.grown {
            self.spill_if_long(address, &list, &added).await;
        }
        Ok(plan.written)
    }

    /// Reads, decides and writes, all but the commit.
    async fn run_transaction<'m>(
        &self,
        items: &[Item<'m>],
        now: Timestamp,
        session: &mut ClientSession,
    ) -> Result<Plan<'m>, End> {
        let mut plan = self.read_states(items, session).await?;
        let full: Vec<(Address, String)> = items
            .iter()
            .filter(|(_, mutation)| matches!(mutation.change, Change::Append { .. }))
            .filter_map(|(_, mutation)| {
                let list = plan.states.get(&mutation.address)?.list.as_ref()?;
                (list.bytes >= FULL_BYTES).then(|| (mutation.address.clone(), list.id.clone()))
            })
            .collect();
        if !full.is_empty() {
            return Err(End::Spill(full));
        }
        for (position, mutation) in items {
            if let Err(error) = self.plan_mutation(&mut plan, *position, mutation, now) {
                // One before it may be what a unique index does not take: that would be the error then.
                let puts = |(_, mutation): &&Item<'_>| matches!(mutation.change, Change::Put { .. });
                if items[..*position].iter().any(|item| puts(&item)) {
                    self.write_planned(&mut plan, session).await?;
                }
                return Err(End::Failed(error.mutation(*position)));
            }
        }
        if !plan.statements.is_empty() {
            self.plan_locks(&mut plan, items.len());
            self.write_planned(&mut plan, session).await?;
        }
        Ok(plan)
    }

    async fn read_states<'m>(
        &self,
        items: &[Item<'m>],
        session: &mut ClientSession,
    ) -> Result<Plan<'m>, End> {
        let mut states: HashMap<&'m Address, State> = HashMap::with_capacity(items.len());
        for (_, mutation) in items {
            states.entry(&mutation.address).or_default();
        }
        let headers = self.headers(states.keys().copied(), Some(session)).await.map_err(before_commit)?;
        for (address, header) in headers {
            if let Some(state) = states.get_mut(&address) {
                let current = Some(header.record);
                *state = State { current, list: header.list, stored: true, changed: false };
            }
        }
        let written = Vec::with_capacity(items.len());
        Ok(Plan { states, statements: Vec::new(), written, dropped: Vec::new(), grown: Vec::new() })
    }

    /// Applies a mutation, and adds the statement that it takes.
    fn plan_mutation<'m>(
        &self,
        plan: &mut Plan<'m>,
        position: usize,
        mutation: &'m Mutation,
        now: Timestamp,
    ) -> Result<()> {
        let address = &mutation.address;
        let state = plan.states.entry(address).or_default();
        let outcome = apply(mutation, state.current.as_ref(), now, self.new_version())?;
        let namespace = || self.layout.records(&address.collection);
        let filter = doc! {field::ID: address.key.as_str()};
        let statement = match outcome.next {
            Next::Keep => None,
            Next::Remove => {
                state.current = None;
                let list = state.list.take();
                plan.dropped.extend(list.filter(|list| list.spilled > 0).map(|list| (address, list.id)));
                state.stored = false;
                Some(Statement::delete(namespace(), filter))
            }
            Next::Store { record, drops_items } => {
                if drops_items {
                    let list = state.list.take();
                    plan.dropped.extend(list.filter(|list| list.spilled > 0).map(|list| (address, list.id)));
                }
                let update = match &mutation.change {
                    Change::Append { items, .. } => {
                        let added = Added::new(items)?;
                        let update = store(mutation, &record, state.list.is_some().then_some(&added))?;
                        let list = match &state.list {
                            Some(list) => added.after(list),
                            None => added.after(&ListHead::new(&record.version)),
                        };
                        if list.bytes > MOST_BYTES {
                            let message = format!(
                                "the items that one batch appends to {address} do not fit a document"
                            );
                            return Err(Error::new(ErrorKind::TooLarge, message));
                        }
                        plan.grown.push((address, list.clone(), added));
                        state.list = Some(list);
                        update
                    }
                    _ => store(mutation, &record, None)?,
                };
                state.current = Some(record);
                state.stored = true;
                Some(Statement::update(namespace(), filter, update, true, mutation.size()))
            }
        };
        if let Some(statement) = statement {
            state.changed = true;
            plan.statements.push((position, statement));
        }
        plan.written.push(Ok(outcome.written));
        Ok(())
    }

    /// Adds statements on the records that are only read: they leave nothing, but meet those of others.
    fn plan_locks(&self, plan: &mut Plan<'_>, position: usize) {
        for (address, state) in plan.states.iter().filter(|(_, state)| !state.changed) {
            let namespace = self.layout.records(&address.collection);
            let filter = doc! {field::ID: address.key.as_str()};
            let lock = doc! {"$set": {field::LOCK: true}};
            let release = match state.stored {
                true => {
                    let update = doc! {"$unset": {field::LOCK: ""}};
                    Statement::update(namespace.clone(), filter.clone(), update, true, 0)
                }
                false => Statement::delete(namespace.clone(), filter.clone()),
            };
            plan.statements.push((position, Statement::update(namespace, filter, lock, true, 0)));
            plan.statements.push((position, release));
        }
    }

    /// Sends the statements of a plan.
    async fn write_planned(&self, plan: &mut Plan<'_>, session: &mut ClientSession) -> Result<(), End> {
        while !plan.statements.is_empty() {
            let count = self.fit(plan.statements.iter().map(|(_, statement)| statement), true);
            let rest = plan.statements.split_off(count);
            let (positions, statements): (Vec<usize>, Vec<Statement>) =
                std::mem::replace(&mut plan.statements, rest).into_iter().unzip();
            let namespaces: Vec<String> =
                statements.iter().map(|statement| statement.namespace.clone()).collect();
            let replies = self.send(statements, Some(&mut *session)).await.map_err(before_commit)?;
            for ((reply, position), namespace) in replies.into_iter().zip(positions).zip(namespaces) {
                match reply {
                    Reply::Found | Reply::NotFound => {}
                    Reply::Refused(refusal) if refusal.is_of_value() => {
                        return Err(End::Taken(refusal, namespace, position));
                    }
                    Reply::Refused(refusal) if refusal.is_of_key() || refusal.is_of_others() => {
                        return Err(End::Again(refusal.error));
                    }
                    Reply::Refused(refusal) => {
                        return Err(match before_commit(refusal.error) {
                            End::Failed(error) => End::Failed(error.mutation(position)),
                            again => again,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Commits, again while nobody knows whether it is done.
    async fn commit(&self, session: &mut ClientSession, pace: &Pace) -> Result<(), End> {
        let (mut pace, mut is_sent) = (pace.clone(), false);
        loop {
            let error = match self.within(session.commit_transaction().into_future()).await {
                Ok(()) => return Ok(()),
                // No connection was free.
                Err(error) if !is_sent && error.kind() == ErrorKind::Busy && code(&error).is_none() => {
                    return Err(End::Failed(error));
                }
                Err(error) => error,
            };
            is_sent = true;
            let unknown = has_label(&error, "UnknownTransactionCommitResult");
            if !unknown && has_label(&error, "TransientTransactionError") {
                return Err(End::Again(error));
            }
            if !unknown || pace.again().await.is_err() {
                let repeat = if is_of_mutation(&error) { error.retry() } else { Retry::IfIdempotent };
                return Err(End::Failed(error.with_retry(repeat)));
            }
        }
    }
}

/// How a transaction ends by an error before its commit: nothing of it is done.
fn before_commit(error: Error) -> End {
    let others = error.kind() == ErrorKind::Conflict && error.retry() == Retry::Safe;
    if others || has_label(&error, "TransientTransactionError") {
        End::Again(error)
    } else {
        End::Failed(nothing_done(error))
    }
}
