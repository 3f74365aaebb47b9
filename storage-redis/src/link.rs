//! Connections that mend themselves, and requests over them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, ErrorKind as Native, Pipeline, RedisError, ServerErrorKind, Value};
use storage_core::{Error, Result};
use tokio::sync::Mutex;

use crate::config::{RedisConfig, Topology};
use crate::connect::{self, Connector};
use crate::error::{During, driver};

/// Between two attempts to connect that follow each other at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The way to the database.
pub(crate) enum Link {
    Servers(Box<Servers>),
    Cluster(Cluster),
}

impl Link {
    pub(crate) async fn open(config: &RedisConfig) -> Result<Self> {
        if config.topology == Topology::Cluster {
            return Cluster::open(config).await.map(Self::Cluster);
        }
        let servers = Servers::new(config)?;
        servers.take().await?;
        Ok(Self::Servers(Box::new(servers)))
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Sends one command. `slot` is that of its keys.
    pub(crate) async fn one(&self, slot: u16, command: Cmd) -> Result<Value> {
        self.send(slot, command, true).await
    }

    /// As [`one`](Self::one), but without waiting for a slot that is moving, for who can do without the command.
    pub(crate) async fn at_once(&self, slot: u16, command: Cmd) -> Result<Value> {
        self.send(slot, command, false).await
    }

    async fn send(&self, slot: u16, command: Cmd, wait_for_move: bool) -> Result<Value> {
        let sent = match self {
            Self::Servers(servers) => servers.one(&command).await?,
            Self::Cluster(cluster) => cluster.one(slot, command, wait_for_move).await,
        };
        sent.and_then(Value::extract_error).map_err(|error| driver(error, During::Request))
    }

    /// Sends commands that do not depend on each other's order, and returns their replies in order.
    pub(crate) async fn many(&self, mut commands: Vec<(u16, Cmd)>) -> Vec<Result<Value>> {
        if commands.len() == 1
            && let Some((slot, command)) = commands.pop()
        {
            return vec![self.one(slot, command).await];
        }
        match self {
            Self::Servers(servers) => servers.many(commands).await,
            Self::Cluster(_) => {
                join_all(commands.into_iter().map(|(slot, command)| self.one(slot, command))).await
            }
        }
    }

    /// Connections made since the store was opened.
    pub(crate) fn connected(&self) -> Option<u64> {
        match self {
            Self::Servers(servers) => Some(servers.connected.load(Ordering::Relaxed)),
            Self::Cluster(_) => None,
        }
    }
}

/// Some connections to one server, used in turn.
pub(crate) struct Servers {
    connector: Connector,
    lines: Vec<Line>,
    next: AtomicUsize,
    connected: AtomicU64,
}

/// One connection, made when it is first used and made anew after it broke.
#[derive(Default)]
struct Line {
    current: SyncMutex<Option<(u64, MultiplexedConnection)>>,
    /// Held while connecting, so that one attempt serves all who wait.
    connecting: Mutex<Option<Failure>>,
}

/// The last attempt to connect, if it failed.
struct Failure {
    at: Instant,
    error: Error,
}

impl Servers {
    fn new(config: &RedisConfig) -> Result<Self> {
        Ok(Self {
            connector: Connector::new(config)?,
            lines: (0..config.connections).map(|_| Line::default()).collect(),
            next: AtomicUsize::new(0),
            connected: AtomicU64::new(0),
        })
    }

    /// A connection and its number.
    async fn take(&self) -> Result<(&Line, u64, MultiplexedConnection)> {
        let line = &self.lines[self.next.fetch_add(1, Ordering::Relaxed) % self.lines.len()];
        if let Some((number, connection)) = line.current() {
            return Ok((line, number, connection));
        }
        let arrived = Instant::now();
        let mut failed = line.connecting.lock().await;
        if let Some((number, connection)) = line.current() {
            return Ok((line, number, connection));
        }
        match failed.as_ref() {
            // It began before and ended after; who waits for one attempt after the other waits without end.
            Some(last) if last.at >= arrived => return Err(last.error.clone()),
            Some(last) => tokio::time::sleep(PAUSE.saturating_sub(last.at.elapsed())).await,
            None => {}
        }
        match self.connector.connect().await {
            Ok(connection) => {
                *failed = None;
                let number = self.connected.fetch_add(1, Ordering::Relaxed);
                *line.lock() = Some((number, connection.clone()));
                Ok((line, number, connection))
            }
            Err(error) => {
                *failed = Some(Failure { at: Instant::now(), error: error.clone() });
                Err(error)
            }
        }
    }

    async fn one(&self, command: &Cmd) -> Result<Result<Value, RedisError>> {
        let (line, number, mut connection) = self.take().await?;
        let sent = connection.send_packed_command(command).await;
        if let Err(error) = &sent {
            line.drop_if_broken(number, error);
        }
        Ok(sent)
    }

