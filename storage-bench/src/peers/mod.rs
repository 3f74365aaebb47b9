//! The stores under test, one file each.

mod fjall;
mod opendal;
mod redb;
mod sqlite;
mod storage;

use std::path::Path;
use std::sync::Arc;

use ::fjall::PersistMode;
use anyhow::{Context, Result, bail};

use crate::peer::Peer;

/// Every peer, in the order of the tables.
pub(crate) const NAMES: [&str; 10] = [
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
];

/// Opens a peer in an empty directory of its own under `parent`.
pub(crate) async fn open(name: &str, parent: &Path) -> Result<Arc<dyn Peer>> {
    let directory = parent.join(name);
    std::fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
    let directory = directory.as_path();
    Ok(match name {
        "storage-file" => Arc::new(storage::Storage::open(directory).await?),
        "redb" => Arc::new(redb::Redb::open(directory, false)?),
        "redb-group" => Arc::new(redb::Redb::open(directory, true)?),
        "fjall-group" => Arc::new(fjall::Fjall::open(directory, PersistMode::SyncData)?),
        "fjall-group-all" => Arc::new(fjall::Fjall::open(directory, PersistMode::SyncAll)?),
        "sqlite" => Arc::new(sqlite::Sqlite::open(directory, false)?),
        "sqlite-group" => Arc::new(sqlite::Sqlite::open(directory, true)?),
        "opendal-redb" => Arc::new(opendal::OpenDal::redb(directory)?),
        "opendal-persy" => Arc::new(opendal::OpenDal::persy(directory)?),
        "opendal-sled" => Arc::new(opendal::OpenDal::sled(directory)?),
        other => bail!("no peer {other:?}; there are {}", NAMES.join(", ")),
    })
}

/// The version of a dependency, as the lock file of this build has it.
pub(crate) fn version_of(package: &str) -> String {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let entry = LOCK
        .split("[[package]]\nname = \"")
        .find(|entry| entry.strip_prefix(package).is_some_and(|rest| rest.starts_with('"')));
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
