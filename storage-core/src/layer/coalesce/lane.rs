//! One kind of call on its way: what is in flight and what waits.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Handle, Id};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::claim::{Claim, Claims};
use super::queue::{Few, Load, Queue, Waiting};
use super::watch::{PATIENCE, Watch};
use super::window::{Landing, Window};
use crate::{Address, Backend, Error, ErrorKind, Limits, Result};

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

pub(super) struct Shared<K: Kind> {
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
    /// What is in flight.
    claims: Claims,
    queue: Queue<K>,
    /// Whether those who wait for company will be sent.
    gathering: bool,
    /// The runtimes whose calls are looked after.
    watched: Vec<Id>,
    closed: bool,
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
            claims: Claims::default(),
            queue: Queue::new(),
            gathering: false,
            watched: Vec::new(),
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
        let mut flight = match self.enter(items) {
            Err(error) => return Err(error),
            Ok(Entry::Queued(receiver)) => return receiver.await.unwrap_or_else(|_| Err(lost())),
            Ok(Entry::Straight(flight)) => flight,
        };
        let since = Instant::now();
        let result = straight().await;
        if result.is_ok() {
            flight.done(items.len(), [since]);
        }
        result
    }

    fn enter(&self, items: &[K::Item]) -> Result<Entry<K>> {
        let claim = |item| K::ordered(item).map(|address| self.0.hasher.hash_one(address));
        let claims: Few<Claim> = items.iter().filter_map(claim).collect();
        let mut state = self.0.lock();
        if state.closed {
            return Err(Error::new(ErrorKind::Closed, "the store has been closed: open it again"));
        }
        let may_go = state.flying < state.window.size() && !state.must_wait(&claims);
        // Where others go together, one alone takes a place that many could have.
        if may_go && state.merged == 0 {
            state.flying += 1;
            state.claims.add(&claims, items.len());
            drop(state);
            return Ok(Entry::Straight(Flight::new(&self.0, claims, items.len(), false)));
        }
        let (reply, receiver) = oneshot::channel();
        let (since, runtime) = (Instant::now(), Handle::current());
        let gather = (may_go && !state.gathering).then(|| {
            state.gathering = true;
            (Gather(Some(self.0.clone())), runtime.clone())
        });
        let unwatched = !state.watched.contains(&runtime.id());
        if unwatched {
            state.watched.push(runtime.id());
        }
        state.queue.push(Waiting {
            items: items.into(),
            bytes: items.iter().map(K::size).sum(),
            room: Vec::with_capacity(items.len()),
            claims,
            reply,
            since,
            runtime,
        });
        drop(state);
        if let Some((gather, runtime)) = gather {
            runtime.clone().spawn(gather.keep(runtime));
        }
        if unwatched {
            self.0.watch(since);
        }
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
    fn must_wait(&self, claims: &[Claim]) -> bool {
        self.claims.conflict(claims) || self.queue.claims().conflict(claims)
    }

    fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.merged == 0
    }

    /// What may go now.
    fn due(&mut self) -> Vec<Load<K>> {
        let mut loads = Vec::new();
        while self.flying < self.window.size()
            && let Some(load) = self.load()
        {
            loads.push(load);
        }
        loads
    }

    /// What may go now that those who waited for company have had their turn.
    fn gathered(&mut self) -> Vec<Load<K>> {
        self.gathering = false;
        self.due()
    }

    /// What has waited too long, beyond the window.
    fn overdue(&mut self, now: Instant) -> Vec<Load<K>> {
        let mut loads = Vec::new();
        while self.queue.since().next().is_some_and(|since| since + PATIENCE <= now)
            && let Some(load) = self.load()
        {
            loads.push(load);
        }
        loads
    }

    /// The next batch, which counts as in flight at once.
    fn load(&mut self) -> Option<Load<K>> {
        let share = self.share();
        let load = self.queue.take(&self.limits, &self.claims, share)?;
        self.flying += 1;
        self.merged += 1;
        self.claims.add(&load.claims, load.items);
        Some(load)
    }

    /// What each place in the window has of all that is in flight or waits: else one batch has nearly all, its callers
    /// come back together, and the other places are no use.
    fn share(&self) -> usize {
        (self.claims.weight() + self.queue.claims().weight()).div_ceil(self.window.size())
    }
}

impl<K: Kind> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after the calls of the runtime in which this is called, the first of which waits since then.
    fn watch(self: &Arc<Self>, since: Instant) {
        let runtime = Handle::current();
        let watch = Watch { lane: Arc::downgrade(self), runtime: runtime.id() };
        runtime.spawn(watch.keep(since));
    }

    /// Sends what has waited too long. Returns when the next call will have; `None`, and the runtime is no longer
    /// watched, if no call waits.
    pub(super) fn send_overdue(self: &Arc<Self>, runtime: Id) -> Option<Instant> {
        let now = Instant::now();
        self.depart(|state| state.overdue(now));
        let mut state = self.lock();
        if state.queue.is_empty() {
            state.watched.retain(|watched| *watched != runtime);
            return None;
        }
        // Those left behind wait for a flight on their record, and are tried again later.
        let next = state.queue.since().map(|since| since + PATIENCE).find(|at| *at > now);
        Some(next.unwrap_or(now + PATIENCE))
    }

    pub(super) fn unwatched(&self, runtime: Id) {
        self.lock().watched.retain(|watched| *watched != runtime);
    }

    /// Takes off the queue what `choose` does, without the calls of those who are gone: they want nothing done, and
    /// their runtime may be gone as well.
    fn take(self: &Arc<Self>, choose: impl FnOnce(&mut State<K>) -> Vec<Load<K>>) -> Vec<Take<K>> {
        let loads = {
            let mut state = self.lock();
            let loads = choose(&mut state);
            if state.closed && state.is_drained() {
                self.drained.notify_waiters();
            }
            loads
        };
        let take = |Load { mut calls, claims, items }| {
            let flight = Flight::new(self, claims, items, true);
            calls.retain(|call: &Waiting<K>| !call.reply.is_closed());
            (!calls.is_empty()).then_some(Take { flight, calls })
        };
        loads.into_iter().filter_map(take).collect()
    }

    /// Sends what `choose` takes off the queue.
    fn depart(self: &Arc<Self>, choose: impl FnOnce(&mut State<K>) -> Vec<Load<K>>) {
        self.take(choose).into_iter().for_each(Take::spawn);
    }
}

