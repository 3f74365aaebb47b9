//! A plugin within the test: a function table whose answers each test picks, and which keeps count of what the host
//! does.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

use serde_json::{Value as Tree, json};
use storage_core::{
    Backend, BackendInfo, Capabilities, CollectionName, Error, ErrorKind, Result, TypeDescriptor,
};
use storage_plugin::abi::{self, Descriptor, Done, Functions, Host, Message};
use storage_plugin::host::{LoadLimits, Plugin};
use storage_plugin::wire::{self, Call, Description, Opened};
use storage_plugin::{Incoming, Outgoing};

/// How a fake store answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Ready,
    Error(ErrorKind),
    Panicked,
    /// Bytes that are no MessagePack.
    Garbage,
    /// A good reply of another type.
    WrongType,
    /// Ready without a reply.
    NothingFilledIn,
    UnknownCode,
    /// Pending, without a number for the call.
    PendingZero,
    /// Completed by another thread, after a while.
    Pending(Duration),
    /// Completed when it is cancelled, from within `cancel`.
    DoneInCancel,
    /// Completed on another thread when it is cancelled, at about the same time.
    DoneAfterCancel,
    /// As before, but that it says that it panicked.
    PanickedAfterCancel,
    /// Completed only when the test says so.
    Never,
    DoneBeforeReturn,
    DoneTwice,
    DoneWithNull,
    /// Ready, but `done` is called too.
    ReadyAndDone,
    /// One of the honest ones, each time another.
    AnyHonest,
}

/// What a fake store does and what was done with it.
#[derive(Default)]
pub(crate) struct Script {
    id: u64,
    mode: Mutex<Option<Mode>>,
    open_mode: Mutex<Option<Mode>>,
    calls: Mutex<HashMap<u64, FakeCall>>,
    pub(crate) made: AtomicUsize,
    pub(crate) released: AtomicUsize,
    pub(crate) pending: AtomicUsize,
    pub(crate) cancelled: AtomicUsize,
    pub(crate) calls_freed: AtomicUsize,
    pub(crate) stores_opened: AtomicUsize,
    pub(crate) stores_freed: AtomicUsize,
    /// What the host did against the rules.
    faults: Mutex<Vec<String>>,
    completed_last: Mutex<Option<Completion>>,
}

struct FakeCall {
    /// Taken when it is completed.
    completion: Option<Completion>,
    opens: bool,
    cancelled: bool,
    done: bool,
}

#[derive(Clone, Copy)]
struct Completion {
    done: Done,
    token: usize,
}

const READY: Mode = Mode::Ready;
static NEXT: AtomicU64 = AtomicU64::new(1);

fn scripts() -> MutexGuard<'static, Vec<Arc<Script>>> {
    static SCRIPTS: Mutex<Vec<Arc<Script>>> = Mutex::new(Vec::new());
    SCRIPTS.lock().unwrap()
}

/// The script whose number a store or call bears.
fn script(number: u64) -> Option<Arc<Script>> {
    scripts().get((number & 0xffff) as usize).cloned()
}

impl Script {
    pub(crate) fn new() -> Arc<Self> {
        let mut scripts = scripts();
        let script = Arc::new(Self { id: scripts.len() as u64, ..Self::default() });
        scripts.push(Arc::clone(&script));
        script
    }

    pub(crate) fn answer(&self, mode: Mode) {
        *self.mode.lock().unwrap() = Some(mode);
    }

    pub(crate) fn answer_open(&self, mode: Mode) {
        *self.open_mode.lock().unwrap() = Some(mode);
    }

    pub(crate) fn config(&self) -> Tree {
        json!({ "script": self.id })
    }

