//! Guard, timeout and retry.

use std::sync::Arc;
use std::time::Duration;

use storage_core::layer::{Around, Guard, Retry, Timeout};
use storage_core::{
    AtomicScope, Backend, Batch, Capabilities, Changes, CollectionName, ErrorKind, Feature, Maintenance,
    Mutation, Retry as Class, Scan, Value,
};
use tokio::time::Instant;

use crate::fake::Fake;
use crate::{at, increment, put};

#[tokio::test]
async fn guard_refuses_before_any_io() {
    let mut capabilities = Capabilities::none().native([Feature::Get, Feature::Put]);
    capabilities.limits.batch_len = 2;
    let fake = Arc::new(Fake::with(capabilities));
    let guarded = Around::new(Guard, fake.clone());

    let error = guarded.collections().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!((error.operation_name(), error.backend_name()), ("collections", "fake"));
    let error = guarded.get(&[at("a"), at("b"), at("c")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let page = Scan { limit: 0, ..Scan::new(CollectionName::new("users").unwrap()) };
    assert_eq!(guarded.scan(&page).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(fake.count(), 0);

    assert_eq!(guarded.get(&[at("a"), at("no")]).await.unwrap().len(), 2);
    assert_eq!(fake.count(), 1);
}

#[tokio::test]
async fn guard_holds_atomic_batches_to_limits_of_their_own() {
    let mut capabilities = Capabilities::none().native([Feature::Put, Feature::Bytes, Feature::Atomic]);
    capabilities.atomic_scope = AtomicScope::Store;
    (capabilities.limits.atomic_len, capabilities.limits.atomic_bytes) = (2, 1_000);
    let fake = Arc::new(Fake::with(capabilities));
    let guarded = Around::new(Guard, fake.clone());
    let puts = |many: usize, bytes: usize| {
        (0..many).map(|n| Mutation::put(at(&n.to_string()), Value::bytes(vec![0; bytes]))).collect()
    };

    for (many, bytes, limit) in
        [(3, 1, "limit of this backend is 2"), (2, 600, "limit of this backend is 1000")]
    {
        let error = guarded.write(&Batch::atomic(puts(many, bytes))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.message().contains("atomic") && error.message().contains(limit), "{error}");
    }
    assert_eq!(fake.count(), 0);
    assert_eq!(guarded.write(&Batch::atomic(puts(2, 1))).await.unwrap().len(), 2);
    assert_eq!(guarded.write(&Batch::independent(puts(3, 600))).await.unwrap().len(), 3);
    // What is one mutation is done at once anyway.
    assert_eq!(guarded.write(&Batch::atomic(puts(1, 2_000))).await.unwrap().len(), 1);
}

#[tokio::test]
async fn guard_names_errors_also_those_of_single_mutations() {
    let fake = Fake::failing(1, ErrorKind::Unavailable, Class::Never);
    let guarded = Around::new(Guard, fake.clone());
    assert_eq!(guarded.get(&[at("a")]).await.unwrap_err().to_string(), "fake get: told to");

    let batch =
        Batch::independent(vec![Mutation::delete(at("fine")), Mutation::put(at("fail"), Value::bytes(""))]);
    let results = guarded.write(&batch).await.unwrap();
    assert!(results[0].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().to_string(), "fake write: told to");
}

#[tokio::test]
async fn guard_leaves_closedness_to_the_backend() {
    let fake = Arc::new(Fake::new());
    let guarded = Around::new(Guard, fake.clone());
    guarded.close().await.unwrap();
    assert_eq!(guarded.health().await.unwrap_err().kind(), ErrorKind::Closed);
    guarded.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn timeout_ends_what_takes_too_long() {
    let fake = Fake::slow(Duration::from_secs(60));
    let timed = Around::new(Timeout::default(), fake.clone());

    let begun = Instant::now();
    let error = timed.write(&put("a")).await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Timeout, Class::IfIdempotent));
    assert_eq!((error.operation_name(), error.backend_name()), ("write", "fake"));
    assert!(error.to_string().contains("unknown"), "{error}");
    assert_eq!(fake.flying.load(std::sync::atomic::Ordering::SeqCst), 0, "the call was dropped");
    assert!(fake.applied.lock().unwrap().is_empty());

    let error = timed.get(&[at("a")]).await.unwrap_err();
    assert!(!error.to_string().contains("unknown"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn timeout_lets_long_work_run_and_adds_the_wait_for_changes() {
    let timed = Around::new(Timeout::default(), Fake::slow(Duration::from_secs(60)));
    timed.clear(&CollectionName::new("users").unwrap()).await.unwrap();
    timed.maintain(Maintenance::Sweep).await.unwrap();

    let mut changes = Changes { collection: None, after: None, limit: 1, wait: Duration::from_secs(40) };
    timed.changes(&changes).await.unwrap();
    changes.wait = Duration::from_secs(20);
    let begun = Instant::now();
    assert_eq!(timed.changes(&changes).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed().as_secs(), 50);
}

#[tokio::test(start_paused = true)]
async fn timeout_of_null_never_comes() {
    let timeout: Timeout = serde_json::from_str(r#"{"read": null, "bulk": "2m"}"#).unwrap();
    assert_eq!((timeout.read, timeout.bulk), (None, Some(Duration::from_secs(120))));
    let timed = Around::new(timeout, Fake::slow(Duration::from_secs(100_000)));
    timed.health().await.unwrap();
}

/// A read-only case, an idempotent write and one that is not, after two failures of a class.
async fn outcomes(class: Class) -> [bool; 3] {
    let with_faults = || {
        let fake = Fake::failing(2, ErrorKind::Unavailable, class);
        Around::new(Retry::default(), fake)
    };
    [
        with_faults().get(&[at("a")]).await.is_ok(),
        with_faults().write(&put("a")).await.is_ok(),
        with_faults().write(&increment("a")).await.is_ok(),
    ]
}

#[tokio::test(start_paused = true)]
async fn retry_looks_at_the_error_and_at_the_request() {
    assert_eq!(outcomes(Class::Safe).await, [true, true, true]);
    assert_eq!(outcomes(Class::IfIdempotent).await, [true, true, false]);
    assert_eq!(outcomes(Class::Never).await, [false, false, false]);
}

#[tokio::test(start_paused = true)]
async fn retry_ends_after_its_attempts_with_the_last_error() {
    let fake = Fake::failing(10, ErrorKind::Busy, Class::Safe);
    let begun = Instant::now();
    let error = Around::new(Retry::default(), fake.clone()).get(&[at("a")]).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Busy, "told to"));
    assert_eq!(fake.count(), 3);
    assert!(begun.elapsed() <= Duration::from_millis(20 + 40 + 2), "{:?}", begun.elapsed());

    let fake = Fake::failing(10, ErrorKind::Busy, Class::Safe);
    let once = Retry { attempts: 1, ..Retry::default() };
    Around::new(once, fake.clone()).get(&[at("a")]).await.unwrap_err();
    assert_eq!(fake.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn retry_waits_longer_each_time_up_to_the_cap_and_at_random() {
    let second = Duration::from_secs(1);
    let retry = Retry { attempts: 9, base: second, cap: 4 * second, budget: 1000 * second };
    let mut waited = Vec::new();
    for _ in 0..50 {
        let fake = Fake::failing(8, ErrorKind::Busy, Class::Safe);
        let begun = Instant::now();
        Around::new(retry, fake).health().await.unwrap();
        waited.push(begun.elapsed().as_secs_f64());
    }
    // At most 1 + 2 + 6 × 4 seconds, and half of it on average.
    assert!(waited.iter().all(|time| *time <= 27.1), "{waited:?}");
    let mean = waited.iter().sum::<f64>() / 50.0;
    assert!((10.0..17.0).contains(&mean), "{mean}");
    assert!(waited.iter().any(|time| (time - waited[0]).abs() > 0.1), "all the same: {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn retry_keeps_to_its_budget_and_each_attempt_has_its_own_deadline() {
    let fake = Fake::slow(Duration::from_secs(60));
    let timeout = Timeout { read: Some(Duration::from_secs(4)), ..Timeout::default() };
    let stack = Around::new(
        Retry { attempts: 100, ..Retry::default() },
        Arc::new(Around::new(timeout, fake.clone())),
    );
    let begun = Instant::now();
    assert_eq!(stack.get(&[at("a")]).await.unwrap_err().kind(), ErrorKind::Timeout);
    // Attempts begin at 0, 4 and 8 seconds; one at 12 would be past the budget of 10.
    assert_eq!(fake.count(), 3);
    assert!((12..14).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn retry_leaves_errors_of_single_mutations_to_the_caller() {
    let fake = Arc::new(Fake::new());
    let retrying = Around::new(Retry::default(), fake.clone());
    let results = retrying.write(&put("fail")).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().retry(), Class::Safe);
    assert_eq!(fake.count(), 1);
}
