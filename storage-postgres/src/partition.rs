//! Partitions: which there shall be, which there are, and their tables.
//!
//! `records` is a plain table until partitions are asked for. Then it is partitioned by the collection: a table for each
//! set, itself partitioned by the key, and one for all the rest. Its name, columns and primary key stay what they are, and
//! so does every statement. [`moving`] brings the records from one layout to the other, [`logs`] makes and removes the
//! partitions of logs, and ADR 0006 says why it is so.

mod logs;
mod moving;
mod swap;

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use storage_core::{CollectionName, Error, ErrorKind, Result, Timestamp};

use crate::client::{Client, Transaction};
use crate::convert::damaged;
use crate::layout::{Layout, quote};
use crate::path::literal;
use crate::sql::Sql;

/// Collections that share a table of their own, and how that is divided: with either `hash` or `range`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionSet {
    /// The collections, at least one; each is in one set only.
    pub collections: Vec<CollectionName>,
    /// Divides the records among so many tables, 1 to 256, by the hash of their keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<u32>,
    /// Divides the records by the time with which their keys begin: a table for each such span, whole hours.
    #[serde(default, with = "storage_core::duration::optional", skip_serializing_if = "Option::is_none")]
    pub range: Option<Duration>,
    /// With `range`: how the time stands in the keys; default: `iso`.
    #[serde(default)]
    pub key_time: KeyTime,
    /// With `range`: how many spans to make tables for ahead of time, 1 to 100; default: 3.
    #[serde(default = "default_ahead")]
    pub ahead: u32,
    /// With `range`: after which time a span is over and goes; default: never.
    #[serde(default, with = "storage_core::duration::optional", skip_serializing_if = "Option::is_none")]
    pub retention: Option<Duration>,
    /// With `retention`: how it goes; default: `drop`.
    #[serde(default)]
    pub expired: Expired,
}

/// How keys of a log begin with their time, which is in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyTime {
    /// Date and time of ISO 8601: `2026-11-21T15:04:05Z…`.
    #[default]
    Iso,
    /// A UUID of version 7, in lower case with hyphens.
    Uuid7,
}

impl KeyTime {
    /// What keys look like that begin with a time, as a regular expression.
    fn pattern(self) -> &'static str {
        match self {
            Self::Iso => "^[0-9]{4}-[0-9]{2}-[0-9]{2}",
            Self::Uuid7 => "^[0-9a-f]{8}-[0-9a-f]{4}-7",
        }
    }
}

/// What becomes of a span of a log that is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expired {
    /// Its records are removed.
    #[default]
    Drop,
    /// Its table remains in the schema, and is no part of the store any more.
    Detach,
}

fn default_ahead() -> u32 {
    3
}

const HOUR: u64 = 60 * 60 * 1_000;

impl PartitionSet {
    /// What is wrong with it, if anything.
    fn fault(&self) -> Option<&'static str> {
        if self.collections.is_empty() {
            return Some("collections: name at least one");
        }
        let ranged = *self
            == Self {
                key_time: KeyTime::Iso,
                expired: Expired::Drop,
                retention: None,
                ahead: 3,
                ..self.clone()
            };
        match (self.hash, self.range) {
            (Some(hash), None) if !(1..=256).contains(&hash) => Some("hash: 1 to 256 tables"),
            (Some(_), None) if !ranged => Some("key_time, ahead, retention and expired belong to range"),
            (Some(_), None) => None,
            (None, Some(range)) if !whole_hours(range) => Some("range: whole hours, at most 10 years"),
            (None, Some(_)) if !(1..=100).contains(&self.ahead) => Some("ahead: 1 to 100"),
            (None, Some(range)) if self.retention.is_some_and(|retention| retention < range) => {
                Some("retention: at least as long as range")
            }
            (None, Some(_)) => None,
            _ => Some("give either hash or range"),
        }
    }

    fn shape(&self) -> Shape {
        let mut collections = self.collections.clone();
        collections.sort_unstable();
        let span = self.range.map(|range| Span { hours: millis(range) / HOUR, key_time: self.key_time });
        Shape { collections, hash: self.hash, span }
    }
}

/// Says what is wrong with the sets of a configuration, if anything.
pub(crate) fn check(sets: &[PartitionSet]) -> Result<(), String> {
    if sets.len() > 100 {
        return Err("at most 100 sets".into());
    }
    let mut seen = HashSet::new();
    for (number, set) in sets.iter().enumerate() {
        if let Some(fault) = set.fault() {
            return Err(format!("set {number}: {fault}"));
        }
        if let Some(twice) = set.collections.iter().find(|collection| !seen.insert(*collection)) {
            return Err(format!("set {number}: the collection {twice} is named twice"));
        }
    }
    Ok(())
}

