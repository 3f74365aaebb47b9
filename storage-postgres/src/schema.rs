//! The tables: whether they are there, and how they are made and upgraded.

use sqlx::Row as _;
use storage_core::{Error, Result, Timestamp};

use crate::client::Client;
use crate::config::PostgresConfig;
use crate::convert::{Time, damaged};
use crate::error::code;
use crate::layout::{Layout, quote};
use crate::sql::Sql;

/// The migrations, in order: what each is called, and its text. None is changed once it was released.
const MIGRATIONS: &[(&str, &str)] = &[
    ("records", include_str!("migrations/0001_records.sql")),
    ("unique_values", include_str!("migrations/0002_unique_values.sql")),
    ("changes", include_str!("migrations/0003_changes.sql")),
    ("exact_items", include_str!("migrations/0004_exact_items.sql")),
    ("cheaper_checks", include_str!("migrations/0005_cheaper_checks.sql")),
];

/// How long to wait for another program that upgrades the tables, and for those that use them.
const LOCK_TIMEOUT: &str = "60s";

/// A step in the history of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number, from 1.
    pub version: u32,
    /// What it is about.
    pub name: String,
    /// When it was applied to the database; `None`: not yet.
    pub applied_at: Option<Timestamp>,
}

/// How the tables of a store are, compared to what this program needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaStatus {
    /// The last migration that was applied; 0: there are no tables.
    pub version: u32,
    /// The last migration that this program knows.
    pub wanted: u32,
    /// All migrations, applied or not, in order.
    pub migrations: Vec<Migration>,
}

impl SchemaStatus {
    /// Whether this program can work with the tables as they are.
    pub fn is_current(&self) -> bool {
        self.version == self.wanted
    }
}

/// Compares the tables of a store with what this program needs. Reads only.
///
/// # Errors
/// Those of connecting, and [`PermissionDenied`](storage_core::ErrorKind::PermissionDenied).
pub async fn status(config: &PostgresConfig) -> Result<SchemaStatus> {
    let client = Client::new(config)?;
    let status = client.schema_status().await;
    client.close().await;
    status
}

/// Makes or upgrades the tables of a store, and returns which migrations that took. Programs may do it at the same time:
/// one does, the others wait. It is done whole or not at all.
///
/// # Errors
/// Those of connecting, [`PermissionDenied`](storage_core::ErrorKind::PermissionDenied), [`Busy`](storage_core::ErrorKind::Busy) if another program
/// holds the tables for more than a minute, and [`InvalidInput`](storage_core::ErrorKind::InvalidInput) if the tables are newer than this
/// program.
pub async fn apply(config: &PostgresConfig) -> Result<Vec<Migration>> {
    let client = Client::new(config)?;
    let applied = match client.apply_schema().await {
        Ok(applied) => client.agree_on_changes(true).await.map(|()| applied),
        Err(error) => Err(error),
    };
    client.close().await;
    applied
}

impl Client {
    /// Checks that the tables are those that this program needs, and makes them so if it may.
    pub(crate) async fn agree(&self, create: bool) -> Result<()> {
        let mut sql = Sql::new();
        sql.push("SELECT max(version), current_setting('server_encoding') FROM ")
            .push(self.layout.migrations());
        let found = match self.row(sql).await {
            Ok(Some(row)) => {
                let encoding: &str = row.try_get_unchecked(1).map_err(damaged)?;
                if encoding != "UTF8" {
                    return Err(Error::invalid(format!(
                        "the database's encoding is {encoding}, and keys and values are Unicode: use a database in UTF8"
                    )));
                }
                number(row.try_get_unchecked(0).map_err(damaged)?)
            }
            Ok(None) => 0,
            Err(error) if is_missing(&error) => 0,
            Err(error) => return Err(error),
        };
        if found == wanted() {
            return Ok(());
        }
        refuse_newer(found)?;
        if !create {
            return Err(Error::invalid(format!(
                "the tables in the schema {} are of version {found}, and this program needs {}: run `storage schema apply`, \
                 or set create_schema to true",
                self.layout.schema(),
                wanted()
            )));
        }
        for Migration { version, name, .. } in self.apply_schema().await? {
            tracing::info!(version, name, schema = self.layout.schema_name(), "migration applied");
        }
        Ok(())
    }

