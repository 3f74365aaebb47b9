//! Strategies of expiry, over the in-memory backend and over ones that stall and fail.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use storage_core::layer::{Around, Call, Expire, Layers, Lifetime, Policy, Reply, Strategy, TimeToLive};
use storage_core::{
    Address, Backend, Batch, Capabilities, Change, CollectionName, Effect, Error, ErrorKind, Feature, Json,
    ListRange, MemoryBackend, Mutation, Precondition, Record, Result, Retry, Scan, Timestamp, Version,
    Written,
};

use crate::fake::Fake;

const MINUTE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(30 * 60);

fn lifetime() -> Lifetime {
    Lifetime::new(TTL).unwrap()
}

fn config() -> TimeToLive {
    let name = |text| CollectionName::new(text).unwrap();
    TimeToLive::default()
        .with(name("sessions"), Strategy::Sliding(lifetime()))
        .with(name("cache"), Strategy::Fixed(lifetime()))
}

fn memory() -> Arc<dyn Backend> {
    Arc::new(Expire::new(config(), Arc::new(MemoryBackend::new())))
}

fn at(collection: &str) -> Address {
    Address::new(collection, "ada").unwrap()
}

fn put(collection: &str) -> Mutation {
    Mutation::put(at(collection), Json::from(json!(1)))
}

async fn write(backend: &Arc<dyn Backend>, mutation: Mutation) -> Result<Written> {
    backend.write(&Batch::independent(vec![mutation])).await?.remove(0)
}

async fn get(backend: &Arc<dyn Backend>, collection: &str) -> Option<Record> {
    backend.get(&[at(collection)]).await.unwrap().remove(0)
}

/// Puts a record that has so long to live.
async fn put_for(backend: &Arc<dyn Backend>, collection: &str, ttl: Duration) -> Version {
    let mutation = put(collection).expiring(Some(Timestamp::after(ttl).unwrap()));
    write(backend, mutation).await.unwrap().into_version().unwrap()
}

/// How long the record has to live; the clock of the test may be late, never early.
fn left(record: &Record) -> Duration {
    record.expires_at.unwrap().since(Timestamp::now())
}

fn is_about(left: Duration, expected: Duration) -> bool {
    left <= expected && left + MINUTE > expected
}

#[tokio::test]
async fn records_written_without_an_expiry_get_that_of_their_collection() {
    let backend = memory();
    for (collection, expected) in [("sessions", Some(TTL)), ("cache", Some(TTL)), ("users", None)] {
        write(&backend, put(collection)).await.unwrap();
        let record = get(&backend, collection).await.unwrap();
        match expected {
            Some(ttl) => assert!(is_about(left(&record), ttl), "{record:?}"),
            None => assert_eq!(record.expires_at, None),
        }
        let explicit = Some(Timestamp::after(2 * TTL).unwrap());
        write(&backend, put(collection).expiring(explicit)).await.unwrap();
        assert_eq!(get(&backend, collection).await.unwrap().expires_at, explicit, "what is said counts");
        write(&backend, Mutation::touch(at(collection), None)).await.unwrap();
        assert_eq!(
            get(&backend, collection).await.unwrap().expires_at,
            None,
            "a touch lets it stay for good"
        );
    }
    let batch = Batch::atomic(vec![
        Mutation::increment(Address::new("cache", "hits").unwrap(), "n", 1),
        Mutation::append(Address::new("cache", "log").unwrap(), vec![Json::from(json!(1))]),
    ]);
    backend.write(&batch).await.unwrap();
    for mutation in batch.mutations {
        let made = backend.get(&[mutation.address]).await.unwrap().remove(0).unwrap();
        assert!(is_about(left(&made), TTL), "{made:?}");
    }
}

