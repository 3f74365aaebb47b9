//! Deadlines as the layers of a store keep them.

use std::sync::Arc;
use std::time::Duration;

use storage_core::layer::{Layer, Layers, Retry, Timeout};
use storage_core::{Backend, ErrorKind};
use tokio::time::Instant;

use crate::fake::Fake;
use crate::{at, put};

const SECOND: Duration = Duration::from_secs(1);

/// Calls take a minute; reads may take one second and writes ten.
fn hasty(fake: &Arc<Fake>) -> Arc<dyn Backend> {
    let timeout = Timeout { read: Some(SECOND), write: Some(10 * SECOND), bulk: None };
    Layers::none().with(Layer::Timeout(timeout)).apply(fake.clone())
}

#[tokio::test(start_paused = true)]
async fn each_call_has_its_own_deadline() {
    let fake = Fake::slow(60 * SECOND);
    let backend = hasty(&fake);
    let begun = Instant::now();
    let after = |pause: u32, writes: bool| {
        let backend = backend.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause * SECOND).await;
            let (keys, batch) = ([at("a")], put("a"));
            let failed = if writes {
                backend.write(&batch).await.unwrap_err()
            } else {
                backend.get(&keys).await.unwrap_err()
            };
            assert_eq!(failed.kind(), ErrorKind::Timeout);
            begun.elapsed().as_secs()
        })
    };
    // One that is over earlier than those that wait already, one of the same time, and one when nobody waits any more.
    let calls = [after(0, true), after(1, false), after(2, true), after(11, false), after(30, false)];
    let mut over = Vec::new();
    for call in calls {
        over.push(call.await.unwrap());
    }
    assert_eq!(over, [10, 2, 12, 12, 31]);
    assert_eq!(fake.flying.load(std::sync::atomic::Ordering::SeqCst), 0, "all calls were dropped");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_deadline() {
    let fake = Fake::slow(60 * SECOND);
    let timeout = Timeout { read: Some(4 * SECOND), ..Timeout::default() };
    let layers = Layers::none().with(Layer::Retry(Retry::default())).with(Layer::Timeout(timeout));
    let begun = Instant::now();
    let error = layers.apply(fake.clone()).get(&[at("a")]).await.unwrap_err();
    assert_eq!((error.kind(), fake.count()), (ErrorKind::Timeout, 3));
    assert!((12..14).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

/// A program may have several runtimes, of which each is driven only now and then.
#[test]
fn a_runtime_that_nobody_drives_holds_up_no_deadline_of_another() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (idle, driven) = (runtime(), runtime());
    let backend = hasty(&Fake::slow(60 * SECOND));
    let keys = [at("a")];
    // It is given up, unless this thread is so late that its deadline is over too.
    let _ = idle.block_on(async { tokio::time::timeout(SECOND / 10, backend.get(&keys)).await });
    let begun = std::time::Instant::now();
    let answer = driven.block_on(async { tokio::time::timeout(9 * SECOND, backend.get(&keys)).await });
    assert_eq!(answer.expect("it has a deadline").unwrap_err().kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() < 5 * SECOND, "it was woken for it");
}

#[test]
fn the_end_of_a_runtime_leaves_the_deadlines_of_another() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let backend = hasty(&Fake::slow(60 * SECOND));
    let ask = |key: &'static str| {
        let backend = backend.clone();
        async move { tokio::time::timeout(20 * SECOND, backend.get(&[at(key)])).await }
    };
    first.spawn(ask("first"));
    std::thread::sleep(SECOND / 5);
    let waits = second.spawn(ask("second"));
    std::thread::sleep(SECOND / 5);
    drop(first);
    let begun = std::time::Instant::now();
    let answer = second.block_on(waits).unwrap();
    assert_eq!(answer.expect("it has a deadline").unwrap_err().kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() < 10 * SECOND, "it was woken for it");
}
