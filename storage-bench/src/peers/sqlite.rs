//! SQLite through rusqlite: write-ahead log, synced at each commit.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use crate::group::{Change, Commit, GroupCommit};
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// SQLite, with one transaction for each call or with a group commit.
pub(crate) struct Sqlite {
    info: PeerInfo,
    path: PathBuf,
    /// Idle connections for reading; there are as many as ever read at once.
    readers: Mutex<Vec<Connection>>,
    writer: Writer,
}

enum Writer {
    Each(Mutex<Engine>),
    Group(GroupCommit),
}

impl Sqlite {
    pub(crate) fn open(directory: &Path, grouped: bool) -> Result<Self> {
        let path = directory.join("data.sqlite");
        let connection = connect(&path)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS counters (key TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;",
        )?;
        let engine = Engine(connection);
        let writer = if grouped {
            Writer::Group(GroupCommit::start(engine)?)
        } else {
            Writer::Each(Mutex::new(engine))
        };
        let info = PeerInfo {
            name: if grouped { "sqlite-group" } else { "sqlite" },
            version: format!("{} (SQLite {})", super::version_of("rusqlite"), rusqlite::version()),
            durability: Durability::Synced,
            how: if grouped {
                "WAL, synchronous=FULL; writes through a thread that commits all that waits at once"
            } else {
                "WAL, synchronous=FULL; one transaction for each call, on the caller's thread"
            },
        };
        Ok(Self { info, path, readers: Mutex::new(Vec::new()), writer })
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.readers.lock().map_err(poisoned)?.pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        let result = read(&connection);
        self.readers.lock().map_err(poisoned)?.push(connection);
        result
    }

    async fn write(&self, changes: Vec<Change>) -> Result<Vec<i64>> {
        match &self.writer {
            Writer::Group(group) => group.write(changes).await,
            Writer::Each(engine) => engine.lock().map_err(poisoned)?.commit(&changes),
        }
    }
}

fn poisoned<T>(_: T) -> anyhow::Error {
    anyhow!("another caller of SQLite panicked")
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn value_of(connection: &Connection, key: &str) -> Result<Option<Bytes>> {
    let mut select = connection.prepare_cached("SELECT value FROM records WHERE key = ?1")?;
    let value = select
        .query_row([key], |row| row.get_ref(0)?.as_blob().map(Bytes::copy_from_slice).map_err(Into::into));
    Ok(value.optional()?)
}

struct Engine(Connection);

impl Commit for Engine {
    fn commit(&mut self, changes: &[Change]) -> Result<Vec<i64>> {
        let transaction = self.0.transaction()?;
        let mut values = Vec::with_capacity(changes.len());
        {
            let mut put = transaction.prepare_cached(
                "INSERT INTO records VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )?;
            let mut increment = transaction.prepare_cached(
                "INSERT INTO counters VALUES (?1, 1) ON CONFLICT (key) DO UPDATE SET n = n + 1 RETURNING n",
            )?;
            for change in changes {
                values.push(match change {
                    Change::Put(key, value) => {
                        put.execute(params![key, value])?;
                        0
                    }
                    Change::Increment(key) => increment.query_row([key], |row| row.get(0))?,
                });
            }
        }
        transaction.commit()?;
        Ok(values)
    }
}

#[async_trait]
impl Peer for Sqlite {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, _: Feature) -> bool {
        true
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.read(|connection| value_of(connection, key))
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.write(vec![Change::Put(key, value)]).await.map(drop)
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        self.read(|connection| {
            let transaction = connection.unchecked_transaction()?;
            keys.iter().map(|key| value_of(&transaction, key)).collect()
        })
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        let puts = records.into_iter().map(|(key, value)| Change::Put(key, value)).collect();
        self.write(puts).await.map(drop)
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page> {
        self.read(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT key, value FROM records WHERE key >= ?1 AND key > ?2 ORDER BY key LIMIT ?3",
            )?;
            let mut rows = select.query(params![prefix, after.unwrap_or(""), limit as i64 + 1])?;
            let mut items: Vec<(String, Bytes)> = Vec::with_capacity(limit);
            let mut more = false;
            while let Some(row) = rows.next()? {
                let key = row.get_ref(0)?.as_str()?;
                if !key.starts_with(prefix) {
                    break;
                }
                if items.len() == limit {
                    more = true;
                    break;
                }
                items.push((key.to_owned(), Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?)));
            }
            let next = items.last().filter(|_| more).map(|(key, _)| key.clone());
            Ok(Page { items, next })
        })
    }

    async fn increment(&self, key: &str) -> Result<i64> {
        let values = self.write(vec![Change::Increment(key.to_owned())]).await?;
        Ok(values.first().copied().unwrap_or_default())
    }
}
