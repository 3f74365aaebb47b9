//! Moves the records to another division, while others read and write.
//!
//! A second table is made, `records_next`, divided as wanted. From then on triggers bring every write to it too, in the
//! writer's transaction, and what was there before is copied a batch at a time, in the order of the primary key. The
//! source rows are locked for the time of a batch, as writers lock them, so that none is removed between its reading and
//! its copy. In the end the tables change places: see [`swap`](super::swap). Until then readers see the old table only, and
//! from then on the new one only.
//!
//! How far the copy is stands in a row, which each batch locks and changes: a copy that was interrupted goes on from
//! there, and two at once would share the work.

use std::time::{Duration, Instant};

use sqlx::Row as _;
use storage_core::{Error, ErrorKind, Result};

use super::{Division, Remark, Turn, next, shapes};
use crate::client::Client;
use crate::convert::damaged;
use crate::layout::quote;
use crate::path::literal;
use crate::schema::fill;
use crate::sql::Sql;

/// Records copied at once: at first, and at most.
const BATCH: (i64, i64) = (500, 10_000);
/// A batch that takes longer makes the next one smaller: so long writers of its records wait.
const LONG: Duration = Duration::from_millis(200);
/// But not smaller than this, unless it ran out of time: what a batch costs is then mostly its commit.
const FEW: i64 = 100;
/// Writers need the same disk: after each batch it is theirs for as long as the batch took, and no longer than this.
const PAUSE: Duration = Duration::from_millis(100);

impl Client {
    /// Brings the tables into the division that the configuration asks for, if it does and they are not.
    pub(crate) async fn divide(&self) -> Result<()> {
        let Some(sets) = &self.partitions else { return Ok(()) };
        let (wanted, records, next) = (shapes(sets), self.layout.records(), next(&self.layout));
        if self.division(records).await?.sets == wanted && !self.relation_exists(&next).await? {
            return Ok(());
        }
        let turn = self.turn(Turn::Move).await?;
        let moved = async {
            let there = self.division(records).await?;
            if self.relation_exists(&next).await?
                && (there.sets == wanted || self.division(&next).await?.sets != wanted)
            {
                // Somebody began to move to what is not wanted any more.
                self.abandon().await?;
            }
            if there.sets == wanted {
                return Ok(());
            }
            if !self.relation_exists(&next).await? {
                let division = Division { generation: there.generation + 1, sets: wanted.clone() };
                self.begin_move(&division).await?;
            }
            self.copy().await?;
            self.swap().await
        };
        let moved = moved.await;
        turn.rollback().await;
        moved
    }

    /// Makes the second table, and has every write go to it too.
    async fn begin_move(&self, division: &Division) -> Result<()> {
        self.refuse_dependents().await?;
        let (layout, records, next) = (&self.layout, self.layout.records(), next(&self.layout));
        let remark = serde_json::to_string(&Remark { storage_partitions: division.clone() })
            .map_err(|error| Error::new(ErrorKind::Internal, format!("the comment on a table: {error}")))?;
        let by = if division.sets.is_empty() { "" } else { " PARTITION BY LIST (collection)" };
        let mut text = format!(
            "CREATE TABLE {next} (LIKE {records} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE \
             INCLUDING COMMENTS){by}; ALTER TABLE {next} ADD CONSTRAINT {} PRIMARY KEY (collection, key); \
             CREATE INDEX {} ON {next} (expires_at) WHERE expires_at IS NOT NULL; COMMENT ON TABLE {next} IS {}; ",
            quote(&layout.name("records_next_pkey")),
            quote(&layout.name("records_next_expiry")),
            literal(&remark),
        );
        text.push_str(&division.tables(&next, layout));
        for (number, span) in division.sets.iter().enumerate().filter_map(|(n, shape)| Some((n, shape.span?)))
        {
            for begin in self.spans_to_make(number, span, division).await? {
                let (name, bounds) = super::logs::table(division, number, span, begin, layout);
                let branch = division.name(Some(number), layout);
                text.push_str(&format!(
                    "CREATE TABLE {} PARTITION OF {}.{} {bounds}; ",
                    name,
                    layout.schema(),
                    quote(&branch)
                ));
            }
        }
        text.push_str(&fill(include_str!("copy.sql"), layout));
        // Writers need no rights but on the records; and nobody else is to use it on a table of theirs.
        text.push_str(&format!(
            "ALTER FUNCTION {copy}() SECURITY DEFINER SET search_path = pg_catalog, pg_temp; \
             REVOKE ALL ON FUNCTION {copy}() FROM PUBLIC",
            copy = layout.qualified("records_next_copy")
        ));
        self.change_tables(&text).await
    }

