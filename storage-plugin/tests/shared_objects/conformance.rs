//! Backends that pass the suite when they are linked in pass it through a shared library too.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use async_trait::async_trait;
use serde_json::{Value as Tree, json};
use storage_core::{Backend, Result, TypeDescriptor};
use storage_plugin::host::{LoadLimits, Plugin};
use storage_testkit::servers::{MongoServer, MongoSettings, PostgresServer, PostgresSettings, free_port};
use storage_testkit::{Fixture, Harness};
use tempfile::TempDir;

use crate::build;

mod memory_inline {
    storage_testkit::conformance!(super::memory_inline());
    storage_testkit::differential!(super::memory_inline());
}

mod memory_spawned {
    storage_testkit::conformance!(super::memory_spawned());
    storage_testkit::differential!(super::memory_spawned());
}

mod file {
    storage_testkit::conformance!(super::file());
    storage_testkit::differential!(super::file());
}

mod postgres {
    storage_testkit::conformance!(super::postgres());
    storage_testkit::differential!(super::postgres());
}

/// The groups in which each call crosses the border in its own way; its server is too slow for all of them a third time.
mod mongo {
    storage_testkit::conformance!(only crud batches expiry transactions errors_and_life: super::mongo());
}

fn memory_inline() -> Memory {
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    Memory(load(&PLUGIN, || build::example("memory_plugin")))
}

fn memory_spawned() -> Memory {
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    Memory(load(&PLUGIN, || build::example("memory_spawned_plugin")))
}

fn file() -> Files {
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    Files(load(&PLUGIN, || build::backend("storage-file")))
}

fn postgres() -> Schemas {
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    Schemas(load(&PLUGIN, || build::backend("storage-postgres")))
}

fn mongo() -> Databases {
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    Databases(load(&PLUGIN, || build::backend("storage-mongo")))
}

fn load(once: &OnceLock<Arc<Plugin>>, library: impl FnOnce() -> PathBuf) -> Arc<Plugin> {
    let load = || Plugin::load(&library(), LoadLimits::default()).expect("the plugin loads");
    let plugin = Arc::clone(once.get_or_init(load));
    // Each test looks: whichever comes after the misbehaviour tells of it.
    assert_eq!((plugin.violations(), plugin.disabled()), (0, None));
    plugin
}

/// Memory stores, each of which is new.
#[derive(Clone)]
struct Memory(Arc<Plugin>);

#[async_trait]
impl Harness for Memory {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Fixture for Memory {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        self.0.open(json!({})).await
    }

    fn persistent(&self) -> bool {
        false
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        self.0.open(self.0.config_from_url("memory://nowhere")?).await
    }
}

/// File stores in temporary directories.
struct Files(Arc<Plugin>);

#[async_trait]
impl Harness for Files {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Ok(Box::new(Directory { plugin: Arc::clone(&self.0), directory }))
    }
}

struct Directory {
    plugin: Arc<Plugin>,
    directory: TempDir,
}

impl Directory {
    fn config(&self, name: &str) -> Tree {
        json!({"path": self.directory.path().join(name)})
    }
}

#[async_trait]
impl Fixture for Directory {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        self.plugin.open(self.config("data")).await
    }

    fn persistent(&self) -> bool {
        true
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        std::fs::write(self.directory.path().join("plain-file"), "not a directory").expect("a plain file");
        self.plugin.open(self.config("plain-file")).await
    }
}

/// PostgreSQL stores in schemas of their own, on one server.
struct Schemas(Arc<Plugin>);

static POSTGRES: LazyLock<PostgresServer> =
    LazyLock::new(|| PostgresServer::start(&PostgresSettings::default()).expect("a server"));

#[async_trait]
impl Harness for Schemas {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Schema { plugin: Arc::clone(&self.0), number }))
    }
}

struct Schema {
    plugin: Arc<Plugin>,
    number: u64,
}

#[async_trait]
impl Fixture for Schema {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        let url = format!("{}?schema=test{}", POSTGRES.url(), self.number);
        self.plugin.open(self.plugin.config_from_url(&url)?).await
    }

    fn persistent(&self) -> bool {
        true
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        let url = format!("postgres://storage@127.0.0.1:{}/storage", free_port()?);
        self.plugin.open(self.plugin.config_from_url(&url)?).await
    }
}

/// MongoDB stores in databases of their own, on one server.
struct Databases(Arc<Plugin>);

static MONGO: LazyLock<MongoServer> =
    LazyLock::new(|| MongoServer::start(&MongoSettings::default()).expect("a server"));

#[async_trait]
impl Harness for Databases {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Database { plugin: Arc::clone(&self.0), number }))
    }
}

struct Database {
    plugin: Arc<Plugin>,
    number: u64,
}

impl Database {
    async fn open_at(&self, address: &str) -> Result<Arc<dyn Backend>> {
        // The stand-in takes seconds for a thousand writes, and many tests share it.
        let url = format!("mongodb://{address}/test{}?timeout=60s", self.number);
        self.plugin.open(self.plugin.config_from_url(&url)?).await
    }
}

#[async_trait]
impl Fixture for Database {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        self.open_at(&MONGO.address()).await
    }

    fn persistent(&self) -> bool {
        true
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        self.open_at(&format!("127.0.0.1:{}", free_port()?)).await
    }
}
