//! Real servers for tests, started on free loopback ports in temporary directories.
//!
//! A server ends when its value is dropped, or when the process ends, unless it was [detached](Process::detach). What is missing on the machine is
//! an error that says how to install it; a test never passes without its server.

mod certificates;
mod family;
mod guardian;
mod mongo;
mod postgres;
mod process;
mod redis;
mod user;

use std::time::{Duration, Instant};

use storage_core::{Error, ErrorKind, Result};

pub use certificates::{Certificates, Identity};
pub use mongo::{MongoServer, MongoSettings, MongoTls};
pub use postgres::{PgBouncer, PostgresReplica, PostgresServer, PostgresSettings, PostgresTls};
pub use process::{Process, free_port};
pub use redis::{RedisCluster, RedisSentinels, RedisServer, RedisSettings, RedisTls};

/// Waits until something holds, for a minute.
fn wait(trouble: &str, until: impl Fn() -> bool) -> Result<()> {
    let started = Instant::now();
    while !until() {
        if started.elapsed() > Duration::from_secs(60) {
            return Err(Error::new(ErrorKind::Unavailable, trouble));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