/// Calls on their way, at least one.
struct Take<K: Kind> {
    flight: Flight<K>,
    calls: Vec<Waiting<K>>,
}

impl<K: Kind> Take<K> {
    fn runtime(&self) -> &Handle {
        &self.calls[0].runtime
    }

    /// Flies in a task of its own, so that a caller that is dropped takes nobody with it.
    fn spawn(self) {
        let runtime = self.runtime().clone();
        runtime.clone().spawn(async move { fly(vec![self], &runtime).await });
    }
}

/// Sends the first of these that is of `runtime`, in which this runs, and what may go after it, one after the other; the others
/// get tasks of their own.
async fn fly<K: Kind>(mut takes: Vec<Take<K>>, runtime: &Handle) {
    loop {
        let own = takes.iter().position(|take| take.runtime().id() == runtime.id());
        let own = own.map(|at| takes.swap_remove(at));
        takes.into_iter().for_each(Take::spawn);
        let Some(Take { mut flight, calls }) = own else { return };
        flight.serve(calls).await;
        takes = flight.land();
    }
}

/// Sends those who wait for company once all who are ready to run have had their turn, or when it is dropped.
struct Gather<K: Kind>(Option<Arc<Shared<K>>>);

impl<K: Kind> Gather<K> {
    async fn keep(mut self, runtime: Handle) {
        tokio::task::yield_now().await;
        if let Some(shared) = self.0.take() {
            fly(shared.take(State::gathered), &runtime).await;
        }
    }
}

impl<K: Kind> Drop for Gather<K> {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.depart(State::gathered);
        }
    }
}

/// A place in the window, given back when it has landed or is dropped, however that comes.
struct Flight<K: Kind> {
    shared: Arc<Shared<K>>,
    claims: Few<Claim>,
    items: usize,
    merged: bool,
    landing: Option<Landing>,
}

impl<K: Kind> Drop for Flight<K> {
    fn drop(&mut self) {
        self.touch_down().into_iter().for_each(Take::spawn);
    }
}

impl<K: Kind> Flight<K> {
    fn new(shared: &Arc<Shared<K>>, claims: Few<Claim>, items: usize, merged: bool) -> Self {
        Self { shared: shared.clone(), claims, items, merged, landing: Some(Landing::default()) }
    }

    /// Gives the place back, and returns what may go now.
    fn land(mut self) -> Vec<Take<K>> {
        self.touch_down()
    }

    fn touch_down(&mut self) -> Vec<Take<K>> {
        let Some(mut landing) = self.landing.take() else { return Vec::new() };
        self.shared.take(|state| {
            landing.flying = state.flying;
            state.window.landed(Instant::now(), &landing);
            state.flying -= 1;
            state.merged -= usize::from(self.merged);
            state.claims.remove(&self.claims, self.items);
            state.due()
        })
    }

    /// Lets others have the records, but not yet the place.
    fn release(&mut self) {
        let claims = std::mem::take(&mut self.claims);
        self.shared.lock().claims.remove(&claims, std::mem::take(&mut self.items));
    }

    /// Notes that so many items were done, of calls that came at these times.
    fn done(&mut self, items: usize, since: impl IntoIterator<Item = Instant>) {
        let now = Instant::now();
        let Some(landing) = &mut self.landing else { return };
        landing.items = items;
        for since in since {
            landing.calls += 1;
            landing.waited += now.saturating_duration_since(since);
        }
    }

    /// Sends the calls as one batch and answers them.
    async fn serve(&mut self, mut calls: Vec<Waiting<K>>) {
        let lens: Vec<usize> = calls.iter().map(|call| call.items.len()).collect();
        let mut items = Vec::with_capacity(lens.iter().sum());
        calls.iter_mut().for_each(|call| items.extend(call.items.drain(..)));
        let (mut items, result) = K::send(&*self.shared.inner, items).await;
        if result.is_ok() {
            // Who is answered is back at once, and is not to be counted twice.
            self.release();
        }
        match result {
            Ok(replies) if replies.len() == items.len() => {
                self.done(items.len(), calls.iter().map(|call| call.since));
                let mut replies = replies.into_iter();
                for (mut call, len) in calls.into_iter().zip(lens) {
                    call.room.extend(replies.by_ref().take(len));
                    // Whoever is gone needs no reply.
                    let _ = call.reply.send(Ok(call.room));
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
        let answered = Instant::now();
        tokio::task::yield_now().await;
        // They had their turn one after the other.
        if let Some(landing) = &mut self.landing {
            landing.waited += answered.elapsed() * u32::try_from(landing.calls).unwrap_or(u32::MAX) / 2;
        }
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
