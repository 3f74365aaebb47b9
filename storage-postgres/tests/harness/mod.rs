//! PostgreSQL stores on servers that the tests start.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use storage_core::{Backend, Error, ErrorKind, Result, TypeDescriptor as _};
use storage_postgres::POSTGRES;
use storage_testkit::servers::{
    Certificates, PgBouncer, PostgresReplica, PostgresServer, PostgresSettings, PostgresTls, free_port,
};
use storage_testkit::{Fixture, Harness, ServerControl};

pub(crate) const PASSWORD: &str = "correct-horse-battery";

pub(crate) async fn open(url: &str) -> Result<Arc<dyn Backend>> {
    POSTGRES.open(POSTGRES.config_from_url(url)?).await
}

/// As [`open`], with partitions, into which the tables are brought first.
pub(crate) async fn open_divided(url: &str, partitions: serde_json::Value) -> Result<Arc<dyn Backend>> {
    let backend = open_with_partitions(url, partitions).await?;
    backend.maintain(storage_core::Maintenance::Compact).await?;
    Ok(backend)
}

/// As [`open`], with partitions in the configuration.
pub(crate) async fn open_with_partitions(
    url: &str,
    partitions: serde_json::Value,
) -> Result<Arc<dyn Backend>> {
    let mut config = POSTGRES.config_from_url(url)?;
    config["partitions"] = partitions;
    POSTGRES.validate(&config)?;
    POSTGRES.open(config).await
}

/// A URL with one more parameter, its value escaped.
pub(crate) fn with(url: &str, name: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    let value = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
    format!("{url}{separator}{name}={value}")
}

/// A schema that no other fixture has.
pub(crate) fn schema() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The server that a variable names, if it is set, or else one of our own; and whether it was there before.
fn given(variable: &str, own: impl FnOnce() -> String) -> (String, bool) {
    match std::env::var(variable) {
        Ok(url) if !url.is_empty() => (url, true),
        _ => (own(), false),
    }
}

/// The server that tests of one binary share, each with a schema of its own.
pub(crate) static SERVER: LazyLock<PostgresServer> =
    LazyLock::new(|| PostgresServer::start(&PostgresSettings::default()).expect("a server"));

/// Stores on one server that all tests of the binary share, each in its own schema.
pub(crate) struct Standalone;

/// The server that `STORAGE_TEST_POSTGRES_URL` names, or [`SERVER`].
pub(crate) fn shared_url() -> String {
    given("STORAGE_TEST_POSTGRES_URL", || SERVER.url()).0
}

#[async_trait]
impl Harness for Standalone {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let server = given("STORAGE_TEST_POSTGRES_URL", || SERVER.url());
        let bad = format!("postgres://storage@127.0.0.1:{}/storage", free_port()?);
        Ok(Box::new(Shared::new(server, bad)))
    }
}

/// As [`Standalone`], with a third of the collections in a table of each kind: hashed, of logs, and the rest.
pub(crate) struct Partitioned;

#[async_trait]
impl Harness for Partitioned {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let server = given("STORAGE_TEST_POSTGRES_URL", || SERVER.url());
        let bad = format!("postgres://storage@127.0.0.1:{}/storage", free_port()?);
        // The names that the suite gives to collections.
        let third = |which: usize| -> Vec<String> {
            (0..900).filter(|number| number % 3 == which).map(|number| format!("case{number}")).collect()
        };
        let partitions = serde_json::json!([
            {"collections": third(0), "hash": 4},
            {"collections": third(1), "range": "1day", "ahead": 1},
        ]);
        Ok(Box::new(Shared { partitions: Some(partitions), ..Shared::new(server, bad) }))
    }
}

/// As [`Standalone`], with TLS and a password.
pub(crate) struct Tls;

static TLS: LazyLock<(PostgresServer, Arc<Certificates>)> = LazyLock::new(|| {
    let certificates = Arc::new(Certificates::generate().expect("certificates"));
    let tls = PostgresTls { certificates: certificates.clone(), verify_clients: false };
    let settings = PostgresSettings {
        password: Some(PASSWORD.to_owned()),
        tls: Some(tls),
        ..PostgresSettings::default()
    };
    (PostgresServer::start(&settings).expect("a server with TLS"), certificates)
});

#[async_trait]
impl Harness for Tls {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let server = given("STORAGE_TEST_POSTGRES_TLS_URL", || {
            let (server, certificates) = &*TLS;
            with(
                &with(&server.url(), "tls", "verify-full"),
                "ca_file",
                &certificates.authority().to_string_lossy(),
            )
        });
        let bad = format!("postgres://storage:{PASSWORD}@127.0.0.1:{}/storage", free_port()?);
        Ok(Box::new(Shared::new(server, bad)))
    }
}

