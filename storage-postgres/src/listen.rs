//! Waiting until something is committed.
//!
//! All calls of a store that wait share one connection, which listens. It holds a lock as long as it does, by which the
//! triggers tell that somebody waits. Behind a pooler, or when it cannot connect, those who wait look from time to time.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::sync::watch;

use crate::client::Client;
use crate::error::{During, driver};

/// How long the connection is kept when nobody waits any more: the next call is likely to come soon.
const KEPT: Duration = Duration::from_secs(30);

/// The connection that listens, if there is one.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<Option<watch::Receiver<u64>>>);

/// Somebody who waits.
pub(crate) struct Listener(Option<watch::Receiver<u64>>);

impl Waiting {
    /// From now on, what is committed wakes.
    pub(crate) async fn listen(&self, client: &Client) -> Listener {
        if let Some(news) = self.current() {
            return Listener(Some(news));
        }
        let Some(mut listener) = connect(client).await else { return Listener(None) };
        let (tell, news) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                let received = tokio::select! {
                    received = tokio::time::timeout(KEPT, listener.try_recv()) => received,
                    // The store was closed.
                    () = tell.closed() => return,
                };
                match received {
                    Ok(Ok(Some(_))) => tell.send_modify(|count| *count += 1),
                    // The connection broke, and with it the lock is gone.
                    Ok(Ok(None) | Err(_)) => return,
                    // One is the store's own.
                    Err(_) if tell.receiver_count() <= 1 => return,
                    Err(_) => {}
                }
            }
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(news.clone());
        Listener(Some(news))
    }

    fn current(&self) -> Option<watch::Receiver<u64>> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was told before is told.
        let mut news = current.as_ref().filter(|news| news.has_changed().is_ok())?.clone();
        news.mark_unchanged();
        Some(news)
    }

    /// Lets the connection go.
    pub(crate) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A connection that listens on the first host that lets it; a replica does not.
async fn connect(client: &Client) -> Option<PgListener> {
    let (channel, lock) = (client.channel(), client.waiting_lock());
    for options in client.pool.sessions() {
        let connect = async {
            let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.execute(AssertSqlSafe(format!("SELECT pg_advisory_lock_shared({lock})"))).await?;
            listener.listen(&channel).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        match tokio::time::timeout(client.timeout, connect).await {
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
