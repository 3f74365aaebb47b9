//! What the plugin logs with `tracing`, handed to the host's log.

#![expect(unsafe_code, reason = "the host's functions are called through its table")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::mem;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmp::encode::{self, ByteBuf};
use storage_core::{Error, ErrorKind, Result};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Level, Metadata};
use tracing_core::span::Current;

use crate::abi::{ABI_MAJOR, Host, Slice};

/// The host's log.
#[derive(Clone, Copy)]
pub(super) struct HostLog(&'static Host);

// SAFETY: the table is constant, and the ABI says that its functions may be called on any thread.
unsafe impl Send for HostLog {}
// SAFETY: as above.
unsafe impl Sync for HostLog {}

impl HostLog {
    /// Checks the host's table.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for none, and [`Unsupported`](ErrorKind::Unsupported) for one of
    /// another ABI.
    ///
    /// # Safety
    /// `host` is null, or points to a table that begins with its size and lives as long as the process.
    pub(super) unsafe fn read(host: *const Host) -> Result<Self> {
        if host.is_null() {
            return Err(Error::invalid("the host's table is null"));
        }
        // SAFETY: not null; every table begins with its size.
        let size = unsafe { host.cast::<u32>().read() };
        if (size as usize) < mem::size_of::<Host>() {
            return Err(Error::invalid(format!("the host's table has {size} bytes, which is too few")));
        }
        // SAFETY: the caller's promise, and the table is as large as what is read of it.
        let host = unsafe { &*host };
        if host.abi_major != ABI_MAJOR {
            let message = format!("a host of ABI {}; the plugin is for ABI {ABI_MAJOR}", host.abi_major);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(Self(host))
    }

    /// The number of the highest level that is of interest now.
    fn level(self) -> u32 {
        // SAFETY: the host's function, with its own context.
        unsafe { (self.0.log_level)(self.0.context) }
    }

    fn log(self, level: u32, target: &str, message: &str, fields: &[u8]) {
        let slice = |bytes: &[u8]| Slice { data: bytes.as_ptr(), len: bytes.len() };
        let (target, message, fields) = (slice(target.as_bytes()), slice(message.as_bytes()), slice(fields));
        // SAFETY: the host's function, with its own context; it reads the slices before it returns.
        unsafe { (self.0.log)(self.0.context, level, target, message, fields) }
    }
}

/// Sends what this library logs to the host, unless the library has a subscriber already.
pub(super) fn install(host: HostLog) {
    let forward = Forward { host, spans: Mutex::default(), next: AtomicU64::new(1) };
    // That there is one already is the only error, and no fault.
    let _ = tracing::subscriber::set_global_default(forward);
}

/// The subscriber: knows of spans only what they are called.
struct Forward {
    host: HostLog,
    spans: Mutex<HashMap<u64, Span>>,
    next: AtomicU64,
}

struct Span {
    metadata: &'static Metadata<'static>,
    /// Its name after those of the spans it is in, such as `open:connect`.
    path: Arc<str>,
    references: usize,
}

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// Whether this thread is logging: what logging itself logs would go on for ever.
    static IS_LOGGING: Cell<bool> = const { Cell::new(false) };
}

impl Forward {
    fn spans(&self) -> MutexGuard<'_, HashMap<u64, Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path of a span, or else of the one that this thread is in, unless that does not count.
    fn path(&self, parent: Option<&Id>, is_contextual: bool) -> Option<Arc<str>> {
        let span = match parent {
            Some(parent) => parent.into_u64(),
            None if is_contextual => innermost()?,
            None => return None,
        };
        self.spans().get(&span).map(|span| Arc::clone(&span.path))
    }
}

/// The span that this thread is in.
fn innermost() -> Option<u64> {
    // A thread that ends may have lost its list already, and is in no span.
    ENTERED.try_with(|entered| entered.borrow().last().copied()).ok().flatten()
}

impl Subscriber for Forward {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Never cached: the host may change its level at any time.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number(*metadata.level()) <= self.host.level()
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let metadata = attributes.metadata();
        let path = match self.path(attributes.parent(), attributes.is_contextual()) {
            Some(outer) => format!("{outer}:{}", metadata.name()).into(),
            None => metadata.name().into(),
        };
        let id = self.next.fetch_add(1, Relaxed);
        self.spans().insert(id, Span { metadata, path, references: 1 });
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(_logging) = Logging::begin() else { return };
        let mut text = Text::default();
        if let Some(path) = self.path(event.parent(), event.is_contextual()) {
            text.fields.push(("spans", path.as_ref().to_owned()));
        }
        event.record(&mut text);
        let metadata = event.metadata();
        self.host.log(number(*metadata.level()), metadata.target(), &text.message, &text.encoded_fields());
    }

    fn enter(&self, span: &Id) {
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            // Spans may be left in another order than they were entered in.
            if let Some(position) = entered.iter().rposition(|entered| *entered == span.into_u64()) {
                entered.remove(position);
            }
        });
    }

    fn clone_span(&self, span: &Id) -> Id {
        if let Some(span) = self.spans().get_mut(&span.into_u64()) {
            span.references += 1;
        }
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut spans = self.spans();
        let Some(known) = spans.get_mut(&span.into_u64()) else { return false };
        known.references -= 1;
        let is_last = known.references == 0;
        if is_last {
            spans.remove(&span.into_u64());
        }
        is_last
    }

    fn current_span(&self) -> Current {
        let current = innermost()
            .and_then(|id| self.spans().get(&id).map(|span| Current::new(Id::from_u64(id), span.metadata)));
        current.unwrap_or_else(Current::none)
    }
}

/// While it lives, this thread logs nothing else.
struct Logging;

impl Logging {
    fn begin() -> Option<Self> {
        let is_first = IS_LOGGING.try_with(|logging| !logging.replace(true)).unwrap_or(false);
        is_first.then_some(Self)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = IS_LOGGING.try_with(|logging| logging.set(false));
    }
}

/// An event's message and fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Text {
    /// The fields as a MessagePack map of strings; empty if there are none.
    fn encoded_fields(&self) -> Vec<u8> {
        let mut map = ByteBuf::new();
        if self.fields.is_empty() {
            return map.into_vec();
        }
        // Writing to memory does not fail.
        let _ = encode::write_map_len(&mut map, self.fields.len() as u32);
        for (name, value) in &self.fields {
            let _ = encode::write_str(&mut map, name);
            let _ = encode::write_str(&mut map, value);
        }
        map.into_vec()
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.fields.push((field.name(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // It fails if the value's own formatting does: what it has written until then is logged.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

/// A level as the ABI numbers it.
fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}
