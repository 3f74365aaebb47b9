//! From a configuration to a connection of the driver.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use storage_core::{Error, ErrorKind, Result, Retry};

use crate::config::{PostgresConfig, Target, TlsMode, split_port};
use crate::error::{During, driver};

/// Makes connections to the first host that will do.
pub(crate) struct Connector {
    hosts: Vec<(String, PgConnectOptions)>,
    target: Target,
    /// The host that was the primary when last looked for: the next search begins there.
    primary: AtomicUsize,
    timeout: Duration,
    /// Whether settings are sent when connecting; a pooler takes none.
    settings: Option<Duration>,
}

impl Connector {
    pub(crate) fn new(config: &PostgresConfig) -> Result<Self> {
        let base = options(config)?;
        let hosts = match &config.socket {
            Some(socket) => vec![(socket.display().to_string(), base.socket(socket))],
            None => config
                .hosts
                .iter()
                .map(|text| {
                    let (host, port) = split_port(text)
                        .ok_or_else(|| Error::invalid(format!("{text:?} is no host:port")))?;
                    Ok((text.clone(), base.clone().host(host).port(port.unwrap_or(5432))))
                })
                .collect::<Result<_>>()?,
        };
        let settings = config.prepared_statements.then(|| config.statement_timeout());
        Ok(Self {
            hosts,
            target: config.target,
            primary: AtomicUsize::new(0),
            timeout: config.connect_timeout,
            settings,
        })
    }

    /// Connects to the first host that will do.
    ///
    /// # Errors
    /// Of the last host that was tried; whatever it is, no request was sent.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        self.connect_with(self.settings).await
    }

    /// As [`connect`](Self::connect), for work that takes long: the server does not give statements up.
    pub(crate) async fn connect_patiently(&self) -> Result<PgConnection> {
        self.connect_with(self.settings.map(|_| Duration::ZERO)).await
    }

    /// What the driver needs to connect to each host by itself; nothing behind a pooler, which has no sessions.
    pub(crate) fn sessions(&self) -> Vec<PgConnectOptions> {
        let session =
            |(_, options): &(String, PgConnectOptions)| options.clone().options([("statement_timeout", "0")]);
        if self.settings.is_some() { self.hosts.iter().map(session).collect() } else { Vec::new() }
    }

    async fn connect_with(&self, statement_timeout: Option<Duration>) -> Result<PgConnection> {
        let mut failed = None;
        let first = self.primary.load(Ordering::Relaxed);
        let others = (0..self.hosts.len()).filter(|at| *at != first);
        for at in std::iter::once(first).chain(others) {
            let Some((host, options)) = self.hosts.get(at) else { continue };
            let options = match statement_timeout {
                Some(timeout) => {
                    options.clone().options([("statement_timeout", timeout.as_millis().to_string())])
                }
                None => options.clone(),
            };
            let trying = tokio::time::timeout(self.timeout, self.try_host(&options));
            let error = match trying.await {
                Ok(Ok(connection)) => {
                    if self.target == Target::Primary {
                        self.primary.store(at, Ordering::Relaxed);
                    }
                    return Ok(connection);
                }
                Ok(Err(error)) => error,
                // No request was sent.
                Err(_) => Error::new(ErrorKind::Timeout, format!("no connection within {:?}", self.timeout))
                    .with_retry(Retry::Safe),
            };
            // A wrong password or certificate is no reason to try it elsewhere.
            let elsewhere =
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Busy);
            if !elsewhere {
                return Err(error);
            }
            tracing::debug!(%host, %error, "no connection");
            // That a host takes no writes says less than that another is away.
            let says_more = failed.as_ref().is_none_or(|(replica, _)| *replica);
            if says_more {
                failed = Some((error.message().contains(REPLICA), error));
            }
        }
        Err(failed
            .map_or_else(|| Error::invalid("the configuration of postgres: no host"), |(_, error)| error))
    }

    async fn try_host(&self, options: &PgConnectOptions) -> Result<PgConnection> {
        let connecting = |error| driver(error, During::Connect);
        let mut connection = PgConnection::connect_with(options).await.map_err(connecting)?;
        if self.hosts.len() > 1 && self.target == Target::Primary {
            let rows = sqlx::query("SELECT pg_is_in_recovery()").persistent(false);
            let row = rows.fetch_one(&mut connection).await.map_err(connecting)?;
            if row.try_get::<bool, _>(0).map_err(connecting)? {
                let message = format!("no host is a primary: {REPLICA}");
                return Err(Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Safe));
            }
        }
        Ok(connection)
    }
}

const REPLICA: &str = "the server is a replica";

fn options(config: &PostgresConfig) -> Result<PgConnectOptions> {
    let password = match (&config.password, &config.password_file) {
        (Some(password), _) => password.reveal().to_owned(),
        (None, Some(path)) => {
            let bytes = read("password_file", path)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Error::invalid("the configuration of postgres: password_file is not UTF-8"))?;
            text.strip_suffix('\n')
                .map(|text| text.strip_suffix('\r').unwrap_or(text))
                .unwrap_or(&text)
                .to_owned()
        }
        // Given, so that none comes from the environment.
        (None, None) => String::new(),
    };
    let mode = match config.tls_mode() {
        TlsMode::Disable => PgSslMode::Disable,
        TlsMode::Prefer => PgSslMode::Prefer,
        TlsMode::Require => PgSslMode::Require,
        TlsMode::VerifyCa => PgSslMode::VerifyCa,
        TlsMode::VerifyFull => PgSslMode::VerifyFull,
    };
    let mut options = PgConnectOptions::new_without_pgpass()
        .username(&config.user)
        .password(&password)
        .database(config.database.as_ref().unwrap_or(&config.user))
        .ssl_mode(mode)
        .application_name(&config.application_name)
        .statement_cache_capacity(STATEMENTS)
        // Texts of JSON come back as they were cast, whatever this is; a pooler refuses what it does not know.
        .extra_float_digits(None)
        .disable_statement_logging();
    for (key, file, label) in [
        ("ca_file", &config.ca_file, "CERTIFICATE-----"),
        ("cert_file", &config.cert_file, "CERTIFICATE-----"),
        ("key_file", &config.key_file, "PRIVATE KEY-----"),
    ] {
        let Some(path) = file else { continue };
        let pem = read(key, path)?;
        // The driver does not say in which file it misses something.
        if !String::from_utf8_lossy(&pem).contains(label) {
            return Err(Error::invalid(format!(
                "the configuration of postgres: {key}: {}: there is no {} in PEM in it",
                path.display(),
                label.trim_end_matches('-').to_lowercase()
            )));
        }
        options = match key {
            "ca_file" => options.ssl_root_cert_from_pem(pem),
            "cert_file" => options.ssl_client_cert_from_pem(pem),
            _ => options.ssl_client_key_from_pem(pem),
        };
    }
    if config.prepared_statements {
        options = options.options(PLANNING);
    }
    Ok(options)
}

/// How the statements of a store are to be planned.
///
/// They are short: compiling one costs more than it takes. And all that read a page go along an index and stop: where the
/// planner knows too little of a table, such as after an import, it believes that few rows remain, and to collect and sort them
/// is cheaper than to fetch them one by one, which takes as long as all that remain. At equal costs it never is.
pub(crate) const PLANNING: [(&str, &str); 2] = [("jit", "off"), ("random_page_cost", "1")];

/// How many prepared statements each connection keeps.
const STATEMENTS: usize = 200;

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::invalid(format!("the configuration of postgres: {key}: {}: {error}", path.display()))
            .with_source(error)
    })
}