#[tokio::test]
async fn only_a_read_of_a_sliding_record_extends_it() {
    let backend = memory();
    for collection in ["sessions", "cache"] {
        put_for(&backend, collection, 10 * MINUTE).await;
        backend.scan(&Scan::new(at(collection).collection)).await.unwrap();
    }
    let fixed = get(&backend, "cache").await.unwrap();
    assert!(is_about(left(&fixed), 10 * MINUTE), "{fixed:?}");
    let sliding = get(&backend, "sessions").await.unwrap();
    assert!(is_about(left(&sliding), TTL), "{sliding:?}");
    let found = get(&backend, "sessions").await.unwrap();
    let (expires_at, version) = (found.expires_at, found.version);
    assert_eq!((expires_at, version), (sliding.expires_at, sliding.version), "as the next read finds it");
}

#[tokio::test]
async fn most_reads_stay_reads() {
    let backend = memory();
    for (ttl, extended) in [(TTL, false), (28 * MINUTE, false), (26 * MINUTE, true), (2 * TTL, false)] {
        let version = put_for(&backend, "sessions", ttl).await;
        let record = get(&backend, "sessions").await.unwrap();
        assert_eq!(record.version != version, extended, "{ttl:?} to live: {record:?}");
        let again = get(&backend, "sessions").await.unwrap();
        assert_eq!(again.version, record.version, "{ttl:?} to live: twice in a row");
    }
}

#[tokio::test]
async fn a_read_returns_the_version_of_its_extension() {
    let backend = memory();
    let before = put_for(&backend, "sessions", 10 * MINUTE).await;
    let twice = backend.get(&[at("sessions"), at("users"), at("sessions")]).await.unwrap();
    let [Some(first), None, Some(second)] = twice.as_slice() else { panic!("{twice:?}") };
    assert_eq!(first, second);
    assert_ne!(first.version, before);
    let stale = write(&backend, put("sessions").on(Precondition::Version(before))).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::PreconditionFailed);
    write(&backend, put("sessions").on(Precondition::Version(first.version.clone()))).await.unwrap();
}

#[tokio::test]
async fn reading_the_items_of_a_list_extends_it() {
    let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let backend: Arc<dyn Backend> = Arc::new(Expire::new(config(), store.clone()));
    let append = Mutation::append(at("sessions"), vec![Json::from(json!("hello"))]);
    let soon = Some(Timestamp::after(10 * MINUTE).unwrap());
    write(&backend, append.expiring(soon)).await.unwrap();
    let range = ListRange { address: at("sessions"), start: 0, limit: 5 };
    assert_eq!(backend.list_range(&range).await.unwrap().unwrap().length, 1);
    let extended = get(&store, "sessions").await.unwrap();
    assert!(is_about(left(&extended), TTL), "{extended:?}");
    backend.list_range(&range).await.unwrap();
    assert_eq!(get(&store, "sessions").await, Some(extended), "once is enough");

    let missing = ListRange { address: at("cache"), ..range.clone() };
    assert_eq!(backend.list_range(&missing).await.unwrap(), None);
    put_for(&backend, "sessions", 10 * MINUTE).await;
    assert_eq!(backend.list_range(&range).await.unwrap_err().kind(), ErrorKind::TypeMismatch);
}

/// Does something to the record between a get and what follows it.
#[derive(Debug)]
struct InBetween {
    store: Arc<MemoryBackend>,
    change: Change,
    touches: Arc<AtomicUsize>,
}

impl Policy for InBetween {
    fn name(&self) -> &'static str {
        "in_between"
    }

    async fn around<T, N, F>(&self, call: Call<'_>, next: N) -> Result<T>
    where
        T: Reply,
        N: Fn() -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send,
    {
        if call.request.is_write() {
            self.touches.fetch_add(1, Ordering::SeqCst);
            let change = Mutation::new(at("sessions"), self.change.clone());
            self.store.write(&Batch::independent(vec![change])).await?;
        }
        next().await
    }
}