    pub(crate) async fn schema_status(&self) -> Result<SchemaStatus> {
        let mut sql = Sql::new();
        sql.push("SELECT version, name, applied_at FROM ")
            .push(self.layout.migrations())
            .push(" ORDER BY version");
        let rows = match self.rows(sql).await {
            Ok(rows) => rows,
            Err(error) if is_missing(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut migrations = Vec::new();
        for row in &rows {
            let Time(at) = row.try_get_unchecked(2).map_err(damaged)?;
            migrations.push(Migration {
                version: number(row.try_get_unchecked(0).map_err(damaged)?),
                name: row.try_get_unchecked(1).map_err(damaged)?,
                applied_at: Some(at),
            });
        }
        let version = migrations.last().map_or(0, |migration| migration.version);
        migrations.extend(known().filter(|migration| migration.version > version));
        Ok(SchemaStatus { version, wanted: wanted(), migrations })
    }

    /// Applies what is missing, in one transaction under a lock of the database.
    pub(crate) async fn apply_schema(&self) -> Result<Vec<Migration>> {
        let mut transaction = self.begin_patiently().await?;
        transaction.simple(format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")).await?;
        let mut lock = Sql::new();
        lock.push("SELECT pg_advisory_xact_lock(").bind(lock_number(&self.layout)).push(")::text");
        transaction.rows(lock).await?;
        let mut exists = Sql::new();
        exists.push("SELECT 1 FROM pg_namespace WHERE nspname = ").bind(self.layout.schema_name());
        if transaction.rows(exists).await?.is_empty() {
            transaction.simple(format!("CREATE SCHEMA {}", self.layout.schema())).await?;
        }
        transaction
            .simple(format!(
                "CREATE TABLE IF NOT EXISTS {} (version integer PRIMARY KEY, name text NOT NULL, \
                 applied_at timestamptz NOT NULL DEFAULT now())",
                self.layout.migrations()
            ))
            .await?;
        let mut found = Sql::new();
        found.push("SELECT max(version) FROM ").push(self.layout.migrations());
        let rows = transaction.rows(found).await?;
        let found = match rows.first() {
            Some(row) => number(row.try_get_unchecked(0).map_err(damaged)?),
            None => 0,
        };
        refuse_newer(found)?;
        let mut applied = Vec::new();
        for migration in known().filter(|migration| migration.version > found) {
            let text = MIGRATIONS.get(migration.version as usize - 1).map_or("", |(_, text)| text);
            transaction.simple(fill(text, &self.layout)).await?;
            let mut done = Sql::new();
            done.push("INSERT INTO ").push(self.layout.migrations()).push(" (version, name) VALUES (");
            done.bind(i32::try_from(migration.version).unwrap_or(i32::MAX))
                .push(", ")
                .bind(&*migration.name)
                .push(")");
            transaction.execute(done).await?;
            applied.push(migration);
        }
        transaction.commit().await?;
        Ok(applied)
    }
}

fn known() -> impl Iterator<Item = Migration> {
    (1..).zip(MIGRATIONS).map(|(version, (name, _))| Migration {
        version,
        name: (*name).to_owned(),
        applied_at: None,
    })
}

fn wanted() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

fn number(version: Option<i32>) -> u32 {
    version.and_then(|version| u32::try_from(version).ok()).unwrap_or(0)
}

/// Whether an error says that the table or its schema is not there.
fn is_missing(error: &Error) -> bool {
    matches!(code(error), Some("42P01" | "3F000"))
}

fn refuse_newer(found: u32) -> Result<()> {
    let wanted = wanted();
    if found <= wanted {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the tables are of version {found}, and this program knows only {wanted}: a newer program upgraded them; use one of \
         that version, or a schema of its own"
    )))
}

/// A number for the lock under which the tables of a store are changed: FNV-1a of its names.
fn lock_number(layout: &Layout) -> i64 {
    let bytes = "storage schema ".bytes().chain(layout.migrations().bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.cast_signed()
}

/// Puts the names of a store into a migration.
pub(crate) fn fill(text: &str, layout: &Layout) -> String {
    let mut filled = String::with_capacity(2 * text.len());
    // The end of a function's text, which no name in it may look like.
    let names = layout.qualified("");
    let end = (0..).map(|number| format!("$body{number}$")).find(|end| !names.contains(end.as_str()));
    let end = end.unwrap_or_default();
    // Comments explain the marks, and have some themselves.
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
    for line in lines {
        for (at, part) in line.split('@').enumerate() {
            match part.strip_prefix('.') {
                _ if at % 2 == 0 => filled.push_str(&part.replace("$$", &end)),
                Some(name) => filled.push_str(&quote(&layout.name(name))),
                None => filled.push_str(&layout.qualified(part)),
            }
        }
        filled.push('\n');
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_filled_with_quoted_names() {
        let layout = Layout::new("S\"x", "p_");
        let filled = fill("-- about @ marks\nCREATE INDEX @.i@ ON @records@ (x);", &layout);
        assert_eq!(filled, "CREATE INDEX \"p_i\" ON \"S\"\"x\".\"p_records\" (x);\n");
        for (_, text) in MIGRATIONS {
            assert!(!fill(text, &layout).contains('@'));
        }
        let tricky = fill("AS $$\n@x@\n$$;", &Layout::new("$$ $body0$", "$body1$"));
        assert_eq!(tricky, "AS $body2$\n\"$$ $body0$\".\"$body1$x\"\n$body2$;\n");
    }

    #[test]
    fn stores_have_locks_of_their_own() {
        let number = |schema, prefix| lock_number(&Layout::new(schema, prefix));
        assert_eq!(number("a", ""), number("a", ""));
        assert_ne!(number("a", ""), number("b", ""));
        assert_ne!(number("a", ""), number("a", "p"));
    }
}
