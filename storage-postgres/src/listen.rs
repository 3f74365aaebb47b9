//! Waiting until something is committed.
//!
//! All calls of a store that wait share one connection, which listens. It holds a lock as long as it does, by which the
//! triggers tell that somebody waits. Until it listens, and where it cannot, those who wait look from time to time: behind a
//! pooler, on a replica, or when no connection can be made.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::sync::watch;

use crate::client::Client;
use crate::error::{During, driver};

/// How long the connection is kept when nobody waits any more: the next call is likely to come soon.
const KEPT: Duration = Duration::from_secs(30);

/// How long to leave it when no host lets a connection listen: so that not every call tries all of them.
const REST: Duration = Duration::from_secs(10);

/// The task that has the connection that listens, if there is one.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<Option<watch::Receiver<u64>>>);

/// Somebody who waits.
pub(crate) struct Listener(Option<watch::Receiver<u64>>);

impl Waiting {
    /// From now on, or a moment later, what is committed wakes. Does not wait for the connection.
    pub(crate) fn listen(&self, client: &Client) -> Listener {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A task that has ended tells no more.
        let news = match current.take().filter(|news| news.has_changed().is_ok()) {
            Some(news) => news,
            None => start(client),
        };
        let mut listener = news.clone();
        // What was told before is told.
        listener.mark_unchanged();
        *current = Some(news);
        Listener(Some(listener))
    }

    /// Lets the connection go.
    pub(crate) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Starts the task that listens, as long as anybody wants to know.
fn start(client: &Client) -> watch::Receiver<u64> {
    let (tell, news) = watch::channel(0);
    let sessions = client.pool.sessions();
    let (channel, lock, patience) = (client.channel(), client.waiting_lock(), client.timeout);
    tokio::spawn(async move {
        let telling = async {
            match connect(sessions, &channel, lock, patience).await {
                Some(listener) => pass_on(listener, &tell).await,
                None => tokio::time::sleep(REST).await,
            }
        };
        tokio::select! {
            () = telling => {}
            // The store was closed.
            () = tell.closed() => {}
        }
    });
    news
}

/// A connection that listens on the first host that lets it; a replica does not.
async fn connect(
    sessions: Vec<PgConnectOptions>,
    channel: &str,
    lock: i64,
    patience: Duration,
) -> Option<PgListener> {
    for options in sessions {
        let connect = async {
            let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.execute(AssertSqlSafe(format!("SELECT pg_advisory_lock_shared({lock})"))).await?;
            listener.listen(channel).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        match tokio::time::timeout(patience, connect).await {
            Ok(Ok(listener)) => return Some(listener),
            Ok(Err(error)) => {
                let error = driver(error, During::Connect);
                tracing::debug!(%error, "nobody tells of changes: they are looked for from time to time");
            }
            Err(_) => tracing::debug!("nobody tells of changes: they are looked for from time to time"),
        }
    }
    None
}

/// Passes on what the connection is told, until it breaks, and with it the lock is gone, or nobody waits any more.
async fn pass_on(mut listener: PgListener, tell: &watch::Sender<u64>) {
    // What was committed before it listened was told to nobody.
    let mut news = true;
    loop {
        if news {
            tell.send_modify(|count| *count += 1);
        }
        news = match tokio::time::timeout(KEPT, listener.try_recv()).await {
            Ok(Ok(Some(_))) => true,
            Ok(Ok(None) | Err(_)) => return,
            // One is the store's own.
            Err(_) if tell.receiver_count() <= 1 => return,
            Err(_) => false,
        };
    }
}

impl Listener {
    /// Waits for news, at most this long.
    pub(crate) async fn wait(&mut self, most: Duration) {
        let news = async {
            match &mut self.0 {
                Some(news) => news.changed().await.is_ok(),
                None => false,
            }
        };
        match tokio::time::timeout(most, news).await {
            Ok(true) | Err(_) => {}
            Ok(false) => {
                // Nobody will tell.
                self.0 = None;
                tokio::time::sleep(most).await;
            }
        }
    }
}
