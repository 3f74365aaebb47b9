//! The stores under test, one file each.

mod fjall;
mod mongodb;
mod mongodb_group;
mod opendal;
pub(crate) mod plugin;
pub(crate) mod postgres;
mod queue;
mod redb;
mod redis;
mod redis_group;
mod sqlite;
mod sqlx;
mod sqlx_group;
mod storage;
mod tokio_postgres;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::fjall::PersistMode;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use storage_testkit::servers::{MongoServer, MongoSettings, RedisServer, RedisSettings};

use self::postgres::Postgres;
use crate::elsewhere::Elsewhere;
use crate::peer::{Durability, Peer};

/// Peers that are compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Set {
    /// Embedded stores on this disk
    Embedded,
    /// Clients of one Redis server, which is started on a loopback port and keeps everything in memory
    Redis,
    /// Clients of one PostgreSQL server, which is started on a loopback port, syncing every commit
    Postgres,
    /// Clients of one server that speaks MongoDB's protocol, which is started on a loopback port and syncs its journal
    /// now and then
    Mongo,
    /// Backends linked in and as plugins
    Plugins,
}

impl Set {
    /// The peers, in the order of the tables.
    pub(crate) const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Embedded => &[
                "storage-file",
                "redb",
                "redb-group",
                "fjall-group",
                "fjall-group-all",
                "sqlite",
                "sqlite-group",
                "opendal-redb",
                "opendal-persy",
                "opendal-sled",
            ],
            Self::Redis => {
                &["storage-redis", "storage-redis-plain", "redis-raw", "redis-group", "opendal-redis"]
            }
            Self::Postgres => &[
                "storage-postgres",
                "sqlx-raw",
                "sqlx-group",
                "tokio-postgres-1",
                "tokio-postgres-10",
                "opendal-postgres",
            ],
            Self::Mongo => &["storage-mongo", "mongodb-raw", "mongodb-group", "opendal-mongodb"],
            Self::Plugins => &["storage-file", "storage-file.so", "storage-redis", "storage-redis.so"],
        }
    }

    /// The peer that ratios are taken to unless the command line says otherwise.
    pub(crate) const fn baseline(self) -> &'static str {
        match self {
            Self::Embedded => "redb-group",
            Self::Redis => "redis-raw",
            Self::Postgres => "sqlx-raw",
            Self::Mongo => "mongodb-raw",
            Self::Plugins => "storage-file",
        }
    }
}

/// Where peers are: a directory for the embedded ones, and the server that the others share.
pub(crate) struct Place {
    directory: PathBuf,
    plugins: PathBuf,
    opendal_mongodb: PathBuf,
    redis: Option<RedisServer>,
    postgres: Option<Postgres>,
    mongo: Option<MongoServer>,
}

impl Place {
    /// Starts the server that a set needs.
    pub(crate) fn new(
        set: Set,
        directory: &Path,
        plugins: &Path,
        opendal_mongodb: &Path,
        sync_delay: Option<Duration>,
    ) -> Result<Self> {
        let more = ["--appendonly", "no"].map(str::to_owned).into();
        let settings = RedisSettings { more, ..RedisSettings::default() };
        let redis = match set {
            Set::Redis | Set::Plugins => Some(RedisServer::start(&settings)?),
            Set::Embedded | Set::Postgres | Set::Mongo => None,
        };
        let postgres = if set == Set::Postgres { Some(Postgres::start(sync_delay)?) } else { None };
        let mongo =
            if set == Set::Mongo { Some(MongoServer::start(&MongoSettings::default())?) } else { None };
        let (directory, plugins) = (directory.to_owned(), plugins.to_owned());
        Ok(Self { directory, plugins, opendal_mongodb: opendal_mongodb.to_owned(), redis, postgres, mongo })
    }

    /// The URL of the Redis server.
    pub(crate) fn redis(&self) -> Result<String> {
        let server = self.redis.as_ref().context("no Redis server was started")?;
        Ok(format!("redis://{}", server.address()))
    }

    /// The port of the Redis server, if there is one.
    pub(crate) fn redis_port(&self) -> Option<u16> {
        self.redis.as_ref().map(RedisServer::port)
    }

    /// The PostgreSQL server, if there is one.
    pub(crate) fn postgres_server(&self) -> Option<&Postgres> {
        self.postgres.as_ref()
    }

    /// The URL of the MongoDB server.
    fn mongo(&self) -> Result<String> {
        Ok(self.mongo.as_ref().context("no MongoDB server was started")?.url())
    }

    fn postgres(&self) -> Result<&Postgres> {
        self.postgres.as_ref().context("no PostgreSQL server was started")
    }
}

/// What to do if it does not start.
const OPENDAL_MONGODB: &str = "opendal-mongodb is a program of its own: cargo build --release --manifest-path \
    storage-bench/opendal-mongodb/Cargo.toml --target-dir target/opendal-mongodb, or leave it out by --peers";

