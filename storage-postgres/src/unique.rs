//! Unique indexes: the scalars that records hold, in a table of their own.
//!
//! A unique index of PostgreSQL has one value for a row. Here a record holds all scalars that its path leads to, also
//! through arrays, an expired record holds none, and a text may be longer than an index takes. So triggers on the
//! records of the collection keep `unique_values`, whose primary key tells whether a value is taken. What a record gives
//! back is removed before its row changes, and what it takes is added at the end of the statement: so one statement can
//! pass a value from a record to another.

use sqlx::Row as _;
use storage_core::{Error, ErrorKind, IndexSpec, Result, Retry, Timestamp};

use crate::client::Client;
use crate::convert::{Time, damaged};
use crate::index::Named;
use crate::layout::{Layout, quote};
use crate::path::{Place, Values, literal};
use crate::sql::Sql;

/// How many records are looked at in one statement when an index is made.
const BATCH: i64 = 1_000;

/// The names of what belongs to a unique index.
struct Parts {
    /// As a value.
    name: String,
    table: String,
    /// The function from JSON to the values it holds.
    values: String,
    /// The function of the triggers.
    keep: String,
    /// The triggers before records are deleted and updated.
    before: [String; 2],
    /// The triggers after records were inserted and updated.
    after: [String; 2],
}

impl Parts {
    fn new(index: &Named<'_>, layout: &Layout) -> Self {
        let trigger = |suffix: &str| quote(&format!("{}_{suffix}", index.name));
        let named = |suffix: &str| index.qualified(&format!("{}{suffix}", index.name), layout);
        Self {
            name: literal(&index.name),
            table: layout.qualified("unique_values"),
            values: named("_v"),
            keep: named("_k"),
            before: ["bd", "bu"].map(trigger),
            after: ["ai", "au"].map(trigger),
        }
    }

    /// The statements that make the functions and triggers.
    fn definitions(&self, index: &Named<'_>, layout: &Layout) -> String {
        let Self { name, table, values, keep, before, after } = self;
        let IndexSpec { collection, path, .. } = index.spec;
        let mut literals = Values::literals();
        let place = |root: &str| Place::new(root, path, &mut Values::literals());
        // The plan would be compiled each time, as it looks expensive.
        let body = format!(
            "SELECT DISTINCT {digest} FROM (SELECT {scalar} AS s FROM ({candidates}) c \
             WHERE jsonb_typeof(c.v) NOT IN ('array', 'object')) s",
            digest = digest("s.s"),
            scalar = scalar("c.v"),
            candidates = place("$1").candidates(&mut literals),
        );
        let (document, constraint) =
            (place("document"), literal(&format!("that {path} is unique in {collection}")));
        let trigger = format!(
            "DECLARE document jsonb; reached jsonb; scalar text; held text[]; taken bigint; \
             BEGIN \
             document := CASE TG_WHEN WHEN 'BEFORE' THEN OLD.json ELSE NEW.json END; \
             IF {meets_array} THEN \
                 held := ARRAY(SELECT v FROM {values}(document) v); \
             ELSE \
                 reached := {value}; \
                 IF reached IS NULL OR jsonb_typeof(reached) = 'object' THEN \
                     held := '{{}}'; \
                 ELSE \
                     scalar := {scalar}; \
                     held := ARRAY[{digest}]; \
                 END IF; \
             END IF; \
             IF TG_WHEN = 'BEFORE' THEN \
                 DELETE FROM {table} u WHERE u.index = {name} AND u.key = OLD.key AND u.value = ANY (held); \
                 IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; \
                 RETURN NEW; \
             END IF; \
             INSERT INTO {table} AS u (index, value, key, expires_at) \
             SELECT {name}, v, NEW.key, NEW.expires_at FROM unnest(held) v ORDER BY v COLLATE \"C\" {TAKE_OVER}; \
             GET DIAGNOSTICS taken = ROW_COUNT; \
             IF taken < cardinality(held) THEN \
                 RAISE unique_violation USING CONSTRAINT = {constraint}, MESSAGE = 'a value of a unique index is taken'; \
             END IF; \
             RETURN NULL; \
             END",
            meets_array = document.meets_array(),
            value = document.value(),
            scalar = scalar("reached"),
            digest = digest("scalar"),
        );
        let (old, new) = (place("OLD.json"), place("NEW.json"));
        // Most updates leave the value as it is.
        let differs = format!(
            "(OLD.collection <> NEW.collection OR OLD.key <> NEW.key OR OLD.expires_at IS DISTINCT FROM NEW.expires_at \
             OR {} IS DISTINCT FROM {} OR {} OR {})",
            old.value(),
            new.value(),
            old.meets_array(),
            new.meets_array(),
        );
        let (records, collection) = (layout.records(), literal(collection.as_str()));
        let old = format!("OLD.collection = {collection} AND OLD.json IS NOT NULL");
        let new = format!("NEW.collection = {collection} AND NEW.json IS NOT NULL");
        let mut text = format!(
            "CREATE FUNCTION {values}(jsonb) RETURNS SETOF text LANGUAGE sql STABLE SET jit = off AS {}; \
             CREATE FUNCTION {keep}() RETURNS trigger LANGUAGE plpgsql AS {}",
            literal(&body),
            literal(&trigger),
        );
        for (name, when, event, condition) in [
            (&before[0], "BEFORE", "DELETE", old.clone()),
            (&before[1], "BEFORE", "UPDATE", format!("{old} AND {differs}")),
            (&after[0], "AFTER", "INSERT", new.clone()),
            (&after[1], "AFTER", "UPDATE", format!("{new} AND {differs}")),
        ] {
            text.push_str(&format!(
                "; CREATE TRIGGER {name} {when} {event} ON {records} FOR EACH ROW WHEN ({condition}) \
                 EXECUTE FUNCTION {keep}()"
            ));
        }
        text
    }
}

