//! The feed of changes: a log that triggers write, read in an order in which nothing is skipped.
//!
//! Transactions commit in another order than they draw numbers in, so a reader that goes by a number alone would pass
//! over what commits late. This one goes by (transaction, number), and only as far as the oldest transaction that is
//! still running: below that nothing can come any more. See `docs/adr/0005-postgres-changes.md`.

use std::time::{Duration, Instant};

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use storage_core::{
    Address, ChangeEvent, Changes, CollectionName, Cursor, Error, Feature, Key, Page, Result, Timestamp,
};

use crate::client::{Client, Transaction};
use crate::config::PostgresConfig;
use crate::convert::{RECORD_COLUMNS, RECORD_WIDTH, Time, damaged, record};
use crate::layout::quote;
use crate::listen::Waiting;
use crate::path::literal;
use crate::read::OWN_BYTES;
use crate::sql::Sql;
use crate::statements::PAGE_BYTES;

/// How often to look while waiting, notified or not: what is committed may have to wait for a transaction that began
/// before it, and nobody says when that ends.
const LOOK: Duration = Duration::from_millis(250);

/// Entries of the log that one statement removes.
const REMOVED_AT_ONCE: i64 = 10_000;

/// Where a reader is: the transaction and the number of the last entry that it has.
type Position = (u64, i64);

/// What an open store knows of its feed.
pub(crate) struct Feed {
    /// Whether it is offered.
    pub(crate) on: bool,
    /// How long entries are kept.
    pub(crate) retention: Duration,
    /// Wakes those who wait.
    pub(crate) waiting: Waiting,
}

impl Feed {
    pub(crate) fn new(config: &PostgresConfig) -> Self {
        Self { on: config.changes, retention: config.changes_retention, waiting: Waiting::default() }
    }
}

/// Ends the logging of changes in the database, for all programs; returns whether it was on. What is logged stays until
/// a sweep of a store with the feed, and stores that are open with it find nothing new.
///
/// # Errors
/// Those of connecting, and [`PermissionDenied`](storage_core::ErrorKind::PermissionDenied).
pub async fn stop_changes(config: &PostgresConfig) -> Result<bool> {
    let client = Client::new(config)?;
    let stopped = client.log_changes(false).await;
    client.close().await;
    stopped
}

impl Client {
    /// Sees to it that changes are logged if the feed is on.
    pub(crate) async fn agree_on_changes(&self, create: bool) -> Result<()> {
        if !self.feed.on || self.are_changes_logged().await? {
            return Ok(());
        }
        if create {
            return self.log_changes(true).await.map(drop);
        }
        Err(Error::invalid(
            "changes are not logged yet: run `storage schema apply` with this configuration, or set create_schema to true",
        ))
    }

