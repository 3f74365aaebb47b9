//! The end of a plugin: a program of its own, as nothing works afterwards.

#![expect(unsafe_code, reason = "the host of the test is on the other side of the C ABI")]
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]
#![allow(
    dead_code,
    reason = "each of the programs that test the plugin's side uses its part of the common module"
)]

mod plugin;

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use plugin::host::{DONE, Host};
use plugin::subject::{BLOCKED, CLOSED, DROPPED, HUNG, SUBJECT};
use plugin::{fail, get, open};
use storage_core::ErrorKind;
use storage_plugin::wire;

storage_plugin::export_plugin!(SUBJECT, name = "subject", version = "1.2.3");

#[test]
fn a_shutdown_completes_every_call_even_with_a_blocked_thread() {
    let host = Host::start();
    let (one, other) = (open(&host), open(&host));
    let hanging: Vec<_> = (0..100).map(|_| host.call(one, get("hang"))).collect();
    plugin::eventually("all calls hang", || HUNG.load(SeqCst) == 100);
    let blocked = host.call(other, get("block"));
    plugin::eventually("one blocks its thread", || HUNG.load(SeqCst) == 101);

    let begin = Instant::now();
    host.shutdown();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    for call in hanging.into_iter().chain([blocked]) {
        assert_eq!(fail(call.now()).kind(), ErrorKind::Closed);
    }
    assert_eq!((CLOSED.load(SeqCst), DROPPED.load(SeqCst)), (2, 100));

    let done = DONE.load(SeqCst);
    let Err(refused) = wire::reply::<()>(host.call(0, wire::validate(&serde_json::json!({}))).now()) else {
        panic!("the plugin is shut down");
    };
    assert_eq!(refused.error.kind(), ErrorKind::Closed);
    assert_eq!(fail(host.call(one, get("work")).now()).kind(), ErrorKind::Closed);
    host.store_free(one);
    host.shutdown();
    thread::sleep(BLOCKED.saturating_sub(begin.elapsed()) + Duration::from_millis(200));
    assert_eq!(DONE.load(SeqCst), done, "nothing is completed after the shutdown");
    host.check_faultless();
}