#[tokio::test]
async fn a_concurrent_write_wins() {
    let soon = Some(Timestamp::after(MINUTE).unwrap());
    let put = Change::Put { value: Json::from(json!("theirs")).into(), expires_at: soon };
    for (change, expected) in [(put, Some(soon)), (Change::Delete, None)] {
        let store = Arc::new(MemoryBackend::new());
        let touches = Arc::new(AtomicUsize::new(0));
        let between = InBetween { store: store.clone(), change, touches: touches.clone() };
        let reader = Expire::new(config(), Arc::new(Around::new(between, store.clone())));
        let store: Arc<dyn Backend> = store;
        let version = put_for(&store, "sessions", 10 * MINUTE).await;

        let read = reader.get(&[at("sessions")]).await.unwrap().remove(0).unwrap();
        assert_eq!(touches.load(Ordering::SeqCst), 1, "an extension was tried");
        assert_eq!(read.version, version, "the record is what was read");
        let stored = get(&store, "sessions").await;
        assert_eq!(stored.map(|record| record.expires_at), expected, "neither overwritten nor brought back");
    }
}

/// Lets reads through; writes fail, or never end.
#[derive(Debug)]
struct Writes {
    fail: bool,
}

impl Policy for Writes {
    fn name(&self) -> &'static str {
        "writes"
    }

    async fn around<T, N, F>(&self, call: Call<'_>, next: N) -> Result<T>
    where
        T: Reply,
        N: Fn() -> F + Send + Sync,
        F: Future<Output = Result<T>> + Send,
    {
        match (call.request.is_write(), self.fail) {
            (false, _) => next().await,
            (true, true) => Err(Error::new(ErrorKind::Unavailable, "read-only").with_retry(Retry::Never)),
            (true, false) => std::future::pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_fails_or_hangs_never_harms_the_read() {
    for fail in [true, false] {
        let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        put_for(&store, "sessions", 10 * MINUTE).await;
        let stored = get(&store, "sessions").await;
        let reader = Expire::new(config(), Arc::new(Around::new(Writes { fail }, store)));
        let begun = tokio::time::Instant::now();
        assert_eq!(reader.get(&[at("sessions")]).await.unwrap().remove(0), stored);
        let expected = Duration::from_millis(if fail { 0 } else { 250 });
        assert_eq!(begun.elapsed().as_millis(), expected.as_millis(), "the read waits so long at most");
    }
}

#[tokio::test]
async fn the_extensions_of_one_read_are_one_batch() {
    let fake = Arc::new(Fake::new());
    let ttl = TimeToLive { default: Strategy::Fixed(lifetime()), ..TimeToLive::default() };
    let layer = Expire::new(ttl, fake.clone());
    let keys: Vec<Address> = (0..20).map(|i| Address::new("cache", format!("k{i}")).unwrap()).collect();
    let puts = keys.iter().map(|key| Mutation::put(key.clone(), Json::from(json!(1)))).collect();
    layer.write(&Batch::independent(puts)).await.unwrap();
    assert_eq!(fake.count(), 1, "a write is one write");
    let given: Vec<_> = fake.applied.lock().unwrap().iter().map(|put| put.change.clone()).collect();
    assert!(given.iter().all(|change| matches!(change, Change::Put { expires_at: Some(_), .. })));

    let store = Arc::new(MemoryBackend::new());
    let counted = Arc::new(AtomicUsize::new(0));
    let nothing = Mutation::delete(at("sessions")).change;
    let between = InBetween { store: store.clone(), change: nothing, touches: counted.clone() };
    let reader = Expire::new(config(), Arc::new(Around::new(between, store.clone())));
    let keys: Vec<Address> = (0..20).map(|i| Address::new("sessions", format!("k{i}")).unwrap()).collect();
    let soon = Some(Timestamp::after(10 * MINUTE).unwrap());
    let puts = keys.iter().map(|key| Mutation::put(key.clone(), Json::from(json!(1))).expiring(soon));
    store.write(&Batch::independent(puts.collect())).await.unwrap();
    let read = reader.get(&keys).await.unwrap();
    assert!(read.iter().flatten().all(|record| is_about(left(record), TTL)), "{read:?}");
    assert_eq!(counted.load(Ordering::SeqCst), 1);
    assert_eq!(store.get(&keys).await.unwrap().iter().flatten().count(), 20);
}

#[tokio::test]
async fn a_backend_that_cannot_is_refused_by_name() {
    let without = |feature| {
        let mut capabilities = Capabilities::none().native(Feature::ALL);
        capabilities.features.remove(&feature);
        capabilities
    };
    let layers: Layers = serde_json::from_value(json!([{"time_to_live": {"collections": {
        "sessions": {"sliding": {"ttl": "30m"}}, "cache": {"fixed": {"ttl": "30m"}}
    }}}]))
    .unwrap();
    layers.check(&Capabilities::none().native(Feature::ALL)).unwrap();
    for (missing, named) in [
        (Feature::Expiry, "the strategy fixed of cache needs the feature expiry"),
        (Feature::Preconditions, "the strategy sliding of sessions needs the feature preconditions"),
    ] {
        let early = layers.check(&without(missing)).unwrap_err();
        assert_eq!(early.kind(), ErrorKind::Unsupported);
        assert!(early.to_string().contains(named), "{early}");

        let fake = Arc::new(Fake::with(without(missing)));
        let stack = layers.apply(fake.clone());
        let range = ListRange { address: at("sessions"), start: 0, limit: 1 };
        for error in [
            stack.get(&[at("sessions")]).await.unwrap_err(),
            stack.write(&Batch::independent(vec![put("sessions")])).await.unwrap_err(),
            stack.list_range(&range).await.unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.backend_name()), (ErrorKind::Unsupported, "fake"));
            assert!(error.to_string().contains(named), "{error}");
        }
        assert_eq!(fake.count(), 0);
        let written = write(&stack, put("users")).await.unwrap();
        assert_eq!(written.effect, Effect::Done, "collections without a strategy work");
    }
}

#[test]
fn it_is_data() {
    let text = r#"[{"time_to_live":{"default":{"fixed":{"ttl":"168h","jitter":0.0}},"collections":{"sessions":{"sliding":{"ttl":"30m","jitter":0.1}},"users":"none"}}}]"#;
    let layers: Layers = serde_json::from_str(text).unwrap();
    assert_eq!(layers.to_string(), "time_to_live > guard");
    let again = serde_json::to_string(&layers).unwrap();
    assert_eq!(serde_json::from_str::<Layers>(&again).unwrap(), layers, "{again}");
    assert!(again.contains(r#""sliding":{"ttl":"30m","jitter":0.1}"#), "{again}");
    let empty: Layers = serde_json::from_str(r#"[{"time_to_live": {}}]"#).unwrap();
    assert!(format!("{empty:?}").contains("default: None"), "{empty:?}");

    for (wrong, names) in [
        (r#"{"collection": {}}"#, "unknown field `collection`"),
        (r#"{"default": "never"}"#, "unknown variant `never`"),
        (r#"{"default": {"fixed": {}}}"#, "missing field `ttl`"),
        (r#"{"default": {"fixed": {"ttl": "1h", "jiter": 0.1}}}"#, "unknown field `jiter`"),
        (r#"{"default": {"fixed": {"ttl": "0s"}}}"#, "time to live is zero"),
        (r#"{"default": {"fixed": {"ttl": "soon"}}}"#, "duration"),
        (r#"{"default": {"sliding": {"ttl": "1h", "jitter": 0.6}}}"#, "jitter 0.6"),
        (r#"{"default": {"sliding": {"ttl": "1h", "jitter": -0.1}}}"#, "jitter -0.1"),
        (r#"{"collections": {"no spaces": "none"}}"#, "no spaces"),
    ] {
        let stack = format!(r#"[{{"time_to_live": {wrong}}}]"#);
        let error = serde_json::from_str::<Layers>(&stack).unwrap_err().to_string();
        assert!(error.contains(names), "{wrong}: {error}");
    }
    assert_eq!(lifetime().with_jitter(f64::NAN).unwrap_err().kind(), ErrorKind::InvalidInput);
}
