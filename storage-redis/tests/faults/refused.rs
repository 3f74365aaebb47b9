//! Servers that refuse what they are asked for.

use serde_json::json;
use storage_core::{Error, ErrorKind, HealthStatus, Mutation, Retry, Value};
use storage_testkit::helpers::{address, get_json, put_json, write_one};
use storage_testkit::servers::{RedisServer, RedisSettings, free_port};

use crate::{alone, append, expect, get, harness, increment, put_one, recovers, url, users};

/// A master that became a replica takes no writes, and does again when it is master again.
#[tokio::test]
async fn a_replica_is_read_only() {
    let (server, backend) = alone([]).await;
    put_json(&*backend, &users(), "ada", json!(1)).await;
    let nobody = free_port().unwrap().to_string();
    server.command(&["REPLICAOF", "127.0.0.1", &nobody]).unwrap();
    expect(put_one(&*backend, "ada").await, ErrorKind::Unavailable, Retry::Safe, "replica");
    expect(increment(&*backend, "n").await, ErrorKind::Unavailable, Retry::Safe, "replica");
    assert_eq!(get_json(&*backend, &users(), "ada").await, Some(json!(1)), "it still reads");
    assert_eq!(backend.health().await.unwrap().status, HealthStatus::Degraded);
    server.command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).unwrap();
    expect(get(&*backend, "ada").await, ErrorKind::Unavailable, Retry::Safe, "master");
    server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    recovers(|| put_one(&*backend, "ada")).await;
}

/// While a server reads its data from disk it refuses everything.
#[tokio::test]
async fn a_server_that_loads_is_waited_for() {
    // Makes reading slow enough to be seen: 100 ms for each key. The server answers after every 1,024 bytes, so after each.
    let slow = [
        "--key-load-delay",
        "100000",
        "--loading-process-events-interval-bytes",
        "1024",
        "--rdbcompression",
        "no",
    ];
    let (server, backend) = alone(slow).await;
    for i in 0..100 {
        put_json(&*backend, &users(), &format!("k{i}"), json!("x".repeat(1_100))).await;
    }
    // The delay is for the compact format.
    server.command(&["BGREWRITEAOF"]).unwrap();
    let rewritten = || async {
        let info = server.command(&["INFO", "persistence"])?;
        let done = info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0");
        if done { Ok(()) } else { Err(storage_core::Error::new(ErrorKind::Busy, "rewriting")) }
    };
    recovers(rewritten).await;
    server.process().stop(rustix::process::Signal::KILL).unwrap();
    server.process().restart().unwrap();
    let _ = get(&*backend, "k1").await; // the connection that broke
    let refused = expect(get(&*backend, "k1").await, ErrorKind::Unavailable, Retry::Safe, "loading");
    assert!(refused.message().contains("memory"), "{refused:?}");
    expect(put_one(&*backend, "k1").await, ErrorKind::Unavailable, Retry::Safe, "loading");
    assert_eq!(backend.health().await.unwrap().status, HealthStatus::Down);
    // What is left is read at once.
    server.command(&["CONFIG", "SET", "key-load-delay", "0"]).unwrap();
    recovers(|| get(&*backend, "k1")).await;
    put_one(&*backend, "k1").await.unwrap();
}

/// A server without memory refuses writes and says what to do; reads and deletes go on, and make room.
#[tokio::test]
async fn a_full_server_can_be_emptied() {
    let (server, backend) = alone(["--maxmemory-policy", "noeviction"]).await;
    let written: Vec<String> = (0..40).map(|i| format!("k{i}")).collect();
    for key in &written {
        put_json(&*backend, &users(), key, json!("x".repeat(100_000))).await;
    }
    server.command(&["CONFIG", "SET", "maxmemory", "3mb"]).unwrap();
    expect(put_one(&*backend, "more").await, ErrorKind::StorageFull, Retry::Never, "maxmemory");
    expect(increment(&*backend, "n").await, ErrorKind::StorageFull, Retry::Never, "maxmemory");
    for key in &written {
        get(&*backend, key).await.unwrap();
        write_one(&*backend, Mutation::delete(address(&users(), key))).await.unwrap();
    }
    recovers(|| put_one(&*backend, "more")).await;
    increment(&*backend, "n").await.unwrap();
}

