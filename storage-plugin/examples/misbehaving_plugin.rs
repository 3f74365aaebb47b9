//! A plugin that goes wrong as it is told to: what the tests hold the two sides of the ABI against.
//!
//! The configuration names a fault, and the operation that commits it (all that a store has, if it names none); what
//! is without fault is done by the in-memory backend. `closed` is a file to make when the store is closed. In a URL
//! the configuration is a query, such as `misbehaving:?fault=hang&at=get`.

use std::future::{Future, pending};
use std::panic;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::{fs, thread};

use async_trait::async_trait;
use serde_json::{Value as Tree, json};
use storage_core::{
    Address, Backend, BackendInfo, Batch, Capabilities, ChangeEvent, Changes, CollectionName, Count, Error,
    ErrorKind, Health, IndexSpec, Key, ListItems, ListRange, Maintenance, MaintenanceReport, MemoryBackend,
    Page, Path, Query, Record, Result, Scan, Stats, StoreUrl, TypeDescriptor, Written,
};

storage_plugin::export_plugin!(MISBEHAVING, name = "misbehaving", version = "1.0.0");

static MISBEHAVING: MisbehavingType = MisbehavingType;

/// How long [`Fault::Block`] blocks a thread.
const BLOCKED: Duration = Duration::from_secs(2);

/// How many calls hang or hung, and how many of those were dropped.
static HUNG: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Panic(When, Payload),
    /// Never answers.
    Hang,
    /// Never answers, and panics when it is cancelled.
    PanicOnCancel,
    /// Blocks its thread, for [`BLOCKED`].
    Block,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Before there is a future.
    AtOnce,
    /// When the future has waited.
    Later,
    /// In a task that the future started and waits for, from which it takes the panic over.
    InTask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    Text,
    Number,
    /// One that panics when it is dropped.
    Bomb,
}

const FAULTS: [(&str, Fault); 12] = [
    ("panic", Fault::Panic(When::AtOnce, Payload::Text)),
    ("panic_number", Fault::Panic(When::AtOnce, Payload::Number)),
    ("panic_bomb", Fault::Panic(When::AtOnce, Payload::Bomb)),
    ("panic_later", Fault::Panic(When::Later, Payload::Text)),
    ("panic_later_number", Fault::Panic(When::Later, Payload::Number)),
    ("panic_later_bomb", Fault::Panic(When::Later, Payload::Bomb)),
    ("panic_in_task", Fault::Panic(When::InTask, Payload::Text)),
    ("panic_in_task_number", Fault::Panic(When::InTask, Payload::Number)),
    ("panic_in_task_bomb", Fault::Panic(When::InTask, Payload::Bomb)),
    ("hang", Fault::Hang),
    ("panic_on_cancel", Fault::PanicOnCancel),
    ("block", Fault::Block),
];

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped the payload of a panic");
    }
}

impl Payload {
    fn throw(self) -> ! {
        match self {
            Self::Text => panic!("as it was told to"),
            Self::Number => panic::panic_any(42),
            Self::Bomb => panic::panic_any(Bomb),
        }
    }
}

/// Counts a call that hangs, from its begin to its end.
struct Hanging {
    panics: bool,
}

impl Hanging {
    fn begin(panics: bool) -> Self {
        HUNG.fetch_add(1, SeqCst);
        Self { panics }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, SeqCst);
        if self.panics {
            panic!("cancelled");
        }
    }
}

impl Fault {
    /// What of it comes before there is a future.
    fn commit_at_once(self) {
        if let Self::Panic(When::AtOnce, payload) = self {
            payload.throw();
        }
    }

    /// What of it comes when the future is polled.
    async fn commit_later(self) {
        match self {
            Self::Panic(When::AtOnce, _) => {}
            Self::Panic(When::Later, payload) => {
                tokio::task::yield_now().await;
                payload.throw();
            }
            Self::Panic(When::InTask, payload) => {
                let task: tokio::task::JoinHandle<()> = tokio::spawn(async move { payload.throw() });
                if let Err(failed) = task.await {
                    panic::resume_unwind(failed.into_panic());
                }
            }
            Self::Hang | Self::PanicOnCancel => {
                let _hanging = Hanging::begin(self == Self::PanicOnCancel);
                pending().await
            }
            Self::Block => thread::sleep(BLOCKED),
        }
    }
}

/// Which fault is committed where.
#[derive(Clone, Debug)]
struct Config {
    fault: Option<Fault>,
    at: Option<String>,
    closed: Option<PathBuf>,
}

impl Config {
    fn read(config: &Tree) -> Result<Self> {
        let text = |key: &str| config.get(key).and_then(Tree::as_str);
        let fault = match text("fault") {
            None => None,
            Some(name) => {
                let fault = FAULTS.iter().find(|fault| fault.0 == name);
                Some(fault.ok_or_else(|| Error::invalid(format!("fault: {name:?} is none")))?.1)
            }
        };
        Ok(Self { fault, at: text("at").map(str::to_owned), closed: text("closed").map(PathBuf::from) })
    }

    /// The fault of a store's operation.
    fn of_store(&self, operation: &str) -> Option<Fault> {
        self.fault.filter(|_| self.at.as_deref().is_none_or(|at| at == operation))
    }

    /// The fault of an operation of the type.
    fn of_type(&self, operation: &str) -> Option<Fault> {
        self.fault.filter(|_| self.at.as_deref() == Some(operation))
    }
}