    /// A page of the feed.
    pub(crate) async fn changes(&self, changes: &Changes) -> Result<Page<ChangeEvent>> {
        self.check_open()?;
        if !self.feed.on {
            return Err(Error::unsupported(Feature::Changes));
        }
        let identity = ("changes", changes.collection.as_ref().map(CollectionName::as_str));
        let Some(cursor) = &changes.after else {
            let next = Cursor::seal(&identity, &self.present().await?)?;
            return Ok(Page { items: Vec::new(), next: Some(next) });
        };
        let mut position: Position = cursor.open(&identity)?;
        // Saturating: a wait of years is one of many requests.
        let until = Instant::now().checked_add(changes.wait);
        let mut listening = None;
        loop {
            let (items, reached) = self.changes_after(position, changes).await?;
            position = reached;
            let left = until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()));
            if !items.is_empty() || left.is_zero() {
                return Ok(Page { items, next: Some(Cursor::seal(&identity, &position)?) });
            }
            match &mut listening {
                // What was committed before it listened is found by looking once more.
                None => listening = Some(self.feed.waiting.listen(self)),
                Some(listener) => {
                    self.check_open()?;
                    listener.wait(left.min(LOOK)).await;
                }
            }
        }
    }

    /// The position after everything that is certain to be visible: that of the last entry of a transaction below all
    /// running ones. Not a number above it, that of a transaction without entries: it may not be on the disk yet, and is
    /// given to another transaction if the server dies before it is.
    async fn present(&self) -> Result<Position> {
        let (log, removed) = (self.layout.qualified("changes"), self.layout.qualified("changes_removed"));
        let mut sql = Sql::new();
        sql.push("SELECT coalesce(e.xid, m.xid)::text, coalesce(e.seq, m.seq) FROM ").push(&removed);
        sql.push(" m LEFT JOIN (SELECT c.xid, c.seq FROM ").push(&log);
        sql.push(" c WHERE c.xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY c.xid DESC, c.seq DESC LIMIT 1) e ON true");
        let row = self.row(sql).await?.ok_or_else(no_row)?;
        Ok((xid(&row, 0)?, row.try_get(1).map_err(damaged)?))
    }

    /// The entries after a position, and where that leads.
    async fn changes_after(
        &self,
        (after, number): Position,
        changes: &Changes,
    ) -> Result<(Vec<ChangeEvent>, Position)> {
        let (log, removed) = (self.layout.qualified("changes"), self.layout.qualified("changes_removed"));
        let mut sql = Sql::new();
        sql.push("WITH h AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS horizon, ");
        sql.push("pg_snapshot_xmax(pg_current_snapshot()) AS future), ");
        // The last that there is to read, as in `present`.
        sql.push("e AS MATERIALIZED (SELECT c.xid, c.seq FROM ").push(&log);
        sql.push(" c WHERE c.xid < (SELECT h.horizon FROM h) ORDER BY c.xid DESC, c.seq DESC LIMIT 1), ");
        sql.push("c AS MATERIALIZED (SELECT c.* FROM ").push(&log).push(" c, h WHERE (c.xid, c.seq) > (");
        let (after_text, number_again) = (sql.value(after.to_string()), sql.value(number));
        sql.parameter(after_text)
            .push("::text::xid8, ")
            .parameter(number_again)
            .push(") AND c.xid < h.horizon");
        if let Some(collection) = &changes.collection {
            sql.push(" AND c.collection = ").bind(collection.as_str());
        }
        sql.push(" ORDER BY c.xid, c.seq LIMIT ").bind(i64::from(changes.limit)).push("), ");
        // The sizes of the records as stored, so that a page does not become too large.
        sql.push("p AS (SELECT r.*, c.xid AS c_xid, c.seq AS c_seq, c.at AS c_at, c.collection AS c_collection, c.key AS c_key, ");
        sql.push("sum(").push(OWN_BYTES).push(") OVER (ORDER BY c.xid, c.seq) AS c_bytes ");
        sql.push("FROM c LEFT JOIN ").push(self.layout.records());
        sql.push(" r ON r.collection = c.collection AND r.key = c.key) ");
        sql.push("SELECT ")
            .push(RECORD_COLUMNS)
            .push(", r.c_xid::text, r.c_seq, r.c_at, r.c_collection, r.c_key, ");
        sql.push("(SELECT e.xid FROM e)::text, h.future::text, m.xid::text, m.seq, (SELECT count(*) FROM c), (SELECT e.seq FROM e) ");
        sql.push("FROM h CROSS JOIN ");
        sql.push(&removed).push(" m LEFT JOIN p r ON r.c_bytes <= ").push(&PAGE_BYTES.to_string());
        // At least one entry, however large its record.
        sql.push(" OR (r.c_xid, r.c_seq) = (SELECT c.xid, c.seq FROM c ORDER BY c.xid, c.seq LIMIT 1)");
        sql.push(" ORDER BY r.c_xid, r.c_seq");
        let rows = self.rows(sql).await?;
        let first = rows.first().ok_or_else(no_row)?;
        if after > xid(first, RECORD_WIDTH + 6)? {
            return Err(Error::invalid(
                "the cursor is of another database, or of this one before it was restored: start again without one",
            ));
        }
        let removed = (xid(first, RECORD_WIDTH + 7)?, first.try_get(RECORD_WIDTH + 8).map_err(damaged)?);
        if (after, number) < removed {
            return Err(Error::invalid(format!(
                "what came after the cursor is removed from the log of changes, which keeps {:?}: start again without one",
                self.feed.retention
            )));
        }
        let (now, mut items, mut reached) = (Timestamp::now(), Vec::new(), (after, number));
        for row in &rows {
            let Some(seq) = row.try_get::<Option<i64>, _>(RECORD_WIDTH + 1).map_err(damaged)? else {
                continue;
            };
            reached = (xid(row, RECORD_WIDTH)?, seq);
            items.push(event(row, now)?);
        }
        let found: i64 = first.try_get(RECORD_WIDTH + 9).map_err(damaged)?;
        if usize::try_from(found).is_ok_and(|found| found == items.len() && found < changes.limit as usize) {
            // There is nothing else for this reader up to the last entry.
            let last: Option<i64> = first.try_get(RECORD_WIDTH + 10).map_err(damaged)?;
            if let Some(last) = last {
                reached = reached.max((xid(first, RECORD_WIDTH + 5)?, last));
            }
        }
        Ok((items, reached))
    }

    /// Removes the oldest entries of the log, and returns how many.
    pub(crate) async fn trim_changes(&self) -> Result<u64> {
        let (log, removed) = (self.layout.qualified("changes"), self.layout.qualified("changes_removed"));
        let kept = i64::try_from(self.feed.retention.as_millis()).unwrap_or(i64::MAX);
        let until = Timestamp::from_millis(Timestamp::now().as_millis().saturating_sub(kept));
        let mut total = 0;
        loop {
            let mut sql = Sql::new();
            // In the order of the readers, so that what is removed is all before what is kept.
            sql.push("WITH o AS (SELECT c.xid, c.seq, c.at FROM ").push(&log);
            sql.push(" c WHERE c.xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY c.xid, c.seq LIMIT ");
            sql.bind(REMOVED_AT_ONCE)
                .push("), k AS (SELECT o.xid, o.seq FROM o WHERE o.at >= ")
                .bind(Time(until));
            sql.push(" ORDER BY o.xid, o.seq LIMIT 1), ");
            sql.push("d AS (DELETE FROM ")
                .push(&log)
                .push(" c USING o WHERE c.xid = o.xid AND c.seq = o.seq ");
            sql.push("AND ((o.xid, o.seq) < (SELECT k.xid, k.seq FROM k) OR NOT EXISTS (SELECT FROM k)) RETURNING c.xid, c.seq), ");
            sql.push("l AS (SELECT d.xid, d.seq FROM d ORDER BY d.xid DESC, d.seq DESC LIMIT 1), ");
            sql.push("u AS (UPDATE ").push(&removed).push(" m SET xid = l.xid, seq = l.seq FROM l ");
            sql.push("WHERE (m.xid, m.seq) < (l.xid, l.seq)) SELECT count(*) FROM d");
            let row = self.row(sql).await?.ok_or_else(no_row)?;
            let removed: i64 = row.try_get(0).map_err(damaged)?;
            total += u64::try_from(removed).unwrap_or(0);
            if removed < REMOVED_AT_ONCE {
                return Ok(total);
            }
        }
    }

    /// Whether changes are logged.
    pub(crate) async fn are_changes_logged(&self) -> Result<bool> {
        let mut sql = Sql::new();
        sql.push("SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = to_regclass(");
        sql.bind(self.layout.records().to_owned()).push(") AND t.tgenabled <> 'D' AND t.tgname = ANY (");
        let names: Vec<String> = EVENTS.iter().map(|(name, ..)| self.layout.name(name)).collect();
        sql.bind(names).push(")");
        let row = self.row(sql).await?.ok_or_else(no_row)?;
        Ok(row.try_get::<i64, _>(0).map_err(damaged)? == EVENTS.len() as i64)
    }

    /// Begins to log changes, or ends it; returns whether that was new. Waits for the writes under way.
    pub(crate) async fn log_changes(&self, on: bool) -> Result<bool> {
        if self.are_changes_logged().await? == on {
            return Ok(false);
        }
        let mut transaction = self.begin_patiently().await?;
        let records = self.layout.records();
        // One of many that open at once does it.
        transaction.simple(format!("LOCK TABLE {records} IN SHARE ROW EXCLUSIVE MODE")).await?;
        let changed = self.set_triggers(&mut transaction, on).await;
        match changed {
            Ok(()) => transaction.commit().await.map(|()| true),
            Err(error) => {
                transaction.rollback().await;
                Err(error)
            }
        }
    }

    async fn set_triggers(&self, transaction: &mut Transaction<'_>, on: bool) -> Result<()> {
        let (records, function) = (self.layout.records(), self.layout.qualified("log_changes"));
        let mut text = String::new();
        for (name, event, rows) in EVENTS {
            let name = quote(&self.layout.name(name));
            text.push_str(&format!("DROP TRIGGER IF EXISTS {name} ON {records}; "));
            if on {
                text.push_str(&format!(
                    "CREATE TRIGGER {name} AFTER {event} ON {records} REFERENCING {rows} TABLE AS changed \
                     FOR EACH STATEMENT EXECUTE FUNCTION {function}({}, {}); ",
                    literal(&self.channel()),
                    literal(&self.waiting_lock().to_string()),
                ));
            }
        }
        transaction.simple(text).await
    }

    /// The channel on which those who wait are notified.
    pub(crate) fn channel(&self) -> String {
        format!("storage_{:016x}", self.waiting_lock())
    }

    /// The lock that those who wait share.
    pub(crate) fn waiting_lock(&self) -> i64 {
        // FNV-1a: other programs have to come to the same.
        let text = format!("changes of {}", self.layout.records());
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash.cast_signed()
    }
}

