//! A pool of connections.
//!
//! The driver has one, which asks the server whether it is still there each time a connection is given back, and tries
//! until the deadline to connect to a server that refuses. This one does neither: a connection that was left in order is
//! given out again at once, and a call to a server that is away fails at once. And it can be changed while it is in use.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use storage_core::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::connect::Connector;

/// What of a pool can be changed while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// How many connections are kept even if idle.
    pub min: u32,
    /// The most connections, at least 1.
    pub max: u32,
    /// How long a call may wait for a connection to be free.
    pub acquire_timeout: Duration,
    /// After which time an idle connection is closed.
    pub idle_timeout: Duration,
    /// After which time a connection is replaced.
    pub max_lifetime: Duration,
}

/// How a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Connections that are open, or being opened or closed.
    pub open: u32,
    /// Those of them that nobody uses.
    pub idle: u32,
    /// Calls that wait for a connection.
    pub waiting: u32,
    /// The most connections there may be.
    pub max: u32,
    /// Connections made since the store was opened.
    pub connects: u64,
    /// Calls that got no connection in time.
    pub timeouts: u64,
}

pub(crate) struct Pool {
    connector: Connector,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    /// Permits to be withdrawn when they come back, since the pool became smaller.
    surplus: AtomicUsize,
    /// Connections from before this number are not used again.
    generation: AtomicU64,
    open: AtomicU32,
    waiting: AtomicU32,
    connects: AtomicU64,
    timeouts: AtomicU64,
}

struct State {
    settings: PoolSettings,
    /// The last given back is the first given out: so those that are not needed get old.
    idle: Vec<Idle>,
    closed: bool,
}

struct Idle {
    open: Open,
    since: Instant,
}

/// An open connection.
struct Open {
    driver: PgConnection,
    born: Instant,
    generation: u64,
}

/// How a connection was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// In order, and in no transaction.
    Done,
    /// In the middle of a request.
    Asked,
    /// With an answer, but perhaps in a transaction.
    Answered,
}

