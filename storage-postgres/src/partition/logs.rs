//! The partitions of logs: made ahead of time, and dropped or detached when they are over.
//!
//! The keys of a log begin with their time, so its tables are divided by the key, and the primary key stays that of all
//! records. A key that is in no span that has a table, be it too old, too far ahead or without a time, stands in a table of
//! its own for the rest. When a span is made of which the rest has records already, they move.

use sqlx::Row as _;
use storage_core::{Error, ErrorKind, Result, Timestamp};

use super::{Division, Expired, PartitionSet, Span, Turn, digits, shapes, texts};
use crate::client::Client;
use crate::convert::damaged;
use crate::index::Named;
use crate::layout::{Layout, quote};
use crate::path::literal;
use crate::sql::Sql;

/// Tables are made for so many past spans at most; what is older stands with the rest.
pub(super) const MOST_SPANS: i64 = 400;

/// The table of a span, and its bounds.
pub(super) fn table(
    division: &Division,
    number: usize,
    span: Span,
    begin: Timestamp,
    layout: &Layout,
) -> (String, String) {
    let name = format!("{}_{}", division.name(Some(number), layout), digits(begin));
    let (from, to) = (span.bound(begin), span.bound(span.after(begin, 1)));
    let bounds = format!("FOR VALUES FROM ({}) TO ({})", literal(&from), literal(&to));
    (format!("{}.{}", layout.schema(), quote(&name)), bounds)
}

/// A log of which the tables are there.
struct Log<'a> {
    set: &'a PartitionSet,
    span: Span,
    division: &'a Division,
    number: usize,
    /// Its table, quoted and with the schema.
    branch: String,
}

impl Client {
    /// Makes the partitions of logs that will be needed, and removes those that are over. Returns how many records went.
    pub(crate) async fn tend_logs(&self) -> Result<u64> {
        let Some(sets) = self.partitions.as_ref().filter(|sets| sets.iter().any(|set| set.range.is_some()))
        else {
            return Ok(0);
        };
        let turn = self.turn(Turn::Tables).await?;
        let tended = async {
            let division = self.division(self.layout.records()).await?;
            let mut removed = 0;
            // Until the records were moved there are no such tables.
            if division.sets == shapes(sets) {
                for (number, set) in sets.iter().enumerate() {
                    let Some(span) = division.sets.get(number).and_then(|shape| shape.span) else { continue };
                    let name = division.name(Some(number), &self.layout);
                    let branch = format!("{}.{}", self.layout.schema(), quote(&name));
                    let log = Log { set, span, division: &division, number, branch };
                    self.make_ahead(&log).await?;
                    removed += self.end_spans(&log).await?;
                }
            }
            Ok(removed)
        };
        let tended = tended.await;
        turn.rollback().await;
        tended
    }

    async fn make_ahead(&self, log: &Log<'_>) -> Result<()> {
        let current = log.span.begin(Timestamp::now());
        for count in 0..=i64::from(log.set.ahead) {
            let begin = log.span.after(current, count);
            let (table, bounds) = table(log.division, log.number, log.span, begin, &self.layout);
            if !self.relation_exists(&table).await? {
                self.make_span(log, begin, &table, &bounds).await?;
            }
        }
        Ok(())
    }

    /// Makes the table of a span with its indexes, and moves what the rest has of it.
    async fn make_span(&self, log: &Log<'_>, begin: Timestamp, table: &str, bounds: &str) -> Result<()> {
        let (layout, branch) = (&self.layout, &log.branch);
        let rest = format!("{}_rest", log.division.name(Some(log.number), layout));
        let rest = format!("{}.{}", layout.schema(), quote(&rest));
        let (from, to) = (log.span.bound(begin), log.span.bound(log.span.after(begin, 1)));
        // While it is detached it has no triggers: the records go from one table to the other unchanged.
        let mut text = format!(
            "LOCK TABLE {branch} IN ACCESS EXCLUSIVE MODE; ALTER TABLE {branch} DETACH PARTITION {rest}; \
             CREATE TABLE {table} (LIKE {branch} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE); \
             WITH m AS (DELETE FROM {rest} WHERE key >= {from} AND key < {to} RETURNING *) \
             INSERT INTO {table} SELECT * FROM m; \
             ALTER TABLE {branch} ATTACH PARTITION {rest} DEFAULT; \
             ALTER TABLE {branch} ATTACH PARTITION {table} {bounds}; ",
            from = literal(&from),
            to = literal(&to),
        );
        for collection in &log.set.collections {
            for spec in self.list_indexes(collection).await? {
                text.push_str(&Named::new(&spec, layout).on(table).statements(table, layout)?);
            }
        }
        self.change_tables(&text).await
    }

    /// Removes the spans that are over.
    async fn end_spans(&self, log: &Log<'_>) -> Result<u64> {
        let Some(retention) = log.set.retention else { return Ok(0) };
        let kept = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let horizon =
            log.span.begin(Timestamp::from_millis(Timestamp::now().as_millis().saturating_sub(kept)));
        let over = self.spans_before(log, horizon).await?;
        let mut removed = 0;
        for table in over {
            removed += self.end_span(log, &table).await?;
        }
        if log.set.expired == Expired::Drop {
            removed += self.remove_old(log, horizon).await?;
        }
        Ok(removed)
    }

