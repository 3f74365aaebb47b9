//! Sees to the calls that nobody waits for any more.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::instance::Instance;
use super::slots::Abandoned;
use super::token::Token;
use crate::Incoming;
use crate::wire::{self, Opened};

/// A thread for each plugin that ever had a call abandoned, and none for the others.
///
/// It lets go of abandoned calls when they are completed: `done` cannot, as the plugin may hold a lock while it calls
/// that. And it notices those that are not completed in time.
pub(super) struct Janitor {
    /// How long a call may go on after it was cancelled.
    patience: Duration,
    tasks: Mutex<Option<Sender<Task>>>,
}

enum Task {
    /// The call was cancelled at this time.
    Watch { token: Token, operation: &'static str, since: Instant },
    /// The call is completed.
    Finish { token: Token, abandoned: Abandoned, reply: Incoming },
}

struct Watched {
    token: Token,
    operation: &'static str,
    deadline: Instant,
}

impl Janitor {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, tasks: Mutex::new(None) }
    }

    /// A call was cancelled just now and is to be completed soon.
    pub(super) fn watch(&self, instance: &'static Instance, token: Token, operation: &'static str) {
        self.send(instance, Task::Watch { token, operation, since: Instant::now() });
    }

    /// An abandoned call was completed.
    pub(super) fn completed(
        &self,
        instance: &'static Instance,
        token: Token,
        abandoned: Abandoned,
        reply: Incoming,
    ) {
        self.send(instance, Task::Finish { token, abandoned, reply });
    }

    fn send(&self, instance: &'static Instance, task: Task) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.is_none() {
            let (sender, receiver) = mpsc::channel();
            let patience = self.patience;
            let thread = thread::Builder::new().name("plugin-janitor".to_owned());
            match thread.spawn(move || run(instance, &receiver, patience)) {
                Ok(_) => *tasks = Some(sender),
                // What is leaked is one call. The next attempt may be luckier.
                Err(error) => {
                    drop(tasks);
                    std::mem::forget(task);
                    tracing::error!(target: "storage_plugin", plugin = %instance, %error, "no thread to clean up a call");
                    return;
                }
            }
        }
        if let Some(sender) = &*tasks {
            // The thread does not end while the sender lives.
            let _ = sender.send(task);
        }
    }
}

fn run(instance: &'static Instance, tasks: &Receiver<Task>, patience: Duration) {
    let mut watched = VecDeque::<Watched>::new();
    loop {
        let received = match watched.front() {
            None => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(first) => tasks.recv_timeout(first.deadline.saturating_duration_since(Instant::now())),
        };
        match received {
            Ok(Task::Watch { token, operation, since }) => {
                watched.push_back(Watched { token, operation, deadline: since + patience });
            }
            Ok(Task::Finish { token, abandoned, reply }) => finish(instance, token, abandoned, reply),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some(first) = watched.pop_front() {
            if !instance.slots().is_open(first.token) {
                continue;
            }
            if first.deadline > Instant::now() {
                watched.push_front(first);
                break;
            }
            instance
                .conduct()
                .strike(first.operation, &format!("was cancelled, and did not end within {patience:?}"));
        }
    }
}

/// Lets go of an abandoned call that is completed, and of what its reply holds.
pub(super) fn finish(instance: &'static Instance, token: Token, abandoned: Abandoned, reply: Incoming) {
    if abandoned.operation == "open" {
        match wire::reply::<Opened>(reply) {
            // Nobody will ever use this store.
            Ok(opened) => instance.store_free(opened.store),
            Err(failure) => instance.judge(abandoned.operation, &failure),
        }
    } else if let Err(failure) = wire::reply::<()>(reply) {
        // That the answer is of another type is no failure; only a panic counts here.
        instance.judge(abandoned.operation, &failure);
    }
    if let Some(call) = abandoned.call {
        instance.call_free(call);
    }
    // The store is freed after the call that used it.
    drop(abandoned.store);
    instance.slots().free_answered(token);
}