/// As [`Standalone`], behind a pooler that gives each transaction another connection.
pub(crate) struct Pooled;

static POOLED: LazyLock<(PostgresServer, PgBouncer)> = LazyLock::new(|| {
    let settings = PostgresSettings { password: Some(PASSWORD.to_owned()), ..PostgresSettings::default() };
    let server = PostgresServer::start(&settings).expect("a server");
    let pooler = PgBouncer::start(&server).expect("a pooler");
    (server, pooler)
});

#[async_trait]
impl Harness for Pooled {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let server =
            given("STORAGE_TEST_PGBOUNCER_URL", || format!("{}?prepared_statements=false", POOLED.1.url()));
        let bad = format!("postgres://storage:{PASSWORD}@127.0.0.1:{}/storage", free_port()?);
        Ok(Box::new(Shared::new(server, bad)))
    }
}

/// As [`Standalone`], on a primary of which the URL names the replica too, and first: it takes no writes.
pub(crate) struct Replicated;

static REPLICATED: LazyLock<(PostgresServer, PostgresReplica)> = LazyLock::new(|| {
    let primary = PostgresServer::start(&PostgresSettings::default()).expect("a server");
    let replica = PostgresReplica::start(&primary).expect("a replica");
    (primary, replica)
});

#[async_trait]
impl Harness for Replicated {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let server = given("STORAGE_TEST_POSTGRES_REPLICA_URL", || {
            let (primary, replica) = &*REPLICATED;
            primary.url_of(&format!("{},{}", replica.server().address(), primary.address()))
        });
        let hosts = format!("127.0.0.1:{},127.0.0.1:{}", free_port()?, free_port()?);
        Ok(Box::new(Shared::new(server, format!("postgres://storage@{hosts}/storage"))))
    }
}

/// A server of its own for each store, to be stopped and frozen.
pub(crate) struct ServerOfItsOwn;

#[async_trait]
impl Harness for ServerOfItsOwn {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let settings =
            PostgresSettings { password: Some(PASSWORD.to_owned()), ..PostgresSettings::default() };
        Ok(Box::new(Alone { server: PostgresServer::start(&settings)? }))
    }
}

struct Alone {
    server: PostgresServer,
}

impl Alone {
    fn url(&self, password: &str) -> String {
        let address = self.server.address();
        format!(
            "postgres://storage:{password}@{address}/storage?timeout=2s&connect_timeout=2s&acquire_timeout=2s"
        )
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
        open(&format!("postgres://storage:{PASSWORD}@127.0.0.1:{}/storage", free_port()?)).await
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
        self.server.terminate().map(drop)
    }
}

/// A store on a server that other tests use too.
struct Shared {
    /// Without the schema.
    server: String,
    schema: String,
    bad: String,
    password: Option<String>,
    remains: bool,
    partitions: Option<serde_json::Value>,
    divided: AtomicBool,
}

impl Shared {
    fn new((server, remains): (String, bool), bad: String) -> Self {
        let user = server.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
        let password = user.and_then(|user| user.split_once(':')).map(|(_, password)| password.to_owned());
        Self {
            server,
            schema: schema(),
            bad,
            password,
            remains,
            partitions: None,
            divided: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl Fixture for Shared {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        let url = with(&self.server, "schema", &self.schema);
        match &self.partitions {
            Some(partitions) if !self.divided.load(Ordering::Acquire) => {
                let backend = open_divided(&url, partitions.clone()).await?;
                self.divided.store(true, Ordering::Release);
                Ok(backend)
            }
            Some(partitions) => open_with_partitions(&url, partitions.clone()).await,
            None => open(&url).await,
        }
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
        use sqlx::{Connection as _, Executor as _};
        if !self.remains {
            return Ok(());
        }
        let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema);
        let mut done = Ok(());
        // One of several takes writes.
        for url in each_host(&self.server) {
            // A pooler takes no settings of a session.
            let dropped = async {
                let options = url.parse::<sqlx::postgres::PgConnectOptions>()?.extra_float_digits(None);
                let mut connection = sqlx::PgConnection::connect_with(&options).await?;
                connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(drop.clone()))).await?;
                connection.close().await
            };
            done = dropped.await;
            if done.is_ok() {
                break;
            }
        }
        done.map_err(|error| Error::new(ErrorKind::Unavailable, error.to_string()))
    }
}

/// A URL for each of the hosts of one, without parameters.
fn each_host(url: &str) -> Vec<String> {
    let url = url.split('?').next().unwrap_or_default();
    let start = url.find('@').or(url.find("://").map(|at| at + 2)).map_or(0, |at| at + 1);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    url[start..end].split(',').map(|host| format!("{}{host}{}", &url[..start], &url[end..])).collect()
}
