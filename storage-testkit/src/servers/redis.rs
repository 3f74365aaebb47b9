//! Redis servers: alone, as a cluster, and behind sentinels.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use storage_core::{Error, ErrorKind, Result};

use super::{Certificates, Process, free_port, wait};

const INSTALL: &str = "run `cargo xtask services install redis`, or install Debian's redis-server";

/// What a Redis server is started with, besides its port.
#[derive(Clone, Default)]
pub struct RedisSettings {
    /// The password that clients give.
    pub password: Option<String>,
    /// Encryption; without it, connections are plain.
    pub tls: Option<RedisTls>,
    /// Lines of the server's configuration, as arguments: `["--maxmemory", "8mb"]`.
    pub more: Vec<String>,
}

/// How a server encrypts; it takes no plain connections then.
#[derive(Clone)]
pub struct RedisTls {
    /// What it shows, and whom it trusts.
    pub certificates: Arc<Certificates>,
    /// Whether clients have to show a certificate of the same authority.
    pub verify_clients: bool,
}

impl RedisSettings {
    /// A server without password or encryption, with these lines of configuration.
    pub fn with<const N: usize>(more: [&str; N]) -> Self {
        Self { more: more.map(str::to_owned).into(), ..Self::default() }
    }
}

/// One Redis server that keeps an append-only file, so that a restart loses nothing that was acknowledged.
pub struct RedisServer {
    process: Process,
    settings: RedisSettings,
}

impl RedisServer {
    /// Starts a server.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start(settings: &RedisSettings) -> Result<Self> {
        let port = free_port()?;
        let port_text = port.to_string();
        let mut arguments: Vec<String> =
            ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"].map(str::to_owned).into();
        match &settings.tls {
            None => arguments.extend(["--port", &port_text].map(str::to_owned)),
            Some(tls) => {
                let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
                let server = tls.certificates.server();
                let lines = [
                    ("--port", "0".to_owned()),
                    ("--tls-port", port_text),
                    ("--tls-ca-cert-file", path(tls.certificates.authority())),
                    ("--tls-cert-file", path(server.certificate)),
                    ("--tls-key-file", path(server.key)),
                    ("--tls-auth-clients", if tls.verify_clients { "yes" } else { "no" }.to_owned()),
                ];
                arguments.extend(lines.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
            }
        }
        if let Some(password) = &settings.password {
            arguments.extend([
                "--requirepass".to_owned(),
                password.clone(),
                "--masterauth".to_owned(),
                password.clone(),
            ]);
        }
        arguments.extend(settings.more.iter().cloned());
        let process = Process::start("redis-server", arguments, port, INSTALL)?;
        let server = Self { process, settings: settings.clone() };
        server.wait_until_loaded()?;
        Ok(server)
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Starts it again after it was stopped, and waits until it has loaded its data.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn restart(&self) -> Result<()> {
        self.process.restart()?;
        self.wait_until_loaded()
    }

    /// Runs a command by `redis-cli` and returns what it prints.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it cannot be run.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let port = self.port().to_string();
        let mut arguments = vec!["-p", &port];
        if let Some(password) = &self.settings.password {
            arguments.extend(["-a", password, "--no-auth-warning"]);
        }
        let files =
            self.settings.tls.as_ref().map(|tls| (tls.certificates.authority(), tls.certificates.client()));
        let files = files.map(|(authority, client)| {
            [authority, client.certificate, client.key].map(|path| path.to_string_lossy().into_owned())
        });
        if let Some([authority, certificate, key]) = &files {
            arguments.extend(["--tls", "--cacert", authority, "--cert", certificate, "--key", key]);
        }
        arguments.extend(words);
        redis_cli(&arguments)
    }

    /// Leaves the server running; see [`Process::detach`].
    pub fn detach(self) -> (Option<u32>, std::path::PathBuf) {
        self.process.detach()
    }

    fn wait_until_loaded(&self) -> Result<()> {
        wait("the server does not load its data, or redis-cli does not reach it", || {
            self.command(&["PING"]).is_ok_and(|reply| reply.trim() == "PONG" || reply.contains("NOAUTH"))
        })
    }
}

