//! The `sqlx` crate as an expert would use it: a pool, statements prepared once, arrays for many records.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use sqlx::postgres::{PgPool, PgPoolOptions};

use super::postgres::{Postgres, end_of};
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// A pool of ten connections.
pub(crate) struct Sqlx {
    info: PeerInfo,
    pool: PgPool,
}

impl Sqlx {
    pub(crate) async fn open(postgres: &Postgres) -> Result<Self> {
        postgres.tables("sqlx")?;
        let info = PeerInfo {
            name: "sqlx-raw",
            version: super::version_of("sqlx"),
            durability: Durability::Synced,
            how: "a pool of 10 connections that are not tested before use; prepared statements, UNNEST and = ANY for many",
        };
        let options = PgPoolOptions::new().min_connections(10).max_connections(10).test_before_acquire(false);
        // Callers wait as long as it takes; a pool that is too small shows in the figures.
        let options = options.acquire_timeout(std::time::Duration::from_secs(60));
        Ok(Self { info, pool: options.connect(&postgres.server().url()).await? })
    }
}

#[async_trait]
impl Peer for Sqlx {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, _: Feature) -> bool {
        true
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let select = sqlx::query_scalar("SELECT value FROM sqlx_records WHERE key = $1");
        let found: Option<Vec<u8>> = select.bind(key).fetch_optional(&self.pool).await?;
        Ok(found.map(Bytes::from))
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        let upsert =
            "INSERT INTO sqlx_records VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        sqlx::query(upsert).bind(key).bind(value).execute(&self.pool).await?;
        Ok(())
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        let select = sqlx::query_as("SELECT key, value FROM sqlx_records WHERE key = ANY($1)");
        let found: Vec<(String, Vec<u8>)> = select.bind(keys).fetch_all(&self.pool).await?;
        let found: HashMap<String, Bytes> =
            found.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect();
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        // In order, so that no two deadlock; each key once, as such a statement takes it.
        let (keys, values): (Vec<_>, Vec<_>) =
            records.into_iter().collect::<BTreeMap<_, _>>().into_iter().unzip();
        let upsert = "INSERT INTO sqlx_records SELECT * FROM UNNEST($1::text[], $2::bytea[]) \
                      ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        sqlx::query(upsert).bind(keys).bind(values).execute(&self.pool).await?;
        Ok(())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        let select = "SELECT key, value FROM sqlx_records WHERE key > $1 AND key < $2 ORDER BY key LIMIT $3";
        let select = sqlx::query_as(select).bind(after.unwrap_or(prefix)).bind(end_of(prefix));
        let found: Vec<(String, Vec<u8>)> = select.bind(i64::try_from(limit)?).fetch_all(&self.pool).await?;
        let next = found.last().filter(|_| found.len() == limit).map(|(key, _)| key.clone());
        Ok(Page { items: found.into_iter().map(|(key, value)| (key, value.into())).collect(), next })
    }

    async fn increment(&self, key: &str) -> Result<i64> {
        let upsert = "INSERT INTO sqlx_counters AS c VALUES ($1, 1) \
                      ON CONFLICT (key) DO UPDATE SET n = c.n + 1 RETURNING n";
        let counted = sqlx::query_scalar(upsert).bind(key).fetch_optional(&self.pool).await?;
        counted.context("no reply to an increment")
    }
}
