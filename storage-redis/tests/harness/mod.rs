//! Redis stores on servers that the tests start.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use storage_core::{Backend, Result, TypeDescriptor as _};
use storage_redis::REDIS;
use storage_testkit::servers::{
    Certificates, RedisCluster, RedisSentinels, RedisServer, RedisSettings, RedisTls, free_port,
};
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

/// A server that tests share.
struct Server {
    url: String,
    /// Whether it was there before the tests, and what they write has to be removed.
    remains: bool,
}

/// The server that a variable names, if it is set, or else one of our own.
fn given(variable: &str, own: impl FnOnce() -> String) -> Server {
    match std::env::var(variable) {
        Ok(url) if !url.is_empty() => Server { url, remains: true },
        _ => Server { url: own(), remains: false },
    }
}

/// Stores on one server that all tests of the binary share, each under its own prefix.
pub(crate) struct Standalone;

static STANDALONE: LazyLock<RedisServer> =
    LazyLock::new(|| RedisServer::start(&RedisSettings::default()).expect("a server"));

#[async_trait]
impl Harness for Standalone {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let server = given("STORAGE_TEST_REDIS_URL", || format!("redis://{}", STANDALONE.address()));
        let bad = format!("redis://127.0.0.1:{}", free_port()?);
        Ok(Box::new(Shared::new(server, &[("prefix", &prefix())], bad)))
    }
}

/// As [`Standalone`], with TLS and a password.
pub(crate) struct Tls;

static TLS: LazyLock<(RedisServer, Arc<Certificates>)> = LazyLock::new(|| {
    let certificates = Arc::new(Certificates::generate().expect("certificates"));
    let tls = RedisTls { certificates: certificates.clone(), verify_clients: false };
    let settings =
        RedisSettings { password: Some(PASSWORD.to_owned()), tls: Some(tls), ..RedisSettings::default() };
    (RedisServer::start(&settings).expect("a server with TLS"), certificates)
});

#[async_trait]
impl Harness for Tls {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let server = given("STORAGE_TEST_REDIS_TLS_URL", || {
            let (server, certificates) = &*TLS;
            let ca = certificates.authority();
            format!("rediss://:{PASSWORD}@{}?tls_ca={}", server.address(), ca.display())
        });
        let bad = format!("rediss://:{PASSWORD}@127.0.0.1:{}", free_port()?);
        Ok(Box::new(Shared::new(server, &[("prefix", &prefix())], bad)))
    }
}

/// A server of its own for each store, to be stopped and frozen.
pub(crate) struct ServerOfItsOwn;

#[async_trait]
impl Harness for ServerOfItsOwn {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let settings = RedisSettings { password: Some(PASSWORD.to_owned()), ..RedisSettings::default() };
        Ok(Box::new(Alone { server: RedisServer::start(&settings)?, format: "record" }))
    }
}

/// As [`ServerOfItsOwn`], in the format raw.
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
        self.server.process().freeze()
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

/// No master fails here: what looks like it is a machine that has too much to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ended by the testkit when the process ends.
pub(crate) static CLUSTER: LazyLock<RedisCluster> =
    LazyLock::new(|| RedisCluster::start(PATIENCE).expect("a cluster of six servers"));

#[async_trait]
impl Harness for Cluster {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let parameters = [("prefix", prefix()), ("shards", self.shards.to_string())];
        let parameters = parameters.each_ref().map(|(name, value)| (*name, value.as_str()));
        Ok(Box::new(Shared::new(cluster(), &parameters, bad_cluster()?)))
    }
}

fn cluster() -> Server {
    given("STORAGE_TEST_REDIS_CLUSTER_URL", || format!("redis+cluster://{}", CLUSTER.hosts()))
}

fn bad_cluster() -> Result<String> {
    Ok(format!("redis+cluster://127.0.0.1:{}", free_port()?))
}

/// As [`Cluster`], in the format raw: there each store has the keys of its own collections.
pub(crate) struct RawCluster;

#[async_trait]
impl Harness for RawCluster {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        // Raw stores have no prefix of their own, so never on somebody else's cluster.
        let server = Server { url: format!("redis+cluster://{}", CLUSTER.hosts()), remains: false };
        Ok(Box::new(Shared::new(server, &[("format", "raw")], bad_cluster()?)))
    }
}

/// Stores on the master that sentinels name.
pub(crate) struct Sentinel;

pub(crate) static SENTINELS: LazyLock<RedisSentinels> =
    LazyLock::new(|| RedisSentinels::start(PATIENCE).expect("a master, a replica and three sentinels"));

#[async_trait]
impl Harness for Sentinel {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let master = RedisSentinels::MASTER;
        let own = || format!("redis+sentinel://{}/{master}", SENTINELS.hosts());
        let server = given("STORAGE_TEST_REDIS_SENTINEL_URL", own);
        let bad = format!("redis+sentinel://127.0.0.1:{}/{master}", free_port()?);
        Ok(Box::new(Shared::new(server, &[("prefix", &prefix())], bad)))
    }
}

/// A store on servers that other tests use too.
struct Shared {
    url: String,
    bad: String,
    password: Option<String>,
    remains: bool,
}

impl Shared {
    fn new(server: Server, parameters: &[(&str, &str)], bad: String) -> Self {
        let Server { mut url, remains } = server;
        let user = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
        let password = user.and_then(|user| user.split_once(':')).map(|(_, password)| password.to_owned());
        for (name, value) in parameters {
            let separator = if url.contains('?') { '&' } else { '?' };
            url.push_str(&format!("{separator}{name}={value}"));
        }
        Self { url, bad, password, remains }
    }
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
        self.password.iter().cloned().collect()
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        open(&self.bad).await
    }

    async fn discard(&self) -> Result<()> {
        if !self.remains {
            return Ok(());
        }
        let backend = open(&self.url).await?;
        for collection in backend.collections().await? {
            backend.clear(&collection).await?;
        }
        backend.close().await
    }
}