/// A server that forgot the scripts is told them again.
#[tokio::test]
async fn scripts_are_loaded_again() {
    let (server, backend) = alone([]).await;
    for round in 1..=3 {
        server.command(&["SCRIPT", "FLUSH"]).unwrap();
        put_one(&*backend, "ada").await.unwrap();
        server.command(&["SCRIPT", "FLUSH"]).unwrap();
        increment(&*backend, "n").await.unwrap();
        server.command(&["SCRIPT", "FLUSH"]).unwrap();
        let read = backend.get(&[address(&users(), "n")]).await.unwrap();
        let counters = [("n".into(), round)].into_iter().collect();
        assert_eq!(read[0].as_ref().unwrap().value, Value::Counters(counters), "each was done once");
    }
}

/// A password that was changed is noticed when the next connection is made.
#[tokio::test]
async fn a_changed_password_is_refused() {
    let (server, backend) = alone([]).await;
    put_one(&*backend, "ada").await.unwrap();
    server.command(&["CONFIG", "SET", "requirepass", "new"]).unwrap();
    let with_password = |words: &[&str]| {
        let mut all = vec!["-a", "new", "--no-auth-warning"];
        all.extend(words);
        server.command(&all).unwrap()
    };
    with_password(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let _ = get(&*backend, "ada").await; // the connection that was cut
    expect(get(&*backend, "ada").await, ErrorKind::Unauthenticated, Retry::Never, "password");
    expect(harness::open(&url(&server)).await, ErrorKind::Unauthenticated, Retry::Never, "password");
    with_password(&["CONFIG", "SET", "requirepass", ""]);
    recovers(|| get(&*backend, "ada")).await;
}

/// What a user may not do is named.
#[tokio::test]
async fn missing_rights_are_told() {
    let (server, _) = alone([]).await;
    let open = |user: &str| {
        let url = format!("redis://{user}:secret@{}", server.address());
        async move { harness::open(&url).await }
    };
    let user = |name: &str, rights: &[&str]| {
        let mut words = vec!["ACL", "SETUSER", name, "reset", "on", ">secret"];
        words.extend(rights);
        server.command(&words).unwrap();
    };
    user("elsewhere", &["+@all", "~other:*"]);
    expect(open("elsewhere").await, ErrorKind::PermissionDenied, Retry::Never, "ACL");

    user("reader", &["~storage*", "~{storage*", "+@read", "+@connection"]);
    let reader = open("reader").await.unwrap();
    get(&*reader, "ada").await.unwrap();
    expect(put_one(&*reader, "ada").await, ErrorKind::PermissionDenied, Retry::Never, "ACL");
    expect(increment(&*reader, "n").await, ErrorKind::PermissionDenied, Retry::Never, "ACL");

    // Scripts may be run, and a command within them not.
    user("scripter", &["~storage*", "~{storage*", "+@all", "-mset", "-hincrby"]);
    let scripter = open("scripter").await.unwrap();
    expect(put_one(&*scripter, "ada").await, ErrorKind::PermissionDenied, Retry::Never, "ACL");
    expect(increment(&*scripter, "n").await, ErrorKind::PermissionDenied, Retry::Never, "ACL");

    user("scripter", &["~storage*", "~{storage*", "+@all"]);
    let again = open("scripter").await.unwrap();
    put_one(&*again, "ada").await.unwrap();
    increment(&*again, "n").await.unwrap();
}

/// A server with no place for another client is busy.
#[tokio::test]
async fn too_many_clients_are_busy() {
    let server = RedisServer::start(&RedisSettings::with(["--maxclients", "2"])).unwrap();
    let first = harness::open(&url(&server)).await.unwrap();
    let second = harness::open(&url(&server)).await.unwrap();
    let refused = harness::open(&url(&server)).await.expect_err("two clients are connected");
    // The server says why and closes; the system may tell of the second before the first is read.
    assert!(matches!(refused.kind(), ErrorKind::Busy | ErrorKind::Unavailable), "{refused:?}");
    assert_eq!(refused.retry(), Retry::Safe, "{refused:?}");
    get(&*first, "ada").await.unwrap();
    drop(second);
    let url = url(&server);
    recovers(|| harness::open(&url)).await;
}

/// A master that wants replicas takes no writes without.
#[tokio::test]
async fn too_few_replicas_are_unavailable() {
    let (server, backend) = alone([]).await;
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).unwrap();
    expect(put_one(&*backend, "ada").await, ErrorKind::Unavailable, Retry::Safe, "replicas");
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).unwrap();
    put_one(&*backend, "ada").await.unwrap();
}

