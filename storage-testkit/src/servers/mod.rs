//! Real servers for tests, started on free loopback ports in temporary directories.
//!
//! A server ends when its value is dropped, or when the process ends, unless it was [detached](Process::detach). What is missing on the machine is
//! an error that says how to install it; a test never passes without its server.

mod certificates;
mod guardian;
mod process;
mod redis;

pub use certificates::{Certificates, Identity};
pub use process::{Process, free_port};
pub use redis::{RedisCluster, RedisSentinels, RedisServer, RedisSettings, RedisTls};
