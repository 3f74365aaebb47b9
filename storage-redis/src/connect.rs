//! From a configuration to a connection of the driver.

use std::path::Path;
use std::time::Duration;

use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, TlsCertificates, TlsMode, aio::MultiplexedConnection, cluster::ClusterClient,
    cluster_async::ClusterConnection, io::tcp::TcpSettings,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use storage_core::{Error, ErrorKind, Result};
use tokio::sync::Mutex;

use crate::config::{RedisConfig, Topology, split_port};
use crate::error::{During, driver};

/// Makes connections to one server: the one that is configured, or the master that sentinels name now.
pub(crate) struct Connector {
    target: Target,
    config: AsyncConnectionConfig,
    client_name: Option<String>,
    during: During,
    /// For an attempt to connect in all: sentinels that do not answer are asked one after the other.
    deadline: Duration,
}

enum Target {
    Server(Box<Client>),
    /// Asked anew for each connection.
    Sentinels(Box<Mutex<SentinelClient>>),
}

impl Connector {
    pub(crate) fn new(config: &RedisConfig) -> Result<Self> {
        let target = match config.topology {
            Topology::Sentinel => Target::Sentinels(Box::new(Mutex::new(sentinels(config)?))),
            _ => Target::Server(Box::new(server(config)?)),
        };
        let timeouts = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.response_timeout))
            .set_pipeline_buffer_size(256);
        Ok(Self {
            target,
            config: timeouts,
            client_name: config.client_name.clone(),
            during: During::Connect { tls: config.tls },
            deadline: match config.topology {
                Topology::Sentinel => {
                    config.connect_timeout * (1 + u32::try_from(config.hosts.len()).unwrap_or(1))
                }
                _ => config.connect_timeout * 2,
            },
        })
    }

    /// Connects once.
    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection> {
        let connecting = async {
            match &self.target {
                Target::Server(client) => {
                    client.get_multiplexed_async_connection_with_config(&self.config).await
                }
                Target::Sentinels(client) => {
                    let mut client = client.lock().await;
                    client.get_async_connection_with_config(&self.config).await
                }
            }
        };
        let made = tokio::time::timeout(self.deadline, connecting).await.map_err(|_| {
            let message = format!("no connection could be made within {:?}", self.deadline);
            Error::new(ErrorKind::Timeout, message).with_retry(storage_core::Retry::Safe)
        })?;
        let mut connection = made.map_err(|error| driver(error, self.during))?;
        if let Some(name) = &self.client_name {
            let named: Result<(), _> =
                redis::cmd("CLIENT").arg("SETNAME").arg(name).query_async(&mut connection).await;
            named.map_err(|error| driver(error, self.during))?;
        }
        Ok(connection)
    }
}

/// Connects to a cluster; the driver learns its topology, and follows it.
///
/// The driver repeats nothing by itself: it would also repeat what may have been done.
pub(crate) async fn cluster(config: &RedisConfig) -> Result<ClusterConnection> {
    let nodes = addresses(config)?.into_iter().map(|address| address.into_connection_info());
    let nodes: Vec<_> = nodes.collect::<Result<_, _>>().map_err(connecting(config))?;
    let mut builder = ClusterClient::builder(nodes)
        .retries(0)
        .connection_timeout(config.connect_timeout)
        .response_timeout(config.response_timeout)
        .tcp_settings(tcp(config));
    if let Some(username) = &config.username {
        builder = builder.username(username);
    }
    if let Some(password) = &config.password {
        builder = builder.password(password.reveal());
    }
    if config.tls {
        builder = builder.tls(TlsMode::Secure).certs(certificates(config)?);
    }
    let client = builder.build().map_err(connecting(config))?;
    // A node that is silent is waited for when the driver asks it, and again when it learns of it from another.
    let deadline = 2 * (config.connect_timeout + config.response_timeout);
    let connecting_all = tokio::time::timeout(deadline, client.get_async_connection());
    let made = connecting_all.await.map_err(|_| {
        let message = format!("no connection to the cluster could be made within {deadline:?}");
        Error::new(ErrorKind::Timeout, message).with_retry(storage_core::Retry::Safe)
    })?;
    made.map_err(connecting(config))
}

