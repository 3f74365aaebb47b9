//! A host as it might be written in C: tokens are numbers that are good once, and it keeps count.

use std::ffi::{CStr, c_void};
use std::mem;
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use storage_plugin::abi::{self, Descriptor, Functions, Message, PENDING, READY, Slice};
use storage_plugin::wire::{self, Description};
use storage_plugin::{Incoming, Outgoing};

unsafe extern "C" {
    fn storage_plugin_entry() -> *const Descriptor;
}

/// What the plugin did against the rules.
static FAULTS: AtomicUsize = AtomicUsize::new(0);
/// How often `done` was called.
pub(crate) static DONE: AtomicUsize = AtomicUsize::new(0);
/// The level that the host wants logged.
pub(crate) static LEVEL: AtomicU32 = AtomicU32::new(0);

static TOKENS: Mutex<Vec<Slot>> = Mutex::new(Vec::new());
static COMPLETED: Condvar = Condvar::new();
static LOG: Mutex<Vec<Logged>> = Mutex::new(Vec::new());

struct Slot {
    generation: u32,
    state: State,
}

enum State {
    Free,
    Open,
    Completed(Incoming),
}

/// An event that was logged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Logged {
    pub(crate) level: u32,
    pub(crate) target: String,
    pub(crate) message: String,
    pub(crate) fields: Vec<u8>,
}

fn tokens() -> MutexGuard<'static, Vec<Slot>> {
    TOKENS.lock().unwrap()
}

fn claim() -> usize {
    let mut slots = tokens();
    let free = slots.iter().position(|slot| matches!(slot.state, State::Free));
    let index = free.unwrap_or_else(|| {
        slots.push(Slot { generation: 1, state: State::Free });
        slots.len() - 1
    });
    slots[index].state = State::Open;
    (slots[index].generation as usize) << 32 | index
}

/// The slot of a token that is good.
fn slot(slots: &mut [Slot], token: usize) -> Option<&mut Slot> {
    slots.get_mut(token & 0xffff_ffff).filter(|slot| slot.generation as usize == token >> 32)
}

fn free(token: usize) -> State {
    let mut slots = tokens();
    let slot = slot(&mut slots, token).expect("the host's own token");
    slot.generation += 1;
    mem::replace(&mut slot.state, State::Free)
}

unsafe extern "C" fn done(token: *mut c_void, reply: *const Message) {
    DONE.fetch_add(1, SeqCst);
    // SAFETY: the plugin hands a message over.
    let reply = unsafe { Incoming::take(reply) };
    let mut slots = tokens();
    match slot(&mut slots, token.addr()) {
        Some(slot) if matches!(slot.state, State::Open) => slot.state = State::Completed(reply),
        _ => drop(FAULTS.fetch_add(1, SeqCst)),
    }
    drop(slots);
    COMPLETED.notify_all();
}

unsafe extern "C" fn log_level(_: *mut c_void) -> u32 {
    LEVEL.load(SeqCst)
}

unsafe extern "C" fn log(_: *mut c_void, level: u32, target: Slice, message: Slice, fields: Slice) {
    // What the host's own log has to say must not come back.
    tracing::error!("logged while logging");
    let bytes = |slice: Slice| match slice.len {
        0 => Vec::new(),
        // SAFETY: the plugin's slices are good until this returns.
        len => unsafe { std::slice::from_raw_parts(slice.data, len) }.to_vec(),
    };
    let text = |slice| String::from_utf8(bytes(slice)).expect("UTF-8");
    let logged = Logged { level, target: text(target), message: text(message), fields: bytes(fields) };
    LOG.lock().unwrap().push(logged);
}

/// What was logged since this was asked last.
pub(crate) fn take_log() -> Vec<Logged> {
    mem::take(&mut *LOG.lock().unwrap())
}

/// The plugin of this program.
pub(crate) struct Host {
    functions: &'static Functions,
}

/// A call that was made.
pub(crate) enum Called<'host> {
    Ready(Incoming),
    Pending(Pending<'host>),
}

pub(crate) struct Pending<'host> {
    host: &'host Host,
    token: usize,
    call: u64,
}

