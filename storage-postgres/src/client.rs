//! What a store has open: its pool, its layout, and what it has done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::Executor as _;
use sqlx::postgres::PgRow;
use storage_core::{Error, ErrorKind, KnownIndexes, Result, Retry, VersionSource};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use crate::changes::Feed;
use crate::config::PostgresConfig;
use crate::connect::{Connector, PLANNING};
use crate::error::{During, breaks_connection, driver};
use crate::layout::Layout;
use crate::partition::PartitionSet;
use crate::pool::{Connection, Pool};
use crate::sql::Sql;
use crate::statements::Statements;

/// How long work may take that changes tables.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// An open database.
pub(crate) struct Client {
    pub(crate) layout: Layout,
    pub(crate) statements: Statements,
    versions: VersionSource,
    pub(crate) pool: Arc<Pool>,
    /// Indexes are changed one at a time, for each takes connections of its own.
    pub(crate) indexing: tokio::sync::Mutex<()>,
    pub(crate) known_indexes: KnownIndexes,
    pub(crate) feed: Feed,
    /// How the records are to be divided, if that is said.
    pub(crate) partitions: Option<Vec<PartitionSet>>,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    /// How long a call may take.
    pub(crate) timeout: Duration,
    statement_timeout: Duration,
    /// Whether statements are prepared; if not, there is a pooler, and each call is a transaction.
    prepared: bool,
    closed: AtomicBool,
}

impl Client {
    /// Makes the client; it connects with the first request.
    pub(crate) fn new(config: &PostgresConfig) -> Result<Self> {
        let layout = Layout::new(&config.schema, &config.table_prefix);
        Ok(Self {
            statements: Statements::new(&layout),
            layout,
            versions: VersionSource::new(),
            indexing: tokio::sync::Mutex::new(()),
            known_indexes: KnownIndexes::default(),
            feed: Feed::new(config),
            partitions: config.partitions.clone(),
            pool: Pool::new(Connector::new(config)?, config.pool()),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            timeout: config.timeout,
            statement_timeout: config.statement_timeout(),
            prepared: config.prepared_statements,
            closed: AtomicBool::new(false),
        })
    }

    /// A version that no record has had.
    pub(crate) fn new_version(&self) -> i64 {
        self.versions.next().cast_signed()
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the store has been closed"));
        }
        Ok(())
    }

    /// Runs one statement, which is a transaction of its own, and returns its rows.
    ///
    /// One round trip. What the error says of a repeat counts for the statement: if nobody knows whether it was done, it is
    /// [`Retry::IfIdempotent`].
    pub(crate) async fn rows(&self, sql: Sql) -> Result<Vec<PgRow>> {
        if !self.prepared {
            let mut transaction = self.begin().await?;
            let rows = transaction.rows(sql).await?;
            transaction.commit().await?;
            return Ok(rows);
        }
        let mut connection = self.pool.acquire().await?;
        let rows = self.within(rows(&mut connection, sql, true)).await;
        connection.over();
        rows
    }

    /// As [`rows`](Self::rows), of a statement that returns at most one.
    pub(crate) async fn row(&self, sql: Sql) -> Result<Option<PgRow>> {
        Ok(self.rows(sql).await?.into_iter().next())
    }

    /// As [`rows`](Self::rows), and returns how many rows were inserted, updated or deleted.
    pub(crate) async fn execute(&self, sql: Sql) -> Result<u64> {
        if !self.prepared {
            let mut transaction = self.begin().await?;
            let done = transaction.execute(sql).await?;
            transaction.commit().await?;
            return Ok(done);
        }
        let mut connection = self.pool.acquire().await?;
        let done = self.within(execute(&mut connection, sql, true)).await;
        connection.over();
        done
    }

    /// Begins a transaction, which has the time of one call.
    ///
    /// # Errors
    /// Those of connecting and of the server; nothing was done.
    pub(crate) async fn begin(&self) -> Result<Transaction<'_>> {
        self.begin_on(self.pool.acquire().await?, self.timeout, self.statement_timeout).await
    }

    /// Begins a transaction on a connection of its own that may take long, such as one that changes tables.
    pub(crate) async fn begin_patiently(&self) -> Result<Transaction<'_>> {
        self.begin_on(self.pool.apart().await?, PATIENCE, Duration::ZERO).await
    }

    async fn begin_on(
        &self,
        connection: Connection,
        timeout: Duration,
        statement_timeout: Duration,
    ) -> Result<Transaction<'_>> {
        let mut transaction = Transaction { client: self, connection, deadline: Instant::now() + timeout };
        // Each statement is to see what was committed before it, whatever the server's default.
        let mut begin = "BEGIN ISOLATION LEVEL READ COMMITTED".to_owned();
        if !self.prepared {
            // A setting of the session would stay with the pooler's connection.
            begin.push_str(&format!("; SET LOCAL statement_timeout = {}", statement_timeout.as_millis()));
            for (setting, value) in PLANNING {
                begin.push_str(&format!("; SET LOCAL {setting} = {value}"));
            }
        }
        transaction.simple(begin).await?;
        Ok(transaction)
    }

    /// Runs SQL without values on a connection of its own, where it may take long, and outside a transaction.
    pub(crate) async fn run_apart(&self, text: String) -> Result<()> {
        let mut connection = self.pool.apart().await?;
        let done = tokio::time::timeout(PATIENCE, simple(&mut connection, text)).await;
        connection.over();
        done.unwrap_or_else(|_| Err(late(PATIENCE)))
    }

    /// The result of a request, unless the time of a call passes first: then nobody knows whether it was done.
    pub(crate) async fn within<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.timeout, request).await {
            Ok(result) => result,
            Err(_) => Err(late(self.timeout)),
        }
    }

    /// Ends the calls under way, and the connections.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.feed.waiting.end();
        self.pool.close(self.timeout).await;
    }
}