    pub(crate) fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(what);
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }

    /// A number that leads back to this script.
    fn number(&self) -> u64 {
        NEXT.fetch_add(1, SeqCst) << 16 | self.id
    }

    /// Completes what [`Mode::Never`] left pending.
    pub(crate) fn complete_all(self: &Arc<Self>) {
        let calls: Vec<u64> = self.calls.lock().unwrap().keys().copied().collect();
        for call in calls {
            self.complete(call);
        }
    }

    /// Calls `done` again with the last token.
    pub(crate) fn complete_again(self: &Arc<Self>) {
        let last = self.completed_last.lock().unwrap().expect("a completed call");
        self.send(last, self.reply(false));
    }

    /// Calls `done` with tokens that are like the last one, and with some that are like none.
    pub(crate) fn complete_made_up(self: &Arc<Self>) {
        let last = self.completed_last.lock().unwrap().expect("a completed call");
        let calls = self.calls.lock().unwrap();
        let good: Vec<usize> = calls.values().filter_map(|call| Some(call.completion?.token)).collect();
        drop(calls);
        // These bits are the plugin's number. Others would be counted against the plugins of the tests beside this one.
        let plugin = 24..36;
        let alike = (0..usize::BITS).filter(|bit| !plugin.contains(bit)).map(|bit| last.token ^ (1 << bit));
        let made_up = alike.chain([last.token & (0xfff << plugin.start), usize::MAX, usize::MAX >> 1]);
        for token in made_up.filter(|token| !good.contains(token)) {
            self.send(Completion { token, ..last }, self.reply(false));
        }
    }

    /// Completes a call, if it is not completed yet.
    fn complete(self: &Arc<Self>, call: u64) {
        let (completion, reply) = {
            let mut calls = self.calls.lock().unwrap();
            let Some(call) = calls.get_mut(&call) else { return };
            let Some(completion) = call.completion.take() else { return };
            // Before `done`, as the host may free the call while that runs.
            call.done = true;
            (completion, self.reply(call.opens))
        };
        *self.completed_last.lock().unwrap() = Some(completion);
        self.send(completion, reply);
    }

    fn send(self: &Arc<Self>, completion: Completion, reply: Outgoing) {
        let message = self.counted(reply);
        let token = ptr::without_provenance_mut::<c_void>(completion.token);
        // SAFETY: `done` is the host's, and the message is not used again.
        unsafe { (completion.done)(token, &raw const message) }
    }

    fn reply(&self, opens: bool) -> Outgoing {
        if *self.mode.lock().unwrap() == Some(Mode::PanickedAfterCancel) {
            return wire::panicked("collections", "boom");
        }
        if opens {
            self.stores_opened.fetch_add(1, SeqCst);
            return wire::ok(&Opened { store: self.number(), info: info() });
        }
        wire::ok(&vec![CollectionName::new("users").unwrap()])
    }

    /// A message whose release is counted.
    fn counted(self: &Arc<Self>, outgoing: Outgoing) -> Message {
        self.made.fetch_add(1, SeqCst);
        let inner = outgoing.into_raw();
        let (head, head_len, blobs, blob_count) = (inner.head, inner.head_len, inner.blobs, inner.blob_count);
        // SAFETY: the message was just made and is not used again.
        let inner = unsafe { Incoming::take(&raw const inner) };
        let owner = Box::into_raw(Box::new((Arc::clone(self), inner))).cast();
        Message { head, head_len, blobs, blob_count, owner, release: Some(release) }
    }
}

unsafe extern "C" fn release(owner: *mut c_void) {
    // SAFETY: `owner` comes from `counted`, and the host releases a message once.
    let owned = unsafe { Box::from_raw(owner.cast::<(Arc<Script>, Incoming)>()) };
    owned.0.released.fetch_add(1, SeqCst);
}

fn info() -> BackendInfo {
    BackendInfo {
        name: "fake".into(),
        version: semver::Version::new(1, 0, 0),
        location: "fake:".to_owned(),
        capabilities: Capabilities::none(),
    }
}

pub(crate) fn description(name: &str, version: &str) -> Description {
    Description {
        name: name.into(),
        version: version.parse().unwrap(),
        summary: "A fake".into(),
        schemes: vec!["fake".into()],
        capabilities: Capabilities::none(),
        config_schema: json!({ "type": "object" }),
    }
}

pub(crate) unsafe extern "C" fn init(_: *const Host, reply: *mut Message) -> i32 {
    // SAFETY: the host passes a writable reply.
    unsafe { reply.write(wire::ok(&description("fake", "1.0.0")).into_raw()) };
    abi::READY
}

