//! How a plugin behaves, and when that is the end of it.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use storage_core::{Error, ErrorKind, Retry};

type Callback = Box<dyn FnOnce(&str) + Send>;

/// The record of one plugin's behaviour.
pub(super) struct Conduct {
    /// Name and version, for messages.
    plugin: String,
    limit: u32,
    strikes: AtomicU32,
    violations: AtomicU64,
    /// Whether `state` is [`State::Disabled`]: what every call asks.
    disabled: AtomicBool,
    state: Mutex<State>,
}

enum State {
    /// In use. The callbacks hear of it when that ends.
    Enabled(Vec<Callback>),
    Disabled {
        reason: String,
    },
}

impl Conduct {
    pub(super) fn new(plugin: String, limit: u32) -> Self {
        Self {
            plugin,
            limit: limit.max(1),
            strikes: AtomicU32::new(0),
            violations: AtomicU64::new(0),
            disabled: AtomicBool::new(false),
            state: Mutex::new(State::Enabled(Vec::new())),
        }
    }

    /// A call was answered as it should be.
    pub(super) fn good(&self) {
        // Nearly always 0, and reading costs less than writing.
        if self.strikes.load(Relaxed) != 0 {
            self.strikes.store(0, Relaxed);
        }
    }

    /// A call panicked, or did not end. So many in a row, and the plugin is disabled.
    pub(super) fn strike(&self, operation: &str, what: &str) {
        let strikes = self.strikes.fetch_add(1, Relaxed).saturating_add(1);
        tracing::warn!(target: "storage_plugin", plugin = self.plugin, operation, strikes, "a call {what}");
        if strikes >= self.limit {
            self.disable(format!(
                "{strikes} calls in a row failed to work; the last one, `{operation}`, {what}"
            ));
        }
    }

    /// The plugin broke the ABI in a way that could be caught.
    pub(super) fn violation(&self, what: &str) {
        let violations = self.violations.fetch_add(1, Relaxed) + 1;
        // A plugin can do so in a loop, and must not flood the log.
        if violations.is_power_of_two() {
            tracing::error!(
                target: "storage_plugin",
                plugin = self.plugin,
                violations,
                "the plugin {what}; report this to its makers"
            );
        }
    }

    pub(super) fn violations(&self) -> u64 {
        self.violations.load(Relaxed)
    }

    /// An error if the plugin is disabled.
    pub(super) fn check(&self) -> Result<(), Error> {
        if !self.disabled.load(Acquire) {
            return Ok(());
        }
        let reason = self.reason().unwrap_or_default();
        Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "plugin {} is disabled in this process: {reason}. Restart the program, or install another version",
                self.plugin
            ),
        )
        .with_retry(Retry::Never))
    }

    /// Why the plugin is disabled, if it is.
    pub(super) fn reason(&self) -> Option<String> {
        match &*self.state() {
            State::Enabled(_) => None,
            State::Disabled { reason } => Some(reason.clone()),
        }
    }

    /// Calls `callback` with the reason when the plugin is disabled: at once, if it is already.
    pub(super) fn on_disabled(&self, callback: Callback) {
        let reason = match &mut *self.state() {
            State::Enabled(callbacks) => return callbacks.push(callback),
            State::Disabled { reason } => reason.clone(),
        };
        callback(&reason);
    }

    fn disable(&self, reason: String) {
        let callbacks = {
            let mut state = self.state();
            if let State::Disabled { .. } = &*state {
                return;
            }
            self.disabled.store(true, Release);
            match mem::replace(&mut *state, State::Disabled { reason: reason.clone() }) {
                State::Enabled(callbacks) => callbacks,
                State::Disabled { .. } => return,
            }
        };
        tracing::error!(
            target: "storage_plugin",
            plugin = self.plugin,
            reason,
            "the plugin is disabled until the program is started again"
        );
        for callback in callbacks {
            // One that panics keeps no other from being called; the panic hook has reported it.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| callback(&reason))) {
                mem::forget(panic);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is one value, whole at any time, so that a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
