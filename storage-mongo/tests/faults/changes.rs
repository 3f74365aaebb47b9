//! Readers of the feed of changes while servers die, step down, and lose their cursors.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::bson::doc;
use serde_json::json;
use storage_core::{Backend, Changes, Cursor, ErrorKind, Result, Retry};
use storage_testkit::helpers::{put, write_one};

use crate::{Faulty, alone, expect, harness, of_the_connection, put_one, recovers, users};

async fn page(backend: &dyn Backend, after: Option<Cursor>, wait: Duration) -> Result<(Vec<String>, Cursor)> {
    let page = backend.changes(&Changes { collection: None, after, limit: 50, wait }).await?;
    let keys = page.items.iter().map(|event| event.address.key.as_str().to_owned()).collect();
    Ok((keys, page.next.expect("the feed has no end")))
}

async fn now(backend: &dyn Backend) -> Cursor {
    recovers(|| page(backend, None, Duration::ZERO)).await.1
}

/// Follows the feed until nothing came for a while after it was told that nothing more will.
async fn follow(backend: Arc<dyn Backend>, mut after: Cursor, ended: Arc<AtomicBool>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    loop {
        let last = ended.load(Ordering::Relaxed);
        match page(&*backend, Some(after.clone()), Duration::from_millis(300)).await {
            Ok((keys, next)) => {
                after = next;
                if keys.is_empty() && last {
                    return seen;
                }
                seen.extend(keys);
            }
            Err(error) => {
                of_the_connection(&error);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Writes until it is told to end; the keys that were acknowledged.
async fn load(backend: Arc<dyn Backend>, writer: usize, ended: Arc<AtomicBool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for i in (0..).take_while(|_| !ended.load(Ordering::Relaxed)) {
        let key = format!("w{writer}-{i}");
        match write_one(&*backend, put(&users(), &key, json!(i))).await {
            Ok(_) => acknowledged.push(key),
            Err(error) => of_the_connection(&error),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    acknowledged
}

/// A reader beside writers gets all that was acknowledged, whatever happens meanwhile.
async fn nothing_is_skipped(backend: Arc<dyn Backend>, happens: impl AsyncFnOnce()) {
    let (writing, reading) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let start = now(&*backend).await;
    let reader = tokio::spawn(follow(backend.clone(), start, reading.clone()));
    let writers: Vec<_> =
        (0..4).map(|writer| tokio::spawn(load(backend.clone(), writer, writing.clone()))).collect();
    happens().await;
    recovers(|| put_one(&*backend, "after")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    writing.store(true, Ordering::Relaxed);
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    reading.store(true, Ordering::Relaxed);
    let seen = tokio::time::timeout(crate::RECOVERY, reader).await.expect("the feed goes on").unwrap();
    let skipped: Vec<&String> = acknowledged.difference(&seen).collect();
    assert!(skipped.is_empty(), "{} of {} were skipped: {skipped:?}", skipped.len(), acknowledged.len());
    assert!(acknowledged.len() > 10, "only {} writes", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_over_kills() {
    let (server, backend) = alone("timeout=3s").await;
    nothing_is_skipped(backend, async || {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            server.kill().unwrap();
            server.restart().unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_over_a_primary_that_steps_down() {
    let (server, backend) = alone("timeout=3s&heartbeatFrequencyMS=500").await;
    nothing_is_skipped(backend, async || {
        let database = harness::database(&server.url()).await.unwrap();
        let command = doc! {"replSetStepDown": 1, "force": true};
        database.client().database("admin").run_command(command).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    })
    .await;
}

/// A cursor that the server loses while it waits is an error that passes; nothing is skipped after it.
#[tokio::test]
async fn a_lost_cursor_skips_nothing() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    let start = now(backend).await;
    for (how, kind) in [
        (doc! {"errorCode": 43}, ErrorKind::Unavailable),
        (doc! {"errorCode": 189}, ErrorKind::Unavailable),
        (doc! {"closeConnection": true}, ErrorKind::Unavailable),
        (doc! {"errorCode": 50}, ErrorKind::Timeout),
    ] {
        faulty.fail(1, &["getMore"], how.clone()).await;
        let told = page(backend, Some(start.clone()), Duration::from_secs(2)).await;
        expect(told, kind, Retry::IfIdempotent, "");
    }
    put_one(backend, "ada").await.unwrap();
    let (keys, _) = page(backend, Some(start), Duration::from_secs(2)).await.unwrap();
    assert_eq!(keys, ["ada"]);
}

/// Who asks for what the server no longer has is told to start again.
#[tokio::test]
async fn a_lost_history_is_told() {
    let faulty = Faulty::open(&[]).await;
    let backend = &*faulty.backend;
    let start = now(backend).await;
    for (code, text) in [(286, "oplog"), (136, "oplog"), (260, "another database"), (280, "another database")]
    {
        for command in ["aggregate", "getMore"] {
            faulty.fail(1, &[command], doc! {"errorCode": code}).await;
            let told = page(backend, Some(start.clone()), Duration::from_secs(2)).await;
            expect(told, ErrorKind::InvalidInput, Retry::Never, text);
        }
    }
}
