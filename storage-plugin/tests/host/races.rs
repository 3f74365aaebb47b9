//! Many calls at once, dropped at any moment.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use storage_core::TypeDescriptor;

use crate::fake::{Mode, Script, eventually, open, plugin};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_dropped_at_any_moment_are_freed_once() {
    const TASKS: u64 = 8;
    const CALLS: u64 = 2_000;

    let plugin = plugin();
    let (store, script) = open(&plugin).await;
    script.answer(Mode::AnyHonest);
    let answered = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (store, answered) = (Arc::clone(&store), Arc::clone(&answered));
            tokio::spawn(async move {
                for round in 0..CALLS {
                    let patience = Duration::from_micros((task * 7 + round * 13) % 90);
                    tokio::select! {
                        biased;
                        _ = spin(patience) => {}
                        found = store.collections() => {
                            assert_eq!(found.unwrap().len(), 1);
                            answered.fetch_add(1, SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    drop(store);
    all_is_let_go(&script);
    let answered = answered.load(SeqCst);
    assert!((1..TASKS * CALLS).contains(&answered), "some are answered and some dropped: {answered}");
    assert_eq!((plugin.violations(), plugin.disabled()), (0, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn opens_dropped_at_any_moment_leave_no_store() {
    let plugin = plugin();
    let script = Script::new();
    script.answer(Mode::AnyHonest);
    script.answer_open(Mode::AnyHonest);
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let (plugin, config) = (Arc::clone(&plugin), script.config());
            tokio::spawn(async move {
                for round in 0..1_000 {
                    let patience = Duration::from_micros((task * 7 + round * 13) % 60);
                    tokio::select! {
                        biased;
                        _ = spin(patience) => {}
                        store = plugin.open(config.clone()) => drop(store.unwrap()),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    eventually("every store is freed", || {
        script.stores_freed.load(SeqCst) == script.stores_opened.load(SeqCst)
    });
    all_is_let_go(&script);
    assert_eq!(plugin.violations(), 0);
}

/// Ready after a while, whatever the timer's granularity is.
async fn spin(patience: Duration) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < patience {
        tokio::task::yield_now().await;
    }
}

fn all_is_let_go(script: &Script) {
    eventually("every call is freed", || script.pending.load(SeqCst) == script.calls_freed.load(SeqCst));
    eventually("every message is released", || script.made.load(SeqCst) == script.released.load(SeqCst));
    assert_eq!(script.faults(), [""; 0]);
}
