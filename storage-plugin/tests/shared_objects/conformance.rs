//! Backends that pass the suite when they are linked in pass it through a shared library too.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use async_trait::async_trait;
use serde_json::{Value as Tree, json};
use storage_core::{Backend, Result, TypeDescriptor};
use storage_plugin::host::{LoadLimits, Plugin};
use storage_testkit::servers::{
    MongoServer, MongoSettings, PostgresServer, PostgresSettings, RedisServer, RedisSettings, free_port,
};
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

mod redis {
    storage_testkit::conformance!(super::redis());
    storage_testkit::differential!(super::redis());
}

mod mongo {
    storage_testkit::conformance!(super::mongo(), ignored: [
        query::leading_zeros_make_no_position = "the stand-in takes 01 for a position: docs/mongodb-stand-in.md",
    ]);
    storage_testkit::differential!(super::mongo());
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

fn postgres() -> Served {
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    static SERVER: LazyLock<PostgresServer> =
        LazyLock::new(|| PostgresServer::start(&PostgresSettings::default()).expect("a server"));
    Served {
        plugin: load(&PLUGIN, || build::backend("storage-postgres")),
        address: || SERVER.address(),
        url: |address, number| format!("postgres://storage@{address}/storage?schema=test{number}"),
    }
}

fn redis() -> Served {
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    static SERVER: LazyLock<RedisServer> =
        LazyLock::new(|| RedisServer::start(&RedisSettings::default()).expect("a server"));
    Served {
        plugin: load(&PLUGIN, || build::backend("storage-redis")),
        address: || SERVER.address(),
        url: |address, number| format!("redis://{address}?prefix=test{number}"),
    }
}

fn mongo() -> Served {
    static PLUGIN: OnceLock<Arc<Plugin>> = OnceLock::new();
    static SERVER: LazyLock<MongoServer> =
        LazyLock::new(|| MongoServer::start(&MongoSettings::default()).expect("a server"));
    Served {
        plugin: load(&PLUGIN, || build::backend("storage-mongo")),
        address: || SERVER.address(),
        // The stand-in takes seconds for a thousand writes, and many tests share it.
        url: |address, number| format!("mongodb://{address}/test{number}?timeout=60s"),
    }
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

/// Stores on one server, apart from each other.
struct Served {
    plugin: Arc<Plugin>,
    address: fn() -> String,
    /// Of a store with a number, on the server at an address.
    url: fn(&str, u64) -> String,
}

#[async_trait]
impl Harness for Served {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Apart {
            plugin: Arc::clone(&self.plugin),
            url: (self.url)(&(self.address)(), number),
            nowhere: (self.url)(&format!("127.0.0.1:{}", free_port()?), number),
        }))
    }
}

struct Apart {
    plugin: Arc<Plugin>,
    url: String,
    /// Where no server is.
    nowhere: String,
}

impl Apart {
    async fn open_at(&self, url: &str) -> Result<Arc<dyn Backend>> {
        self.plugin.open(self.plugin.config_from_url(url)?).await
    }
}

#[async_trait]
impl Fixture for Apart {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        self.open_at(&self.url).await
    }

    fn persistent(&self) -> bool {
        true
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        self.open_at(&self.nowhere).await
    }
}
