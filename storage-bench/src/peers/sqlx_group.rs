//! `sqlx` with what waits coalesced by hand: callers of one record share statements of many.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use sqlx::postgres::{PgPool, PgPoolOptions};

use super::postgres::Postgres;
use super::queue::Queue;
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

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
