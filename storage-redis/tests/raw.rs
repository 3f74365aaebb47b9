//! Plain strings that other programs read and write too.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Tree, json};
use storage_core::{
    Address, Backend, Batch, Blob, Effect, ErrorKind, Feature, Json, Mutation, Record, Result, Retry,
    Timestamp, TypeDescriptor as _, Value, Written,
};
use storage_redis::{REDIS, RawBackend, RedisBackend, RedisConfig};
use storage_testkit::servers::{RedisServer, RedisSettings};

mod standalone {
    storage_testkit::conformance!(server: super::harness::Raw);
}

mod cluster {
    storage_testkit::conformance!(super::harness::RawCluster);
}

fn server() -> RedisServer {
    RedisServer::start(&RedisSettings::default()).unwrap()
}

/// A raw store with more keys in its configuration.
async fn open(server: &RedisServer, more: Tree) -> Arc<dyn Backend> {
    let mut config = json!({"hosts": [server.address()], "format": "raw"});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    REDIS.open(config).await.unwrap()
}

fn at(collection: &str, key: &str) -> Address {
    Address::new(collection, key).unwrap()
}

fn json(tree: Tree) -> Json {
    Json::from(tree)
}

async fn get(backend: &Arc<dyn Backend>, address: &Address) -> Result<Option<Record>> {
    Ok(backend.get(std::slice::from_ref(address)).await?.remove(0))
}

async fn write(backend: &Arc<dyn Backend>, mutation: Mutation) -> Result<Written> {
    backend.write(&Batch::independent(vec![mutation])).await?.remove(0)
}

fn cli(server: &RedisServer, words: &[&str]) -> String {
    server.command(words).unwrap().trim().to_owned()
}