/// A Redis Cluster of three masters, each with a replica.
pub struct RedisCluster {
    /// The nodes.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts six servers and makes them a cluster. A replica takes the place of a master that is silent for `patience`,
    /// also of one that a busy machine keeps waiting, and what that one acknowledged last is lost then: let it be long
    /// wherever no failover is wanted.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start(patience: Duration) -> Result<Self> {
        let patience = patience.as_millis().to_string();
        let settings = RedisSettings::with(["--cluster-enabled", "yes", "--cluster-node-timeout", &patience]);
        let nodes = (0..6).map(|_| RedisServer::start(&settings)).collect::<Result<Vec<_>>>()?;
        let addresses: Vec<String> = nodes.iter().map(RedisServer::address).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        redis_cli(&create)?;
        let cluster = Self { nodes };
        wait("the cluster does not come up", || {
            cluster.nodes.iter().all(|node| {
                node.command(&["CLUSTER", "INFO"]).is_ok_and(|info| info.contains("cluster_state:ok"))
            }) && cluster.nodes.iter().filter(|node| is_synced_replica(node)).count() == 3
        })?;
        Ok(cluster)
    }

    /// `host:port` of every node, with commas.
    pub fn hosts(&self) -> String {
        self.nodes.iter().map(RedisServer::address).collect::<Vec<_>>().join(",")
    }
}

/// A master, a replica of it, and three sentinels that watch them.
pub struct RedisSentinels {
    /// The first master.
    pub master: RedisServer,
    /// Its replica.
    pub replica: RedisServer,
    /// The sentinels.
    pub sentinels: Vec<Process>,
}

impl RedisSentinels {
    /// The name under which the sentinels know the master.
    pub const MASTER: &str = "primary";

    /// Starts them all; `patience` as in [`RedisCluster::start`].
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start(patience: Duration) -> Result<Self> {
        let master = RedisServer::start(&RedisSettings::default())?;
        let port = master.port().to_string();
        let replica = RedisServer::start(&RedisSettings::with(["--replicaof", "127.0.0.1", &port]))?;
        wait("the replica does not follow its master", || is_synced_replica(&replica))?;
        let sentinels = (0..3).map(|_| sentinel(&port, patience)).collect::<Result<Vec<_>>>()?;
        let started = Self { master, replica, sentinels };
        wait("the sentinels do not find each other", || {
            started.sentinels.iter().all(|sentinel| {
                let port = sentinel.port().to_string();
                let seen = redis_cli(&["-p", &port, "SENTINEL", "CKQUORUM", Self::MASTER]);
                let replicas = redis_cli(&["-p", &port, "SENTINEL", "REPLICAS", Self::MASTER]);
                seen.is_ok_and(|text| text.starts_with("OK 3"))
                    && replicas.is_ok_and(|text| text.contains("slave"))
            })
        })?;
        Ok(started)
    }

    /// `host:port` of every sentinel, with commas.
    pub fn hosts(&self) -> String {
        let hosts = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port()));
        hosts.collect::<Vec<_>>().join(",")
    }
}

fn sentinel(master_port: &str, patience: Duration) -> Result<Process> {
    let port = free_port()?;
    let (name, patience) = (RedisSentinels::MASTER, patience.as_millis());
    // A sentinel writes into its configuration file, so it has to have one; it finds it in its own directory.
    let script = format!(
        "printf '%s\\n' 'port {port}' 'bind 127.0.0.1' 'sentinel monitor {name} 127.0.0.1 {master_port} 2' \
         'sentinel down-after-milliseconds {name} {patience}' 'sentinel failover-timeout {name} 4000' \
         > sentinel.conf && exec redis-server sentinel.conf --sentinel"
    );
    Process::start("sh", vec!["-c".to_owned(), script], port, INSTALL)
}

fn is_synced_replica(server: &RedisServer) -> bool {
    server.command(&["INFO", "replication"]).is_ok_and(|info| info.contains("master_link_status:up"))
}

fn redis_cli(arguments: &[&str]) -> Result<String> {
    let output = Command::new("redis-cli")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::new(ErrorKind::Unavailable, format!("redis-cli: {error}: {INSTALL}")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(ErrorKind::Unavailable, format!("redis-cli: {}{}", text.trim(), told.trim())))
}