fn whole_hours(range: Duration) -> bool {
    let hours = range.as_millis() / u128::from(HOUR);
    (1..=24 * 3_660).contains(&hours) && range.as_millis().is_multiple_of(u128::from(HOUR))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The spans of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    hours: u64,
    key_time: KeyTime,
}

impl Span {
    /// The beginning of the span in which a time is.
    fn begin(self, at: Timestamp) -> Timestamp {
        let length = self.length();
        Timestamp::from_millis(at.as_millis().div_euclid(length).saturating_mul(length))
    }

    /// The beginning of the span that is so many after the one that begins at a time; before it, if negative.
    fn after(self, begin: Timestamp, count: i64) -> Timestamp {
        Timestamp::from_millis(begin.as_millis().saturating_add(self.length().saturating_mul(count)))
    }

    fn length(self) -> i64 {
        i64::try_from(self.hours.saturating_mul(HOUR)).unwrap_or(i64::MAX).max(1)
    }

    /// What the keys from a time on are not less than, and all before it are.
    fn bound(self, at: Timestamp) -> String {
        match self.key_time {
            KeyTime::Iso => {
                let text = at.to_string();
                // So that a day begins with keys of the date alone.
                let length = if text.get(11..13) == Some("00") { 10 } else { 13 };
                text.get(..length).unwrap_or(&text).to_owned()
            }
            KeyTime::Uuid7 => {
                let number = format!("{:012x}", at.as_millis().max(0));
                format!("{}-{}", number.get(..8).unwrap_or_default(), number.get(8..).unwrap_or_default())
            }
        }
    }
}

/// The year, month, day and hour at which a span begins, as the name of its table has them: in order of time.
fn digits(begin: Timestamp) -> String {
    begin.to_string().chars().take(13).filter(char::is_ascii_digit).collect()
}

/// What of a [`PartitionSet`] decides where a record stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shape {
    collections: Vec<CollectionName>,
    hash: Option<u32>,
    span: Option<Span>,
}

fn shapes(sets: &[PartitionSet]) -> Vec<Shape> {
    sets.iter().map(PartitionSet::shape).collect()
}

/// How a table of records is divided; no sets: it is one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Division {
    /// Part of the names of the tables, so that those of two divisions differ.
    generation: u32,
    sets: Vec<Shape>,
}

/// What the comment on the table says.
#[derive(Serialize, Deserialize)]
struct Remark {
    storage_partitions: Division,
}

impl Division {
    /// The name of the table of a set, or, with `None`, of the rest.
    fn name(&self, set: Option<usize>, layout: &Layout) -> String {
        match set {
            Some(set) => layout.name(&format!("records_{}_{set}", self.generation)),
            None => layout.name(&format!("records_{}_rest", self.generation)),
        }
    }

    /// The set that has a collection.
    fn set_of(&self, collection: &CollectionName) -> Option<usize> {
        self.sets.iter().position(|shape| shape.collections.contains(collection))
    }

    /// The statements that make the tables of the division below an empty table that is partitioned by collection.
    fn tables(&self, root: &str, layout: &Layout) -> String {
        if self.sets.is_empty() {
            return String::new();
        }
        let table = |name: &str| format!("{}.{}", layout.schema(), quote(name));
        let mut text =
            format!("CREATE TABLE {} PARTITION OF {root} DEFAULT; ", table(&self.name(None, layout)));
        for (number, shape) in self.sets.iter().enumerate() {
            let name = self.name(Some(number), layout);
            let branch = table(&name);
            let collections: Vec<String> =
                shape.collections.iter().map(|collection| literal(collection.as_str())).collect();
            let method = if shape.span.is_some() { "RANGE" } else { "HASH" };
            text.push_str(&format!(
                "CREATE TABLE {branch} PARTITION OF {root} FOR VALUES IN ({}) PARTITION BY {method} (key); ",
                collections.join(", ")
            ));
            for part in 0..shape.hash.unwrap_or(0) {
                text.push_str(&format!(
                    "CREATE TABLE {} PARTITION OF {branch} FOR VALUES WITH (MODULUS {}, REMAINDER {part}); ",
                    table(&format!("{name}_{part}")),
                    shape.hash.unwrap_or(1)
                ));
            }
            if shape.span.is_some() {
                text.push_str(&format!(
                    "CREATE TABLE {} PARTITION OF {branch} DEFAULT; ",
                    table(&format!("{name}_rest"))
                ));
            }
        }
        text
    }
}

/// What one process at a time does to the tables of a store.
#[derive(Clone, Copy)]
pub(crate) enum Turn {
    /// Moves records, for however long.
    Move,
    /// Changes which tables there are, or, if shared, what they have.
    Tables,
}

