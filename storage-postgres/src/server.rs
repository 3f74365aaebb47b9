//! What a server says of itself, and the chores it is told to do.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Value as Tree, json};
use smol_str::SmolStr;
use sqlx::Row as _;
use storage_core::{
    CollectionName, ErrorKind, Health, HealthStatus, MaintenanceReport, Result, Stats, Timestamp,
};

use crate::client::Client;
use crate::convert::{Time, damaged};
use crate::sql::Sql;

/// Most records that one statement removes, so that none holds locks for long.
const REMOVED_AT_ONCE: i64 = 5_000;

impl Client {
    /// Whether the server takes writes: a primary does, a replica does not.
    pub(crate) async fn health(&self) -> Health {
        let started = Instant::now();
        let mut sql = Sql::new();
        // It reads nothing of the table, and fails if there is none, or the role may not read it.
        sql.push("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', ");
        sql.push("EXISTS (SELECT 1 FROM ").push(self.layout.records()).push(" WHERE false)");
        let told = match self.row(sql).await {
            Ok(Some(row)) => match (row.try_get::<bool, _>(0), row.try_get::<bool, _>(1)) {
                (Ok(false), Ok(false)) => (HealthStatus::Up, "the primary answers".to_owned()),
                (Ok(true), _) => (HealthStatus::Degraded, "reads only: the server is a replica".to_owned()),
                _ => (HealthStatus::Degraded, "reads only: the server is set to that".to_owned()),
            },
            Ok(None) => (HealthStatus::Down, "the server answers nothing".to_owned()),
            // It works for those who have a connection.
            Err(error) if error.kind() == ErrorKind::Busy => {
                (HealthStatus::Degraded, error.message().to_owned())
            }
            Err(error) => (HealthStatus::Down, error.message().to_owned()),
        };
        Health { status: told.0, latency: started.elapsed(), detail: told.1 }
    }

    pub(crate) async fn stats(&self) -> Result<Stats> {
        let mut sql = Sql::new();
        let records = self.layout.records();
        sql.push("SELECT pg_total_relation_size(").bind(records);
        // Of a partitioned table that is nothing.
        sql.push(
            "::regclass) + coalesce((SELECT sum(pg_total_relation_size(t.relid)) FROM pg_partition_tree(",
        )
        .bind(records);
        sql.push("::regclass) t WHERE t.isleaf), 0)::bigint + pg_total_relation_size(")
            .bind(self.layout.list_items());
        sql.push("::regclass), (SELECT reltuples::bigint FROM pg_class WHERE oid = ").bind(records);
        sql.push("::regclass), current_setting('server_version')");
        let (mut bytes, mut details) = (None, BTreeMap::<SmolStr, Tree>::new());
        if let Some(row) = self.row(sql).await? {
            let size: i64 = row.try_get_unchecked(0).map_err(damaged)?;
            bytes = u64::try_from(size).ok();
            let estimate: i64 = row.try_get_unchecked(1).map_err(damaged)?;
            // Negative: never analysed.
            if estimate >= 0 {
                details.insert("estimated_records".into(), json!(estimate));
            }
            details.insert(
                "server_version".into(),
                json!(row.try_get_unchecked::<&str, _>(2).map_err(damaged)?),
            );
        }
        let pool = self.pool.stats();
        let numbers = [
            ("pool_open", u64::from(pool.open)),
            ("pool_idle", u64::from(pool.idle)),
            ("pool_waiting", u64::from(pool.waiting)),
            ("pool_max", u64::from(pool.max)),
            ("pool_connects", pool.connects),
            ("pool_timeouts", pool.timeouts),
        ];
        details.extend(numbers.map(|(name, number)| (SmolStr::new_static(name), json!(number))));
        Ok(Stats {
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            // An exact count would read the whole table.
            records: None,
            bytes,
            details,
        })
    }

    /// Removes all that has expired, a part at a time.
    pub(crate) async fn sweep(&self) -> Result<MaintenanceReport> {
        let now = Timestamp::now();
        let mut report = MaintenanceReport::default();
        report.removed = self.tend_logs().await?;
        report.examined = report.removed;
        loop {
            let removed = self.sweep_some(now).await?;
            report.examined += removed;
            report.removed += removed;
            if removed == 0 {
                if self.feed.on {
                    self.trim_changes().await?;
                }
                return Ok(report);
            }
        }
    }

    /// Removes some of what has expired, and returns how many records. Those that others have locked stay.
    pub(crate) async fn sweep_some(&self, now: Timestamp) -> Result<u64> {
        let mut sql = Sql::prepared(&self.statements.sweep);
        sql.value(Time(now));
        sql.value(REMOVED_AT_ONCE);
        self.execute(sql).await
    }

    /// Removes a collection a part at a time, and returns how many of its records had not expired.
    pub(crate) async fn clear(&self, collection: &CollectionName) -> Result<u64> {
        self.check_open()?;
        let (now, mut live) = (Timestamp::now(), 0);
        loop {
            let mut sql = Sql::prepared(&self.statements.clear);
            sql.value(collection.as_str());
            sql.value(REMOVED_AT_ONCE);
            let rows = self.rows(sql).await?;
            if rows.is_empty() {
                return Ok(live);
            }
            for row in &rows {
                let expires_at: Option<Time> = row.try_get_unchecked(0).map_err(damaged)?;
                live += u64::from(expires_at.is_none_or(|Time(at)| at > now));
            }
        }
    }

    /// Has the server look at the tables anew, for its plans.
    pub(crate) async fn analyse(&self) -> Result<MaintenanceReport> {
        self.chore("ANALYZE").await
    }

    /// Gives the room of what was removed back to the tables, and what is free at their end to the operating system. Others
    /// may go on meanwhile.
    pub(crate) async fn compact(&self) -> Result<MaintenanceReport> {
        self.divide().await?;
        let before = self.stats().await?.bytes.unwrap_or(0);
        self.chore("VACUUM (ANALYZE)").await?;
        let after = self.stats().await?.bytes.unwrap_or(0);
        Ok(MaintenanceReport { freed_bytes: before.saturating_sub(after), ..MaintenanceReport::default() })
    }

    /// A command on each table, which may take long and stands in no transaction.
    async fn chore(&self, command: &str) -> Result<MaintenanceReport> {
        for table in [self.layout.records(), self.layout.list_items()] {
            self.run_apart(format!("{command} {table}")).await?;
        }
        Ok(MaintenanceReport::default())
    }
}
