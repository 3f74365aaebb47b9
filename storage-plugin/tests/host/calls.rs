//! Calls, answered in every way that the ABI allows, and in some that it does not.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Waker};
use std::time::Duration;

use serde_json::json;
use storage_core::{CollectionName, ErrorKind, TypeDescriptor};

use crate::fake::{Mode, Script, eventually, open, plugin};

/// Polls once: what is dropped then is pending.
fn poll_once(future: impl Future) {
    let future = pin!(future);
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// All that the plugin sent is released, all that was pending is freed, and the store too.
fn nothing_leaks(script: &Script) {
    eventually("everything is released", || {
        script.made.load(SeqCst) == script.released.load(SeqCst)
            && script.pending.load(SeqCst) == script.calls_freed.load(SeqCst)
            && script.stores_freed.load(SeqCst) == 1
    });
    assert_eq!(script.faults(), [""; 0]);
}

#[tokio::test]
async fn every_way_to_answer_is_understood() {
    let plugin = plugin();
    let (store, script) = open(&plugin).await;
    for mode in [
        Mode::Ready,
        Mode::Pending(Duration::ZERO),
        Mode::Pending(Duration::from_millis(20)),
        Mode::DoneBeforeReturn,
    ] {
        script.answer(mode);
        let found = store.collections().await.unwrap();
        assert_eq!(found, [CollectionName::new("users").unwrap()], "{mode:?}");
    }
    assert_eq!(script.cancelled.load(SeqCst), 0);
    assert_eq!(plugin.violations(), 0);
    drop(store);
    nothing_leaks(&script);
}

#[tokio::test]
async fn errors_name_plugin_and_operation() {
    let plugin = plugin();
    let (store, script) = open(&plugin).await;
    for (mode, kind, part) in [
        (Mode::Error(ErrorKind::NotFound), ErrorKind::NotFound, "as the test wants it"),
        (Mode::Panicked, ErrorKind::Internal, "boom"),
        (Mode::Garbage, ErrorKind::Internal, "malformed"),
        (Mode::WrongType, ErrorKind::Internal, "malformed"),
        (Mode::NothingFilledIn, ErrorKind::Internal, "malformed"),
        (Mode::DoneWithNull, ErrorKind::Internal, "malformed"),
        (Mode::UnknownCode, ErrorKind::Internal, "unknown code 42"),
        (Mode::PendingZero, ErrorKind::Internal, "without a number"),
    ] {
        script.answer(mode);
        let error = store.collections().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{mode:?}: {error}");
        assert!(error.message().contains(part), "{mode:?}: {error}");
        assert_eq!((error.backend_name(), error.operation_name()), ("fake", "collections"), "{mode:?}");
    }
    script.answer(Mode::Ready);
    store.collections().await.unwrap();
    assert_eq!(plugin.disabled(), None);
    drop(store);
    nothing_leaks(&script);
}

#[tokio::test]
async fn completing_twice_or_late_is_counted_and_harmless() {
    let plugin = plugin();
    let (store, script) = open(&plugin).await;
    script.answer(Mode::DoneTwice);
    assert_eq!(store.collections().await.unwrap().len(), 1);
    assert_eq!(plugin.violations(), 1);
    // The slot was freed, and is in use again when the old token comes once more.
    script.complete_again();
    assert_eq!(plugin.violations(), 2);
    script.answer(Mode::Never);
    let mut call = pin!(store.collections());
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    script.complete_again();
    assert_eq!(plugin.violations(), 3);
    assert!(
        call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(),
        "it was another call's"
    );
    script.complete_all();
    assert_eq!(call.await.unwrap().len(), 1);
}

#[tokio::test]
async fn made_up_tokens_are_harmless() {
    let plugin = plugin();
    let (store, script) = open(&plugin).await;
    script.answer(Mode::DoneBeforeReturn);
    store.collections().await.unwrap();
    script.answer(Mode::Never);
    let mut call = pin!(store.collections());
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    script.complete_made_up();
    assert!(plugin.violations() > 0);
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    script.complete_all();
    assert_eq!(call.await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_of_both_kinds_is_one_answer() {
    let plugin = plugin();
    let (store, script) = open(&plugin).await;
    script.answer(Mode::ReadyAndDone);
    assert_eq!(store.collections().await.unwrap().len(), 1);
    assert_eq!(plugin.violations(), 1);
    drop(store);
    nothing_leaks(&script);
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_once_and_freed_when_it_is_done() {
    let plugin = plugin();
    for mode in [Mode::DoneInCancel, Mode::DoneAfterCancel, Mode::Pending(Duration::from_secs(1))] {
        let (store, script) = open(&plugin).await;
        script.answer(mode);
        poll_once(store.collections());
        assert_eq!(script.cancelled.load(SeqCst), 1, "{mode:?}");
        drop(store);
        nothing_leaks(&script);
    }
    assert_eq!(plugin.violations(), 0);
}

#[tokio::test]
async fn a_store_is_freed_only_after_the_calls_in_flight() {
    let plugin = plugin();
    let (store, script) = open(&plugin).await;
    script.answer(Mode::Never);
    poll_once(store.collections());
    poll_once(store.collections());
    drop(store);
    assert_eq!((script.cancelled.load(SeqCst), script.stores_freed.load(SeqCst)), (2, 0));
    assert_eq!(script.calls_freed.load(SeqCst), 0);
    script.complete_all();
    nothing_leaks(&script);
}

#[tokio::test]
async fn a_call_dropped_when_it_is_done_is_freed_without_cancelling() {
    let plugin = plugin();
    let (store, script) = open(&plugin).await;
    script.answer(Mode::Never);
    {
        let mut call = pin!(store.collections());
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        script.complete_all();
    }
    assert_eq!(script.cancelled.load(SeqCst), 0);
    drop(store);
    nothing_leaks(&script);
}

#[tokio::test]
async fn a_store_that_nobody_waits_for_is_freed() {
    let plugin = plugin();
    for mode in [Mode::DoneAfterCancel, Mode::DoneInCancel, Mode::Never] {
        let script = Script::new();
        script.answer(mode);
        script.answer_open(mode);
        poll_once(plugin.open(script.config()));
        script.complete_all();
        nothing_leaks(&script);
    }
}

#[tokio::test]
async fn an_open_is_answered_later_too() {
    let plugin = plugin();
    for mode in [Mode::Pending(Duration::from_millis(1)), Mode::DoneBeforeReturn] {
        let script = Script::new();
        script.answer_open(mode);
        let store = plugin.open(script.config()).await.unwrap();
        assert_eq!((store.info().name.as_str(), store.info().location.as_str()), ("fake", "fake:"));
        assert_eq!(store.collections().await.unwrap().len(), 1);
        store.close().await.unwrap_err();
        drop(store);
        nothing_leaks(&script);
    }
}

#[test]
fn what_does_no_io_is_answered_at_once() {
    let plugin = plugin();
    let script = Script::new();
    plugin.validate(&script.config()).unwrap();
    script.answer_open(Mode::Error(ErrorKind::InvalidInput));
    assert_eq!(plugin.validate(&script.config()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(plugin.violations(), 0);
    for mode in [Mode::DoneInCancel, Mode::DoneAfterCancel, Mode::DoneBeforeReturn] {
        script.answer(mode);
        script.answer_open(mode);
        let error = plugin.validate(&script.config()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
        assert!(error.message().contains("answered at once"), "{error}");
        assert_eq!((error.backend_name(), error.operation_name()), ("fake", "validate"));
    }
    assert_eq!(plugin.violations(), 3);
    assert_eq!(script.faults(), [""; 0]);
    eventually("the calls are freed", || script.calls_freed.load(SeqCst) == 3);
}

#[tokio::test]
async fn configurations_pass_through() {
    let plugin = plugin();
    assert_eq!(plugin.config_from_url("fake:x").unwrap(), json!({ "url": "fake:x" }));
    assert_eq!(plugin.config_schema(), json!({ "type": "object" }));
}