/// While another program's script runs too long the server is busy.
#[tokio::test]
async fn another_programs_script_makes_it_busy() {
    let (server, backend) = alone(["--busy-reply-threshold", "50"]).await;
    put_one(&*backend, "ada").await.unwrap();
    let port = server.port().to_string();
    let endless = std::process::Command::new("redis-cli")
        .args(["-p", &port, "EVAL", "while true do end", "0"])
        .stdout(std::process::Stdio::null())
        .spawn();
    let mut endless = endless.unwrap();
    recovers(|| async {
        let told = server.command(&["PING"])?;
        if told.contains("BUSY") { Ok(()) } else { Err(Error::new(ErrorKind::Unavailable, told)) }
    })
    .await;
    let (read, written) = (get(&*backend, "ada").await, increment(&*backend, "n").await);
    assert_eq!(server.command(&["SCRIPT", "KILL"]).unwrap().trim(), "OK", "it runs");
    endless.wait().unwrap();
    expect(read, ErrorKind::Busy, Retry::Safe, "script");
    expect(written, ErrorKind::Busy, Retry::Safe, "script");
    recovers(|| increment(&*backend, "n")).await;
}

/// A server that cannot save its data, and is told not to go on so, takes no writes until it can.
#[tokio::test]
async fn a_server_that_cannot_save_takes_no_writes() {
    let (server, backend) = alone(["--stop-writes-on-bgsave-error", "yes"]).await;
    put_json(&*backend, &users(), "ada", json!(1)).await;
    // Also root cannot put a file where a directory is.
    let in_the_way = server.process().directory().join("dump.rdb");
    std::fs::create_dir(&in_the_way).unwrap();
    server.command(&["CONFIG", "SET", "save", "3600 1000000"]).unwrap();
    let saved = async |status: &str| {
        server.command(&["BGSAVE"]).unwrap();
        recovers(|| async {
            let info = server.command(&["INFO", "persistence"])?;
            let done = info.contains("rdb_bgsave_in_progress:0")
                && info.contains(&format!("rdb_last_bgsave_status:{status}"));
            if done { Ok(()) } else { Err(Error::new(ErrorKind::Busy, "saving")) }
        })
        .await;
    };
    saved("err").await;
    expect(put_one(&*backend, "ada").await, ErrorKind::Unavailable, Retry::Safe, "MISCONF");
    expect(increment(&*backend, "n").await, ErrorKind::Unavailable, Retry::Safe, "MISCONF");
    expect(append(&*backend, "l").await, ErrorKind::Unavailable, Retry::Safe, "MISCONF");
    assert_eq!(
        get_json(&*backend, &users(), "ada").await,
        Some(json!(1)),
        "it still reads, and nothing was done"
    );
    std::fs::remove_dir(&in_the_way).unwrap();
    saved("ok").await;
    put_one(&*backend, "ada").await.unwrap();
    increment(&*backend, "n").await.unwrap();
}
