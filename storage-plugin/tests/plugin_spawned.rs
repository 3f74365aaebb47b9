//! The plugin's side, with calls on the plugin's threads.

#![expect(unsafe_code, reason = "the host of the test is on the other side of the C ABI")]
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]
#![allow(
    dead_code,
    reason = "each of the programs that test the plugin's side uses its part of the common module"
)]

mod plugin;

use std::sync::LazyLock;

use plugin::host::Host;
use plugin::subject::{STORES_DROPPED, SUBJECT};
use plugin::{get, open, outcome};

storage_plugin::export_plugin!(SUBJECT, name = "subject", version = "1.2.3");

static HOST: LazyLock<Host> = LazyLock::new(Host::start);

#[test]
fn calls_are_pending_and_completed_once() {
    let store = open(&HOST);
    for order in ["work", "work-later", "sleep"] {
        let call = HOST.call(store, get(order));
        assert!(call.is_pending(), "{order}");
        outcome(call.wait()).unwrap();
    }
    plugin::check_type(&HOST);
    plugin::check_malformed(&HOST, store);
    plugin::check_numbers(&HOST);
    plugin::check_panics(&HOST, store);
    HOST.check_faultless();
}

#[test]
fn cancelled_calls_are_dropped_and_completed_once() {
    let store = open(&HOST);
    plugin::check_cancelled(&HOST, store);
    plugin::check_cancel_races(&HOST, store);
    HOST.check_faultless();
}

#[test]
fn a_store_is_dropped_on_a_thread_of_the_plugin() {
    let store = open(&HOST);
    HOST.store_free(store);
    plugin::eventually("the store is dropped", || !STORES_DROPPED.lock().unwrap().is_empty());
    assert!(STORES_DROPPED.lock().unwrap().iter().all(|thread| thread == "plugin-subject"));
}