/// A transaction. Dropping it undoes it.
pub(crate) struct Transaction<'c> {
    client: &'c Client,
    connection: Connection,
    deadline: Instant,
}

impl Transaction<'_> {
    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// Whatever it is, nothing has been done: a repeat of the whole transaction is safe where the error is one that passes.
    pub(crate) async fn rows(&mut self, sql: Sql) -> Result<Vec<PgRow>> {
        let prepared = self.client.prepared;
        let done = timeout_at(self.deadline, rows(&mut self.connection, sql, prepared)).await;
        self.in_time(done).map_err(undone)
    }

    /// Runs a statement and returns how many rows it changed. Errors are as those of [`rows`](Self::rows).
    pub(crate) async fn execute(&mut self, sql: Sql) -> Result<u64> {
        let prepared = self.client.prepared;
        let done = timeout_at(self.deadline, execute(&mut self.connection, sql, prepared)).await;
        self.in_time(done).map_err(undone)
    }

    /// Runs SQL without values, of one statement or several. Errors are as those of [`rows`](Self::rows).
    pub(crate) async fn simple(&mut self, text: String) -> Result<()> {
        let done = timeout_at(self.deadline, simple(&mut self.connection, text)).await;
        self.in_time(done).map_err(undone)
    }

    /// Makes what was done last.
    ///
    /// # Errors
    /// If the server refuses, nothing was done; if its answer does not come, nobody knows.
    pub(crate) async fn commit(mut self) -> Result<()> {
        let done = timeout_at(self.deadline, simple(&mut self.connection, "COMMIT".to_owned())).await;
        self.in_time(done)?;
        self.connection.done();
        Ok(())
    }

    /// Undoes it and keeps the connection.
    pub(crate) async fn rollback(mut self) {
        if self.simple("ROLLBACK".to_owned()).await.is_ok() {
            self.connection.done();
        }
    }

    fn in_time<T>(&mut self, done: Result<Result<T>, Elapsed>) -> Result<T> {
        done.unwrap_or_else(|_| {
            self.connection.unanswered();
            Err(late(self.client.timeout))
        })
    }
}

/// Before a transaction is committed, or where one only reads, nothing is done, whatever happens to the connection.
pub(crate) fn undone(error: Error) -> Error {
    match error.retry() {
        Retry::IfIdempotent => error.with_retry(Retry::Safe),
        _ => error,
    }
}

fn late(timeout: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no answer within {timeout:?}"))
}

async fn rows(connection: &mut Connection, sql: Sql, prepared: bool) -> Result<Vec<PgRow>> {
    let prepared = prepared && !sql.is_once();
    let (text, arguments) = sql.into_parts()?;
    let query = sqlx::query_with(text, arguments).persistent(prepared);
    let done = connection.driver()?.fetch_all(query).await;
    settle(connection, done)
}

async fn execute(connection: &mut Connection, sql: Sql, prepared: bool) -> Result<u64> {
    let prepared = prepared && !sql.is_once();
    let (text, arguments) = sql.into_parts()?;
    let query = sqlx::query_with(text, arguments).persistent(prepared);
    let done = connection.driver()?.execute(query).await;
    settle(connection, done).map(|done| done.rows_affected())
}

async fn simple(connection: &mut Connection, text: String) -> Result<()> {
    let done = connection.driver()?.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(text))).await;
    settle(connection, done).map(drop)
}

/// Turns an error of the driver into ours, and gives the connection up if it is of no more use.
fn settle<T>(connection: &mut Connection, done: Result<T, sqlx::Error>) -> Result<T> {
    if done.as_ref().is_err_and(breaks_connection) {
        connection.broke();
    } else {
        connection.answered();
    }
    done.map_err(|error| driver(error, During::Request))
}
