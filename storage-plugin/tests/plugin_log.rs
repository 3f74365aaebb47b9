//! What a plugin logs reaches the host's log.

#![expect(unsafe_code, reason = "the host of the test is on the other side of the C ABI")]
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]
#![allow(
    dead_code,
    reason = "each of the programs that test the plugin's side uses its part of the common module"
)]

mod plugin;

use std::sync::atomic::Ordering::SeqCst;

use plugin::host::{Host, LEVEL, take_log};
use plugin::subject::SUBJECT;
use plugin::{get, open, outcome};

storage_plugin::export_plugin!(SUBJECT, name = "subject", version = "1.2.3");

/// What is logged at a level: level, message and fields.
fn logged(host: &Host, store: u64, level: u32) -> Vec<(u32, String, Vec<u8>)> {
    LEVEL.store(level, SeqCst);
    outcome(host.call(store, get("log")).wait()).unwrap();
    let log = take_log();
    assert!(log.iter().all(|logged| logged.target == "plugin_log::plugin::subject"), "{log:?}");
    log.into_iter().map(|logged| (logged.level, logged.message, logged.fields)).collect()
}

#[test]
fn events_come_with_fields_and_spans_at_the_level_of_the_moment() {
    let host = Host::start();
    let store = open(&host);
    let fields: &[u8] = b"\x83\xa5spans\xa3log\xa1n\xa17\xa4text\xa5seven";
    let told = |fields: &[u8]| (3, "told so".to_owned(), fields.to_vec());
    // The span is made at a level of interest only.
    assert_eq!(logged(&host, store, 0), []);
    assert_eq!(logged(&host, store, 2), [(2, "in both".to_owned(), Vec::new())]);
    assert_eq!(
        logged(&host, store, 3),
        [told(fields), (2, "in both".to_owned(), b"\x81\xa5spans\xa3log".to_vec())]
    );
    let all = [
        told(fields),
        (2, "in both".to_owned(), b"\x81\xa5spans\xa9log:inner".to_vec()),
        (5, "last".to_owned(), b"\x81\xa5spans\xa3log".to_vec()),
    ];
    assert_eq!(logged(&host, store, 5), all);
    assert_eq!(logged(&host, store, 4), all[..2]);
    assert_eq!(logged(&host, store, 1), []);
}
