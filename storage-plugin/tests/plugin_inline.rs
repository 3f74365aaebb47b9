//! The plugin's side, with calls that are first polled on the host's threads.

#![expect(unsafe_code, reason = "the host of the test is on the other side of the C ABI")]
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]
#![allow(
    dead_code,
    reason = "each of the programs that test the plugin's side uses its part of the common module"
)]

mod plugin;

use std::sync::LazyLock;

use plugin::host::{Called, Host};
use plugin::subject::SUBJECT;
use plugin::{get, open, outcome};

storage_plugin::export_plugin!(SUBJECT, name = "subject", version = "1.2.3", inline);

static HOST: LazyLock<Host> = LazyLock::new(Host::start);

#[test]
fn what_does_not_wait_is_answered_at_once() {
    let store = open(&HOST);
    let Called::Ready(reply) = HOST.call(store, get("work")) else { panic!("it does not wait") };
    outcome(reply).unwrap();
    for order in ["work-later", "sleep"] {
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