fn connecting(config: &RedisConfig) -> impl Fn(RedisError) -> Error + Copy + use<> {
    let during = During::Connect { tls: config.tls };
    move |error| driver(error, during)
}

fn server(config: &RedisConfig) -> Result<Client> {
    let address = match &config.socket {
        Some(path) => ConnectionAddr::Unix(path.clone()),
        None => addresses(config)?.into_iter().next().ok_or_else(|| Error::invalid("redis: no host"))?,
    };
    let mut account = RedisConnectionInfo::default().set_db(config.database.into());
    if let Some(username) = &config.username {
        account = account.set_username(username);
    }
    if let Some(password) = &config.password {
        account = account.set_password(password.reveal());
    }
    let info = address.into_connection_info().map_err(connecting(config))?;
    let info = info.set_redis_settings(account).set_tcp_settings(tcp(config));
    if config.tls { Client::build_with_tls(info, certificates(config)?) } else { Client::open(info) }
        .map_err(connecting(config))
}

fn sentinels(config: &RedisConfig) -> Result<SentinelClient> {
    let master = config.master.as_deref().unwrap_or_default();
    let mut builder = SentinelClientBuilder::new(addresses(config)?, master, SentinelServerType::Master)
        .map_err(connecting(config))?
        .set_client_to_redis_db(config.database.into())
        .set_client_to_redis_tcp_settings(tcp(config))
        .set_client_to_sentinel_tcp_settings(tcp(config));
    if let Some(username) = &config.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = &config.password {
        builder = builder.set_client_to_redis_password(password.reveal());
    }
    if let Some(username) = &config.sentinel_username {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = &config.sentinel_password {
        builder = builder.set_client_to_sentinel_password(password.reveal());
    }
    if config.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates(config)?)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates(config)?);
    }
    builder.build().map_err(connecting(config))
}

fn addresses(config: &RedisConfig) -> Result<Vec<ConnectionAddr>> {
    let address = |text: &String| {
        let (host, port) =
            split_port(text).ok_or_else(|| Error::invalid(format!("{text:?} is no host:port")))?;
        let (host, port) = (host.to_owned(), port.unwrap_or(6379));
        Ok(if config.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        })
    };
    config.hosts.iter().map(address).collect()
}

/// A peer that does not acknowledge what is sent to it is given up on after twice the time that a reply may take.
fn tcp(config: &RedisConfig) -> TcpSettings {
    TcpSettings::default().set_nodelay(true).set_user_timeout(config.response_timeout * 2)
}

fn certificates(config: &RedisConfig) -> Result<TlsCertificates> {
    // The driver takes the process's cryptography, and panics if a program has linked several kinds and chosen none. What
    // the program chose stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client_tls = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => {
            let client_cert = read_certificates("tls_cert", cert)?;
            let client_key = read("tls_key", key)?;
            if let Err(error) = PrivateKeyDer::from_pem_slice(&client_key) {
                return Err(no_pem("tls_key", key, "private key", &error));
            }
            Some(ClientTlsConfig { client_cert, client_key })
        }
        _ => None,
    };
    let root_cert = config.tls_ca.as_deref().map(|path| read_certificates("tls_ca", path)).transpose()?;
    Ok(TlsCertificates { client_tls, root_cert })
}

/// The driver would trust nobody, and not say why, for a file that has no certificate in it.
fn read_certificates(key: &str, path: &Path) -> Result<Vec<u8>> {
    let text = read(key, path)?;
    let mut found = CertificateDer::pem_slice_iter(&text).peekable();
    if found.peek().is_none() {
        return Err(no_pem(key, path, "certificate", &"there is none in the file"));
    }
    if let Some(Err(error)) = found.find(Result::is_err) {
        return Err(no_pem(key, path, "certificate", &error));
    }
    Ok(text)
}

fn no_pem(key: &str, path: &Path, what: &str, error: &dyn std::fmt::Display) -> Error {
    let path = path.display();
    Error::invalid(format!(
        "the configuration of redis: {key}: {path}: it has to be a {what} as PEM: {error}"
    ))
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::invalid(format!("the configuration of redis: {key}: {}: {error}", path.display()))
            .with_source(error)
    })
}
