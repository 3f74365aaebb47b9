//! Tests of the plugin's side without a shared library: its function table, called by a host within the test.
//!
//! Each program has one plugin, as each shared library has.

pub(crate) mod host;
pub(crate) mod subject;

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use storage_core::{Address, Error, ErrorKind, Record, Request};
use storage_plugin::wire::{self, Failure};
use storage_plugin::{Incoming, Outgoing};

use host::{Called, Host};

/// The request to get records, by keys that the [`subject`] takes for orders.
pub(crate) fn get(key: &str) -> Outgoing {
    wire::request(&Request::Get(&[Address::new("orders", key).unwrap()]))
}

/// What an order came to: `Ok` means that it was carried out.
pub(crate) fn outcome(reply: Incoming) -> Result<(), Box<Failure>> {
    wire::reply::<Vec<Option<Record>>>(reply).map(|records| assert_eq!(records, [None]))
}

pub(crate) fn fail(reply: Incoming) -> Error {
    outcome(reply).unwrap_err().error
}

/// A store of the subject.
pub(crate) fn open(host: &Host) -> u64 {
    let reply = host.call(0, wire::open(&serde_json::json!({}))).wait();
    wire::reply::<wire::Opened>(reply).unwrap().store
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it did not come to pass: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Panics of all sorts, at all moments, are answers; later calls work.
pub(crate) fn check_panics(host: &Host, store: u64) {
    for order in ["panic-at-once", "panic", "panic-later", "panic-number", "panic-bomb", "panic-on-drop"] {
        let failure = outcome(host.call(store, get(order)).wait()).unwrap_err();
        assert!(failure.panicked, "{order}");
        assert_eq!(
            (failure.error.kind(), failure.error.operation_name()),
            (ErrorKind::Internal, "get"),
            "{order}"
        );
        let says = failure.error.message().contains("as ordered");
        assert_eq!(says, order != "panic-number" && order != "panic-bomb", "{order}: {}", failure.error);
        outcome(host.call(store, get("work")).wait()).unwrap();
    }
}

/// A number that stands for nothing, any more or ever, is an error or ignored.
pub(crate) fn check_numbers(host: &Host) {
    let freed = open(host);
    host.store_free(freed);
    for store in [freed, 0, 1, 77, u64::MAX, freed ^ 1 << 32] {
        let Called::Ready(reply) = host.call(store, get("work")) else { panic!("no store, no work") };
        assert_eq!(fail(reply).kind(), ErrorKind::Closed, "{store}");
        host.store_free(store);
    }
    for call in [0, 1, 77, u64::MAX] {
        host.cancel(call);
        host.call_free(call);
    }
    let store = open(host);
    let pending = host.call(store, get("wait"));
    let number = pending.number();
    pending.cancel();
    assert_eq!(fail(pending.wait()).message(), "the call was cancelled");
    host.cancel(number);
    host.call_free(number);
    let reply = host.call(store, wire::validate(&serde_json::json!({}))).wait();
    assert_eq!(wire::reply::<()>(reply).unwrap_err().error.kind(), ErrorKind::InvalidInput);
    host.store_free(store);
}

/// Whatever is no request is answered with an error, at once.
pub(crate) fn check_malformed(host: &Host, store: u64) {
    for head in
        [&b""[..], b"\xc0", b"\x92\xa3get", b"\x92\xa3get\x81\xa4keys\xdd\xff\xff\xff\xff", &[0x91; 4_000]]
    {
        let Called::Ready(reply) = host.call(store, Outgoing::new(head, [])) else {
            panic!("it is no request");
        };
        assert_eq!(fail(reply).kind(), ErrorKind::Internal);
    }
    let unknown = Outgoing::new(b"\x92\xa4make\x80", []);
    assert_eq!(fail(host.call(store, unknown).wait()).kind(), ErrorKind::Unsupported);
}

/// The type answers at once.
pub(crate) fn check_type(host: &Host) {
    let Called::Ready(reply) = host.call(0, wire::config_from_url("subject:")) else { panic!("at once") };
    assert_eq!(wire::reply::<serde_json::Value>(reply).unwrap(), serde_json::json!({}));
    let Called::Ready(reply) = host.call(0, wire::config_from_url("subject:panic")) else {
        panic!("at once")
    };
    assert!(wire::reply::<serde_json::Value>(reply).unwrap_err().panicked);
    let Called::Ready(reply) = host.call(0, wire::validate(&serde_json::json!({}))) else {
        panic!("at once")
    };
    wire::reply::<()>(reply).unwrap();
    let Called::Ready(reply) = host.call(0, wire::validate(&serde_json::json!(1))) else { panic!("at once") };
    assert_eq!(wire::reply::<()>(reply).unwrap_err().error.kind(), ErrorKind::InvalidInput);
    let reply = host.call(0, wire::open(&serde_json::json!("panic"))).wait();
    assert!(wire::reply::<wire::Opened>(reply).unwrap_err().panicked);
    let reply = host.call(0, wire::open(&serde_json::json!(1))).wait();
    assert_eq!(wire::reply::<wire::Opened>(reply).unwrap_err().error.kind(), ErrorKind::InvalidInput);
}

/// A thousand calls that hang are cancelled at random moments: each future is dropped, each call completed once.
pub(crate) fn check_cancelled(host: &Host, store: u64) {
    let (begun, dropped) = (subject::HUNG.load(SeqCst), subject::DROPPED.load(SeqCst));
    let lingering = host.call(store, get("hang-and-linger"));
    eventually("the call hangs", || subject::HUNG.load(SeqCst) == begun + 1);
    lingering.cancel();
    assert_eq!(fail(lingering.wait()).message(), "the call was cancelled");
    assert_eq!(subject::DROPPED.load(SeqCst), dropped + 1, "the work was over before the call was completed");

    let mut random = 88_172_645_463_325_252_u64;
    let mut held = Vec::new();
    for call in 0..1_000 {
        held.push(host.call(store, get("hang")));
        // Xorshift: which call is given up, and when, differs from run to run with the threads anyway.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if random.is_multiple_of(3) {
            thread::sleep(Duration::from_micros(random % 50));
        }
        if call % 2 == 1 {
            let given_up = held.swap_remove((random % held.len() as u64) as usize);
            given_up.cancel();
            assert_eq!(fail(given_up.wait()).message(), "the call was cancelled");
        }
    }
    held.iter().for_each(|call| call.cancel());
    for call in held {
        assert_eq!(fail(call.wait()).message(), "the call was cancelled");
    }
    let (hung, gone) = (subject::HUNG.load(SeqCst) - begun, subject::DROPPED.load(SeqCst) - dropped);
    assert_eq!(hung, gone, "of what hung, all was dropped");
    assert!(hung > 100, "most calls got so far as to hang: {hung}");
}

/// Calls that end by themselves about when they are cancelled are completed once too.
pub(crate) fn check_cancel_races(host: &Host, store: u64) {
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..2_000 {
                    let call = host.call(store, get("work-later"));
                    if (round + thread) % 3 == 0 {
                        call.cancel();
                    }
                    match outcome(call.wait()) {
                        Ok(()) => {}
                        Err(failure) => assert_eq!(failure.error.message(), "the call was cancelled"),
                    }
                }
            });
        }
    });
}