/// The triggers: name, event, and the rows that they look at.
const EVENTS: [(&str, &str, &str); 3] = [
    ("records_log_insert", "INSERT", "NEW"),
    ("records_log_update", "UPDATE", "NEW"),
    ("records_log_delete", "DELETE", "OLD"),
];

fn event(row: &PgRow, now: Timestamp) -> Result<ChangeEvent> {
    let collection: &str = row.try_get(RECORD_WIDTH + 3).map_err(damaged)?;
    let key: &str = row.try_get(RECORD_WIDTH + 4).map_err(damaged)?;
    let Time(at) = row.try_get_unchecked(RECORD_WIDTH + 2).map_err(damaged)?;
    let there = row.try_get::<Option<&str>, _>(0).map_err(damaged)?.is_some();
    let record = if there { Some(record(row)?).filter(|record| !record.is_expired(now)) } else { None };
    let address = Address { collection: CollectionName::new(collection)?, key: Key::new(key)? };
    Ok(ChangeEvent { address, at, record })
}

fn xid(row: &PgRow, column: usize) -> Result<u64> {
    let text: &str = row.try_get(column).map_err(damaged)?;
    text.parse().map_err(|_| no_row())
}

fn no_row() -> Error {
    Error::new(storage_core::ErrorKind::Corrupt, "the log of changes does not fit the layout")
}
