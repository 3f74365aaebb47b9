//! Key-value services of Apache OpenDAL: embedded ones, Redis and PostgreSQL.
//!
//! Left out: `sqlite`, whose driver links another SQLite than rusqlite's, which cargo forbids in one binary; `rocksdb`, for its
//! C++ build; and `cacache`, a cache on the file system. `mongodb` is written for version 2 of `bson` and does not compile where
//! anything in the binary has the driver use version 3, as `storage-mongo` does: it is a program of its own, in
//! `storage-bench/opendal-mongodb`.

mod operator;

use std::path::Path;

use anyhow::Result;
use opendal::{Operator, services};

pub(crate) use self::operator::OpenDal;
use super::postgres::Postgres;
use crate::peer::{Durability, PeerInfo};

impl OpenDal {
    pub(crate) fn redb(directory: &Path) -> Result<Self> {
        let path = directory.join("data.redb");
        let service = services::Redb::default().datadir(&path.to_string_lossy()).table("records");
        Self::new("opendal-redb", Operator::new(service)?, Durability::Synced, "a transaction for each call")
    }

    pub(crate) fn persy(directory: &Path) -> Result<Self> {
        let path = directory.join("data.persy");
        let service =
            services::Persy::default().datafile(&path.to_string_lossy()).segment("records").index("keys");
        Self::new("opendal-persy", Operator::new(service)?, Durability::Synced, "a transaction for each call")
    }

    pub(crate) fn sled(directory: &Path) -> Result<Self> {
        let path = directory.join("sled");
        let service = services::Sled::default().datadir(&path.to_string_lossy());
        let how = "acknowledges at once and syncs every 500 ms: no peer of the durable rows";
        Self::new("opendal-sled", Operator::new(service)?, Durability::NotSynced, how)
    }

    pub(crate) fn redis(url: &str) -> Result<Self> {
        let service = services::Redis::default().endpoint(url).root("/opendal");
        let how = "its own pool of connections, a command for each call";
        Self::new("opendal-redis", Operator::new(service)?, Durability::NotSynced, how)
    }

    pub(crate) fn postgres(postgres: &Postgres) -> Result<Self> {
        postgres.tables("opendal")?;
        let url = postgres.server().url();
        let service = services::Postgresql::default().connection_string(&url).table("opendal_records");
        let how = "its own pool of connections, with the defaults of its driver (sqlx 0.8); a statement for each call";
        Self::new("opendal-postgres", Operator::new(service)?, Durability::Synced, how)
    }

    fn new(
        name: &'static str,
        operator: Operator,
        durability: Durability,
        how: &'static str,
    ) -> Result<Self> {
        let version = super::version_of("opendal");
        Ok(Self { info: PeerInfo { name, version, durability, how }, operator })
    }
}
