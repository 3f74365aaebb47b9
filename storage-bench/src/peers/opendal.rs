//! Key-value services of Apache OpenDAL: embedded ones, Redis and PostgreSQL.
//!
//! Left out: `sqlite`, whose driver links another SQLite than rusqlite's, which cargo forbids in one binary;
//! `mongodb`, which is written for version 2 of `bson` and does not compile where anything in the binary has the driver
//! use version 3, as `storage-mongo` does; `rocksdb`, for its C++ build; and `cacache`, a cache on the file system.

use std::path::Path;

use anyhow::{Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use opendal::{ErrorKind, Operator, services};

use super::postgres::Postgres;
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// A service of OpenDAL.
pub(crate) struct OpenDal {
    info: PeerInfo,
    operator: Operator,
}

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

#[async_trait]
impl Peer for OpenDal {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    /// Its listings have names without values, and it has no read-modify-write.
    fn has(&self, _: Feature) -> bool {
        false
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.operator.read(key).await {
            Ok(buffer) => Ok(Some(buffer.to_bytes())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.operator.write(&key, value).await?;
        Ok(())
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(self.get(key).await?);
        }
        Ok(found)
    }

    async fn put_many(&self, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        for (key, value) in records {
            self.put(key, value).await?;
        }
        Ok(())
    }

    async fn scan(&self, _: &str, _: Option<&str>, _: usize) -> Result<Page> {
        bail!("OpenDAL has no scan with values")
    }

    async fn increment(&self, _: &str) -> Result<i64> {
        bail!("OpenDAL has no increment")
    }
}
