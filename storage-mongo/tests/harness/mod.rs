//! MongoDB stores on servers that the tests start.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use mongodb::bson::doc;
use storage_core::{Backend, Error, ErrorKind, Result, TypeDescriptor as _};
use storage_mongo::MONGO;
use storage_testkit::proxy::Proxy;
use storage_testkit::servers::{Certificates, MongoServer, MongoSettings, MongoTls, free_port};
use storage_testkit::{Fixture, Harness, ServerControl};

pub(crate) const PASSWORD: &str = "correct-horse-battery";

pub(crate) async fn open(url: &str) -> Result<Arc<dyn Backend>> {
    MONGO.open(MONGO.config_from_url(url)?).await
}

/// A URL with one more parameter, its value escaped.
pub(crate) fn with(url: &str, name: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    let value = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
    format!("{url}{separator}{name}={value}")
}

/// A prefix that no other fixture has.
pub(crate) fn prefix() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test{}-{}.", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The server that a variable names, if it is set, or else one of our own; and whether it was there before.
fn given(variable: &str, own: impl FnOnce() -> String) -> (String, bool) {
    match std::env::var(variable) {
        Ok(url) if !url.is_empty() => (url, true),
        _ => (own(), false),
    }
}

/// The server that tests of one binary share, each with a prefix of its own.
pub(crate) static SERVER: LazyLock<MongoServer> =
    LazyLock::new(|| MongoServer::start(&MongoSettings::default()).expect("a server"));

/// The server that `STORAGE_TEST_MONGODB_URL` names, or [`SERVER`].
pub(crate) fn shared_url() -> String {
    given("STORAGE_TEST_MONGODB_URL", || SERVER.url()).0
}

/// The driver's own view of the database that a URL names.
pub(crate) async fn database(url: &str) -> mongodb::error::Result<mongodb::Database> {
    let client = mongodb::Client::with_uri_str(plain(url)).await?;
    Ok(client.default_database().unwrap_or_else(|| client.database(MongoServer::NAME)))
}

/// A URL without the parameters that are not the driver's.
fn plain(url: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let theirs = query.split('&').filter(|parameter| {
        !["prefix=", "timeout=", "ca_file=", "cert_file="].iter().any(|ours| parameter.starts_with(ours))
    });
    format!("{base}?{}", theirs.collect::<Vec<_>>().join("&"))
}

/// Stores on a replica set that all tests of the binary share, each under its own prefix.
pub(crate) struct ReplicaSet;

#[async_trait]
impl Harness for ReplicaSet {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let server = given("STORAGE_TEST_MONGODB_URL", || SERVER.url());
        Ok(Box::new(Shared::new(server, format!("mongodb://127.0.0.1:{}/storage", free_port()?))))
    }
}

/// As [`ReplicaSet`], on a server alone.
pub(crate) struct Standalone;

static STANDALONE: LazyLock<MongoServer> = LazyLock::new(|| {
    let settings = MongoSettings { standalone: true, ..MongoSettings::default() };
    MongoServer::start(&settings).expect("a server alone")
});

#[async_trait]
impl Harness for Standalone {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let server = given("STORAGE_TEST_MONGODB_STANDALONE_URL", || STANDALONE.url());
        Ok(Box::new(Shared::new(server, format!("mongodb://127.0.0.1:{}/storage", free_port()?))))
    }
}

/// As [`ReplicaSet`], with TLS and a password.
pub(crate) struct Tls;

static TLS: LazyLock<(MongoServer, Arc<Certificates>)> = LazyLock::new(|| {
    let certificates = Arc::new(Certificates::generate().expect("certificates"));
    let tls = MongoTls { certificates: certificates.clone(), verify_clients: false };
    let settings =
        MongoSettings { password: Some(PASSWORD.to_owned()), tls: Some(tls), ..MongoSettings::default() };
    (MongoServer::start(&settings).expect("a server with TLS"), certificates)
});

#[async_trait]
impl Harness for Tls {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let server = given("STORAGE_TEST_MONGODB_TLS_URL", || {
            let (server, certificates) = &*TLS;
            with(
                &with(&server.url(), "tls", "true"),
                "tlsCAFile",
                &certificates.authority().to_string_lossy(),
            )
        });
        let bad = format!("mongodb://storage:{PASSWORD}@127.0.0.1:{}/storage", free_port()?);
        Ok(Box::new(Shared::new(server, bad)))
    }
}

/// A server of its own for each store, to be stopped and frozen.
pub(crate) struct ServerOfItsOwn;

#[async_trait]
impl Harness for ServerOfItsOwn {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let settings = MongoSettings { password: Some(PASSWORD.to_owned()), ..MongoSettings::default() };
        let server = MongoServer::start(&settings)?;
        let proxy = Proxy::start(server.address()).await?;
        Ok(Box::new(Alone { server, proxy }))
    }
}

struct Alone {
    server: MongoServer,
    proxy: Proxy,
}

impl Alone {
    fn url(&self, password: &str) -> String {
        let address = self.proxy.address();
        format!("mongodb://storage:{password}@{address}/storage?directConnection=true&timeout=2s")
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
        open(&format!("mongodb://storage:{PASSWORD}@127.0.0.1:{}/storage", free_port()?)).await
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
        self.server.stop()
    }

    async fn start(&self) -> Result<()> {
        self.server.restart()
    }

    async fn pause(&self) -> Result<()> {
        self.server.freeze()
    }

    async fn resume(&self) -> Result<()> {
        self.server.thaw()
    }

    async fn cut_connections(&self) -> Result<()> {
        self.proxy.cut();
        Ok(())
    }
}

/// A store on a server that other tests use too.
struct Shared {
    /// Without the prefix.
    server: String,
    prefix: String,
    bad: String,
    password: Option<String>,
    remains: bool,
}

impl Shared {
    fn new((server, remains): (String, bool), bad: String) -> Self {
        let user = server.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
        let password = user.and_then(|user| user.split_once(':')).map(|(_, password)| password.to_owned());
        Self { server, prefix: prefix(), bad, password, remains }
    }
}

#[async_trait]
impl Fixture for Shared {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        // The stand-in takes seconds for a thousand writes, and many tests share it.
        open(&with(&with(&self.server, "prefix", &self.prefix), "timeout", "60s")).await
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
        let dropping = async {
            let database = database(&self.server).await?;
            for name in database.list_collection_names().await? {
                if name.starts_with(&self.prefix) {
                    database.run_command(doc! {"drop": name}).await?;
                }
            }
            Ok::<_, mongodb::error::Error>(())
        };
        dropping.await.map_err(|error| unavailable(&error))
    }
}

fn unavailable(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, error.to_string())
}
