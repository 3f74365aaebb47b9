//! What stands in the database, as the README says and other programs see it.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::time::{Duration, Instant};

use storage_core::{Address, Backend, Batch, CollectionName, Mutation, Scan, Timestamp, Value};
use storage_testkit::helpers::in_millis;
use storage_testkit::servers::{RedisServer, RedisSettings};

async fn put(backend: &dyn Backend, key: &str, expires_at: Option<Timestamp>) {
    let mutation =
        Mutation::put(Address::new("users", key).unwrap(), Value::bytes("data")).expiring(expires_at);
    for result in backend.write(&Batch::independent(vec![mutation])).await.unwrap() {
        result.unwrap();
    }
}

#[tokio::test]
async fn keys_are_where_the_readme_says() {
    let server = RedisServer::start(&RedisSettings::default()).unwrap();
    let store = harness::open(&format!("redis://{}?prefix=app", server.address())).await.unwrap();
    put(&*store, "ada", None).await;
    let record = server.command(&["GET", "{app:users}:r:ada"]).unwrap();
    assert!(record.starts_with("1b") && record.contains("~~~~~~~~~~~~~~~~"), "{record}");
    assert!(record.trim_end().ends_with("0018application/octet-streamdata"), "{record}");
    assert_eq!(server.command(&["ZRANGE", "{app:users}:i", "0", "-1"]).unwrap().trim(), "ada");
    assert_eq!(server.command(&["SMEMBERS", "app:collections"]).unwrap().trim(), "users");
    assert_eq!(server.command(&["HGET", "app:meta", "layout"]).unwrap().trim(), "1");
    assert_eq!(server.command(&["DBSIZE"]).unwrap().trim(), "4");
}

#[tokio::test]
async fn redis_frees_what_has_expired_and_scans_forget_it() {
    let server = RedisServer::start(&RedisSettings::default()).unwrap();
    let store = harness::open(&format!("redis://{}", server.address())).await.unwrap();
    put(&*store, "kept", None).await;
    let short = in_millis(1_000);
    put(&*store, "short", Some(short)).await;
    let started = Instant::now();
    while server.command(&["EXISTS", "{storage:users}:r:short"]).unwrap().trim() == "1" {
        assert!(started.elapsed() < Duration::from_secs(10), "the key does not expire in Redis");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rule = short.saturating_add(Duration::from_secs(1));
    assert!(Timestamp::now() >= rule, "it expired before the host's rule could decide");
    let members = || server.command(&["ZCARD", "{storage:users}:i"]).unwrap().trim().to_owned();
    assert_eq!(members(), "2");
    let page = store.scan(&Scan::new(CollectionName::new("users").unwrap())).await.unwrap();
    assert_eq!((page.items.len(), page.next.is_none()), (1, true));
    assert_eq!(members(), "1");
}

#[tokio::test]
async fn another_number_of_shards_is_refused() {
    let server = RedisServer::start(&RedisSettings::default()).unwrap();
    let url = format!("redis://{}", server.address());
    harness::open(&url).await.unwrap();
    let error = harness::open(&format!("{url}?shards=8")).await.unwrap_err();
    assert_eq!(error.kind(), storage_core::ErrorKind::InvalidInput);
    assert!(error.message().contains("shards = 1"), "{error}");
    harness::open(&format!("{url}?shards=8&prefix=other")).await.unwrap();
}
