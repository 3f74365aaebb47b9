//! The end of all plugins: a process of its own, as no plugin of it works afterwards.

#![cfg(feature = "host")]
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]
#![expect(unsafe_code, reason = "the fake plugin is on the other side of the C ABI")]

#[path = "host/fake.rs"]
#[expect(dead_code, reason = "the other tests of the host use the rest")]
mod fake;

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use storage_core::{ErrorKind, TypeDescriptor};
use storage_plugin::abi::Functions;
use storage_plugin::host::{LoadLimits, shutdown_all};

use fake::{Mode, SHUTDOWNS, descriptor, functions, load, open, plugin};

unsafe extern "C" fn hang() {
    loop {
        thread::park();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_completes_what_is_in_flight_and_is_bounded() {
    let good = plugin();
    let (store, script) = open(&good).await;
    script.answer(Mode::Never);
    let in_flight = tokio::spawn({
        let store = std::sync::Arc::clone(&store);
        async move { store.collections().await }
    });
    fake::eventually("the call is in flight", || script.pending.load(SeqCst) == 1);
    let hangs = Functions { shutdown: Some(hang), ..functions() };
    let hanging = load(descriptor(hangs), &LoadLimits::default()).unwrap();

    let begun = Instant::now();
    tokio::task::spawn_blocking(shutdown_all).await.unwrap();
    let took = begun.elapsed();
    assert!((4..7).contains(&took.as_secs()), "it waits for the hanging one, but not for ever: {took:?}");
    assert_eq!(SHUTDOWNS.load(SeqCst), 1);
    assert_eq!(in_flight.await.unwrap().unwrap().len(), 1, "the call in flight was completed");

    assert_eq!(store.collections().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(good.open(script.config()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(hanging.open(script.config()).await.unwrap_err().kind(), ErrorKind::Closed);
    store.close().await.unwrap();
    drop(store);
    assert_eq!(script.stores_freed.load(SeqCst), 0, "nothing is called after the shutdown");

    // A plugin that is loaded later is shut down by the next one; the first is not asked again.
    let late = plugin();
    open(&late).await;
    thread::spawn(shutdown_all);
    fake::eventually("the late one is shut down", || SHUTDOWNS.load(SeqCst) == 2);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(SHUTDOWNS.load(SeqCst), 2);
}
