//! A Redis server of its own for each test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use storage_core::{Backend, Error, ErrorKind, Result};
use storage_redis::{RedisBackend, RedisConfig};
use storage_testkit::{Fixture, Harness, ServerControl};
use tempfile::TempDir;

const PASSWORD: &str = "correct-horse-battery";

/// One server for each fixture.
pub(crate) struct Standalone;

#[async_trait]
impl Harness for Standalone {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let server = Server { directory, port, process: Mutex::new(None) };
        server.start().await?;
        Ok(Box::new(server))
    }
}

struct Server {
    directory: TempDir,
    port: u16,
    process: Mutex<Option<Child>>,
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    socket.local_addr().expect("its address").port()
}

impl Server {
    fn config(&self, password: &str) -> RedisConfig {
        let url =
            format!("redis://:{password}@127.0.0.1:{}/0?response_timeout=2s&connect_timeout=2s", self.port);
        RedisConfig::from_url(&url).expect("a URL")
    }

    fn signal(&self, signal: &str) {
        let process = self.process.lock().unwrap();
        let pid = process.as_ref().expect("a running server").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[async_trait]
impl Fixture for Server {
    async fn open(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(RedisBackend::open(self.config(PASSWORD)).await?))
    }

    fn persistent(&self) -> bool {
        true
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
    }

    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>> {
        let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", free_port());
        Ok(Arc::new(RedisBackend::open(RedisConfig::from_url(&url)?).await?))
    }

    fn server(&self) -> Option<&dyn ServerControl> {
        Some(self)
    }
}

#[async_trait]
impl ServerControl for Server {
    async fn open_wrong_password(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(RedisBackend::open(self.config("wrong")).await?))
    }

    async fn stop(&self) -> Result<()> {
        let process = self.process.lock().unwrap().take();
        let mut process = process.expect("a running server");
        let pid = process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        process.wait().expect("the server ends");
        Ok(())
    }

    async fn start(&self) -> Result<()> {
        let path: PathBuf = self.directory.path().into();
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--requirepass", PASSWORD])
            .args(["--appendonly", "yes", "--save", "", "--dir"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let process = process.map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("redis-server: {error}; apt-get install redis-server"))
        })?;
        *self.process.lock().unwrap() = Some(process);
        let started = Instant::now();
        loop {
            match RedisBackend::open(self.config(PASSWORD)).await {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > Duration::from_secs(20) => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn pause(&self) -> Result<()> {
        self.signal("-STOP");
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        self.signal("-CONT");
        Ok(())
    }

    async fn cut_connections(&self) -> Result<()> {
        let kill = Command::new("redis-cli")
            .args([
                "-p",
                &self.port.to_string(),
                "-a",
                PASSWORD,
                "--no-auth-warning",
                "client",
                "kill",
                "type",
                "normal",
            ])
            .stdout(Stdio::null())
            .status();
        assert!(kill.expect("redis-cli").success());
        Ok(())
    }
}