    /// The tables of spans that begin before a time at which one begins.
    async fn spans_before(&self, log: &Log<'_>, horizon: Timestamp) -> Result<Vec<String>> {
        let name = log.division.name(Some(log.number), &self.layout);
        let mut sql = Sql::new();
        sql.push("SELECT format('%I.%I', n.nspname, c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid ");
        sql.push("JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.inhparent = to_regclass(");
        sql.bind(log.branch.clone()).push(") AND c.relname COLLATE \"C\" < ");
        sql.bind(format!("{name}_{}", digits(horizon))).push(" ORDER BY 1");
        texts(&self.rows(sql).await?)
    }

    /// Takes the table of a span out of the store, and returns how many records went.
    async fn end_span(&self, log: &Log<'_>, table: &str) -> Result<u64> {
        let (layout, branch) = (&self.layout, &log.branch);
        let mut sql = Sql::new();
        sql.push("SELECT count(*) FROM ").push(table);
        let row = self.row(sql).await?;
        let count: i64 = row.map_or(Ok(0), |row| row.try_get(0)).map_err(damaged)?;
        let mut text = format!(
            "LOCK TABLE {branch} IN ACCESS EXCLUSIVE MODE; ALTER TABLE {branch} DETACH PARTITION {table}; "
        );
        for collection in &log.set.collections {
            for spec in self.list_indexes(collection).await?.into_iter().filter(|spec| spec.unique) {
                text.push_str(&format!(
                    "DELETE FROM {} u USING {table} r WHERE u.index = {} AND r.collection = {} AND u.key = r.key; ",
                    layout.qualified("unique_values"),
                    literal(&Named::new(&spec, layout).name),
                    literal(collection.as_str()),
                ));
            }
        }
        if self.are_changes_logged().await? {
            text.push_str(&format!(
                "INSERT INTO {} (collection, key) SELECT r.collection, r.key FROM {table} r; ",
                layout.qualified("changes")
            ));
        }
        if log.set.expired == Expired::Drop {
            text.push_str(&format!(
                "DELETE FROM {} i USING {table} r WHERE r.kind = 'l' AND i.list_id = r.list_id; DROP TABLE {table}",
                layout.list_items()
            ));
        }
        self.change_tables(&text).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Removes what is over of the rest: keys that came late.
    async fn remove_old(&self, log: &Log<'_>, horizon: Timestamp) -> Result<u64> {
        let records = self.layout.records();
        // Before the first time there is, keys have none. Behind it there are others that begin with no time: they stay.
        let first = log.span.bound(Timestamp::from_millis(0));
        let names: Vec<String> = log.set.collections.iter().map(ToString::to_string).collect();
        let mut removed = 0;
        loop {
            let mut sql = Sql::once();
            sql.push("DELETE FROM ")
                .push(records)
                .push(" r USING (SELECT s.collection, s.key FROM ")
                .push(records);
            sql.push(" s WHERE s.collection = ANY (")
                .bind(names.clone())
                .push(") AND s.key >= ")
                .bind(first.clone());
            sql.push(" AND s.key < ").bind(log.span.bound(horizon));
            sql.push(" AND s.key ~ ").bind(log.span.key_time.pattern());
            sql.push(" ORDER BY s.collection, s.key LIMIT 5000 FOR UPDATE SKIP LOCKED) n ");
            sql.push("WHERE r.collection = n.collection AND r.key = n.key");
            let some = self.execute(sql).await?;
            removed += some;
            if some == 0 {
                return Ok(removed);
            }
        }
    }

    /// The spans of a log that tables are made for when it is first divided.
    pub(super) async fn spans_to_make(
        &self,
        number: usize,
        span: Span,
        division: &Division,
    ) -> Result<Vec<Timestamp>> {
        let set = self.partitions.as_ref().and_then(|sets| sets.get(number));
        let (Some(set), Some(shape)) = (set, division.sets.get(number)) else {
            return Err(Error::new(ErrorKind::Internal, "a log without its configuration"));
        };
        let current = span.begin(Timestamp::now());
        let first = span.after(current, -MOST_SPANS).max(span.begin(Timestamp::from_millis(0)));
        let names: Vec<String> = shape.collections.iter().map(ToString::to_string).collect();
        let mut sql = Sql::new();
        sql.push("SELECT min(r.key) FROM ").push(self.layout.records()).push(" r WHERE r.collection = ANY (");
        sql.bind(names).push(") AND r.key >= ").bind(span.bound(first));
        let row = self.row(sql).await?;
        let oldest: Option<String> = row.map_or(Ok(None), |row| row.try_get(0)).map_err(damaged)?;
        let mut spans: Vec<_> = (0..=i64::from(set.ahead)).map(|count| span.after(current, count)).collect();
        let mut begin = current;
        while begin > first && oldest.as_ref().is_some_and(|oldest| *oldest < span.bound(begin)) {
            begin = span.after(begin, -1);
            spans.push(begin);
        }
        Ok(spans)
    }
}