impl Host {
    /// Starts the plugin.
    pub(crate) fn start() -> Self {
        // SAFETY: the entry symbol of this program, which takes nothing.
        let descriptor = unsafe { storage_plugin_entry() };
        // SAFETY: a descriptor, which is constant.
        let descriptor = unsafe { &*descriptor };
        assert_eq!((descriptor.magic, descriptor.abi_major), (abi::MAGIC, abi::ABI_MAJOR));
        // SAFETY: a text that the plugin exports.
        assert_eq!(unsafe { CStr::from_ptr(descriptor.name) }, c"subject");
        // SAFETY: as above.
        assert_eq!(unsafe { CStr::from_ptr(descriptor.version) }, c"1.2.3");
        // SAFETY: as above.
        let build = unsafe { CStr::from_ptr(descriptor.build) };
        assert_eq!(build.to_str(), Ok(concat!("storage-plugin ", env!("CARGO_PKG_VERSION"))));
        // SAFETY: the plugin's function table, which is constant.
        let host = Self { functions: unsafe { &*descriptor.functions } };
        assert_eq!(host.functions.struct_size as usize, mem::size_of::<Functions>());

        let Called::Ready(early) = host.call(0, wire::validate(&serde_json::json!({}))) else {
            panic!("too early")
        };
        assert!(wire::reply::<()>(early).unwrap_err().error.message().contains("init"));
        host.shutdown();

        let description = wire::reply::<Description>(host.init()).unwrap();
        assert_eq!(
            (description.name.as_str(), description.version.to_string().as_str()),
            ("subject", "1.2.3")
        );
        assert!(wire::reply::<Description>(host.init()).is_err(), "a second time");
        host
    }

    fn init(&self) -> Incoming {
        let table = Box::leak(Box::new(abi::Host {
            struct_size: mem::size_of::<abi::Host>() as u32,
            abi_major: abi::ABI_MAJOR,
            abi_minor: abi::ABI_MINOR + 1,
            context: ptr::null_mut(),
            log_level,
            log,
        }));
        let mut reply = nothing();
        let init = self.functions.init.unwrap();
        // SAFETY: the table is never freed, and the reply is writable.
        assert_eq!(unsafe { init(table, &raw mut reply) }, READY);
        // SAFETY: the plugin has filled it in.
        unsafe { Incoming::take(&raw const reply) }
    }

    pub(crate) fn call(&self, store: u64, request: Outgoing) -> Called<'_> {
        let token = claim();
        let (request, mut call, mut reply) = (request.into_raw(), 0, nothing());
        let function = self.functions.call.unwrap();
        let raw = ptr::without_provenance_mut(token);
        // SAFETY: the request is handed over, and what is pointed to is writable.
        match unsafe { function(store, &raw const request, done, raw, &raw mut call, &raw mut reply) } {
            READY => {
                assert!(matches!(free(token), State::Open), "ready, and completed too");
                // SAFETY: the plugin has filled it in.
                Called::Ready(unsafe { Incoming::take(&raw const reply) })
            }
            PENDING => {
                assert_ne!(call, 0);
                Called::Pending(Pending { host: self, token, call })
            }
            code => panic!("the unknown code {code}"),
        }
    }

    pub(crate) fn cancel(&self, call: u64) {
        // SAFETY: any number will do.
        unsafe { self.functions.cancel.unwrap()(call) }
    }

    pub(crate) fn call_free(&self, call: u64) {
        // SAFETY: any number will do.
        unsafe { self.functions.call_free.unwrap()(call) }
    }

    pub(crate) fn store_free(&self, store: u64) {
        // SAFETY: any number will do.
        unsafe { self.functions.store_free.unwrap()(store) }
    }

    pub(crate) fn shutdown(&self) {
        // SAFETY: it has no arguments.
        unsafe { self.functions.shutdown.unwrap()() }
    }

    /// Nothing was completed that was not pending.
    pub(crate) fn check_faultless(&self) {
        assert_eq!(FAULTS.load(SeqCst), 0, "calls were completed twice, or when they were not pending");
    }
}

impl Called<'_> {
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self, Self::Pending(_))
    }

    /// The number of a pending call.
    pub(crate) fn number(&self) -> u64 {
        let Self::Pending(pending) = self else { panic!("the call is not pending") };
        pending.call
    }

    /// Gives the call up, if it is pending.
    pub(crate) fn cancel(&self) {
        if let Self::Pending(pending) = self {
            pending.host.cancel(pending.call);
        }
    }

    /// The reply, without waiting.
    pub(crate) fn now(self) -> Incoming {
        self.wait_for(Duration::ZERO)
    }

    /// The reply.
    pub(crate) fn wait(self) -> Incoming {
        self.wait_for(Duration::from_secs(20))
    }

    fn wait_for(self, limit: Duration) -> Incoming {
        let pending = match self {
            Self::Ready(reply) => return reply,
            Self::Pending(pending) => pending,
        };
        let begin = Instant::now();
        let mut slots = tokens();
        while matches!(slot(&mut slots, pending.token).unwrap().state, State::Open) {
            let left = limit.checked_sub(begin.elapsed()).expect("the call is completed in time");
            slots = COMPLETED.wait_timeout(slots, left).unwrap().0;
        }
        drop(slots);
        let State::Completed(reply) = free(pending.token) else { panic!("nobody else frees it") };
        pending.host.call_free(pending.call);
        reply
    }
}

fn nothing() -> Message {
    Message {
        head: ptr::null(),
        head_len: 0,
        blobs: ptr::null(),
        blob_count: 0,
        owner: ptr::null_mut(),
        release: None,
    }
}
