//! Events of a plugin in the host's log.

use std::io::Write;
use std::sync::{Arc, Mutex};

use storage_plugin::abi::{self, Functions, Host, Message, Slice};
use storage_plugin::host::LoadLimits;
use storage_plugin::wire;
use tracing_subscriber::fmt::MakeWriter;

use crate::fake::{description, descriptor, functions, load};

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

unsafe extern "C" fn talk(host: *const Host, reply: *mut Message) -> i32 {
    // SAFETY: the host table lives as long as the process.
    let host = unsafe { &*host };
    let slice = |bytes: &'static [u8]| Slice { data: bytes.as_ptr(), len: bytes.len() };
    let null = Slice { data: std::ptr::null(), len: 3 };
    let log = |level, origin, message, fields| {
        // SAFETY: the slices are static or null.
        unsafe { (host.log)(host.context, level, origin, message, fields) }
    };
    log(3, slice(b"fake::open"), slice(b"it opens"), slice(b"\x81\xa4path\xa2/x"));
    log(99, null, slice(b"broken \xff text"), slice(b"\x85\xc1"));
    // SAFETY: the function and its context are the host's.
    let level = unsafe { (host.log_level)(host.context) };
    assert!(level <= 5);
    // SAFETY: the host passes a writable reply.
    unsafe { reply.write(wire::ok(&description("fake", "1.0.0")).into_raw()) };
    abi::READY
}

#[test]
fn events_of_a_plugin_bear_its_name() {
    let output = Output::default();
    // `init` runs on a thread of its own, so that the subscriber must be that of the process.
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(output.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    load(descriptor(Functions { init: Some(talk), ..functions() }), &LoadLimits::default()).unwrap();
    let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
    let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("{text}"));
    let opens = line("it opens");
    for part in ["INFO", "storage_plugin", "fake@1.0.0", "fake::open", "path=/x"] {
        assert!(opens.contains(part), "{opens} lacks {part}");
    }
    let broken = line("broken \u{fffd} text");
    assert!(broken.contains("WARN") && broken.contains("(malformed)"), "{broken}");
}