    async fn many(&self, commands: Vec<(u16, Cmd)>) -> Vec<Result<Value>> {
        let count = commands.len();
        let (line, number, mut connection) = match self.take().await {
            Ok(taken) => taken,
            Err(error) => return vec![Err(error); count],
        };
        let mut pipeline = Pipeline::with_capacity(count);
        for (_, command) in commands {
            pipeline.add_command(command);
        }
        match connection.req_packed_commands(&pipeline, 0, count).await {
            Ok(values) => values
                .into_iter()
                .map(|value| {
                    value.extract_error().map_err(|error| {
                        line.drop_if_broken(number, &error);
                        driver(error, During::Request)
                    })
                })
                .collect(),
            Err(error) => {
                line.drop_if_broken(number, &error);
                let error = driver(error, During::Request);
                vec![Err(error); count]
            }
        }
    }
}

impl Line {
    fn current(&self) -> Option<(u64, MultiplexedConnection)> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(u64, MultiplexedConnection)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of a connection that broke, that leads to a server that only copies its master now, or on which nothing
    /// came in time: whether it is slow or dead cannot be told.
    fn drop_if_broken(&self, number: u64, error: &RedisError) {
        let demoted = error.kind() == Native::Server(ServerErrorKind::ReadOnly);
        if !(error.is_io_error() || error.is_connection_dropped() || error.is_timeout() || demoted) {
            return;
        }
        let mut current = self.lock();
        if current.as_ref().is_some_and(|(held, _)| *held == number) {
            *current = None;
        }
    }
}

/// A cluster: the driver knows which node has a slot.
pub(crate) struct Cluster {
    topology: Arc<Known>,
    /// How long a slot that moves, or has no master, is waited for.
    patience: Duration,
    /// How long a call may take, with all that the driver does before it: it connects and learns the topology anew.
    deadline: Duration,
}

/// A connection to a cluster as the driver knows it.
struct Known {
    config: RedisConfig,
    current: SyncMutex<(u64, ClusterConnection)>,
    renewing: AtomicBool,
}

impl Known {
    fn current(&self) -> (u64, ClusterConnection) {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, ClusterConnection)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns the topology anew, in the background, after a node was silent: the driver keeps asking such a node, also
    /// when another has long taken its place.
    fn renew(self: &Arc<Self>, number: u64) {
        if self.lock().0 != number || self.renewing.swap(true, Ordering::AcqRel) {
            return;
        }
        let known = self.clone();
        tokio::spawn(async move {
            match connect::cluster(&known.config).await {
                Ok(connection) => *known.lock() = (number + 1, connection),
                Err(error) => tracing::debug!(%error, "the cluster's topology could not be learnt anew"),
            }
            known.renewing.store(false, Ordering::Release);
        });
    }
}

impl Cluster {
    async fn open(config: &RedisConfig) -> Result<Self> {
        let connection = connect::cluster(config).await?;
        let topology = Known {
            config: config.clone(),
            current: SyncMutex::new((0, connection)),
            renewing: AtomicBool::new(false),
        };
        Ok(Self {
            topology: Arc::new(topology),
            patience: config.response_timeout,
            deadline: config.connect_timeout + config.response_timeout,
        })
    }

    async fn one(&self, slot: u16, command: Cmd, wait_for_move: bool) -> Result<Value, RedisError> {
        let sent = self.until_taken(slot, command, wait_for_move);
        let (number, _) = self.topology.current();
        let answer = tokio::time::timeout(self.deadline, sent).await.unwrap_or_else(|_| {
            let message = format!("the cluster did not answer within {:?}", self.deadline);
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, message).into())
        });
        if answer.as_ref().is_err_and(RedisError::is_timeout) {
            self.topology.renew(number);
        }
        answer
    }

    /// Sends a command to the master of its slot, and again as long as it was refused without being done.
    async fn until_taken(&self, slot: u16, command: Cmd, wait_for_move: bool) -> Result<Value, RedisError> {
        let started = Instant::now();
        let mut route = SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
        let mut asking = false;
        let mut pause = Duration::from_millis(5);
        loop {
            let (_, mut connection) = self.topology.current();
            let sent = if asking {
                // A slot on its way: the node that gets it answers to who says so.
                let mut pipeline = Pipeline::with_capacity(2);
                pipeline.add_command(redis::cmd("ASKING")).add_command(command.clone());
                let both = connection.route_pipeline(pipeline, 1, 1, route.clone()).await;
                both.and_then(|mut values| values.pop().unwrap_or(Value::Nil).extract_error())
            } else {
                let routing = RoutingInfo::SingleNode(route.clone());
                connection.route_command(command.clone(), routing).await.and_then(Value::extract_error)
            };
            let Err(error) = sent else { return sent };
            let refused = match error.kind() {
                Native::Server(kind) => matches!(
                    kind,
                    ServerErrorKind::Moved
                        | ServerErrorKind::Ask
                        | ServerErrorKind::TryAgain
                        | ServerErrorKind::ClusterDown
                        | ServerErrorKind::MasterDown
                        | ServerErrorKind::ReadOnly
                        | ServerErrorKind::BusyLoading
                ),
                Native::ClusterConnectionNotFound => true,
                _ => error.is_connection_refusal(),
            };
            let moving = error.kind() == Native::Server(ServerErrorKind::TryAgain);
            if !refused || (moving && !wait_for_move) || started.elapsed() + pause > self.patience {
                return Err(error);
            }
            let redirected = error.redirect_node().and_then(|(node, _)| crate::config::split_port(node));
            asking = error.kind() == Native::Server(ServerErrorKind::Ask);
            route = match redirected {
                Some((host, Some(port))) => SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port },
                _ => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(200));
                    SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master))
                }
            };
        }
    }
}
