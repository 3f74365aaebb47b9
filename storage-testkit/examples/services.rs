//! Starts one kind of server and leaves it running: `services NAME`.
//!
//! Its files go where temporary files go (`TMPDIR`). Prints a line `process ID` for each process that it leaves, and a
//! line `export NAME=VALUE` for each address. `cargo xtask services` calls it, and ends what it started.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its caller through its output")]

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    match started::by_name(&name) {
        Ok(lines) => {
            println!("{}", lines.join("\n"));
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(unix))]
fn main() {
    eprintln!("servers for tests are started on Unix only");
}

#[cfg(unix)]
mod started {
    use std::sync::Arc;
    use std::time::Duration;

    use storage_core::{Error, Result};
    use storage_testkit::servers::{
        Certificates, MongoServer, MongoSettings, MongoTls, PgBouncer, PostgresReplica, PostgresServer,
        PostgresSettings, PostgresTls, RedisCluster, RedisSentinels, RedisServer, RedisSettings, RedisTls,
    };

    /// How long a master is silent before its replica takes over.
    const PATIENCE: Duration = Duration::from_secs(15);

    /// Of no value: the server is on this machine, and goes with the tests.
    const PASSWORD: &str = "correct-horse-battery";

    pub(super) fn by_name(name: &str) -> Result<Vec<String>> {
        match name {
            "redis" => {
                let server = RedisServer::start(&RedisSettings::default())?;
                let url = format!("redis://{}", server.address());
                Ok(lines([server.detach().0], "REDIS", &url))
            }
            "redis-tls" => {
                let certificates = Arc::new(Certificates::generate()?);
                let tls = RedisTls { certificates: certificates.clone(), verify_clients: false };
                let server = RedisServer::start(&RedisSettings {
                    password: Some(PASSWORD.to_owned()),
                    tls: Some(tls),
                    more: Vec::new(),
                })?;
                let ca = certificates.authority();
                let url = format!("rediss://:{PASSWORD}@{}?tls_ca={}", server.address(), ca.display());
                let processes = [server.detach().0];
                keep(certificates);
                Ok(lines(processes, "REDIS_TLS", &url))
            }
            "redis-cluster" => {
                let cluster = RedisCluster::start(PATIENCE)?;
                let url = format!("redis+cluster://{}", cluster.hosts());
                Ok(lines(cluster.nodes.into_iter().map(|node| node.detach().0), "REDIS_CLUSTER", &url))
            }
            "redis-sentinel" => {
                let servers = RedisSentinels::start(PATIENCE)?;
                let url = format!("redis+sentinel://{}/{}", servers.hosts(), RedisSentinels::MASTER);
                let redis = [servers.master.detach().0, servers.replica.detach().0];
                let sentinels = servers.sentinels.into_iter().map(|sentinel| sentinel.detach().0);
                Ok(lines(redis.into_iter().chain(sentinels), "REDIS_SENTINEL", &url))
            }
            "postgres" => {
                let server = PostgresServer::start(&PostgresSettings::default())?;
                let url = server.url();
                Ok(lines([server.detach().0], "POSTGRES", &url))
            }
            "postgres-replica" => {
                let primary = PostgresServer::start(&PostgresSettings::default())?;
                let replica = PostgresReplica::start(&primary)?;
                let url = primary.url_of(&format!("{},{}", primary.address(), replica.server().address()));
                // The replica first: it is ended before what it follows.
                Ok(lines([replica.detach().0, primary.detach().0], "POSTGRES_REPLICA", &url))
            }
            "postgres-tls" => {
                let certificates = Arc::new(Certificates::generate()?);
                let tls = PostgresTls { certificates: certificates.clone(), verify_clients: false };
                let server = PostgresServer::start(&PostgresSettings {
                    password: Some(PASSWORD.to_owned()),
                    tls: Some(tls),
                    more: Vec::new(),
                })?;
                let ca = certificates.authority();
                let url = format!("{}?tls=verify-full&ca_file={}", server.url(), ca.display());
                let processes = [server.detach().0];
                keep(certificates);
                Ok(lines(processes, "POSTGRES_TLS", &url))
            }
            "pgbouncer" => {
                let server = PostgresServer::start(&PostgresSettings::default())?;
                let pooler = PgBouncer::start(&server)?;
                let url = format!("{}?prepared_statements=false", pooler.url());
                Ok(lines([pooler.detach().0, server.detach().0], "PGBOUNCER", &url))
            }
            "mongo" => mongo("MONGODB", &MongoSettings::default()),
            "mongo-standalone" => {
                mongo("MONGODB_STANDALONE", &MongoSettings { standalone: true, ..MongoSettings::default() })
            }
            "mongo-tls" => {
                let certificates = Arc::new(Certificates::generate()?);
                let tls = MongoTls { certificates: certificates.clone(), verify_clients: false };
                let server = MongoServer::start(&MongoSettings {
                    password: Some(PASSWORD.to_owned()),
                    tls: Some(tls),
                    ..MongoSettings::default()
                })?;
                let ca = certificates.authority();
                let url = format!("{}?tls=true&tlsCAFile={}", server.url(), ca.display());
                let processes = [server.detach().0];
                keep(certificates);
                Ok(lines(processes, "MONGODB_TLS", &url))
            }
            _ => Err(Error::invalid(format!("there is no service {name:?}"))),
        }
    }

    fn mongo(variable: &str, settings: &MongoSettings) -> Result<Vec<String>> {
        let server = MongoServer::start(settings)?;
        let url = server.url();
        Ok(lines([server.detach().0], variable, &url))
    }

    /// Leaves the files of certificates behind, once nothing holds them any more.
    fn keep(certificates: Arc<Certificates>) {
        if let Some(certificates) = Arc::into_inner(certificates) {
            certificates.keep();
        }
    }

    fn lines(processes: impl IntoIterator<Item = Option<u32>>, variable: &str, url: &str) -> Vec<String> {
        let processes = processes.into_iter().flatten().map(|id| format!("process {id}"));
        processes.chain([format!("export STORAGE_TEST_{variable}_URL='{url}'")]).collect()
    }
}
