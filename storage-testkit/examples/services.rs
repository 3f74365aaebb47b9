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

    use storage_core::{Error, Result};
    use storage_testkit::servers::{
        Certificates, RedisCluster, RedisSentinels, RedisServer, RedisSettings, RedisTls,
    };

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
                if let Some(certificates) = Arc::into_inner(certificates) {
                    certificates.keep();
                }
                Ok(lines(processes, "REDIS_TLS", &url))
            }
            "redis-cluster" => {
                let cluster = RedisCluster::start()?;
                let url = format!("redis+cluster://{}", cluster.hosts());
                Ok(lines(cluster.nodes.into_iter().map(|node| node.detach().0), "REDIS_CLUSTER", &url))
            }
            "redis-sentinel" => {
                let servers = RedisSentinels::start()?;
                let url = format!("redis+sentinel://{}/{}", servers.hosts(), RedisSentinels::MASTER);
                let redis = [servers.master.detach().0, servers.replica.detach().0];
                let sentinels = servers.sentinels.into_iter().map(|sentinel| sentinel.detach().0);
                Ok(lines(redis.into_iter().chain(sentinels), "REDIS_SENTINEL", &url))
            }
            _ => Err(Error::invalid("name one of redis, redis-tls, redis-cluster, redis-sentinel")),
        }
    }

    fn lines(processes: impl IntoIterator<Item = Option<u32>>, variable: &str, url: &str) -> Vec<String> {
        let processes = processes.into_iter().flatten().map(|id| format!("process {id}"));
        processes.chain([format!("export STORAGE_TEST_{variable}_URL='{url}'")]).collect()
    }
}