/// The text that stands for a scalar, which no other scalar has: numbers by value, whatever their scale.
fn scalar(value: &str) -> String {
    format!(
        "(CASE jsonb_typeof({value}) WHEN 'string' THEN 's' || ({value} #>> '{{}}') \
         WHEN 'number' THEN 'n' || trim_scale({value}::numeric) ELSE {value}::text END)"
    )
}

/// What stands for a text: a long one by its digest, for an entry of an index is limited.
fn digest(text: &str) -> String {
    format!(
        "(CASE WHEN length({text}) <= 256 THEN {text} \
         ELSE left({text}, 128) || encode(sha256(convert_to({text}, 'UTF8')), 'hex') END)"
    )
}

/// A value is free for the record that holds it, and when its holder has expired.
const TAKE_OVER: &str = "ON CONFLICT (index, value) DO UPDATE SET key = excluded.key, expires_at = excluded.expires_at \
    WHERE u.key = excluded.key OR u.expires_at <= clock_timestamp()";

impl Client {
    /// Begins to keep the values of an index unique, and looks whether they are.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict), not worth a retry, if two records hold the same.
    pub(crate) async fn keep_unique(&self, index: &Named<'_>) -> Result<()> {
        let parts = Parts::new(index, &self.layout);
        // From here on every write is looked at; then what was there before.
        let mut transaction = self.begin_patiently().await?;
        transaction.simple(parts.definitions(index, &self.layout)).await?;
        transaction.commit().await?;
        let mut after = String::new();
        loop {
            let rows = self.take_batch(index, &parts, &after).await;
            let rows = rows.map_err(|error| match error.kind() {
                ErrorKind::Conflict => duplicate(index),
                _ => error,
            })?;
            let Some(row) = rows.first() else { return Ok(()) };
            let (last, wanted, taken): (Option<String>, i64, i64) = (
                row.try_get(0).map_err(damaged)?,
                row.try_get(1).map_err(damaged)?,
                row.try_get(2).map_err(damaged)?,
            );
            if taken < wanted {
                return Err(duplicate(index));
            }
            let Some(last) = last else { return Ok(()) };
            after = last;
        }
    }

    /// Takes the values of some records, which stay as they are meanwhile.
    async fn take_batch(
        &self,
        index: &Named<'_>,
        parts: &Parts,
        after: &str,
    ) -> Result<Vec<sqlx::postgres::PgRow>> {
        let Parts { name, table, values, .. } = parts;
        let mut sql = Sql::once();
        sql.push("WITH b AS MATERIALIZED (SELECT r.key, r.json, r.expires_at FROM ")
            .push(self.layout.records());
        sql.push(" r WHERE r.collection = ").bind(index.spec.collection.as_str().to_owned());
        sql.push(" AND r.json IS NOT NULL AND r.key > ").bind(after.to_owned());
        sql.push(" ORDER BY r.key LIMIT ").bind(BATCH).push(" FOR SHARE), ");
        sql.push("w AS MATERIALIZED (SELECT v, b.key, b.expires_at FROM b, ").push(values);
        sql.push("(b.json) v WHERE b.expires_at IS NULL OR b.expires_at > ").bind(Time(Timestamp::now()));
        // The first of two in one batch takes it; the other is missed in the count.
        sql.push("), t AS (INSERT INTO ")
            .push(table)
            .push(" AS u (index, value, key, expires_at) SELECT DISTINCT ON (v) ");
        sql.push(name).push(", v, key, expires_at FROM w ORDER BY v ").push(TAKE_OVER).push(" RETURNING 1) ");
        sql.push("SELECT (SELECT max(key) FROM b), (SELECT count(*) FROM w), (SELECT count(*) FROM t)");
        let mut transaction = self.begin_patiently().await?;
        let rows = transaction.rows(sql).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// Ends it, whatever there is of it.
    pub(crate) async fn keep_unique_no_more(&self, index: &Named<'_>) -> Result<()> {
        let Parts { name, table, values, keep, before, after } = Parts::new(index, &self.layout);
        let mut sql = Sql::new();
        sql.push("SELECT to_regproc(").bind(values.clone()).push(") IS NOT NULL OR to_regproc(");
        sql.bind(keep.clone()).push(") IS NOT NULL");
        let row = self.row(sql).await?;
        if !row.map_or(Ok(false), |row| row.try_get::<bool, _>(0)).map_err(damaged)? {
            return Ok(());
        }
        let records = self.layout.records();
        let mut transaction = self.begin_patiently().await?;
        let triggers = before.iter().chain(&after);
        let mut text: String =
            triggers.map(|name| format!("DROP TRIGGER IF EXISTS {name} ON {records}; ")).collect();
        text.push_str(&format!(
            "DROP FUNCTION IF EXISTS {keep}(); DROP FUNCTION IF EXISTS {values}(jsonb); \
             DELETE FROM {table} WHERE index = {name}"
        ));
        transaction.simple(text).await?;
        transaction.commit().await
    }
}

fn duplicate(index: &Named<'_>) -> Error {
    let (collection, path) = (&index.spec.collection, &index.spec.path);
    let message = format!("two records of {collection} hold the same {path}: it cannot have a unique index");
    Error::new(ErrorKind::Conflict, message).with_retry(Retry::Never)
}
