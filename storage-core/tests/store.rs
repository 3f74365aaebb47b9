//! The typed store over the memory backend.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use storage_core::{
    Address, Batch, Blob, ErrorKind, Json, MemoryBackend, MessagePack, Mutation, Raw, Retry, Store,
    Timestamp, Value,
};

fn store() -> Store {
    Store::new(Arc::new(MemoryBackend::new()))
}

#[tokio::test]
async fn puts_obey_conditions() {
    let users = store().collection::<String>("users").unwrap();
    let (one, two) = ("one".to_owned(), "two".to_owned());
    assert_eq!(users.put("k", &two).if_present().await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
    let first = users.put("k", &one).if_absent().await.unwrap();
    assert_eq!(users.put("k", &two).if_absent().await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
    let second = users.put("k", &two).if_version(first.clone()).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(
        users.put("k", &one).if_version(first.clone()).await.unwrap_err().kind(),
        ErrorKind::PreconditionFailed
    );
    assert_eq!(users.delete("k").if_version(first).await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
    let entry = users.get_record("k").await.unwrap().unwrap();
    assert_eq!((entry.value, entry.version, entry.expires_at), (two, second, None));
    assert!(users.delete("k").await.unwrap());
    assert!(!users.delete("k").await.unwrap());
    assert!(!users.exists("k").await.unwrap());
}

#[tokio::test]
async fn a_mutation_that_is_refused_harms_no_other() {
    let store = store();
    let limit = store.backend().info().capabilities.limits.value_bytes;
    let put = |key, size| Mutation::put(Address::new("c", key).unwrap(), Value::bytes(vec![0; size]));
    let mutations = vec![put("a", 1), put("large", limit + 1), put("b", 1)];
    let results = store.write(Batch::independent(mutations.clone())).await.unwrap();
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(
        (error.kind(), error.operation_name(), error.backend_name()),
        (ErrorKind::TooLarge, "write", "memory")
    );
    assert!(error.to_string().contains(&limit.to_string()), "{error}");
    assert!(store.get(&Address::new("c", "b").unwrap()).await.unwrap().is_some());

    let error = store.write(Batch::atomic(mutations)).await.unwrap_err();
    assert_eq!((error.kind(), error.failed_mutation()), (ErrorKind::TooLarge, Some(1)));
}

#[tokio::test]
async fn a_write_that_is_not_awaited_does_nothing() {
    let users = store().collection::<u8>("users").unwrap();
    drop(users.put("k", &1));
    assert_eq!(users.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn expiry_is_set_touched_and_cleared() {
    let users = store().collection::<u8>("users").unwrap();
    users.put("kept", &1).ttl(Duration::from_hours(1)).await.unwrap();
    assert!(users.get_record("kept").await.unwrap().unwrap().expires_at.is_some());
    users.touch("kept", None).await.unwrap();
    users.put("short", &1).ttl(Duration::from_hours(1)).await.unwrap();
    assert_eq!(users.get("short").await.unwrap(), Some(1));
    // An error if it has expired before it is done.
    let _ = users.touch("short", Some(Duration::from_millis(20))).await;
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert_eq!(users.get("short").await.unwrap(), None);
    assert_eq!(users.get_record("kept").await.unwrap().unwrap().expires_at, None);
    assert_eq!(users.touch("short", None).await.unwrap_err().kind(), ErrorKind::NotFound);
    let zero = users.put("z", &1).ttl(Duration::ZERO).await.unwrap_err();
    let past = users.put("z", &1).expires_at(Timestamp::from_millis(1)).await.unwrap_err();
    assert_eq!((zero.kind(), past.kind()), (ErrorKind::InvalidInput, ErrorKind::InvalidInput));
    let at = Timestamp::now().saturating_add(Duration::from_secs(60));
    users.put("later", &1).expires_at(at).await.unwrap();
    assert_eq!(users.get_record("later").await.unwrap().unwrap().expires_at, Some(at));
}

#[tokio::test]
async fn bad_names_are_errors_of_the_call() {
    let store = store();
    assert_eq!(store.collection::<u8>("no spaces").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(store.counters("").unwrap_err().kind(), ErrorKind::InvalidInput);
    let users = store.collection::<u8>("users").unwrap();
    let long = "x".repeat(513);
    for key in ["", "a\0b", &long] {
        assert_eq!(users.get(key).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(users.put(key, &1).ttl(Duration::ZERO).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(users.delete(key).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(
            users.put_many([("good", &1), (key, &1)]).await.unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
    assert_eq!(users.count().await.unwrap(), 0);
    assert_eq!(users.scan().limit(0).page().await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn codecs_round_trip_and_their_errors_name_the_record() {
    let store = store();
    let packed = store.collection_with::<(u8, String)>("packed", MessagePack).unwrap();
    let pair = (7, "seven".to_owned());
    packed.put("k", &pair).await.unwrap();
    assert_eq!(packed.get("k").await.unwrap(), Some(pair));
    let Value::Bytes(blob) = store.get(&Address::new("packed", "k").unwrap()).await.unwrap().unwrap().value
    else {
        panic!("MessagePack is stored as bytes")
    };
    assert_eq!(blob.media_type, MessagePack::MEDIA_TYPE);
    let raw = store.collection_with::<Blob>("packed", Raw).unwrap();
    assert_eq!(raw.get("k").await.unwrap(), Some(blob));

    let kind = store.collection::<String>("packed").unwrap().get("k").await.unwrap_err();
    assert_eq!(kind.kind(), ErrorKind::TypeMismatch);
    store.collection::<String>("texts").unwrap().put("k", &"text".into()).await.unwrap();
    let shape = store.collection::<u64>("texts").unwrap().get("k").await.unwrap_err();
    assert_eq!(shape.kind(), ErrorKind::Decode);
    assert!(shape.to_string().contains("texts/k") && shape.to_string().contains("u64"), "{shape}");
}

#[tokio::test]
async fn many_keep_their_order_beyond_the_limits() {
    let store = store();
    let numbers = store.collection::<usize>("numbers").unwrap();
    let limit = store.backend().info().capabilities.limits.batch_len;
    let values: Vec<(String, usize)> = (0..limit * 2 + 3).map(|n| (format!("{n:06}"), n)).collect();
    let results = numbers.put_many(values.iter().map(|(key, value)| (key, value))).await.unwrap();
    let versions: HashSet<_> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!(versions.len(), values.len());
    let read = numbers.get_many(values.iter().map(|(key, _)| key).chain([&"gap".to_owned()])).await.unwrap();
    assert_eq!(read[..values.len()], values.iter().map(|(_, n)| Some(*n)).collect::<Vec<_>>());
    assert_eq!(read.last(), Some(&None));
    let too_many =
        values.iter().map(|(key, _)| Mutation::delete(Address::new("numbers", key).unwrap())).collect();
    assert_eq!(store.write(Batch::atomic(too_many)).await.unwrap_err().kind(), ErrorKind::TooLarge);

    let streamed: Vec<_> = numbers.scan().stream().map_ok(|entry| entry.value).try_collect().await.unwrap();
    assert_eq!(streamed, (0..values.len()).collect::<Vec<_>>());
    assert_eq!(numbers.keys().prefix("00000").stream().try_collect::<Vec<_>>().await.unwrap().len(), 10);
    assert_eq!(numbers.clear().await.unwrap(), values.len() as u64);
}

#[tokio::test]
async fn queries_filter_sort_page_and_count() {
    let ages = store().collection::<Json>("people").unwrap();
    for (key, age) in [("a", 30), ("b", 10), ("c", 20), ("d", 5)] {
        ages.put(key, &Json::parse(format!("{{\"age\": {age}}}")).unwrap()).await.unwrap();
    }
    let query = || ages.query(r#"{"age": {"$gte": 10}}"#.parse().unwrap()).sort("age:desc".parse().unwrap());
    assert_eq!(query().count().await.unwrap(), 3);
    let page = query().limit(2).page().await.unwrap();
    let keys: Vec<_> = page.items.iter().map(|entry| entry.key.as_str().to_owned()).collect();
    assert_eq!(keys, ["a", "c"]);
    let rest = query().limit(2).after(page.next).page().await.unwrap();
    assert_eq!(rest.items[0].key.as_str(), "b");
    assert_eq!(query().limit(1).stream().try_collect::<Vec<_>>().await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_of_many_lose_none_and_keep_the_expiry() {
    let totals = store().collection::<u64>("totals").unwrap();
    totals.put("k", &0).ttl(Duration::from_secs(600)).await.unwrap();
    let expiry = totals.get_record("k").await.unwrap().unwrap().expires_at;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let totals = totals.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    totals.update("k", |old| old.unwrap_or(0) + 1).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let entry = totals.get_record("k").await.unwrap().unwrap();
    assert_eq!((entry.value, entry.expires_at), (200, expiry));
}

#[tokio::test]
async fn counters_add_up_and_expire() {
    let store = store();
    let usage = store.counters("usage").unwrap();
    assert_eq!(usage.get("k", "n").await.unwrap(), 0);
    assert_eq!(usage.increment("k", "n", 5).ttl(Duration::from_hours(1)).await.unwrap(), 5);
    let several = usage.increment_many("k", [("n", 1), ("m", 2), ("n", 1)]).await.unwrap();
    assert_eq!((several["n"], several["m"]), (7, 2));
    assert_eq!(usage.all("k").await.unwrap(), several);
    assert_eq!(usage.increment("k", "n", i64::MAX).await.unwrap_err().kind(), ErrorKind::OutOfRange);
    assert!(store.get(&Address::new("usage", "k").unwrap()).await.unwrap().unwrap().expires_at.is_some());
    usage.touch("k", Some(Duration::from_millis(20))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert_eq!(usage.get("k", "n").await.unwrap(), 0);
    assert_eq!(usage.touch("k", None).await.unwrap_err().kind(), ErrorKind::NotFound);
    store.collection::<u8>("usage").unwrap().put("json", &1).await.unwrap();
    assert_eq!(usage.all("json").await.unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(usage.increment("json", "n", 1).await.unwrap_err().kind(), ErrorKind::TypeMismatch);
}

#[tokio::test]
async fn lists_are_read_by_range_and_stream() {
    let store = store();
    let logs = store.list::<u32>("logs").unwrap();
    assert_eq!(logs.len("k").await.unwrap(), 0);
    assert!(logs.range("k", 0, 10).await.unwrap().is_empty());
    assert!(logs.stream("k").try_collect::<Vec<_>>().await.unwrap().is_empty());
    let items: Vec<u32> = (0..2500).collect();
    assert_eq!(logs.append("k", &items).await.unwrap(), 2500);
    assert_eq!(logs.append("k", &[2500]).await.unwrap(), 2501);
    assert_eq!(logs.range("k", 10, 1200).await.unwrap(), (10..1210).collect::<Vec<_>>());
    assert_eq!(logs.range("k", 2499, 10).await.unwrap(), [2499, 2500]);
    assert!(logs.range("k", 9999, 10).await.unwrap().is_empty());
    assert_eq!(logs.stream("k").try_collect::<Vec<_>>().await.unwrap(), (0..2501).collect::<Vec<_>>());
    assert_eq!(logs.append("k", &[]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(logs.delete("k").await.unwrap());
    assert_eq!(logs.stream("a\0").try_collect::<Vec<_>>().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    store.collection::<u8>("logs").unwrap().put("json", &1).await.unwrap();
    assert_eq!(logs.len("json").await.unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(logs.range("json", 0, 1).await.unwrap_err().kind(), ErrorKind::TypeMismatch);
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let store = store();
    store.close().await.unwrap();
    store.close().await.unwrap();
    let error = store.collections().await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Closed, Retry::Never));
}
