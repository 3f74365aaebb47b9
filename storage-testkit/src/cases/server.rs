//! Cases that stop, freeze and cut the server behind the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use storage_core::{Backend, CollectionName, ErrorKind, HealthStatus, Mutation, Retry, Value};

use crate::Cx;
use crate::helpers::{address, get_json, get_one, ok, put, put_json, write_one};

/// No call outlasts this, whatever the server does.
const NEVER_HANGS: Duration = Duration::from_secs(40);
/// How long a backend may take to find back to its server.
const RECOVERY: Duration = Duration::from_secs(20);

/// A wrong password is told from everything else, and neither password is shown.
pub async fn wrong_password_kind(cx: Cx) {
    let opened = match cx.server().open_wrong_password().await {
        Ok(backend) => {
            // Some drivers connect with the first request only.
            let result = backend.get(&[address(&cx.collection(), "ada")]).await;
            result.map(drop)
        }
        Err(error) => Err(error),
    };
    let error = crate::helpers::expect_kind(opened, ErrorKind::Unauthenticated, "a wrong password");
    let source = std::error::Error::source(&error).map(|source| format!("{source} {source:?}"));
    for secret in cx.fixture().secrets() {
        let texts = [error.to_string(), format!("{error:?}"), source.clone().unwrap_or_default()];
        assert!(texts.iter().all(|text| !text.contains(&secret)), "the error shows a secret");
    }
}

/// After the server was away the same open store works again, with what was written before.
pub async fn reconnect_after_server_restart(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "ada", json!("before")).await;
    ok(cx.server().stop().await, "stopping the server");
    let error = within(backend.get(&[address(&users, "ada")]), "get without a server").await.err();
    let error = error.expect("a get succeeded although the server was stopped");
    assert!(
        matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
        "the wrong kind for a server that is away: {error:?}"
    );
    ok(cx.server().start().await, "starting the server");
    recovered(&backend, &users).await;
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!("before")));
    put_json(&*backend, &users, "ada", json!("after")).await;
    assert_eq!(get_json(&*backend, &users, "ada").await, Some(json!("after")));
}

/// Connections cut under load fail or finish each call, in time; then the store works again. A write that
/// was acknowledged stays.
pub async fn cut_connection_never_hangs(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "probe", json!(0)).await;
    let until = Instant::now() + Duration::from_secs(3);
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (backend, users) = (backend.clone(), users.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for i in (0..).take_while(|_| Instant::now() < until) {
                    let key = format!("t{task}-{i}");
                    let write = within(write_one(&*backend, put(&users, &key, json!(i))), "a write");
                    match write.await {
                        Ok(_) => acknowledged.push((key, i)),
                        Err(error) => cut(&error),
                    }
                    if let Err(error) = within(backend.get(&[address(&users, "probe")]), "a get").await {
                        cut(&error);
                    }
                }
                acknowledged
            })
        })
        .collect();
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(150)).await;
        ok(cx.server().cut_connections().await, "cutting the connections");
    }
    let mut acknowledged = Vec::new();
    for task in tasks {
        let done = task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        acknowledged.extend(done);
    }
    recovered(&backend, &users).await;
    assert!(!acknowledged.is_empty(), "no write came through at all in three seconds");
    for (key, i) in acknowledged {
        assert_eq!(get_json(&*backend, &users, &key).await, Some(json!(i)), "{key} was acknowledged");
    }
}

