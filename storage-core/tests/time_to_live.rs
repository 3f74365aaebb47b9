//! The conformance suite with strategies of expiry on top: the layer changes when records expire, and nothing else.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use storage_core::layer::{Expire, Lifetime, Strategy, TimeToLive};
use storage_core::{Backend, CollectionName, MemoryBackend, Result};
use storage_testkit::{Fixture, Harness, Outcome, cases};

/// Cases that ask that a record which was put without an expiry has none.
const NO_EXPIRY: [&str; 6] = [
    "put_get_roundtrip",
    "expiry_is_readable",
    "put_without_ttl_clears_it",
    "expired_counts_as_absent_for_preconditions",
    "batch_expiries",
    "ttl_on_counters",
];
/// A case that reads a record which is about to expire, and asks that it does.
const READ_AND_GONE: &str = "ttl_expires";

#[derive(Clone)]
struct Expiring(TimeToLive);

#[async_trait]
impl Harness for Expiring {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Fixture for Expiring {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(Expire::new(self.0.clone(), Arc::new(MemoryBackend::new()))))
    }

    fn persistent(&self) -> bool {
        harness::Memory.persistent()
    }

    fn secrets(&self) -> Vec<String> {
        harness::Memory.secrets()
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        harness::Memory.open_bad_endpoint().await
    }
}

/// The names of the cases that fail.
async fn failing(config: TimeToLive) -> Vec<&'static str> {
    let harness = Expiring(config);
    let runs = cases().iter().filter(|case| !case.server).map(|case| {
        let harness = &harness;
        async move { (case, case.run(harness).await) }
    });
    let outcomes: Vec<_> = futures_util::stream::iter(runs).buffered(8).collect().await;
    assert!(outcomes.len() > 100, "the suite was run");
    let failed = outcomes.into_iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
    failed.map(|(case, _)| case.name).collect()
}

fn sliding() -> Strategy {
    Strategy::Sliding(Lifetime::new(Duration::from_secs(3600)).unwrap().with_jitter(0.1).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn collections_without_a_strategy_are_as_without_the_layer() {
    let sessions = CollectionName::new("sessions").unwrap();
    let config = TimeToLive::default().with(sessions, sliding());
    assert_eq!(failing(config).await, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sliding_lifetime_changes_nothing_but_the_expiry() {
    let config = TimeToLive { default: sliding(), ..TimeToLive::default() };
    let mut failed = failing(config).await;
    // On a machine that stalls, a record may expire before the case reads it.
    failed.retain(|case| *case != READ_AND_GONE);
    assert_eq!(failed, NO_EXPIRY);
}
