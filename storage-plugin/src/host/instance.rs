//! A loaded plugin, below its types: how calls are made.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicUsize};

use semver::Version as Semver;
use smol_str::SmolStr;
use storage_core::{Address, Error, ErrorKind, Result};

use super::LoadLimits;
use super::conduct::Conduct;
use super::exit::Latch;
use super::functions::{Answer, Functions};
use super::janitor::Janitor;
use super::log::HostTable;
use super::pending;
use super::slots::Slots;
use super::token::{MAX_PLUGINS, Token};
use crate::wire::{self, Failure, Wire};
use crate::{Incoming, Outgoing};

/// What is known and kept of a loaded plugin; never freed, as the library is not.
pub(super) struct Instance {
    name: SmolStr,
    version: Semver,
    functions: Functions,
    host: &'static HostTable,
    slots: Slots,
    conduct: Conduct,
    janitor: Janitor,
    phase: AtomicU8,
    ended: Latch,
}

/// `init` has not succeeded yet.
const LOADING: u8 = 0;
/// In use.
const LIVE: u8 = 1;
/// `shutdown` was called.
const ENDING: u8 = 2;
/// `shutdown` has returned: no function is called any more.
const ENDED: u8 = 3;

/// The plugins of this process, by the number in their tokens.
static INSTANCES: [OnceLock<&'static Instance>; MAX_PLUGINS] = [const { OnceLock::new() }; MAX_PLUGINS];
static LOADED: AtomicUsize = AtomicUsize::new(0);

/// A call that was made.
pub(super) enum Started {
    /// And answered.
    Ready(Incoming),
    /// And will be.
    Pending { token: Token, call: u64 },
}

impl Instance {
    /// The instance of a plugin whose `init` was not called yet.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the process has loaded too many plugins.
    pub(super) fn leak(
        name: SmolStr,
        version: Semver,
        functions: Functions,
        limits: &LoadLimits,
    ) -> Result<&'static Self> {
        let number = LOADED.fetch_update(Relaxed, Relaxed, |n| (n < MAX_PLUGINS).then_some(n + 1));
        let Ok(number) = number else {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("this process has loaded {MAX_PLUGINS} plugins and can load no more: restart it"),
            ));
        };
        let plugin = format!("{name}@{version}");
        let instance = Box::leak(Box::new(Self {
            name,
            version,
            functions,
            host: HostTable::leak(plugin.clone()),
            slots: Slots::new(number as u16),
            conduct: Conduct::new(plugin, limits.misbehaviours),
            janitor: Janitor::new(limits.cancel),
            phase: AtomicU8::new(LOADING),
            ended: Latch::default(),
        }));
        Ok(INSTANCES[number].get_or_init(|| instance))
    }

    /// The plugin that a token was made for.
    pub(super) fn of(token: Token) -> Option<&'static Self> {
        INSTANCES.get(token.plugin())?.get().copied()
    }

    /// Every plugin that was initialised.
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        let slots = INSTANCES.iter().take(LOADED.load(Acquire));
        slots
            .filter_map(|instance| instance.get().copied())
            .filter(|instance| instance.phase.load(Acquire) != LOADING)
    }

    pub(super) fn name(&self) -> &SmolStr {
        &self.name
    }

    pub(super) fn version(&self) -> &Semver {
        &self.version
    }

    pub(super) fn slots(&'static self) -> &'static Slots {
        &self.slots
    }

    pub(super) fn conduct(&self) -> &Conduct {
        &self.conduct
    }

    pub(super) fn janitor(&self) -> &Janitor {
        &self.janitor
    }

    /// Calls `init`; see [`Functions::init`].
    pub(super) fn init(&self) -> Result<Incoming, i32> {
        self.functions.init(self.host.raw())
    }

    /// From now on the plugin is used.
    pub(super) fn set_live(&self) {
        self.phase.store(LIVE, Release);
    }

    /// Whether `shutdown` was called.
    pub(super) fn is_ending(&self) -> bool {
        self.phase.load(Acquire) >= ENDING
    }

    /// [`Unavailable`](ErrorKind::Unavailable) if the plugin is disabled.
    pub(super) fn check_enabled(&self) -> Result<()> {
        self.conduct.check()
    }

    /// Makes a call.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) after the shutdown, [`Busy`](ErrorKind::Busy) with too many calls in flight, and
    /// [`Internal`](ErrorKind::Internal) if the plugin breaks the protocol.
    pub(super) fn start(
        &'static self,
        operation: &'static str,
        store: u64,
        request: Outgoing,
    ) -> Result<Started> {
        let failed = |kind, message: String| Err(self.named(operation, Error::new(kind, message)));
        if self.is_ending() {
            return failed(ErrorKind::Closed, "the program is ending: its plugins are shut down".to_owned());
        }
        let Some(token) = self.slots.claim() else {
            return failed(ErrorKind::Busy, "too many calls to the plugin are in flight".to_owned());
        };
        match self.functions.call(store, request, token) {
            Answer::Ready(reply) => {
                self.discard(token, operation);
                Ok(Started::Ready(reply))
            }
            Answer::Pending(0) => {
                self.discard(token, operation);
                self.conduct.violation("left a call pending without a number for it");
                failed(
                    ErrorKind::Internal,
                    "the plugin left the call pending without a number for it".to_owned(),
                )
            }
            Answer::Pending(call) => Ok(Started::Pending { token, call }),
            Answer::Unknown(code) => {
                self.discard(token, operation);
                self.conduct.violation("returned an unknown code from `call`");
                failed(ErrorKind::Internal, format!("the plugin returned the unknown code {code}"))
            }
        }
    }

    /// Makes a call that is to be answered at once.
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`Internal`](ErrorKind::Internal) if the plugin leaves the call pending.
    pub(super) fn call_now(&'static self, operation: &'static str, request: Outgoing) -> Result<Incoming> {
        match self.start(operation, 0, request)? {
            Started::Ready(reply) => Ok(reply),
            Started::Pending { token, call } => {
                drop(pending::Pending::new(self, operation, &[], token, call, None));
                self.conduct.violation("left a call pending that is to be answered at once");
                let message = "the plugin left the call pending; it is to be answered at once";
                Err(self.named(operation, Error::new(ErrorKind::Internal, message)))
            }
        }
    }

    /// Reads a reply, which may be about records of these addresses, and notes how the plugin did.
    ///
    /// # Errors
    /// What the reply says, or [`Internal`](ErrorKind::Internal) if it is malformed.
    pub(super) fn read<T: Wire>(
        &self,
        operation: &'static str,
        addresses: &[Address],
        reply: Incoming,
    ) -> Result<T> {
        let reply = wire::reply_about(addresses, reply);
        // An error is an answer too, unless it says that the plugin does not work.
        if reply.as_ref().err().is_none_or(|f| !f.panicked && f.error.kind() != ErrorKind::Internal) {
            self.conduct.good();
        }
        self.conclude(operation, reply)
    }

    /// As [`read`](Self::read), for an operation that comes before each `open` and does no work: that it succeeds does
    /// not make up for an `open` that fails.
    pub(super) fn read_preliminary<T: Wire>(&self, operation: &'static str, reply: Incoming) -> Result<T> {
        self.conclude(operation, wire::reply(reply))
    }

    fn conclude<T>(&self, operation: &'static str, reply: Result<T, Box<Failure>>) -> Result<T> {
        reply.map_err(|failure| {
            self.judge(operation, &failure);
            self.named(operation, failure.error)
        })
    }

    /// Notes a panic.
    pub(super) fn judge(&self, operation: &str, failure: &Failure) {
        if failure.panicked {
            self.conduct.strike(operation, &format!("panicked ({})", failure.error.message()));
        }
    }

    pub(super) fn named(&self, operation: &'static str, error: Error) -> Error {
        error.operation(SmolStr::new_static(operation)).backend(self.name.clone())
    }

    /// Gives up a pending call.
    pub(super) fn cancel(&self, call: u64) {
        if self.is_callable() {
            self.functions.cancel(call);
        }
    }

    /// Lets go of a pending call that is completed.
    pub(super) fn call_free(&self, call: u64) {
        if self.is_callable() {
            self.functions.call_free(call);
        }
    }

    /// Lets go of a store; there is none of the number 0.
    pub(super) fn store_free(&self, store: u64) {
        if store != 0 && self.is_callable() {
            self.functions.store_free(store);
        }
    }

    /// Calls `shutdown`. Once: see [`begin_shutdown`](Self::begin_shutdown).
    pub(super) fn shutdown(&self) {
        self.functions.shutdown();
        self.phase.store(ENDED, Release);
        self.ended.open();
    }

    /// Whether it is now the caller's task to call [`shutdown`](Self::shutdown).
    pub(super) fn begin_shutdown(&self) -> bool {
        self.phase.compare_exchange(LIVE, ENDING, AcqRel, Relaxed).is_ok()
    }

    /// Opened when the plugin has ended.
    pub(super) fn ended(&self) -> &Latch {
        &self.ended
    }

    /// The plugin's statics may be gone after its shutdown, when the process ends; what would be freed goes with them.
    fn is_callable(&self) -> bool {
        self.phase.load(Acquire) != ENDED
    }

    /// Ends a call of which the plugin has said that it will not be completed, or which cannot be named to it.
    fn discard(&'static self, token: Token, operation: &'static str) {
        if !self.slots.free_open(token) {
            self.conduct.violation("completed a call that it did not leave pending");
            pending::discard(self, token, operation);
        }
    }
}

impl fmt::Display for Instance {
    /// Name and version, such as `example@1.0.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}