unsafe extern "C" fn call(
    store: u64,
    request: *const Message,
    done: Done,
    token: *mut c_void,
    call: *mut u64,
    reply: *mut Message,
) -> i32 {
    // SAFETY: the host passes a request that is the plugin's from now on.
    let request = unsafe { Incoming::take(request) };
    let request = wire::call(request).unwrap();
    if let Call::ConfigFromUrl { url } = &request {
        // SAFETY: `reply` is writable.
        unsafe { reply.write(wire::ok(&json!({ "url": url })).into_raw()) };
        return abi::READY;
    }
    let config = match &request {
        Call::Validate { config } | Call::Open { config } => Some(config),
        _ => None,
    };
    let number = config.map_or(store, |config| config["script"].as_u64().unwrap_or(0));
    let script = script(number).expect("a store of this plugin");
    let opens = matches!(request, Call::Open { .. });
    let mode = if store == 0 { &script.open_mode } else { &script.mode };
    let mode = mode.lock().unwrap().unwrap_or(READY);
    let mode = if mode == Mode::AnyHonest { honest() } else { mode };

    let completion = Completion { done, token: token.addr() };
    let id = script.number();
    match mode {
        Mode::NothingFilledIn => return abi::READY,
        Mode::UnknownCode => return 42,
        Mode::PendingZero => return abi::PENDING,
        Mode::ReadyAndDone => script.send(completion, script.reply(opens)),
        Mode::DoneWithNull => {
            let state = FakeCall { completion: None, opens, cancelled: false, done: true };
            script.calls.lock().unwrap().insert(id, state);
            script.pending.fetch_add(1, SeqCst);
            // SAFETY: `call` is writable.
            unsafe { *call = id };
            // SAFETY: `done` is the host's, and null is allowed.
            unsafe { done(token, ptr::null()) };
            return abi::PENDING;
        }
        Mode::Pending(_)
        | Mode::DoneInCancel
        | Mode::DoneAfterCancel
        | Mode::PanickedAfterCancel
        | Mode::Never
        | Mode::DoneBeforeReturn
        | Mode::DoneTwice => {
            let state = FakeCall { completion: Some(completion), opens, cancelled: false, done: false };
            script.calls.lock().unwrap().insert(id, state);
            script.pending.fetch_add(1, SeqCst);
            // SAFETY: `call` is writable.
            unsafe { *call = id };
            match mode {
                Mode::Pending(delay) => {
                    let script = Arc::clone(&script);
                    workers().send(Box::new(move || {
                        thread::sleep(delay);
                        script.complete(id);
                    }));
                }
                Mode::DoneBeforeReturn => script.complete(id),
                Mode::DoneTwice => {
                    script.complete(id);
                    script.complete_again();
                }
                _ => {}
            }
            return abi::PENDING;
        }
        _ => {}
    }
    let answer = match mode {
        Mode::Ready | Mode::ReadyAndDone if matches!(request, Call::Validate { .. }) => wire::ok(&()),
        Mode::Error(kind) => wire::error(&Error::new(kind, "as the test wants it")),
        Mode::Panicked => wire::panicked("collections", "boom"),
        Mode::Garbage => Outgoing::new(vec![0x92, 0xc1, 0xff], []),
        Mode::WrongType => wire::ok(&true),
        _ => script.reply(opens),
    };
    // SAFETY: `reply` is writable.
    unsafe { reply.write(script.counted(answer)) };
    abi::READY
}

fn honest() -> Mode {
    let turn = NEXT.fetch_add(1, SeqCst);
    match turn % 7 {
        0 => Mode::Ready,
        1 => Mode::DoneBeforeReturn,
        2 => Mode::DoneInCancel,
        3 => Mode::DoneAfterCancel,
        n => Mode::Pending(Duration::from_micros(n * turn % 50)),
    }
}