#[tokio::test]
async fn what_other_programs_wrote_is_read() {
    let server = server();
    let backend = open(&server, json!({})).await;
    cli(&server, &["SET", "users:ada", r#"{"born": 1815}"#]);
    cli(&server, &["SET", "users:hits", "41", "PX", "3600000"]);
    cli(&server, &["INCR", "users:hits"]);

    let ada = get(&backend, &at("users", "ada")).await.unwrap().unwrap();
    assert_eq!(ada.value.as_json().unwrap().as_str(), r#"{"born": 1815}"#);
    assert_eq!((ada.created_at.as_millis(), ada.updated_at.as_millis()), (0, 0), "they are not known");
    assert_eq!(ada.expires_at, None);
    let hits = get(&backend, &at("users", "hits")).await.unwrap().unwrap();
    assert_eq!(hits.value, Value::Json(json(json!(42))));
    let exact: i64 = cli(&server, &["PEXPIRETIME", "users:hits"]).parse().unwrap();
    assert_eq!(hits.expires_at, Some(Timestamp::from_millis(exact)));
    assert_ne!(hits.version, ada.version);
    cli(&server, &["DEL", "users:ada"]);
    assert_eq!(get(&backend, &at("users", "ada")).await.unwrap(), None);
}

#[tokio::test]
async fn other_programs_read_what_was_written() {
    let server = server();
    let backend = open(&server, json!({})).await;
    let ada = at("users", "ada");
    write(&backend, Mutation::put(ada.clone(), json(json!({"born": 1815})))).await.unwrap();
    assert_eq!(cli(&server, &["GET", "users:ada"]), r#"{"born":1815}"#);
    assert_eq!(cli(&server, &["PTTL", "users:ada"]), "-1");
    assert_eq!(cli(&server, &["DBSIZE"]), "1", "nothing stands beside it");

    let later = Timestamp::now().saturating_add(Duration::from_secs(3600));
    write(&backend, Mutation::touch(ada.clone(), Some(later))).await.unwrap();
    assert_eq!(cli(&server, &["PEXPIRETIME", "users:ada"]), later.as_millis().to_string());
    write(&backend, Mutation::put(ada.clone(), json(json!(1))).expiring(Some(later))).await.unwrap();
    assert_eq!(cli(&server, &["PEXPIRETIME", "users:ada"]), later.as_millis().to_string());
    write(&backend, Mutation::touch(ada.clone(), None)).await.unwrap();
    assert_eq!(cli(&server, &["PEXPIRETIME", "users:ada"]), "-1");
    let gone = write(&backend, Mutation::touch(ada.clone(), Some(Timestamp::from_millis(-5)))).await.unwrap();
    assert_eq!(gone.version, None);
    assert_eq!(cli(&server, &["EXISTS", "users:ada"]), "0");
    let missing = write(&backend, Mutation::touch(ada.clone(), Some(Timestamp::from_millis(0)))).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);

    write(&backend, Mutation::put(ada.clone(), json(json!(2)))).await.unwrap();
    let deleted = write(&backend, Mutation::delete(ada)).await.unwrap();
    assert_eq!(deleted.effect, Effect::Deleted { existed: true });
    assert_eq!(cli(&server, &["DBSIZE"]), "0");
}

#[tokio::test]
async fn any_key_of_another_program_can_be_named() {
    let server = server();
    let listed = json!({"collections": {"cache": "app:cache:", "all": "{tag}/"}});
    let backend = open(&server, listed).await;
    cli(&server, &["SET", "app:cache:1", "[1]"]);
    cli(&server, &["SET", "{tag}/x", "[2]"]);
    let read = backend.get(&[at("all", "x"), at("cache", "1")]).await.unwrap();
    let texts: Vec<_> =
        read.iter().flatten().map(|record| record.value.as_json().unwrap().as_str()).collect();
    assert_eq!(texts, ["[2]", "[1]"]);

    let other = at("users", "ada");
    let error = get(&backend, &other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no collection users"), "{error}");
    let batch = Batch::independent(vec![
        Mutation::put(other, json(json!(1))),
        Mutation::put(at("cache", "2"), json(json!(2))),
    ]);
    let results = backend.write(&batch).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(results[1].is_ok(), "a failure harms no other mutation");

    let everything = open(&server, json!({"collections": {"all": ""}})).await;
    assert!(get(&everything, &at("all", "app:cache:1")).await.unwrap().is_some());
}

#[tokio::test]
async fn bytes_are_bytes() {
    let server = server();
    let backend = open(&server, json!({"values": "bytes"})).await;
    assert!(backend.info().capabilities.has(Feature::Bytes));
    let all: Vec<u8> = (0..=255).collect();
    let file = at("files", "all");
    for data in [all, Vec::new(), b"[1]".to_vec()] {
        let written = write(&backend, Mutation::put(file.clone(), Value::bytes(data.clone()))).await.unwrap();
        let record = get(&backend, &file).await.unwrap().unwrap();
        assert_eq!((record.value, Some(record.version)), (Value::bytes(data), written.version));
    }
    assert_eq!(cli(&server, &["GET", "files:all"]), "[1]");

    let image = Value::Bytes(Blob::new("x").with_media_type("image/png"));
    for (value, named) in [(image, "media type image/png"), (json(json!(1)).into(), "this one is JSON")] {
        let error = write(&backend, Mutation::put(file.clone(), value)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(named), "{error}");
    }
    assert_eq!(cli(&server, &["GET", "files:all"]), "[1]", "what would be lost is refused");
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_and_no_gap() {
    let server = server();
    let backend = open(&server, json!({})).await;
    cli(&server, &["SET", "users:text", "secret words"]);
    cli(&server, &["LPUSH", "users:list", "1"]);
    for (key, kind) in [("text", ErrorKind::Decode), ("list", ErrorKind::TypeMismatch)] {
        let error = backend.get(&[at("users", "missing"), at("users", key)]).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (kind, Retry::Never), "{error}");
        assert!(error.to_string().contains(&format!("users/{key}")), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let error = write(&backend, Mutation::touch(at("users", "list"), None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert!(error.to_string().contains("users/list"), "{error}");
}

#[tokio::test]
async fn many_keys_go_in_parts_and_keep_their_order() {
    let server = server();
    let backend = open(&server, json!({})).await;
    let keys: Vec<Address> = (0..1500).map(|i| at("users", &format!("k{i}"))).collect();
    let puts = keys.iter().enumerate().map(|(i, key)| Mutation::put(key.clone(), json(json!(i))));
    let again = keys.iter().take(600).map(|key| Mutation::put(key.clone(), json(json!("last"))));
    let results = backend.write(&Batch::independent(puts.chain(again).collect())).await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    for (i, record) in backend.get(&keys).await.unwrap().into_iter().enumerate() {
        let expected = if i < 600 { json!("last") } else { json!(i) };
        assert_eq!(record.unwrap().value, Value::Json(json(expected)), "{i}");
    }
    assert_eq!(backend.stats().await.unwrap().writes, 2100);
}

/// A server of 6.2, as far as this matters.
#[tokio::test]
async fn a_server_that_only_tells_how_long_is_left() {
    let more = ["--rename-command", "PEXPIRETIME", ""].map(str::to_owned).into();
    let server = RedisServer::start(&RedisSettings { more, ..RedisSettings::default() }).unwrap();
    let backend = open(&server, json!({})).await;
    let later = Timestamp::now().saturating_add(Duration::from_secs(3600));
    let keys = [at("users", "a"), at("users", "b")];
    for key in &keys {
        write(&backend, Mutation::put(key.clone(), json(json!(1))).expiring(Some(later))).await.unwrap();
    }
    write(&backend, Mutation::touch(keys[1].clone(), None)).await.unwrap();
    let read = backend.get(&keys).await.unwrap();
    let told = read[0].as_ref().unwrap().expires_at.unwrap().as_millis();
    assert!((told - later.as_millis()).abs() <= 5, "{told} for {later}");
    assert_eq!(read[1].as_ref().unwrap().expires_at, None);
}

#[tokio::test]
async fn keys_of_the_other_format_are_refused() {
    for (config, named) in [
        (json!({"format": "raw", "prefix": "app"}), "prefix: it belongs to the format record"),
        (json!({"format": "raw", "shards": 4}), "shards: it belongs to the format record"),
        (json!({"format": "raw", "serializer": "msgpack"}), "serializer: it belongs to the format record"),
        (json!({"values": "bytes"}), "values: it belongs to the format raw"),
        (json!({"collections": {}}), "collections: it belongs to the format raw"),
        (json!({"format": "raw", "collections": {"a": "x:", "b": "x:y:"}}), "keys of a and b overlap"),
        (json!({"format": "raw", "collections": {"no spaces": "x:"}}), "no spaces"),
        (json!({"format": "rw"}), "rw"),
    ] {
        let error = REDIS.validate(&config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(named), "{error}");
    }
    let record = RedisConfig::from_url("redis://localhost").unwrap();
    assert!(RawBackend::open(record).await.unwrap_err().to_string().contains("format = raw"));
    let raw = RedisConfig::from_url("redis://localhost?format=raw&values=bytes").unwrap();
    assert!(RedisBackend::open(raw).await.unwrap_err().to_string().contains("format = record"));
}
