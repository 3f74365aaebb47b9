//! `sqlx` with what waits coalesced by hand: callers of one record share statements of many.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use bytes::Bytes;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::postgres::Postgres;
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// Statements of one kind under way at once.
const IN_FLIGHT: usize = 3;
/// Most callers that share a statement.
const MOST: usize = 1_000;

/// Three queues before a pool of ten connections.
pub(crate) struct SqlxGroup {
    info: PeerInfo,
    pool: PgPool,
    gets: Queue<String, Option<Bytes>>,
    puts: Queue<(String, Vec<u8>), ()>,
    increments: Queue<String, i64>,
}

impl SqlxGroup {
    pub(crate) async fn open(postgres: &Postgres) -> Result<Self> {
        postgres.tables("grouped")?;
        let info = PeerInfo {
            name: "sqlx-group",
            version: super::version_of("sqlx"),
            durability: Durability::Synced,
            how: "raw; what waits goes in one statement, = ANY or an upsert of many rows, 3 of a kind in flight",
        };
        let options = PgPoolOptions::new().min_connections(10).max_connections(10).test_before_acquire(false);
        let pool = options.connect(&postgres.server().url()).await?;
        let (readers, writers, counters) = (pool.clone(), pool.clone(), pool.clone());
        Ok(Self {
            info,
            pool,
            gets: Queue::start(move |keys| {
                let pool = readers.clone();
                async move { get(&pool, &keys).await }
            }),
            puts: Queue::start(move |records| {
                let pool = writers.clone();
                async move { put(&pool, records).await }
            }),
            increments: Queue::start(move |keys| {
                let pool = counters.clone();
                async move { increment(&pool, keys).await }
            }),
        })
    }
}

async fn get(pool: &PgPool, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
    let select = sqlx::query_as("SELECT key, value FROM grouped_records WHERE key = ANY($1)");
    let found: Vec<(String, Vec<u8>)> = select.bind(keys).fetch_all(pool).await?;
    let found: HashMap<String, Bytes> =
        found.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect();
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
}

async fn put(pool: &PgPool, records: Vec<(String, Vec<u8>)>) -> Result<Vec<()>> {
    let replies = vec![(); records.len()];
    // In order, so that no two deadlock; each key once, as such a statement takes it.
    let (keys, values): (Vec<_>, Vec<_>) =
        records.into_iter().collect::<BTreeMap<_, _>>().into_iter().unzip();
    let upsert = "INSERT INTO grouped_records SELECT * FROM UNNEST($1::text[], $2::bytea[]) \
                  ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    sqlx::query(upsert).bind(keys).bind(values).execute(pool).await?;
    Ok(replies)
}

async fn increment(pool: &PgPool, keys: Vec<String>) -> Result<Vec<i64>> {
    let mut calls: BTreeMap<&str, i64> = BTreeMap::new();
    for key in &keys {
        *calls.entry(key).or_default() += 1;
    }
    let (names, counts): (Vec<String>, Vec<i64>) =
        calls.iter().map(|(key, count)| ((*key).to_owned(), *count)).unzip();
    let upsert = "INSERT INTO grouped_counters AS c SELECT * FROM UNNEST($1::text[], $2::bigint[]) \
                  ON CONFLICT (key) DO UPDATE SET n = c.n + excluded.n RETURNING key, n";
    let rows: Vec<(String, i64)> = sqlx::query_as(upsert).bind(names).bind(counts).fetch_all(pool).await?;
    // Each caller has the value that it would have had alone.
    let mut values: HashMap<String, i64> = rows
        .into_iter()
        .map(|(key, after)| {
            let before = after - calls.get(key.as_str()).copied().unwrap_or_default();
            (key, before)
        })
        .collect();
    let next = |key: &String| {
        let value = values.get_mut(key).context("no reply to an increment")?;
        *value += 1;
        Ok(*value)
    };
    keys.iter().map(next).collect()
}

type Waiting<T, R> = (T, oneshot::Sender<Result<R, String>>);

/// Callers who wait, and tasks that each serve all that wait at once.
struct Queue<T, R> {
    sender: mpsc::UnboundedSender<Waiting<T, R>>,
}

impl<T: Send + 'static, R: Send + 'static> Queue<T, R> {
    fn start<F: Future<Output = Result<Vec<R>>> + Send + 'static>(
        serve: impl Fn(Vec<T>) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..IN_FLIGHT {
            tokio::spawn(work(receiver.clone(), serve.clone()));
        }
        Self { sender }
    }

    async fn call(&self, what: T) -> Result<R> {
        let (sender, reply) = oneshot::channel();
        self.sender.send((what, sender)).map_err(|_| anyhow!("the queue has ended"))?;
        reply.await.context("the queue has ended")?.map_err(|error| anyhow!(error))
    }
}

/// Serves until the queue is dropped.
async fn work<T, R, F: Future<Output = Result<Vec<R>>>>(
    receiver: Arc<Mutex<mpsc::UnboundedReceiver<Waiting<T, R>>>>,
    serve: impl Fn(Vec<T>) -> F,
) {
    loop {
        let mut waiting = Vec::new();
        if receiver.lock().await.recv_many(&mut waiting, MOST).await == 0 {
            return;
        }
        let (calls, callers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        // A caller that has gone needs no reply.
        match serve(calls).await {
            Ok(replies) => {
                for (caller, reply) in callers.into_iter().zip(replies) {
                    let _ = caller.send(Ok(reply));
                }
            }
            Err(error) => {
                for caller in callers {
                    let _ = caller.send(Err(format!("{error:#}")));
                }
            }
        }
    }
}

#[async_trait]
impl Peer for SqlxGroup {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, feature: Feature) -> bool {
        feature == Feature::Increment
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.gets.call(key.to_owned()).await
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.puts.call((key, value)).await
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        get(&self.pool, keys).await
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        put(&self.pool, records).await.map(drop)
    }

    async fn scan(&self, _: &str, _: Option<&str>, _: usize) -> Result<Page> {
        bail!("the same as of sqlx-raw")
    }

    async fn increment(&self, key: &str) -> Result<i64> {
        self.increments.call(key.to_owned()).await
    }
}