/// Opens a peer; an embedded one in an empty directory of its own.
pub(crate) async fn open(name: &str, place: &Place) -> Result<Arc<dyn Peer>> {
    let directory = place.directory.join(name);
    std::fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
    let directory = directory.as_path();
    Ok(match name {
        "storage-file" => {
            let url = format!("file:{}", directory.display());
            let backend = storage_registry::open_backend(&url).await?;
            Arc::new(storage::Storage::new("storage-file", backend, Durability::Synced)?)
        }
        "storage-file.so" => {
            let backend =
                plugin::open(&place.plugins, "file", &format!("file:{}", directory.display())).await?;
            Arc::new(storage::Storage::new("storage-file.so", backend, Durability::Synced)?)
        }
        "redb" => Arc::new(redb::Redb::open(directory, false)?),
        "redb-group" => Arc::new(redb::Redb::open(directory, true)?),
        "fjall-group" => Arc::new(fjall::Fjall::open(directory, PersistMode::SyncData)?),
        "fjall-group-all" => Arc::new(fjall::Fjall::open(directory, PersistMode::SyncAll)?),
        "sqlite" => Arc::new(sqlite::Sqlite::open(directory, false)?),
        "sqlite-group" => Arc::new(sqlite::Sqlite::open(directory, true)?),
        "opendal-redb" => Arc::new(opendal::OpenDal::redb(directory)?),
        "opendal-persy" => Arc::new(opendal::OpenDal::persy(directory)?),
        "opendal-sled" => Arc::new(opendal::OpenDal::sled(directory)?),
        "storage-redis" => {
            let backend = storage_registry::open_backend(&place.redis()?).await?;
            Arc::new(storage::Storage::new("storage-redis", backend, Durability::NotSynced)?)
        }
        "storage-redis-plain" => {
            let url = format!("{}?format=raw&values=bytes", place.redis()?);
            let backend = storage_registry::open_backend(&url).await?;
            Arc::new(storage::Storage::new("storage-redis-plain", backend, Durability::NotSynced)?)
        }
        "storage-redis.so" => {
            let url = format!("{}?prefix=plugin", place.redis()?);
            let backend = plugin::open(&place.plugins, "redis", &url).await?;
            Arc::new(storage::Storage::new("storage-redis.so", backend, Durability::NotSynced)?)
        }
        "redis-raw" => Arc::new(redis::Redis::open(&place.redis()?).await?),
        "redis-group" => Arc::new(redis_group::RedisGroup::open(&place.redis()?).await?),
        "opendal-redis" => Arc::new(opendal::OpenDal::redis(&place.redis()?)?),
        "storage-postgres" => {
            let backend = storage_registry::open_backend(&place.postgres()?.server().url()).await?;
            Arc::new(storage::Storage::new("storage-postgres", backend, Durability::Synced)?)
        }
        "sqlx-raw" => Arc::new(sqlx::Sqlx::open(place.postgres()?).await?),
        "sqlx-group" => Arc::new(sqlx_group::SqlxGroup::open(place.postgres()?).await?),
        "tokio-postgres-1" => {
            Arc::new(tokio_postgres::TokioPostgres::open("tokio-postgres-1", 1, place.postgres()?).await?)
        }
        "tokio-postgres-10" => {
            Arc::new(tokio_postgres::TokioPostgres::open("tokio-postgres-10", 10, place.postgres()?).await?)
        }
        "opendal-postgres" => Arc::new(opendal::OpenDal::postgres(place.postgres()?)?),
        "storage-mongo" => {
            let backend = storage_registry::open_backend(&place.mongo()?).await?;
            Arc::new(storage::Storage::new("storage-mongo", backend, Durability::NotSynced)?)
        }
        "mongodb-raw" => Arc::new(mongodb::Mongodb::open(&place.mongo()?).await?),
        "mongodb-group" => Arc::new(mongodb_group::MongodbGroup::open(&place.mongo()?).await?),
        "opendal-mongodb" => {
            let (program, url) = (&place.opendal_mongodb, place.mongo()?);
            let started = Elsewhere::start(program, &url, "opendal-mongodb", Durability::NotSynced);
            Arc::new(started.context(OPENDAL_MONGODB)?)
        }
        other => bail!("no peer {other:?}"),
    })
}

/// The version of a dependency, as the lock file of this build has it; the newest, if peers bring others in.
pub(crate) fn version_of(package: &str) -> String {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    // The file has them in order.
    let entry = LOCK
        .split("[[package]]\nname = \"")
        .filter(|entry| entry.strip_prefix(package).is_some_and(|rest| rest.starts_with('"')))
        .last();
    let version = entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next());
    format!("{package} {}", version.unwrap_or("of unknown version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        assert!(version_of("redb").starts_with("redb 4."), "{}", version_of("redb"));
        assert!(version_of("none").ends_with("unknown version"));
    }
}
