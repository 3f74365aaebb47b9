//! Redis stores on servers that the tests start.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use rustix::process::Signal;
use storage_core::{Backend, Result, TypeDescriptor as _};
use storage_redis::REDIS;
use storage_testkit::servers::{RedisCluster, RedisSentinels, RedisServer, RedisSettings, free_port};
use storage_testkit::{Fixture, Harness, ServerControl};

const PASSWORD: &str = "correct-horse-battery";

pub(crate) async fn open(url: &str) -> Result<Arc<dyn Backend>> {
    REDIS.open(REDIS.config_from_url(url)?).await
}

/// A prefix that no other fixture has.
pub(crate) fn prefix() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A server of its own for each store.
pub(crate) struct Standalone;

#[async_trait]
impl Harness for Standalone {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let settings = RedisSettings { password: Some(PASSWORD.to_owned()), ..RedisSettings::default() };
        Ok(Box::new(Alone { server: RedisServer::start(&settings)?, format: "record" }))
    }
}

/// As [`Standalone`], in the format raw.
pub(crate) struct Raw;

#[async_trait]
impl Harness for Raw {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let settings = RedisSettings { password: Some(PASSWORD.to_owned()), ..RedisSettings::default() };
        Ok(Box::new(Alone { server: RedisServer::start(&settings)?, format: "raw" }))
    }
}

struct Alone {
    server: RedisServer,
    format: &'static str,
}

impl Alone {
    fn url(&self, password: &str) -> String {
        let (address, format) = (self.server.address(), self.format);
        format!("redis://:{password}@{address}/0?format={format}&response_timeout=2s&connect_timeout=2s")
    }
}

#[async_trait]
impl Fixture for Alone {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        open(&self.url(PASSWORD)).await
    }

    fn persistent(&self) -> bool {
        true
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        open(&format!("redis://:{PASSWORD}@127.0.0.1:{}", free_port()?)).await
    }

    fn server(&self) -> Option<&dyn ServerControl> {
        Some(self)
    }
}

#[async_trait]
impl ServerControl for Alone {
    async fn open_wrong_password(&self) -> Result<Arc<dyn Backend>> {
        open(&self.url("wrong")).await
    }

    async fn stop(&self) -> Result<()> {
        self.server.process().stop(Signal::TERM)
    }

    async fn start(&self) -> Result<()> {
        self.server.restart()
    }

    async fn pause(&self) -> Result<()> {
        self.server.process().signal(Signal::STOP)
    }

    async fn resume(&self) -> Result<()> {
        self.server.process().signal(Signal::CONT)
    }

    async fn cut_connections(&self) -> Result<()> {
        self.server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).map(drop)
    }
}

/// Stores on one cluster that all tests of the binary share, each under its own prefix.
pub(crate) struct Cluster {
    /// Over how many slots a collection is spread.
    pub(crate) shards: u16,
}

/// Ended by the testkit when the process ends.
pub(crate) static CLUSTER: LazyLock<RedisCluster> =
    LazyLock::new(|| RedisCluster::start().expect("a cluster of six servers"));

#[async_trait]
impl Harness for Cluster {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let (hosts, shards) = (CLUSTER.hosts(), self.shards);
        let url = format!("redis+cluster://{hosts}?prefix={}&shards={shards}", prefix());
        Ok(Box::new(Shared { url, bad: format!("redis+cluster://127.0.0.1:{}", free_port()?) }))
    }
}

/// As [`Cluster`], in the format raw: there each store has the keys of its own collections.
pub(crate) struct RawCluster;

#[async_trait]
impl Harness for RawCluster {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let url = format!("redis+cluster://{}?format=raw", CLUSTER.hosts());
        Ok(Box::new(Shared { url, bad: format!("redis+cluster://127.0.0.1:{}", free_port()?) }))
    }
}

/// Stores on the master that sentinels name.
pub(crate) struct Sentinel;

pub(crate) static SENTINELS: LazyLock<RedisSentinels> =
    LazyLock::new(|| RedisSentinels::start().expect("a master, a replica and three sentinels"));

#[async_trait]
impl Harness for Sentinel {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let (hosts, master) = (SENTINELS.hosts(), RedisSentinels::MASTER);
        let url = format!("redis+sentinel://{hosts}/{master}/0?prefix={}", prefix());
        Ok(Box::new(Shared { url, bad: format!("redis+sentinel://127.0.0.1:{}/{master}", free_port()?) }))
    }
}

/// A store under a prefix of its own on servers that other tests use too.
struct Shared {
    url: String,
    bad: String,
}

#[async_trait]
impl Fixture for Shared {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        open(&self.url).await
    }

    fn persistent(&self) -> bool {
        true
    }

    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        open(&self.bad).await
    }
}
