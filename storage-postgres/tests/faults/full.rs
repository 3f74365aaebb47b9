//! A server whose disk is full.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use storage_core::{ErrorKind, HealthStatus, Maintenance, Mutation, Retry};
use storage_testkit::helpers::{address, get_json, put_json, write_one};
use storage_testkit::servers::{PostgresServer, PostgresSettings};

use crate::{expect, harness, increment, increment_atomically, put_one, sum, users};

/// A small file system in memory, gone when it is dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one in a directory of the server, for its user; `None` where this may not be done.
    fn mount(server: &PostgresServer, bytes: &str) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let owner = std::fs::metadata(server.data()).unwrap();
        let at = server.process().directory().join("small");
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={bytes},mode=700,uid={},gid={}", owner.uid(), owner.gid());
        let mounted = run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], &at);
        mounted.then_some(Self { at })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The server may still have files open in it.
        run("umount", &["--lazy"], &self.at);
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    let mut command = Command::new(program);
    let status = command.args(arguments).arg(path).stdin(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Text that does not get shorter by compression.
fn noise(bytes: usize, seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.alphanumeric()).take(bytes).collect()
}

/// Writes are refused, whole, and say why; reads and deletes go on, and what was deleted makes room.
#[tokio::test]
async fn a_full_disk_refuses_writes_and_can_be_emptied() {
    let server = PostgresServer::start(&PostgresSettings::default()).unwrap();
    let Some(disk) = SmallDisk::mount(&server, "12m") else {
        // Around the test harness, which keeps what tests print to itself.
        let told = "\nnot run: PostgreSQL with a full disk, as mounting a small one needs root\n";
        std::io::stderr().write_all(told.as_bytes()).unwrap();
        return;
    };
    let location = disk.at.display();
    server
        .psql(&format!(
            "CREATE TABLESPACE small LOCATION '{location}';\nGRANT CREATE ON TABLESPACE small TO storage;\n\
             ALTER ROLE storage SET default_tablespace = 'small';"
        ))
        .unwrap();
    let backend = harness::open(&server.url()).await.unwrap();
    increment(&*backend, "counter").await.unwrap();
    let mut written = Vec::new();
    let full = loop {
        let key = format!("k{}", written.len());
        let large =
            storage_testkit::helpers::put(&users(), &key, json!(noise(500_000, written.len() as u64)));
        match write_one(&*backend, large).await {
            Ok(_) => written.push(key),
            Err(error) => break error,
        }
        assert!(written.len() < 40, "the disk is larger than it should be");
    };
    assert!(written.len() > 5, "only {} values fit", written.len());
    assert_eq!((full.kind(), full.retry()), (ErrorKind::StorageFull, Retry::Never), "{full:?}");
    assert!(full.message().contains("full"), "{full:?}");
    // In a transaction as well, which is undone whole.
    let large = |key: &str| storage_testkit::helpers::put(&users(), key, json!(noise(2_000_000, 7)));
    let batch = storage_core::Batch::atomic(vec![
        Mutation::increment(address(&users(), "counter"), "n", 1),
        large("more"),
        Mutation::check(address(&users(), "never"), storage_core::Precondition::Absent),
    ]);
    expect(backend.write(&batch).await, ErrorKind::StorageFull, Retry::Never, "full");
    assert_eq!(sum(&*backend, "counter").await, 1);
    // One that fits is written, though the others of its batch do not.
    let batch = storage_core::Batch::independent(vec![large("more1"), large("more2")]);
    let refused =
        backend.write(&batch).await.map(|results| results.into_iter().collect::<Result<Vec<_>, _>>());
    let refused = refused.and_then(|results| results).expect_err("neither fits");
    assert_eq!(refused.kind(), ErrorKind::StorageFull, "{refused:?}");
    assert_ne!(backend.health().await.unwrap().status, HealthStatus::Down);
    for (i, key) in written.iter().enumerate() {
        let found = get_json(&*backend, &users(), key).await;
        assert_eq!(found, Some(json!(noise(500_000, i as u64))), "{key}");
    }
    for key in &written {
        write_one(&*backend, Mutation::delete(address(&users(), key))).await.unwrap();
    }
    // An administrator gives it a little more, and the chore of the store gives the room of what was deleted back.
    assert!(run("mount", &["-o", "remount,size=13m"], &disk.at));
    backend.maintain(Maintenance::Compact).await.unwrap();
    put_json(&*backend, &users(), "again", json!(noise(500_000, 1))).await;
    put_one(&*backend, "small").await.unwrap();
    increment_atomically(&*backend, "counter").await.unwrap();
    assert_eq!(sum(&*backend, "counter").await, 2);
    // The server first: it has files in there.
    backend.close().await.unwrap();
    server.stop().unwrap();
    drop(disk);
}
