//! One kind of call on its way: what is in flight and what waits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::window::Window;
use crate::{Address, Backend, Error, ErrorKind, Limits, Result};

/// A call that waited this long no longer minds the window. Flights in their callers' futures move only
/// while those are polled, and a task may hold some that it does not poll while it awaits another.
const PATIENCE: Duration = Duration::from_secs(1);

/// The kind of call that a lane merges.
pub(super) trait Kind: Send + Sync + 'static {
    type Item: Clone + Send + Sync;
    type Reply: Send;

    /// The record whose order matters; `None` if order is no matter.
    fn ordered(item: &Self::Item) -> Option<&Address>;

    fn size(item: &Self::Item) -> usize;

    /// Whether a batch may have failed for one of its items alone, so that nothing was done and each call is sent again.
    fn may_be_of_one(kind: ErrorKind) -> bool;

    /// Sends a batch and gives the items back.
    fn send(
        backend: &dyn Backend,
        items: Vec<Self::Item>,
    ) -> impl Future<Output = (Vec<Self::Item>, Result<Vec<Self::Reply>>)> + Send;
}

pub(super) struct Lane<K: Kind>(Arc<Shared<K>>);

struct Shared<K: Kind> {
    inner: Arc<dyn Backend>,
    hasher: RandomState,
    state: Mutex<State<K>>,
    drained: Notify,
}

struct State<K: Kind> {
    limits: Limits,
    window: Window,
    /// Flights, merged or not.
    flying: usize,
    /// Flights of merged batches.
    merged: usize,
    /// The records in flight, by hash: if two collide, one waits without need, and that is all.
    flying_keys: HashSet<u64>,
    queue: VecDeque<Waiting<K>>,
    /// The records in the queue and how often they are there.
    queued_keys: HashMap<u64, usize>,
    closed: bool,
}

struct Waiting<K: Kind> {
    items: Vec<K::Item>,
    bytes: usize,
    keys: Vec<u64>,
    reply: oneshot::Sender<Result<Vec<K::Reply>>>,
    since: Instant,
    /// The caller's: it lives at least as long as the caller waits.
    runtime: Handle,
}

enum Entry<K: Kind> {
    Straight(Flight<K>),
    Queued(oneshot::Receiver<Result<Vec<K::Reply>>>),
}

impl<K: Kind> Lane<K> {
    pub(super) fn new(inner: Arc<dyn Backend>) -> Self {
        let state = State {
            limits: inner.info().capabilities.limits,
            window: Window::new(),
            flying: 0,
            merged: 0,
            flying_keys: HashSet::new(),
            queue: VecDeque::new(),
            queued_keys: HashMap::new(),
            closed: false,
        };
        Self(Arc::new(Shared {
            inner,
            hasher: RandomState::new(),
            state: Mutex::new(state),
            drained: Notify::new(),
        }))
    }

    /// Makes a call: `straight` away, or in the next merged batch.
    pub(super) async fn call<F>(
        &self,
        items: &[K::Item],
        straight: impl FnOnce() -> F,
    ) -> Result<Vec<K::Reply>>
    where
        F: Future<Output = Result<Vec<K::Reply>>>,
    {
        let mut receiver = match self.enter(items)? {
            Entry::Straight(mut flight) => {
                let result = straight().await;
                flight.done = if result.is_ok() { items.len() } else { 0 };
                return result;
            }
            Entry::Queued(receiver) => receiver,
        };
        loop {
            match tokio::time::timeout(PATIENCE, &mut receiver).await {
                Ok(reply) => return reply.unwrap_or_else(|_| Err(lost())),
                Err(_) => self.0.depart(State::overdue),
            }
        }
    }

    fn enter(&self, items: &[K::Item]) -> Result<Entry<K>> {
        let hash = |item| K::ordered(item).map(|address| self.0.hasher.hash_one(address));
        let keys: Vec<u64> = items.iter().filter_map(hash).collect();
        let mut state = self.0.lock();
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the store has been closed: open it again"));
        }
        if state.flying < state.window.size() && !state.must_wait(&keys) {
            state.flying += 1;
            state.flying_keys.extend(&keys);
            drop(state);
            return Ok(Entry::Straight(Flight { shared: self.0.clone(), keys, merged: false, done: 0 }));
        }
        let (reply, receiver) = oneshot::channel();
        for key in &keys {
            *state.queued_keys.entry(*key).or_default() += 1;
        }
        state.queue.push_back(Waiting {
            items: items.to_vec(),
            bytes: items.iter().map(K::size).sum(),
            keys,
            reply,
            since: Instant::now(),
            runtime: Handle::current(),
        });
        Ok(Entry::Queued(receiver))
    }

    /// Takes no more calls and waits until none is queued or in a merged batch. Those that went straight
    /// are their callers' to wait for.
    pub(super) async fn close(&self) {
        self.0.lock().closed = true;
        loop {
            let drained = self.0.drained.notified();
            if self.0.lock().is_drained() {
                return;
            }
            drained.await;
        }
    }

    /// The most batches that may be in flight now.
    pub(super) fn window(&self) -> usize {
        self.0.lock().window.size()
    }
}

impl<K: Kind> State<K> {
    /// Whether a new call would overtake one on the same record.
    fn must_wait(&self, keys: &[u64]) -> bool {
        keys.iter().any(|key| self.flying_keys.contains(key) || self.queued_keys.contains_key(key))
    }

    fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.merged == 0
    }

    /// The batches that may go now.
    fn due(&mut self) -> Vec<Vec<Waiting<K>>> {
        let mut batches = Vec::new();
        while self.flying < self.window.size() {
            let batch = self.gather();
            if batch.is_empty() {
                break;
            }
            batches.push(batch);
        }
        batches
    }

    /// A batch beyond the window, if calls have waited too long.
    fn overdue(&mut self) -> Vec<Vec<Waiting<K>>> {
        if self.queue.front().is_none_or(|first| first.since.elapsed() < PATIENCE) {
            return Vec::new();
        }
        let batch = self.gather();
        if batch.is_empty() { Vec::new() } else { vec![batch] }
    }

    /// Takes the next batch off the queue, in order: all that fits, save what would overtake another call.
    /// It counts as in flight at once.
    fn gather(&mut self) -> Vec<Waiting<K>> {
        let (mut batch, mut skipped, mut held) = (Vec::new(), Vec::new(), HashSet::new());
        let (mut len, mut bytes) = (0, 0);
        while let Some(call) = self.queue.pop_front() {
            if call.reply.is_closed() {
                self.unqueue(&call.keys);
                continue;
            }
            if call.keys.iter().any(|key| self.flying_keys.contains(key) || held.contains(key)) {
                held.extend(call.keys.iter().copied());
                skipped.push(call);
                continue;
            }
            let fits = len + call.items.len() <= self.limits.batch_len
                && bytes + call.bytes <= self.limits.batch_bytes;
            if !fits && !batch.is_empty() {
                self.queue.push_front(call);
                break;
            }
            len += call.items.len();
            bytes += call.bytes;
            self.unqueue(&call.keys);
            batch.push(call);
        }
        for call in skipped.into_iter().rev() {
            self.queue.push_front(call);
        }
        if !batch.is_empty() {
            self.flying += 1;
            self.merged += 1;
            self.flying_keys.extend(batch.iter().flat_map(|call| &call.keys));
        }
        batch
    }

    fn unqueue(&mut self, keys: &[u64]) {
        for key in keys {
            if let Some(times) = self.queued_keys.get_mut(key) {
                *times -= 1;
                if *times == 0 {
                    self.queued_keys.remove(key);
                }
            }
        }
    }
}

impl<K: Kind> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the batches that `choose` takes off the queue, each in a task of its own, so that a caller that
    /// is dropped takes nobody with it.
    fn depart(self: &Arc<Self>, choose: impl FnOnce(&mut State<K>) -> Vec<Vec<Waiting<K>>>) {
        let batches = {
            let mut state = self.lock();
            let batches = choose(&mut state);
            if state.closed && state.is_drained() {
                self.drained.notify_waiters();
            }
            batches
        };
        for mut batch in batches {
            let keys = batch.iter_mut().flat_map(|call| std::mem::take(&mut call.keys)).collect();
            let flight = Flight { shared: self.clone(), keys, merged: true, done: 0 };
            if let Some(runtime) = batch.first().map(|call| call.runtime.clone()) {
                runtime.spawn(flight.fly(batch));
            }
        }
    }
}

/// A place in the window, given back when it is dropped, however that comes.
struct Flight<K: Kind> {
    shared: Arc<Shared<K>>,
    keys: Vec<u64>,
    merged: bool,
    done: usize,
}

impl<K: Kind> Drop for Flight<K> {
    fn drop(&mut self) {
        self.shared.depart(|state| {
            state.window.landed(Instant::now(), self.done, state.flying);
            state.flying -= 1;
            state.merged -= usize::from(self.merged);
            for key in &self.keys {
                state.flying_keys.remove(key);
            }
            state.due()
        });
    }
}

impl<K: Kind> Flight<K> {
    async fn fly(mut self, mut calls: Vec<Waiting<K>>) {
        let lens: Vec<usize> = calls.iter().map(|call| call.items.len()).collect();
        let items = calls.iter_mut().flat_map(|call| std::mem::take(&mut call.items)).collect();
        let (mut items, result) = K::send(&*self.shared.inner, items).await;
        match result {
            Ok(replies) if replies.len() == items.len() => {
                self.done = items.len();
                let mut replies = replies.into_iter();
                for (call, len) in calls.into_iter().zip(lens) {
                    // Whoever is gone needs no reply.
                    let _ = call.reply.send(Ok(replies.by_ref().take(len).collect()));
                }
            }
            Ok(replies) => answer(calls, &miscounted(items.len(), replies.len())),
            // One bad call must not fail the others: each again for itself.
            Err(error) if calls.len() > 1 && K::may_be_of_one(error.kind()) => {
                for (call, len) in calls.into_iter().zip(lens) {
                    let part = items.drain(..len).collect();
                    let _ = call.reply.send(K::send(&*self.shared.inner, part).await.1);
                }
            }
            Err(error) => answer(calls, &error),
        }
        // The callers just answered may have more to send: it goes into the batch that leaves now.
        tokio::task::yield_now().await;
    }
}

fn answer<K: Kind>(calls: Vec<Waiting<K>>, error: &Error) {
    for call in calls {
        let _ = call.reply.send(Err(error.clone()));
    }
}

fn miscounted(sent: usize, came: usize) -> Error {
    let message =
        format!("the backend answered a batch of {sent} with {came} results: this is a defect in it");
    Error::new(ErrorKind::Internal, message)
}

fn lost() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the batch with this call ended without an answer: the backend panicked or its runtime was shut \
         down, and whether a write was done is unknown",
    )
}
