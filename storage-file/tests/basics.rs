//! What only a file store does: reopening, locking, damage, formats.

#![allow(clippy::unwrap_used, reason = "a panic is the message of a failed test")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use storage_core::{
    Address, Backend, Batch, Blob, CollectionName, Count, ErrorKind, Feature, IndexSpec, Json, Maintenance,
    Mutation, Query, Scan, Timestamp, Value,
};
use storage_file::{CheckOnOpen, Durability, FileBackend, FileConfig};

async fn open(path: &Path) -> FileBackend {
    FileBackend::open(FileConfig::new(path)).await.unwrap()
}

fn put(key: &str, json: &str) -> Mutation {
    Mutation::put(Address::new("users", key).unwrap(), Json::parse(json.to_owned()).unwrap())
}

async fn fill(store: &dyn Backend, count: usize) {
    let mutations = (0..count)
        .map(|i| put(&format!("user-{i:05}"), &format!(r#"{{"n":{i},"text":"{}"}}"#, "x".repeat(200))));
    store.write(&Batch::independent(mutations.collect())).await.unwrap();
}

async fn count(store: &dyn Backend) -> u64 {
    store.count(&Count { collection: CollectionName::new("users").unwrap(), filter: None }).await.unwrap()
}

#[tokio::test]
async fn data_and_indexes_survive_reopening() {
    for durability in [Durability::Immediate, Durability::Eventual, Durability::None] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/by/opening");
        let store = FileBackend::open(FileConfig::new(&path).with_durability(durability)).await.unwrap();
        fill(&store, 100).await;
        let users = CollectionName::new("users").unwrap();
        let index = IndexSpec::new(users.clone(), "n".parse().unwrap());
        assert!(store.ensure_index(&index).await.unwrap());
        let first = store.write(&Batch::independent(vec![put("a", "{}")])).await.unwrap();
        drop(store);

        let store = open(&path).await;
        assert_eq!(count(&store).await, 101, "{durability:?}");
        assert_eq!(store.list_indexes(&users).await.unwrap(), [index]);
        let found = store.query(&Query::new(users, r#"{"n":7}"#.parse().unwrap())).await.unwrap();
        assert_eq!(found.items[0].address.key.as_str(), "user-00007");
        let again = store.write(&Batch::independent(vec![put("a", "{}")])).await.unwrap();
        assert_ne!(first[0].as_ref().unwrap().version, again[0].as_ref().unwrap().version);
        assert!(store.maintain(Maintenance::Verify).await.unwrap().problems.is_empty());
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_second_opening_says_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let _first = open(directory.path()).await;
    let error = FileBackend::open(FileConfig::new(directory.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("in use by another process"), "{error}");
    assert!(error.to_string().contains(&directory.path().display().to_string()), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_private_and_nothing_else_is_left() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    drop(open(&path).await);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let file = path.join("storage.redb");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}

#[tokio::test]
async fn what_is_no_store_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "text").unwrap();
    let error = FileBackend::open(FileConfig::new(&file)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");

    for content in [&b""[..], b"just some text, no database at all", &[0; 4096]] {
        fs::write(directory.path().join("storage.redb"), content).unwrap();
        let error = FileBackend::open(FileConfig::new(directory.path())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("storage.redb"), "{error}");
        assert_eq!(fs::read(directory.path().join("storage.redb")).unwrap(), content, "left as it was");
    }
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).await);
    let database = redb::Database::open(directory.path().join("storage.redb")).unwrap();
    let write = database.begin_write().unwrap();
    let meta: redb::TableDefinition<'_, &'static str, u64> = redb::TableDefinition::new("meta");
    write.open_table(meta).unwrap().insert("format", 2).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = FileBackend::open(FileConfig::new(directory.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("format 2, newer than this program's 1"), "{error}");
}

/// Opens and reads everything; `Ok` holds how many records were read.
async fn read_all(path: &Path) -> storage_core::Result<usize> {
    let config = FileConfig { check_on_open: CheckOnOpen::Always, ..FileConfig::new(path) };
    let store = FileBackend::open(config).await?;
    let mut scan = Scan::new(CollectionName::new("users")?);
    let mut records = 0;
    loop {
        let page = store.scan(&scan).await?;
        for record in &page.items {
            let n: usize = record.address.key.as_str()["user-".len()..].parse().unwrap();
            let tree = record.value.as_json().unwrap().tree()?;
            assert_eq!(tree["n"], n, "wrong data without an error");
        }
        records += page.items.len();
        scan.after = page.next;
        if scan.after.is_none() {
            return Ok(records);
        }
    }
}

#[tokio::test]
async fn truncated_files_are_errors_that_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    fill(&store, 2000).await;
    drop(store);
    let file = directory.path().join("storage.redb");
    let whole = fs::read(&file).unwrap();
    assert_eq!(read_all(directory.path()).await.unwrap(), 2000);
    for tenth in 0..10 {
        fs::write(&file, &whole[..whole.len() * tenth / 10]).unwrap();
        let error = read_all(directory.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{tenth}/10: {error}");
        assert!(error.to_string().contains("storage.redb"), "{error}");
    }
}

#[tokio::test]
async fn flipped_bytes_are_never_wrong_data() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    fill(&store, 2000).await;
    drop(store);
    let file = directory.path().join("storage.redb");
    let whole = fs::read(&file).unwrap();
    // A fixed sequence (SplitMix64), so that a failure can be repeated.
    let mut state = 7u64;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ z >> 29
    };
    let (mut errors, mut intact) = (0, 0);
    for _ in 0..60 {
        let mut damaged = whole.clone();
        for _ in 0..1 + random() % 8 {
            let at = random() as usize % damaged.len();
            damaged[at] ^= 1 << (random() % 8);
        }
        fs::write(&file, &damaged).unwrap();
        match read_all(directory.path()).await {
            // The flips hit unused space.
            Ok(records) => {
                assert_eq!(records, 2000);
                intact += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("storage.redb"), "{error}");
                errors += 1;
            }
        }
    }
    assert!(errors > 10, "{errors} errors, {intact} intact: the flips hit nothing");
}

#[tokio::test]
async fn compact_gives_room_back_while_readers_wait() {
    let directory = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(directory.path()).await);
    fill(&*store, 10_000).await;
    store.clear(&CollectionName::new("users").unwrap()).await.unwrap();
    fill(&*store, 10).await;
    let reader = {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..200 {
                assert_eq!(count(&*store).await, 10);
            }
        })
    };
    let report = store.maintain(Maintenance::Compact).await.unwrap();
    assert!(report.freed_bytes > 1_000_000, "{report:?}");
    reader.await.unwrap();
    assert_eq!(count(&*store).await, 10);
}