/// A connection on loan. It goes back when it is dropped, if it was left in order.
pub(crate) struct Connection {
    open: Option<Open>,
    state: Left,
    pool: Arc<Pool>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Pool {
    /// A pool without a connection.
    pub(crate) fn new(connector: Connector, settings: PoolSettings) -> Arc<Self> {
        Arc::new(Self {
            connector,
            permits: Arc::new(Semaphore::new(settings.max as usize)),
            state: Mutex::new(State { settings, idle: Vec::new(), closed: false }),
            surplus: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            open: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            connects: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
        })
    }

    /// Begins to close what is idle for too long, and to keep the least number of connections.
    pub(crate) fn keep(self: &Arc<Self>) {
        tokio::spawn(keep(Arc::downgrade(self)));
    }

    /// A connection: one that is idle, a new one, or the next that comes back.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy) if none is free in time; those of connecting. No request was sent.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<Connection> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait().await?,
        };
        let mut connection =
            Connection { open: None, state: Left::Done, pool: self.clone(), permit: Some(permit) };
        let (found, old) = self.take_idle()?;
        close(old);
        connection.open = match found {
            Some(open) => Some(open),
            None => Some(self.connect().await?),
        };
        Ok(connection)
    }

    /// A connection beside the pool, for work that takes long. It is closed when it is dropped.
    pub(crate) async fn apart(self: &Arc<Self>) -> Result<Connection> {
        let driver = self.connector.connect_patiently().await?;
        self.opened();
        let open = Open { driver, born: Instant::now(), generation: self.generation.load(Ordering::Acquire) };
        Ok(Connection { open: Some(open), state: Left::Done, pool: self.clone(), permit: None })
    }

    /// See [`Connector::sessions`].
    pub(crate) fn sessions(&self) -> Vec<PgConnectOptions> {
        self.connector.sessions()
    }

    async fn wait(&self) -> Result<OwnedSemaphorePermit> {
        let settings = self.settings();
        let _waiting = Counted::new(&self.waiting);
        match tokio::time::timeout(settings.acquire_timeout, self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(closed()),
            Err(_) => {
                self.timeouts.fetch_add(1, Ordering::Relaxed);
                let message = format!(
                    "no connection of {} was free within {:?}; raise pool_max or acquire_timeout",
                    settings.max, settings.acquire_timeout
                );
                Err(Error::new(ErrorKind::Busy, message))
            }
        }
    }

    /// The idle connection that was used last, and those that are too old to be used.
    fn take_idle(&self) -> Result<(Option<Open>, Vec<Open>)> {
        let (now, generation) = (Instant::now(), self.generation.load(Ordering::Acquire));
        let mut state = self.state();
        if state.closed {
            return Err(closed());
        }
        let lifetime = state.settings.max_lifetime;
        let mut old = Vec::new();
        while let Some(Idle { open, .. }) = state.idle.pop() {
            if open.generation == generation && now.duration_since(open.born) < lifetime {
                return Ok((Some(open), old));
            }
            self.open.fetch_sub(1, Ordering::Relaxed);
            old.push(open);
        }
        Ok((None, old))
    }

    async fn connect(&self) -> Result<Open> {
        let generation = self.generation.load(Ordering::Acquire);
        let driver = self.connector.connect().await?;
        self.opened();
        Ok(Open { driver, born: Instant::now(), generation })
    }

    fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    fn give_back(&self, connection: Open, permit: OwnedSemaphorePermit) {
        let now = Instant::now();
        let mut state = self.state();
        let kept = !state.closed
            && self.surplus.load(Ordering::Acquire) == 0
            && connection.generation == self.generation.load(Ordering::Acquire)
            && now.duration_since(connection.born) < state.settings.max_lifetime;
        if kept {
            state.idle.push(Idle { open: connection, since: now });
            drop(state);
        } else {
            drop(state);
            self.open.fetch_sub(1, Ordering::Relaxed);
            close(vec![connection]);
        }
        self.release(permit);
    }

    /// Lets the next call have a connection, unless the pool has become smaller.
    fn release(&self, permit: OwnedSemaphorePermit) {
        if self.surplus.load(Ordering::Acquire) > 0 && self.take_surplus() {
            permit.forget();
        }
    }

    fn take_surplus(&self) -> bool {
        self.surplus.fetch_update(Ordering::AcqRel, Ordering::Acquire, |many| many.checked_sub(1)).is_ok()
    }

    /// Has no connection used again that is open now: one of them broke, so the others will have too.
    fn forget_all(&self, broken: &Open) {
        // Those that break together say it once: what was made since is good.
        let (before, after) = (broken.generation, broken.generation + 1);
        let _ = self.generation.compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Changes the pool. What is in use stays in use until it is given back.
    pub(crate) fn reconfigure(&self, settings: PoolSettings) -> Result<()> {
        if settings.max == 0 || settings.min > settings.max {
            return Err(Error::invalid(
                "the pool has at least one connection, and at least as many as its minimum",
            ));
        }
        let mut state = self.state();
        let (before, after) = (state.settings.max as usize, settings.max as usize);
        state.settings = settings;
        if after > before {
            let mut more = after - before;
            // Those that were to be withdrawn may stay instead.
            while more > 0 && self.take_surplus() {
                more -= 1;
            }
            self.permits.add_permits(more);
        } else {
            let withdrawn = self.permits.forget_permits(before - after);
            self.surplus.fetch_add(before - after - withdrawn, Ordering::AcqRel);
        }
        let excess = state.idle.len().saturating_sub(after);
        let old: Vec<Open> = state.idle.drain(..excess).map(|idle| idle.open).collect();
        self.open.fetch_sub(u32::try_from(old.len()).unwrap_or(0), Ordering::Relaxed);
        drop(state);
        close(old);
        Ok(())
    }

    pub(crate) fn settings(&self) -> PoolSettings {
        self.state().settings
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let state = self.state();
        PoolStats {
            open: self.open.load(Ordering::Relaxed),
            idle: u32::try_from(state.idle.len()).unwrap_or(u32::MAX),
            waiting: self.waiting.load(Ordering::Relaxed),
            max: state.settings.max,
            connects: self.connects.load(Ordering::Relaxed),
            timeouts: self.timeouts.load(Ordering::Relaxed),
        }
    }

    /// Takes no more calls, waits until those under way have ended, at most `patience`, and closes all connections.
    pub(crate) async fn close(&self, patience: Duration) {
        let (idle, max) = {
            let mut state = self.state();
            if std::mem::replace(&mut state.closed, true) {
                return;
            }
            (std::mem::take(&mut state.idle), state.settings.max)
        };
        self.open.fetch_sub(u32::try_from(idle.len()).unwrap_or(0), Ordering::Relaxed);
        let closing = async {
            for Idle { open, .. } in idle {
                let _ = open.driver.close().await;
            }
            let _ = self.permits.acquire_many(max).await;
        };
        let _ = tokio::time::timeout(patience, closing).await;
        self.permits.close();
    }

    /// Closes what is idle for too long and makes up for what is missing.
    async fn tend(self: &Arc<Self>) {
        let (now, generation) = (Instant::now(), self.generation.load(Ordering::Acquire));
        let (old, missing) = {
            let mut state = self.state();
            if state.closed {
                return;
            }
            let PoolSettings { min, idle_timeout, max_lifetime, .. } = state.settings;
            let mut spare = self.open.load(Ordering::Relaxed).saturating_sub(min);
            let (mut old, mut kept) = (Vec::new(), Vec::new());
            for mut idle in std::mem::take(&mut state.idle) {
                let stale =
                    idle.open.generation != generation || now.duration_since(idle.open.born) >= max_lifetime;
                let unused = spare > 0 && now.duration_since(idle.since) >= idle_timeout;
                if stale || unused {
                    spare = spare.saturating_sub(1);
                    self.open.fetch_sub(1, Ordering::Relaxed);
                    old.push(idle.open);
                } else {
                    // What one large reply needed is not kept for all time.
                    idle.open.driver.shrink_buffers();
                    kept.push(idle);
                }
            }
            state.idle = kept;
            (old, min.saturating_sub(self.open.load(Ordering::Relaxed)))
        };
        close(old);
        for _ in 0..missing {
            let Ok(permit) = self.permits.clone().try_acquire_owned() else { break };
            match self.connect().await {
                Ok(open) => self.give_back(open, permit),
                Err(error) => {
                    tracing::debug!(%error, "a connection to be kept could not be made");
                    break;
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep(pool: Weak<Pool>) {
    loop {
        let Some(strong) = pool.upgrade() else { return };
        if strong.state().closed {
            return;
        }
        strong.tend().await;
        let rest =
            (strong.settings().idle_timeout / 2).clamp(Duration::from_millis(100), Duration::from_secs(5));
        drop(strong);
        tokio::time::sleep(rest).await;
    }
}

/// Says goodbye to servers without keeping anybody waiting.
fn close(connections: Vec<Open>) {
    if connections.is_empty() {
        return;
    }
    // Without a runtime the connections just end.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            for open in connections {
                let _ = tokio::time::timeout(Duration::from_secs(1), open.driver.close()).await;
            }
        });
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store has been closed")
}

impl Connection {
    /// The driver's connection, for a request. Until [`done`](Self::done) is called it counts as in the middle of it: if
    /// it is dropped before, the connection ends, and with it its transaction.
    pub(crate) fn driver(&mut self) -> Result<&mut PgConnection> {
        self.state = Left::Asked;
        match &mut self.open {
            Some(open) => Ok(&mut open.driver),
            None => Err(Error::new(ErrorKind::Unavailable, "the connection broke before")),
        }
    }

    /// Says that the server answered the request, be it with an error.
    pub(crate) fn answered(&mut self) {
        self.state = Left::Answered;
    }

    /// Says that the connection is in order, and in no transaction.
    pub(crate) fn done(&mut self) {
        self.state = Left::Done;
    }

    /// Says that a request outside a transaction is over, with its answer or without.
    pub(crate) fn over(&mut self) {
        match self.state {
            Left::Asked => self.unanswered(),
            Left::Answered | Left::Done => self.state = Left::Done,
        }
    }

    /// Says that no more answers are waited for. The server gives a request up before its time is over here: so where there
    /// is no answer by then, it is not there, or the network is not.
    pub(crate) fn unanswered(&mut self) {
        if self.state == Left::Asked {
            self.broke();
        }
    }

    /// Says that the connection broke.
    pub(crate) fn broke(&mut self) {
        if let Some(open) = self.open.take() {
            self.pool.open.fetch_sub(1, Ordering::Relaxed);
            self.pool.forget_all(&open);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        match (self.open.take(), self.permit.take()) {
            (Some(open), Some(permit)) if self.state == Left::Done => self.pool.give_back(open, permit),
            (open, permit) => {
                if let Some(open) = open {
                    self.pool.open.fetch_sub(1, Ordering::Relaxed);
                    // In the middle of a request the connection just ends: there is no way to be polite.
                    if self.state == Left::Done {
                        close(vec![open]);
                    }
                }
                if let Some(permit) = permit {
                    self.pool.release(permit);
                }
            }
        }
    }
}

/// One more as long as it lives.
struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