impl Turn {
    /// The number of the lock: FNV-1a, for other programs have to come to the same.
    pub(crate) fn lock(self, layout: &Layout) -> i64 {
        let what = match self {
            Self::Move => "move of ",
            Self::Tables => "tables of ",
        };
        let bytes = what.bytes().chain(layout.records().bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash.cast_signed()
    }
}

/// The table to which records move.
fn next(layout: &Layout) -> String {
    layout.qualified("records_next")
}

/// Asks for the comment on a table.
fn ask_division(table: &str) -> Sql {
    let mut sql = Sql::new();
    sql.push("SELECT obj_description(to_regclass(").bind(table.to_owned()).push("), 'pg_class')");
    sql
}

/// Reads the answer. What somebody else wrote there counts as nothing.
fn division(rows: &[PgRow]) -> Result<Division> {
    let remark: Option<String> = rows.first().map_or(Ok(None), |row| row.try_get(0)).map_err(damaged)?;
    let remark: Option<Remark> = remark.and_then(|remark| serde_json::from_str(&remark).ok());
    Ok(remark.map(|remark| remark.storage_partitions).unwrap_or_default())
}

/// Asks for the tables without partitions below one.
fn ask_leaves(table: &str) -> Sql {
    let mut sql = Sql::new();
    sql.push("SELECT format('%I.%I', n.nspname, c.relname) FROM pg_partition_tree(to_regclass(");
    sql.bind(table.to_owned()).push(")) t JOIN pg_class c ON c.oid = t.relid ");
    sql.push("JOIN pg_namespace n ON n.oid = c.relnamespace WHERE t.isleaf ORDER BY 1");
    sql
}

fn texts(rows: &[PgRow]) -> Result<Vec<String>> {
    rows.iter().map(|row| row.try_get(0).map_err(damaged)).collect()
}

impl Client {
    /// How a table of records is divided.
    async fn division(&self, table: &str) -> Result<Division> {
        division(&self.rows(ask_division(table)).await?)
    }

    /// The tables without partitions in which the records of a collection stand.
    pub(crate) async fn leaves(&self, collection: &CollectionName) -> Result<Vec<String>> {
        let records = self.layout.records();
        let division = self.division(records).await?;
        self.leaves_in(records, &division, collection).await
    }

    async fn leaves_in(
        &self,
        root: &str,
        division: &Division,
        collection: &CollectionName,
    ) -> Result<Vec<String>> {
        if division.sets.is_empty() {
            return Ok(vec![root.to_owned()]);
        }
        let name = division.name(division.set_of(collection), &self.layout);
        let table = format!("{}.{}", self.layout.schema(), quote(&name));
        texts(&self.rows(ask_leaves(&table)).await?)
    }

    /// Keeps others from doing the same, as long as the transaction is open.
    async fn turn(&self, turn: Turn) -> Result<Transaction<'_>> {
        let until = std::time::Instant::now() + PATIENCE;
        let mut transaction = self.begin_patiently().await?;
        transaction.simple("SET LOCAL idle_in_transaction_session_timeout = 0".to_owned()).await?;
        loop {
            let mut sql = Sql::new();
            sql.push("SELECT pg_try_advisory_xact_lock(").bind(turn.lock(&self.layout)).push(")");
            let rows = transaction.rows(sql).await?;
            if rows.first().map_or(Ok(false), |row| row.try_get::<bool, _>(0)).map_err(damaged)? {
                return Ok(transaction);
            }
            if std::time::Instant::now() > until {
                let message = format!("another program changes the partitions for {PATIENCE:?}");
                return Err(Error::new(ErrorKind::Busy, message));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Runs statements in one transaction, with a lock on tables for which others wait while it is waited for: so that is
    /// for moments only, again and again.
    async fn change_tables(&self, text: &str) -> Result<()> {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            let mut transaction = self.begin_patiently().await?;
            let done = transaction.simple(format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {text}")).await;
            match done {
                Ok(()) => return transaction.commit().await,
                Err(error) => {
                    transaction.rollback().await;
                    if !is_locked(&error) || std::time::Instant::now() > until {
                        return Err(error);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

/// Whether a lock was not to be had in time.
fn is_locked(error: &Error) -> bool {
    matches!(crate::error::code(error), Some("55P03" | "40P01"))
}

/// How long a change of partitions may wait for others.
const PATIENCE: Duration = Duration::from_secs(60 * 60);
/// Between two attempts to get a turn.
const POLL: Duration = Duration::from_millis(50);
/// How long writers and readers may wait behind a change of tables that waits itself.
const LOCK_TIMEOUT: &str = "300ms";
/// After that, how long they are left alone.
const AGAIN: Duration = Duration::from_secs(1);