unsafe extern "C" fn cancel(call: u64) {
    let Some(script) = script(call) else { return };
    script.cancelled.fetch_add(1, SeqCst);
    let mode = script.mode.lock().unwrap().unwrap_or(READY);
    let open_mode = script.open_mode.lock().unwrap().unwrap_or(READY);
    {
        let mut calls = script.calls.lock().unwrap();
        match calls.get_mut(&call) {
            None => return script.fault("cancel of a freed call".to_owned()),
            Some(call) if call.cancelled => return script.fault("cancel twice".to_owned()),
            Some(call) => call.cancelled = true,
        }
    }
    match if mode == Mode::AnyHonest { honest() } else { mode } {
        Mode::Never => {}
        _ if open_mode == Mode::Never => {}
        Mode::DoneInCancel => script.complete(call),
        _ => workers().send(Box::new(move || script.complete(call))),
    }
}

unsafe extern "C" fn call_free(call: u64) {
    let Some(script) = script(call) else { return };
    script.calls_freed.fetch_add(1, SeqCst);
    match script.calls.lock().unwrap().remove(&call) {
        None => script.fault("call_free of a freed call".to_owned()),
        Some(call) if !call.done => script.fault("call_free before done".to_owned()),
        Some(_) => {}
    }
}

unsafe extern "C" fn store_free(store: u64) {
    let Some(script) = script(store) else { return };
    script.stores_freed.fetch_add(1, SeqCst);
    if script.calls.lock().unwrap().values().any(|call| !call.opens) {
        script.fault("store_free with calls in flight".to_owned());
    }
}

pub(crate) static SHUTDOWNS: AtomicUsize = AtomicUsize::new(0);

/// Completes what is pending, as the ABI wants it.
unsafe extern "C" fn shutdown() {
    SHUTDOWNS.fetch_add(1, SeqCst);
    let scripts = scripts().clone();
    for script in scripts {
        script.complete_all();
    }
}

type Job = Box<dyn FnOnce() + Send>;

struct Workers(std::sync::mpsc::Sender<Job>);

impl Workers {
    fn send(&self, job: Job) {
        self.0.send(job).unwrap();
    }
}

fn workers() -> Workers {
    static SENDER: OnceLock<std::sync::mpsc::Sender<Job>> = OnceLock::new();
    let sender = SENDER.get_or_init(|| {
        let (sender, receiver) = std::sync::mpsc::channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..4 {
            let receiver = Arc::clone(&receiver);
            thread::spawn(move || {
                loop {
                    let job = receiver.lock().unwrap().recv();
                    let Ok(job) = job else { return };
                    job();
                }
            });
        }
        sender
    });
    Workers(sender.clone())
}

pub(crate) fn functions() -> Functions {
    Functions {
        struct_size: size_of::<Functions>() as u32,
        reserved: 0,
        init: Some(init),
        call: Some(call),
        cancel: Some(cancel),
        call_free: Some(call_free),
        store_free: Some(store_free),
        shutdown: Some(shutdown),
    }
}

pub(crate) fn descriptor(functions: Functions) -> Descriptor {
    let text = |text: &str| CString::new(text).unwrap().into_raw().cast_const();
    Descriptor {
        magic: abi::MAGIC,
        struct_size: size_of::<Descriptor>() as u32,
        abi_major: abi::ABI_MAJOR,
        abi_minor: abi::ABI_MINOR,
        name: text("fake"),
        version: text("1.0.0"),
        build: text("a test"),
        functions: Box::leak(Box::new(functions)),
    }
}

/// As the loader does it, but that the library is this test.
pub(crate) fn load(descriptor: Descriptor, limits: &LoadLimits) -> Result<Arc<Plugin>> {
    // SAFETY: the descriptor is leaked; the tests' functions keep to the ABI as far as memory is concerned.
    unsafe { Plugin::from_descriptor(Box::leak(Box::new(descriptor)), Path::new("fake.so"), limits) }
}

pub(crate) fn plugin() -> Arc<Plugin> {
    load(descriptor(functions()), &LoadLimits::default()).unwrap()
}

/// A store of the plugin, and what is behind it.
pub(crate) async fn open(plugin: &Plugin) -> (Arc<dyn Backend>, Arc<Script>) {
    let script = Script::new();
    let backend = plugin.open(script.config()).await.unwrap();
    (backend, script)
}

/// Waits until something is so, at most 10 seconds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("never happened: {what}");
}
