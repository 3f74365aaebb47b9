//! When a plugin is disabled.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::Duration;

use storage_core::{ErrorKind, Retry, TypeDescriptor};
use storage_plugin::host::LoadLimits;

use crate::fake::{Mode, descriptor, eventually, functions, load, open, plugin};

#[tokio::test]
async fn panics_in_a_row_disable() {
    let plugin = plugin();
    let (store, script) = open(&plugin).await;
    let (sender, receiver) = mpsc::channel();
    let also = sender.clone();
    plugin.on_disabled(|_| panic!("a callback that panics does not keep the others from being called"));
    plugin.on_disabled(move |reason| sender.send(reason.to_owned()).unwrap());
    script.answer(Mode::Panicked);
    for _ in 0..4 {
        assert_eq!(store.collections().await.unwrap_err().kind(), ErrorKind::Internal);
    }
    assert_eq!(plugin.disabled(), None);
    assert_eq!(store.collections().await.unwrap_err().kind(), ErrorKind::Internal);

    let reason = plugin.disabled().unwrap();
    assert!(reason.contains("5 calls in a row") && reason.contains("`collections`"), "{reason}");
    assert!(reason.contains("boom"), "{reason}");
    assert_eq!(receiver.try_recv().unwrap(), reason);
    plugin.on_disabled(move |reason| also.send(reason.to_owned()).unwrap());
    assert_eq!(receiver.try_recv().unwrap(), reason, "too late is at once");

    script.answer(Mode::Ready);
    let config = script.config();
    let error = plugin.open(config.clone()).await.unwrap_err();
    for error in [
        error,
        store.collections().await.unwrap_err(),
        plugin.validate(&config).unwrap_err(),
        plugin.config_from_url("fake:").unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Never));
        assert!(error.message().contains("fake@1.0.0") && error.message().contains(&reason), "{error}");
        assert!(error.message().contains("Restart the program, or install another version"), "{error}");
    }
}

#[tokio::test]
async fn a_good_answer_between_panics_forgives() {
    let plugin = plugin();
    let (store, script) = open(&plugin).await;
    for _ in 0..5 {
        script.answer(Mode::Panicked);
        for _ in 0..4 {
            store.collections().await.unwrap_err();
        }
        // An ordinary error is an answer as good as any.
        script.answer(Mode::Error(ErrorKind::NotFound));
        store.collections().await.unwrap_err();
    }
    assert_eq!(plugin.disabled(), None);
}

#[tokio::test]
async fn a_disabled_plugin_still_closes() {
    let plugin =
        load(descriptor(functions()), &LoadLimits { misbehaviours: 1, ..LoadLimits::default() }).unwrap();
    let (store, script) = open(&plugin).await;
    script.answer(Mode::Panicked);
    store.collections().await.unwrap_err();
    assert!(plugin.disabled().is_some());
    script.answer(Mode::Error(ErrorKind::StorageFull));
    assert_eq!(store.close().await.unwrap_err().kind(), ErrorKind::StorageFull, "it reached the plugin");
    drop(store);
    assert_eq!(script.stores_freed.load(SeqCst), 1);
}

#[tokio::test]
async fn cancelled_calls_that_never_end_disable() {
    let limits = LoadLimits { cancel: Duration::from_secs(1), misbehaviours: 3, ..LoadLimits::default() };
    let plugin = load(descriptor(functions()), &limits).unwrap();
    let (store, script) = open(&plugin).await;
    let drop_one = || {
        let call = pin!(store.collections());
        assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    };
    // Those that end in time do not count.
    script.answer(Mode::DoneAfterCancel);
    for _ in 0..20 {
        drop_one();
    }
    eventually("all are freed", || script.calls_freed.load(SeqCst) == 20);
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(plugin.disabled(), None);

    script.answer(Mode::Never);
    drop_one();
    drop_one();
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(plugin.disabled(), None, "two of three");
    drop_one();
    eventually("it is disabled", || plugin.disabled().is_some());
    let reason = plugin.disabled().unwrap();
    assert!(reason.contains("was cancelled, and did not end within 1s"), "{reason}");

    // They end after all, and are let go.
    script.complete_all();
    eventually("all are freed", || script.calls_freed.load(SeqCst) == 23);
    drop(store);
    eventually("the store too", || script.stores_freed.load(SeqCst) == 1);
    assert_eq!(script.faults(), [""; 0]);
    assert_eq!(plugin.violations(), 0);
}

#[tokio::test]
async fn panics_of_dropped_calls_count() {
    let plugin =
        load(descriptor(functions()), &LoadLimits { misbehaviours: 2, ..LoadLimits::default() }).unwrap();
    let (store, script) = open(&plugin).await;
    script.answer(Mode::PanickedAfterCancel);
    for _ in 0..2 {
        let call = pin!(store.collections());
        assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    eventually("it is disabled", || plugin.disabled().is_some());
}
