//! The deadlines of many calls under one timer.
//!
//! A timer of tokio's for each call takes the runtime's one lock of timers twice: of a call that is merged with others and
//! answered within microseconds that is a tenth of all its work. Nearly all calls end long before their deadline,
//! so here a call leaves its waker in a slab, and one task wakes those whose deadline has passed.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Calls that wait, each until its deadline.
#[derive(Debug, Default)]
pub(super) struct Deadlines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is a deadline before that which the watch waits for, or no call can come any more.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Slab<(Instant, Waker)>,
    /// When the task that watches looks next; `None` if there is no such task.
    watch: Option<Instant>,
}

impl Deadlines {
    /// What `future` comes to; `None` if it is not ready at the deadline.
    pub(super) async fn until<F: Future>(&self, at: Instant, mut future: Pin<&mut F>) -> Option<F::Output> {
        let mut place = Place { shared: &self.0, at, index: None };
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => place.poll(cx).map(|()| None),
        })
        .await
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.0.earlier.notify_one();
    }
}

/// A call's place among those that wait.
struct Place<'a> {
    shared: &'a Arc<Shared>,
    at: Instant,
    index: Option<usize>,
}

impl Place<'_> {
    /// Ready once the deadline has passed.
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.index.is_some() && self.at <= Instant::now() {
            return Poll::Ready(());
        }
        // To drop a waker may drop the task of a call, which takes the lock: so not before the lock is given back.
        let _before;
        let mut state = self.shared.lock();
        _before = match self.index {
            Some(index) if state.waiting[index].1.will_wake(cx.waker()) => None,
            Some(index) => Some(std::mem::replace(&mut state.waiting[index].1, cx.waker().clone())),
            None => {
                self.index = Some(state.waiting.insert((self.at, cx.waker().clone())));
                None
            }
        };
        if state.watch.is_some_and(|next| next <= self.at) {
            return Poll::Pending;
        }
        let watch = state.watch.replace(self.at);
        drop(state);
        if watch.is_some() {
            self.shared.earlier.notify_one();
        } else {
            tokio::spawn(Watch { shared: self.shared.clone(), over: false }.keep());
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            let left = self.shared.lock().waiting.remove(index);
            drop(left);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whose deadline has passed. When to look again; `None`, and nobody watches any more, if no others wait.
    fn wake_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        let (due, later): (Vec<_>, Vec<_>) =
            state.waiting.iter().map(|(_, call)| call).partition(|(at, _)| *at <= now);
        let next = later.iter().map(|(at, _)| *at).min();
        let wakers: Vec<Waker> = due.into_iter().map(|(_, waker)| waker.clone()).collect();
        state.watch = next;
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        next
    }
}

/// The task that watches.
struct Watch {
    shared: Arc<Shared>,
    /// Whether it ended by itself.
    over: bool,
}

impl Watch {
    async fn keep(mut self) {
        loop {
            let next = self.shared.lock().watch;
            // Only this task takes it away.
            let Some(next) = next else { break };
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.shared.earlier.notified() => {}
            }
            if self.shared.wake_due().is_none() {
                break;
            }
        }
        self.over = true;
    }
}

impl Drop for Watch {
    /// Its runtime has ended before it: calls of other runtimes are woken, so that one of them watches.
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let wakers: Vec<Waker> = {
            let mut state = self.shared.lock();
            state.watch = None;
            state.waiting.iter().map(|(_, (_, waker))| waker.clone()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}
