//! The `tokio-postgres` crate with pipelining: connections that all tasks share, each sending without waiting for replies
//! to others.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::postgres::{Postgres, end_of};
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// Connections used in turn.
pub(crate) struct TokioPostgres {
    info: PeerInfo,
    connections: Vec<Connection>,
    next: AtomicUsize,
}

/// A connection with its prepared statements.
struct Connection {
    client: Client,
    get: Statement,
    put: Statement,
    get_many: Statement,
    put_many: Statement,
    scan: Statement,
    increment: Statement,
}

impl TokioPostgres {
    pub(crate) async fn open(name: &'static str, connections: usize, postgres: &Postgres) -> Result<Self> {
        let how = if connections == 1 {
            "one connection that all tasks share, pipelined; prepared statements, UNNEST and = ANY for many"
        } else {
            "10 connections that all tasks share in turn, each pipelined; else the same"
        };
        let version = super::version_of("tokio-postgres");
        let info = PeerInfo { name, version, durability: Durability::Synced, how };
        let tables = format!("tokio_{connections}");
        postgres.tables(&tables)?;
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(Connection::open(&postgres.server().url(), &tables).await?);
        }
        Ok(Self { info, connections: open, next: AtomicUsize::new(0) })
    }

    fn connection(&self) -> &Connection {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        &self.connections[next % self.connections.len()]
    }
}

impl Connection {
    async fn open(url: &str, tables: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        // It ends with the client. What goes wrong reaches the callers that wait.
        tokio::spawn(async move { drop(connection.await) });
        let (records, counters) = (format!("{tables}_records"), format!("{tables}_counters"));
        let upsert = "ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        let prepare = async |sql: String| client.prepare(&sql).await;
        let get = prepare(format!("SELECT value FROM {records} WHERE key = $1")).await?;
        let put = prepare(format!("INSERT INTO {records} VALUES ($1, $2) {upsert}")).await?;
        let get_many = prepare(format!("SELECT key, value FROM {records} WHERE key = ANY($1)")).await?;
        let put_many =
            prepare(format!("INSERT INTO {records} SELECT * FROM UNNEST($1::text[], $2::bytea[]) {upsert}"))
                .await?;
        let scan = prepare(format!(
            "SELECT key, value FROM {records} WHERE key > $1 AND key < $2 ORDER BY key LIMIT $3"
        ))
        .await?;
        let increment = prepare(format!(
            "INSERT INTO {counters} AS c VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = c.n + 1 RETURNING n"
        ))
        .await?;
        Ok(Self { client, get, put, get_many, put_many, scan, increment })
    }
}

/// The bytes of a column.
fn bytes(row: &Row, column: usize) -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.try_get(column)?))
}

#[async_trait]
impl Peer for TokioPostgres {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, _: Feature) -> bool {
        true
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let connection = self.connection();
        let found = connection.client.query_opt(&connection.get, &[&key]).await?;
        found.map(|row| bytes(&row, 0)).transpose()
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        let connection = self.connection();
        connection.client.execute(&connection.put, &[&key, &value]).await?;
        Ok(())
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        let connection = self.connection();
        let rows = connection.client.query(&connection.get_many, &[&keys]).await?;
        let mut found: HashMap<&str, Bytes> = HashMap::with_capacity(rows.len());
        for row in &rows {
            found.insert(row.try_get(0)?, bytes(row, 1)?);
        }
        Ok(keys.iter().map(|key| found.get(key.as_str()).cloned()).collect())
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        // In order, so that no two deadlock; each key once, as such a statement takes it.
        let (keys, values): (Vec<_>, Vec<_>) =
            records.into_iter().collect::<BTreeMap<_, _>>().into_iter().unzip();
        let connection = self.connection();
        connection.client.execute(&connection.put_many, &[&keys, &values]).await?;
        Ok(())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        let connection = self.connection();
        let (from, to, most) = (after.unwrap_or(prefix), end_of(prefix), i64::try_from(limit)?);
        let rows = connection.client.query(&connection.scan, &[&from, &to, &most]).await?;
        let mut items: Vec<(String, Bytes)> = Vec::with_capacity(rows.len());
        for row in &rows {
            items.push((row.try_get(0)?, bytes(row, 1)?));
        }
        let next = items.last().filter(|_| items.len() == limit).map(|(key, _)| key.clone());
        Ok(Page { items, next })
    }

    async fn increment(&self, key: &str) -> Result<i64> {
        let connection = self.connection();
        let row = connection.client.query_one(&connection.increment, &[&key]).await?;
        Ok(row.try_get(0)?)
    }
}