/// Increments over connections that are cut are done once where they are acknowledged, at most once where the error says
/// that nobody knows, and not at all where it says that nothing was done.
pub async fn cut_increments_count_once(cx: Cx) {
    let (backend, hits) = (cx.open().await, cx.collection());
    let one = || Mutation::increment(address(&hits, "hits"), "n", 1);
    ok(write_one(&*backend, one()).await, "an increment");
    let until = Instant::now() + Duration::from_secs(2);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (backend, increment) = (backend.clone(), one());
            tokio::spawn(async move {
                let (mut acknowledged, mut unknown) = (0, 0);
                while Instant::now() < until {
                    match within(write_one(&*backend, increment.clone()), "an increment").await {
                        Ok(_) => acknowledged += 1,
                        Err(error) => {
                            cut(&error);
                            unknown += i64::from(error.retry() == Retry::IfIdempotent);
                        }
                    }
                }
                (acknowledged, unknown)
            })
        })
        .collect();
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(60)).await;
        ok(cx.server().cut_connections().await, "cutting the connections");
    }
    let (mut least, mut unknown) = (1, 0);
    for task in tasks {
        let counted = task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        (least, unknown) = (least + counted.0, unknown + counted.1);
    }
    recovered(&backend, &hits).await;
    let record = crate::helpers::get_record(&*backend, &hits, "hits").await;
    let Value::Counters(fields) = record.value else { panic!("no counters") };
    let (sum, most) = (fields["n"], least + unknown);
    assert!((least..=most).contains(&sum), "{least} acknowledged, {unknown} unknown, and {sum} counted");
}

/// Health says when the server is away and when it is back, and is never an error.
pub async fn health_turns_with_the_server(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "ada", json!(1)).await;
    let up = ok(backend.health().await, "health");
    assert_eq!(up.status, HealthStatus::Up, "{up:?}");
    ok(cx.server().stop().await, "stopping the server");
    let down = ok(within(backend.health(), "health without a server").await, "health without a server");
    assert_eq!(down.status, HealthStatus::Down, "{down:?}");
    assert!(!down.detail.is_empty(), "it says what is wrong");
    for secret in cx.fixture().secrets() {
        assert!(!down.detail.contains(&secret), "the health shows a secret");
    }
    ok(cx.server().start().await, "starting the server");
    let until = Instant::now() + RECOVERY;
    loop {
        let health = ok(within(backend.health(), "health").await, "health");
        if health.status == HealthStatus::Up {
            break;
        }
        assert!(Instant::now() < until, "the server is back for {RECOVERY:?}, and the health is {health:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A server that takes requests and answers none is a timeout, for reads and writes; afterwards all is well.
pub async fn timeout_kind(cx: Cx) {
    let (backend, users) = (cx.open().await, cx.collection());
    put_json(&*backend, &users, "ada", json!(1)).await;
    ok(cx.server().pause().await, "freezing the server");
    // The write first, over a connection that is there: what comes after it may not even find a new one.
    let write = within(write_one(&*backend, put(&users, "ada", json!(2))), "a write").await.map(drop);
    let read = within(backend.get(&[address(&users, "ada")]), "a get of a frozen server").await.map(drop);
    ok(cx.server().resume().await, "thawing the server");
    let write = crate::helpers::expect_kind(write, ErrorKind::Timeout, "a write without an answer");
    assert_ne!(write.retry(), storage_core::Retry::Safe, "nobody knows whether it was done");
    crate::helpers::expect_kind(read, ErrorKind::Timeout, "a get without an answer");
    recovered(&backend, &users).await;
    let value = get_json(&*backend, &users, "ada").await;
    assert!(value == Some(json!(1)) || value == Some(json!(2)), "done or not done, but: {value:?}");
}

/// The reply of a call that has to come in time.
async fn within<T>(
    call: impl Future<Output = storage_core::Result<T>>,
    what: &str,
) -> storage_core::Result<T> {
    match tokio::time::timeout(NEVER_HANGS, call).await {
        Ok(result) => result,
        Err(_) => panic!("{what} hangs: no reply within {NEVER_HANGS:?}"),
    }
}

/// Waits until the store answers again.
async fn recovered(backend: &Arc<dyn Backend>, collection: &CollectionName) {
    let until = Instant::now() + RECOVERY;
    loop {
        let error = match within(backend.get(&[address(collection, "probe")]), "get").await {
            Ok(_) => break,
            Err(error) => error,
        };
        assert!(
            Instant::now() < until,
            "the server is back for {RECOVERY:?}, and a get still fails: {error:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    get_one(&**backend, collection, "probe").await;
}

/// How a call may fail whose connection was cut.
#[track_caller]
fn cut(error: &storage_core::Error) {
    let fits = [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Busy];
    assert!(fits.contains(&error.kind()), "the wrong kind for a cut connection: {error:?}");
}