#[tokio::test]
async fn the_sweeper_removes_what_has_expired_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        FileConfig { sweep_interval: Duration::from_millis(20), ..FileConfig::new(directory.path()) };
    let store = FileBackend::open(config).await.unwrap();
    let soon = Some(Timestamp::after(Duration::from_millis(50)).unwrap());
    let expiring = (0..2000).map(|i| put(&format!("e{i}"), "{}").expiring(soon));
    store.write(&Batch::independent(expiring.chain([put("stays", "{}")]).collect())).await.unwrap();
    let started = Instant::now();
    while store.stats().await.unwrap().records != Some(1) {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", store.stats().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.maintain(Maintenance::Verify).await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn a_record_that_cannot_be_stored_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let later = Some(Timestamp::after(Duration::from_secs(600)).unwrap());
    let at = Address::new("users", "a").unwrap();
    let blob = Blob::new("data").with_media_type("x".repeat(70_000));
    store.write(&Batch::independent(vec![put("a", "{}").expiring(later)])).await.unwrap();
    let unstorable = Mutation::put(at.clone(), Value::Bytes(blob));
    let results = store.write(&Batch::independent(vec![unstorable.clone(), put("b", "{}")])).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(results[1].is_ok());
    let error = store.write(&Batch::atomic(vec![put("c", "{}"), unstorable])).await.unwrap_err();
    assert_eq!((error.kind(), error.failed_mutation()), (ErrorKind::TooLarge, Some(1)));
    assert_eq!(store.get(&[at]).await.unwrap()[0].as_ref().unwrap().expires_at, later);
    assert_eq!(store.maintain(Maintenance::Verify).await.unwrap().problems, Vec::<String>::new());
    assert_eq!(count(&store).await, 2);
}

#[tokio::test]
async fn verify_finds_damage_that_opening_did_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    fill(&store, 500).await;
    drop(store);
    let file = directory.path().join("storage.redb");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(20).position(|window| window == b"x".repeat(20)).unwrap();
    bytes[at] = b'y';
    fs::write(&file, bytes).unwrap();
    let unchecked = FileConfig { check_on_open: CheckOnOpen::Never, ..FileConfig::new(directory.path()) };
    let store = FileBackend::open(unchecked).await.unwrap();
    let report = store.maintain(Maintenance::Verify).await.unwrap();
    assert!(!report.problems.is_empty());
}

#[test]
fn capabilities_name_what_is_missing() {
    use storage_core::TypeDescriptor as _;

    let capabilities = storage_file::FILE.capabilities();
    let missing: Vec<_> = Feature::ALL.into_iter().filter(|feature| !capabilities.has(*feature)).collect();
    assert_eq!(missing, [Feature::Changes, Feature::Analyse]);
}