struct MisbehavingType;

#[async_trait]
impl TypeDescriptor for MisbehavingType {
    fn name(&self) -> &str {
        "misbehaving"
    }

    fn version(&self) -> semver::Version {
        semver::Version::new(1, 0, 0)
    }

    fn summary(&self) -> &str {
        "Goes wrong as it is told to"
    }

    fn schemes(&self) -> &[&str] {
        &["misbehaving"]
    }

    fn capabilities(&self) -> Capabilities {
        MemoryBackend::new().info().capabilities.clone()
    }

    fn config_schema(&self) -> Tree {
        let faults = FAULTS.map(|fault| fault.0);
        json!({
            "type": "object",
            "properties": {"fault": {"enum": faults}, "at": {"type": "string"}, "closed": {"type": "string"}},
            "additionalProperties": false,
        })
    }

    fn config_from_url(&self, url: &str) -> Result<Tree> {
        let config = Tree::Object(StoreUrl::parse(url)?.query_config(&self.config_schema())?);
        if let Some(fault) = Config::read(&config)?.of_type("config_from_url") {
            fault.commit_at_once();
        }
        Ok(config)
    }

    fn validate(&self, config: &Tree) -> Result<()> {
        if let Some(fault) = Config::read(config)?.of_type("validate") {
            fault.commit_at_once();
        }
        Ok(())
    }

    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>> {
        // Panics are what is expected here, and their messages would hide those that are not.
        panic::set_hook(Box::new(|_| {}));
        let config = Config::read(&config)?;
        if let Some(fault) = config.of_type("open") {
            fault.commit_at_once();
            fault.commit_later().await;
        }
        let inner = MemoryBackend::new();
        let info = BackendInfo {
            name: "misbehaving".into(),
            location: "misbehaving:".to_owned(),
            ..inner.info().clone()
        };
        Ok(Arc::new(MisbehavingBackend { config, info, inner }))
    }
}

#[derive(Debug)]
struct MisbehavingBackend {
    config: Config,
    info: BackendInfo,
    inner: MemoryBackend,
}

impl MisbehavingBackend {
    fn commit_at_once(&self, operation: &str) {
        if let Some(fault) = self.config.of_store(operation) {
            fault.commit_at_once();
        }
    }

    async fn commit_later(&self, operation: &str) {
        if let Some(fault) = self.config.of_store(operation) {
            fault.commit_later().await;
        }
    }
}

type Reply<'f, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'f>>;

/// Methods as `async_trait` makes them, but that a fault can come before there is a future.
macro_rules! faulty {
    ($($method:ident<$($life:lifetime),*>($($argument:ident: $kind:ty),*) -> $reply:ty;)*) => {$(
        fn $method<'a, $($life,)* 'f>(&'a self, $($argument: $kind),*) -> Reply<'f, $reply>
        where
            Self: 'f,
            'a: 'f,
            $($life: 'f,)*
        {
            self.commit_at_once(stringify!($method));
            Box::pin(async move {
                self.commit_later(stringify!($method)).await;
                self.inner.$method($($argument),*).await
            })
        }
    )*};
}

impl Backend for MisbehavingBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    faulty! {
        get<'b>(keys: &'b [Address]) -> Vec<Option<Record>>;
        write<'b>(batch: &'b Batch) -> Vec<Result<Written>>;
        scan<'b>(scan: &'b Scan) -> Page<Record>;
        keys<'b>(scan: &'b Scan) -> Page<Key>;
        query<'b>(query: &'b Query) -> Page<Record>;
        list_range<'b>(range: &'b ListRange) -> Option<ListItems>;
        count<'b>(count: &'b Count) -> u64;
        collections<>() -> Vec<CollectionName>;
        clear<'b>(collection: &'b CollectionName) -> u64;
        ensure_index<'b>(index: &'b IndexSpec) -> bool;
        list_indexes<'b>(collection: &'b CollectionName) -> Vec<IndexSpec>;
        drop_index<'b, 'c>(collection: &'b CollectionName, path: &'c Path) -> bool;
        changes<'b>(changes: &'b Changes) -> Page<ChangeEvent>;
        health<>() -> Health;
        maintain<>(task: Maintenance) -> MaintenanceReport;
    }

    /// Also how many calls hung in this process, and how many of them were dropped.
    fn stats<'a, 'f>(&'a self) -> Reply<'f, Stats>
    where
        Self: 'f,
        'a: 'f,
    {
        self.commit_at_once("stats");
        Box::pin(async move {
            self.commit_later("stats").await;
            let mut stats = self.inner.stats().await?;
            for (name, count) in [("hung", &HUNG), ("dropped", &DROPPED)] {
                stats.details.insert(name.into(), count.load(SeqCst).into());
            }
            Ok(stats)
        })
    }

    /// Also makes the file that tells of it.
    fn close<'a, 'f>(&'a self) -> Reply<'f, ()>
    where
        Self: 'f,
        'a: 'f,
    {
        self.commit_at_once("close");
        Box::pin(async move {
            self.commit_later("close").await;
            if let Some(file) = &self.config.closed {
                fs::write(file, "").map_err(|error| {
                    Error::new(ErrorKind::Unavailable, "the file cannot be made").with_source(error)
                })?;
            }
            self.inner.close().await
        })
    }
}
