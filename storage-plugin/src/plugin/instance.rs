//! The running plugin: its runtime, its stores and its pending calls.

#![expect(unsafe_code, reason = "the host's table is read through a raw pointer")]

use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use serde_json::Value as Tree;
use storage_core::{Backend, Error, ErrorKind, Result, TypeDescriptor};
use tokio::runtime::{Builder, Handle, Runtime};

use super::anchor::Anchor;
use super::completion::{Callback, Gate, Pending};
use super::entry::Export;
use super::log::{self, HostLog};
use super::panics::{caught, discard};
use super::shutdown;
use super::table::Table;
use super::task::{Task, Work};
use crate::abi::Host;
use crate::wire::{self, Call, Description, Opened};
use crate::{Incoming, Outgoing};

/// More threads are of no use to backends, which wait for others most of the time.
const MAX_WORKERS: usize = 4;

static STARTED: AtomicBool = AtomicBool::new(false);
static INSTANCE: OnceLock<Instance> = OnceLock::new();

/// The one plugin of this library, from `init` on.
pub(super) struct Instance {
    descriptor: &'static dyn TypeDescriptor,
    is_inline: bool,
    handle: Handle,
    /// Taken by the shutdown.
    runtime: Mutex<Option<Runtime>>,
    stores: Table<Arc<dyn Backend>>,
    calls: Table<Arc<Pending>>,
    gate: Gate,
    anchor: Anchor,
    is_ending: AtomicBool,
}

/// What comes of a call.
pub(super) enum Answer {
    Ready(Outgoing),
    /// The reply comes later; the number stands for the call.
    Pending(u64),
}

impl Instance {
    /// Starts the plugin, once, and describes it.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a host of another ABI, a second start, or a plugin whose
    /// descriptor calls itself otherwise than the exported one; [`Unavailable`](ErrorKind::Unavailable) if there can
    /// be no threads.
    ///
    /// # Safety
    /// `host` is null, or points to the host's table, which begins with its size and lives as long as the process.
    pub(super) unsafe fn start(host: *const Host) -> Result<Description> {
        let export = Export::entered().ok_or_else(|| Error::invalid("`init` before storage_plugin_entry"))?;
        // SAFETY: the caller's promise.
        let host = unsafe { HostLog::read(host) }?;
        let description = Description::of(export.descriptor);
        if description.name != export.name || description.version.to_string() != export.version {
            return Err(Error::invalid(format!(
                "the plugin is exported as {}@{}, but its descriptor calls it {}@{}: correct the line that exports it",
                export.name, export.version, description.name, description.version
            )));
        }
        if STARTED.swap(true, AcqRel) {
            return Err(Error::invalid("`init` was called before"));
        }
        let runtime = runtime(export.name)?;
        let instance = INSTANCE.get_or_init(|| Self {
            descriptor: export.descriptor,
            is_inline: export.is_inline,
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            stores: Table::new(),
            calls: Table::new(),
            gate: Gate::new(),
            anchor: Anchor::default(),
            is_ending: AtomicBool::new(false),
        });
        instance.spawn(instance.anchor.hold());
        log::install(host);
        Ok(description)
    }

    /// The plugin, if it was started.
    pub(super) fn get() -> Option<&'static Self> {
        INSTANCE.get()
    }

    /// Answers a request, or begins to.
    pub(super) fn call(&'static self, store: u64, request: Incoming, callback: Callback) -> Answer {
        if self.is_ending.load(Acquire) {
            return Answer::Ready(wire::error(&shut_down()));
        }
        let call = match wire::call(request) {
            Ok(call) => call,
            Err(error) => return Answer::Ready(wire::error(&error)),
        };
        let operation = call.operation();
        match call {
            Call::Store(call) => match self.stores.get(store) {
                Some(backend) => {
                    let work = async move { call.run(&*backend).await };
                    self.begin(Work::new(operation, work), callback)
                }
                None => {
                    let message = format!("the plugin has no open store {store}");
                    Answer::Ready(wire::error(&Error::new(ErrorKind::Closed, message).operation(operation)))
                }
            },
            _ if store != 0 => {
                let message = format!("the type, not the store {store}, is to be asked for this");
                Answer::Ready(wire::error(&Error::invalid(message).operation(operation)))
            }
            Call::Open { config } => self.begin(Work::new(operation, self.open(config)), callback),
            Call::ConfigFromUrl { url } => {
                at_once(operation, || wire::answer(self.descriptor.config_from_url(&url)))
            }
            Call::Validate { config } => {
                at_once(operation, || wire::answer(self.descriptor.validate(&config)))
            }
        }
    }

    fn begin(&'static self, mut work: Work, callback: Callback) -> Answer {
        if self.is_inline {
            let _context = self.handle.enter();
            if let Poll::Ready(reply) = work.poll(&mut Context::from_waker(Waker::noop())) {
                return Answer::Ready(reply);
            }
        }
        self.anchor.cast();
        let call = Arc::new(Pending::new(callback, &self.gate));
        let Ok(number) = self.calls.insert(Arc::clone(&call)) else {
            self.discard(work);
            return Answer::Ready(wire::error(&shut_down()));
        };
        call.set_task(self.handle.spawn(Task::new(work, Arc::clone(&call))));
        Answer::Pending(number)
    }

    async fn open(&'static self, config: Tree) -> Outgoing {
        let backend = match self.descriptor.open(config).await {
            Ok(backend) => backend,
            Err(error) => return wire::error(&error),
        };
        let info = backend.info().clone();
        match self.stores.insert(backend) {
            Ok(store) => wire::ok(&Opened { store, info }),
            Err(backend) => {
                shutdown::close(&*backend).await;
                wire::error(&shut_down())
            }
        }
    }

    pub(super) fn cancel(&self, call: u64) {
        if let Some(call) = self.calls.get(call) {
            call.cancel();
        }
    }

    pub(super) fn call_free(&self, call: u64) {
        if let Some(call) = self.calls.remove(call) {
            call.free();
        }
    }

    pub(super) fn store_free(&self, store: u64) {
        if let Some(backend) = self.stores.remove(store) {
            self.discard(backend);
        }
    }

    /// Drops something off the host's thread: it may block.
    fn discard(&self, value: impl Send + 'static) {
        self.handle.spawn_blocking(|| discard(value));
    }

    /// Ends everything, within 5 seconds; see [`shutdown::run`].
    pub(super) fn shutdown(&'static self) {
        if !self.is_ending.swap(true, AcqRel) {
            shutdown::run(self);
        }
    }

    /// Spawns work of the plugin itself.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }

    pub(super) fn stores(&self) -> &Table<Arc<dyn Backend>> {
        &self.stores
    }

    pub(super) fn calls(&self) -> &Table<Arc<Pending>> {
        &self.calls
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn take_runtime(&self) -> Option<Runtime> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is refused because the plugin ends.
pub(super) fn shut_down() -> Error {
    Error::new(ErrorKind::Closed, "the plugin is shut down, as the program is ending")
}

fn at_once(operation: &str, work: impl FnOnce() -> Outgoing) -> Answer {
    Answer::Ready(caught(work).unwrap_or_else(|panic| wire::panicked(operation, &panic)))
}

fn runtime(name: &str) -> Result<Runtime> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name(format!("plugin-{name}"))
        .enable_all()
        .build();
    runtime.map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("the plugin's threads cannot be started: {error}"))
            .with_source(error)
    })
}