    /// Removes the second table with what it holds.
    async fn abandon(&self) -> Result<()> {
        let (layout, records) = (&self.layout, self.layout.records());
        let trigger = |name: &str| quote(&layout.name(name));
        self.change_tables(&format!(
            "DROP TRIGGER IF EXISTS {} ON {records}; DROP TRIGGER IF EXISTS {} ON {records}; \
             DROP FUNCTION IF EXISTS {}(); DROP TABLE IF EXISTS {}; DROP TABLE IF EXISTS {}",
            trigger("records_next_copy"),
            trigger("records_next_empty"),
            layout.qualified("records_next_copy"),
            layout.qualified("records_next_state"),
            next(layout),
        ))
        .await
    }

    /// Refuses to move what something else in the database refers to, which would stay with the old table.
    async fn refuse_dependents(&self) -> Result<()> {
        let mut sql = Sql::new();
        sql.push("SELECT w.ev_class::regclass::text FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid ");
        sql.push("WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = to_regclass(");
        sql.bind(self.layout.records().to_owned());
        sql.push(") UNION SELECT c.conrelid::regclass::text FROM pg_constraint c WHERE c.contype = 'f' AND c.confrelid = to_regclass(");
        sql.bind(self.layout.records().to_owned()).push(") LIMIT 1");
        match self.row(sql).await? {
            None => Ok(()),
            Some(row) => {
                let name: String = row.try_get(0).map_err(damaged)?;
                let message = format!(
                    "{name} refers to the table of records, which is to be replaced by a partitioned one: drop the view or \
                     foreign key, and make it anew afterwards"
                );
                Err(Error::invalid(message))
            }
        }
    }

    /// Copies what was there before, from where the last copy stopped.
    async fn copy(&self) -> Result<()> {
        let (mut size, most) = BATCH;
        loop {
            let started = Instant::now();
            let copied = self.copy_some(size).await;
            let took = started.elapsed();
            match copied {
                Ok(0) => return Ok(()),
                Ok(_) => tokio::time::sleep(took.min(PAUSE)).await,
                // Large records: fewer at once.
                Err(error) if error.kind() == ErrorKind::Timeout && size > 1 => {
                    size = (size / 2).max(1);
                    continue;
                }
                // Somebody else's lock.
                Err(error) if error.retry() == storage_core::Retry::Safe && super::is_locked(&error) => {
                    tokio::time::sleep(super::AGAIN).await;
                }
                Err(error) => return Err(error),
            }
            if took > LONG {
                size = (size / 2).max(FEW.min(size));
            } else if took < LONG / 4 {
                size = (size * 2).min(most);
            }
        }
    }

    /// Copies some, and returns how many records were looked at.
    async fn copy_some(&self, most: i64) -> Result<i64> {
        self.check_open()?;
        let (records, next) = (self.layout.records(), next(&self.layout));
        let state = self.layout.qualified("records_next_state");
        let mut transaction = self.begin().await?;
        let mut sql = Sql::new();
        sql.push("SELECT collection, key FROM ").push(&state).push(" FOR UPDATE");
        let rows = transaction.rows(sql).await?;
        let Some(row) = rows.first() else { return Ok(0) };
        let (collection, key): (String, String) =
            (row.try_get(0).map_err(damaged)?, row.try_get(1).map_err(damaged)?);
        let mut sql = Sql::once();
        sql.push("WITH b AS MATERIALIZED (SELECT r.* FROM ")
            .push(records)
            .push(" r WHERE (r.collection, r.key) > (");
        sql.bind(collection).push(", ").bind(key).push(") ORDER BY r.collection, r.key LIMIT ").bind(most);
        sql.push(" FOR SHARE OF r), c AS (INSERT INTO ").push(&next);
        sql.push(
            " SELECT b.* FROM b ORDER BY b.collection, b.key ON CONFLICT (collection, key) DO NOTHING), ",
        );
        sql.push("l AS (SELECT b.collection, b.key, (SELECT count(*) FROM b) AS n FROM b ");
        sql.push("ORDER BY b.collection DESC, b.key DESC LIMIT 1) UPDATE ").push(&state);
        sql.push(
            " s SET collection = l.collection, key = l.key, copied = s.copied + l.n FROM l RETURNING l.n",
        );
        let rows = transaction.rows(sql).await?;
        let copied = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(damaged)?;
        transaction.commit().await?;
        Ok(copied)
    }
}
