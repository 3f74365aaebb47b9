//! What is refused when a plugin is loaded.

use std::ffi::c_char;
use std::path::Path;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use storage_core::{Error, ErrorKind, Retry, TypeDescriptor};
use storage_plugin::abi::{self, Descriptor, Functions, Host, Message};
use storage_plugin::host::{LoadLimits, Plugin};
use storage_plugin::{Outgoing, wire};

use crate::fake::{description, descriptor, functions, load};

fn refused(descriptor: Descriptor) -> Error {
    refused_within(descriptor, &LoadLimits::default())
}

fn refused_within(descriptor: Descriptor, limits: &LoadLimits) -> Error {
    let error = load(descriptor, limits).unwrap_err();
    assert!(error.message().contains("fake.so"), "{error}");
    assert_eq!(error.retry(), Retry::Never, "{error}");
    error
}

fn refused_text(descriptor: Descriptor, part: &str) {
    let error = refused(descriptor);
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.message().contains(part), "{error} lacks {part:?}");
}

#[test]
fn a_good_one_is_loaded() {
    let plugin = load(descriptor(functions()), &LoadLimits::default()).unwrap();
    assert_eq!((plugin.name(), plugin.version().to_string().as_str()), ("fake", "1.0.0"));
    assert_eq!((plugin.summary(), plugin.schemes(), plugin.build()), ("A fake", &["fake"][..], "a test"));
    assert_eq!(plugin.abi(), (1, 0));
    assert_eq!(plugin.disabled(), None);
}

#[test]
fn a_newer_minor_with_larger_structs_is_loaded() {
    let table = Functions { struct_size: 4096, ..functions() };
    let plugin =
        load(Descriptor { abi_minor: 7, struct_size: 4096, ..descriptor(table) }, &LoadLimits::default());
    assert_eq!(plugin.unwrap().abi(), (1, 7));
}

#[test]
fn wrong_descriptors_are_refused() {
    // SAFETY: null is allowed.
    let null = unsafe { Plugin::from_descriptor(ptr::null(), Path::new("fake.so"), &LoadLimits::default()) };
    assert!(null.unwrap_err().message().contains("fake.so: its entry symbol returned null"));
    let good = || descriptor(functions());
    refused_text(Descriptor { magic: 1, ..good() }, "magic number");
    refused_text(Descriptor { abi_major: 2, ..good() }, "built for ABI 2.0");
    refused_text(Descriptor { abi_major: 0, ..good() }, "built for ABI 0.0");
    refused_text(Descriptor { struct_size: 40, ..good() }, "has 40 bytes");
    refused_text(Descriptor { functions: ptr::null(), ..good() }, "function table is null");
    refused_text(descriptor(Functions { struct_size: 48, ..functions() }), "has 48 bytes");
}

#[test]
fn wrong_texts_are_refused() {
    let good = || descriptor(functions());
    let text = |text: &'static [u8]| text.as_ptr().cast::<c_char>();
    let long = text(&[b'a'; 300]);
    refused_text(Descriptor { name: ptr::null(), ..good() }, "name is null");
    refused_text(Descriptor { name: text(b"Fake\0"), ..good() }, "name \"Fake\" is not valid");
    refused_text(Descriptor { name: text(b"\0"), ..good() }, "name \"\" is not valid");
    refused_text(Descriptor { name: text(b"\xff\0"), ..good() }, "name is not UTF-8");
    refused_text(Descriptor { name: long, ..good() }, "name is longer than 32");
    refused_text(Descriptor { version: text(b"1.0\0"), ..good() }, "no semver");
    refused_text(Descriptor { version: long, ..good() }, "version is longer than 256");
    refused_text(Descriptor { build: ptr::null(), ..good() }, "build is null");
}

#[test]
fn null_functions_are_refused() {
    refused_text(descriptor(Functions { init: None, ..functions() }), "`init` is null");
    refused_text(descriptor(Functions { call: None, ..functions() }), "`call` is null");
    refused_text(descriptor(Functions { cancel: None, ..functions() }), "`cancel` is null");
    refused_text(descriptor(Functions { call_free: None, ..functions() }), "`call_free` is null");
    refused_text(descriptor(Functions { store_free: None, ..functions() }), "`store_free` is null");
    refused_text(descriptor(Functions { shutdown: None, ..functions() }), "`shutdown` is null");
}

#[test]
fn a_second_load_is_refused() {
    let descriptor = &*Box::leak(Box::new(descriptor(functions())));
    let load = || {
        // SAFETY: the descriptor is leaked, and good.
        unsafe { Plugin::from_descriptor(descriptor, Path::new("fake.so"), &LoadLimits::default()) }
    };
    load().unwrap();
    assert!(load().unwrap_err().message().contains("in this process already"));
}

#[test]
fn an_init_that_hangs_is_left_behind() {
    unsafe extern "C" fn hang(_: *const Host, _: *mut Message) -> i32 {
        loop {
            thread::park();
        }
    }
    let begun = Instant::now();
    let limits = LoadLimits { init: Duration::from_millis(200), ..LoadLimits::default() };
    let error = refused_within(descriptor(Functions { init: Some(hang), ..functions() }), &limits);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() < LoadLimits::default().init);
}

#[test]
fn an_init_that_fails_says_why() {
    unsafe extern "C" fn fails(_: *const Host, reply: *mut Message) -> i32 {
        let error = Error::new(ErrorKind::Unavailable, "no such device");
        // SAFETY: the host passes a writable reply.
        unsafe { reply.write(wire::error(&error).into_raw()) };
        abi::READY
    }
    unsafe extern "C" fn code(_: *const Host, _: *mut Message) -> i32 {
        abi::PENDING
    }
    unsafe extern "C" fn nothing(_: *const Host, _: *mut Message) -> i32 {
        abi::READY
    }
    unsafe extern "C" fn garbage(_: *const Host, reply: *mut Message) -> i32 {
        let garbage = Outgoing::new(vec![0xc1; 40], []);
        // SAFETY: the host passes a writable reply.
        unsafe { reply.write(garbage.into_raw()) };
        abi::READY
    }
    let refused = |init: abi::Init| refused(descriptor(Functions { init: Some(init), ..functions() }));
    let error = refused(fails);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("no such device"), "{error}");
    let error = refused(code);
    assert!(error.message().contains("code 1"), "{error}");
    assert_eq!(refused(nothing).kind(), ErrorKind::Internal);
    assert_eq!(refused(garbage).kind(), ErrorKind::Internal);
}

#[test]
fn an_init_that_describes_another_type_is_refused() {
    unsafe extern "C" fn other(_: *const Host, reply: *mut Message) -> i32 {
        // SAFETY: the host passes a writable reply.
        unsafe { reply.write(wire::ok(&description("fake", "1.0.1")).into_raw()) };
        abi::READY
    }
    refused_text(descriptor(Functions { init: Some(other), ..functions() }), "fake@1.0.1");
}

#[test]
fn files_that_are_no_library_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.so");
    std::fs::write(&text, "no library").unwrap();
    for path in [text, dir.path().join("missing.so"), dir.path().to_owned()] {
        let error = Plugin::load(&path, LoadLimits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_library_without_the_entry_symbol_is_refused() {
    // A library that can be loaded for sure: this process has it.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.split_whitespace().find(|word| word.contains("/libc.so")).unwrap();
    let error = Plugin::load(Path::new(libc), LoadLimits::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("storage_plugin_entry"), "{error}");
}
