//! A proxy between a client and a real server that does to connections what networks do.
//!
//! It passes bytes as they are. While it runs it can hold replies back, let nothing pass, refuse connections, and cut
//! them: now, or in the middle of a reply.
//!
//! ```
//! use storage_testkit::proxy::Proxy;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> storage_core::Result<()> {
//! # let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
//! # let port = server.local_addr().unwrap().port();
//! let proxy = Proxy::start(format!("127.0.0.1:{port}")).await?;
//! let url = format!("redis://{}", proxy.address());
//! proxy.cut_after(100); // the next hundred bytes of replies pass
//! # Ok(())
//! # }
//! ```

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use storage_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Chunks of replies that are held back at a time, for each connection; then no more is read from the server.
const HELD: usize = 1024;

/// Connections that may wait to be taken.
const BACKLOG: u32 = 1024;

/// A proxy on a free loopback port. It ends, with its connections, when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    port: Mutex<Port>,
}

/// What there is at the port of a proxy.
enum Port {
    /// A task that takes connections.
    Taken(JoinHandle<()>),
    /// A socket that does not listen: connections are refused, and nobody else gets the port.
    Refused(TcpSocket),
    /// Nothing: it is being changed, or that failed.
    Lost,
}

/// What connections look at.
struct Shared {
    target: String,
    conduct: watch::Sender<Conduct>,
    /// How many more bytes of replies pass before one connection is cut.
    until_cut: Mutex<Option<u64>>,
    connected: AtomicU64,
    open: AtomicUsize,
}

#[derive(Clone, Copy, Default)]
struct Conduct {
    latency: Duration,
    blocked: bool,
    /// Counts up; connections of an older count are cut.
    generation: u64,
}

impl Proxy {
    /// Starts a proxy in front of a server, named as `host:port`. The server may be started later.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if no port can be listened on.
    pub async fn start(target: impl Into<String>) -> Result<Self> {
        let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr().map_err(|error| trouble("the port", &error))?;
        let shared = Arc::new(Shared {
            target: target.into(),
            conduct: watch::Sender::new(Conduct::default()),
            until_cut: Mutex::new(None),
            connected: AtomicU64::new(0),
            open: AtomicUsize::new(0),
        });
        let port = Mutex::new(Port::Taken(listen(socket, &shared)?));
        Ok(Self { address, shared, port })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have been taken since the start.
    pub fn connected(&self) -> u64 {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Holds every reply back for so long; zero ends it. Requests pass at once, and throughput stays as it is.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.conduct.send_modify(|conduct| conduct.latency = latency);
    }

    /// Stops to pass anything (`true`), in either direction: connections stay open, new ones are taken, and no byte
    /// arrives. With `false` everything goes on, beginning with what was held.
    pub fn set_blocked(&self, blocked: bool) {
        self.shared.conduct.send_modify(|conduct| conduct.blocked = blocked);
    }

    /// Cuts all connections that are open. New ones are taken.
    pub fn cut(&self) {
        self.shared.conduct.send_modify(|conduct| conduct.generation += 1);
    }

    /// Lets so many more bytes of replies pass, of all connections together; the connection on which the last of them
    /// passes is cut behind it, once. With 0, the next request is done and its reply never arrives.
    pub fn cut_after(&self, bytes: u64) {
        *self.shared.until_cut() = Some(bytes);
    }

    /// Refuses connections, as a server that is down, and cuts those that are open. The port is kept.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the port cannot be kept.
    pub async fn refuse(&self) -> Result<()> {
        let task = match self.change() {
            Port::Taken(task) => task,
            other => {
                *self.port() = other;
                return Ok(());
            }
        };
        task.abort();
        // Its listener is closed when the task has ended.
        let _ = task.await;
        *self.port() = Port::Refused(bind(self.address)?);
        self.cut();
        Ok(())
    }

    /// Takes connections again, on the same port.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the port was lost when it was to be kept.
    pub async fn accept(&self) -> Result<()> {
        let port = match self.change() {
            Port::Refused(socket) => Port::Taken(listen(socket, &self.shared)?),
            Port::Lost => Port::Taken(listen(bind(self.address)?, &self.shared)?),
            taken @ Port::Taken(_) => taken,
        };
        *self.port() = port;
        Ok(())
    }

    /// What is at the port, to be replaced.
    fn change(&self) -> Port {
        std::mem::replace(&mut *self.port(), Port::Lost)
    }

    fn port(&self) -> std::sync::MutexGuard<'_, Port> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Port::Taken(task) = self.change() {
            task.abort();
        }
        self.cut();
    }
}

impl Shared {
    fn until_cut(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.until_cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much of a chunk passes, and whether the connection is cut behind it.
    fn passes(&self, length: usize) -> (usize, bool) {
        let mut until_cut = self.until_cut();
        let Some(left) = *until_cut else { return (length, false) };
        match usize::try_from(left) {
            Ok(left) if left <= length => {
                *until_cut = None;
                (left, true)
            }
            _ => {
                *until_cut = Some(left - length as u64);
                (length, false)
            }
        }
    }
}

fn bind(address: SocketAddr) -> Result<TcpSocket> {
    let bound = || {
        let socket = TcpSocket::new_v4()?;
        // What is left of connections that were cut does not count.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    };
    bound().map_err(|error| trouble(&address.to_string(), &error))
}

fn listen(socket: TcpSocket, shared: &Arc<Shared>) -> Result<JoinHandle<()>> {
    let listener = socket.listen(BACKLOG).map_err(|error| trouble("the port", &error))?;
    Ok(tokio::spawn(accept(listener, shared.clone())))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.connected.fetch_add(1, Ordering::Relaxed);
        let shared = shared.clone();
        let mut conduct = shared.conduct.subscribe();
        tokio::spawn(async move {
            shared.open.fetch_add(1, Ordering::Relaxed);
            let born = conduct.borrow().generation;
            tokio::select! {
                () = serve(client, &shared) => {}
                _ = conduct.wait_for(|conduct| conduct.generation != born) => {}
            }
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Passes bytes both ways until either side closes, or the connection is cut.
async fn serve(client: TcpStream, shared: &Shared) {
    // Who connects to a server that is away finds the connection closed at once.
    let Ok(server) = TcpStream::connect(&shared.target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (hold, held) = mpsc::channel(HELD);
    tokio::select! {
        () = requests(from_client, to_server, shared) => {}
        // When the server closes, what it sent before still goes to the client.
        () = async { receive(from_server, hold, shared).await; pending().await } => {}
        () = replies(held, to_client, shared) => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut conduct = shared.conduct.subscribe();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let passing = conduct.wait_for(|conduct| !conduct.blocked).await.is_ok();
        if !passing || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Reads replies, and notes when each may go on.
async fn receive(mut from: OwnedReadHalf, hold: mpsc::Sender<(Instant, Vec<u8>)>, shared: &Shared) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let due = Instant::now() + shared.conduct.borrow().latency;
        if hold.send((due, buffer[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn replies(mut held: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut conduct = shared.conduct.subscribe();
    while let Some((due, chunk)) = held.recv().await {
        sleep_until(due).await;
        if conduct.wait_for(|conduct| !conduct.blocked).await.is_err() {
            return;
        }
        let (length, cut) = shared.passes(chunk.len());
        if to.write_all(&chunk[..length]).await.is_err() || cut {
            return;
        }
    }
}

fn trouble(what: &str, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the proxy: {what}: {error}"))
}
