//! What servers say of themselves, and the chores they are told to do.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{ReadPreference, SelectionCriteria};
use serde_json::{Value as Tree, json};
use smol_str::SmolStr;
use storage_core::{
    CollectionName, ErrorKind, Health, HealthStatus, MaintenanceReport, Result, Stats, Timestamp,
};

use crate::client::Client;
use crate::layout::{date, field};

/// Most records that one command removes, so that none takes longer than a call may.
const REMOVED_AT_ONCE: i64 = 5_000;

impl Client {
    /// Whether there is a server that takes writes.
    pub(crate) async fn health(&self) -> Health {
        let started = Instant::now();
        let told = match self.hello(ReadPreference::Primary).await {
            Ok(hello) if hello.get_bool("isWritablePrimary").unwrap_or(false) => {
                (HealthStatus::Up, format!("{} answers", self.topology.kind))
            }
            Ok(_) => (HealthStatus::Degraded, "reads only: the server is no primary".to_owned()),
            // It works for those who have a connection.
            Err(error) if error.kind() == ErrorKind::Busy => {
                (HealthStatus::Degraded, error.message().to_owned())
            }
            // Reads go on where the configuration has them read from others.
            Err(error) => match self.hello(ReadPreference::Nearest { options: None }).await {
                Ok(_) => (HealthStatus::Degraded, format!("reads only: {}", error.message())),
                Err(_) => (HealthStatus::Down, error.message().to_owned()),
            },
        };
        Health { status: told.0, latency: started.elapsed(), detail: told.1 }
    }

    async fn hello(&self, from: ReadPreference) -> Result<Document> {
        let hello =
            self.database.run_command(doc! {"hello": 1}).selection_criteria(SelectionCriteria::from(from));
        self.within(hello.into_future()).await
    }

    pub(crate) async fn stats(&self) -> Result<Stats> {
        let told = self.within(self.database.run_command(doc! {"dbStats": 1}).into_future()).await?;
        let pool = self.monitor.stats();
        let numbers = [
            ("pool_open", pool.open),
            ("pool_in_use", pool.in_use),
            ("pool_waiting", pool.waiting),
            ("pool_connects", pool.connects),
            ("pool_failures", pool.failures),
            ("commands", pool.commands),
        ];
        let mut details: BTreeMap<SmolStr, Tree> =
            numbers.into_iter().map(|(name, number)| (name.into(), json!(number))).collect();
        details.insert("server_version".into(), json!(self.topology.version));
        details.insert("topology".into(), json!(self.topology.kind));
        Ok(Stats {
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            // The database may hold more than the store.
            records: None,
            bytes: [told.get("storageSize"), told.get("indexSize")].into_iter().map(number).sum(),
            details,
        })
    }

    /// Removes all that has expired, a part at a time, and items of lists that are gone.
    pub(crate) async fn sweep(&self) -> Result<MaintenanceReport> {
        let now = Timestamp::now();
        let mut report = MaintenanceReport::default();
        for collection in self.own_collections().await? {
            report.removed +=
                self.remove(&collection, doc! {field::EXPIRES_AT: {"$lte": date(now)}}, now).await?.0;
            self.remove_lost_items(&collection).await?;
        }
        report.examined = report.removed;
        Ok(report)
    }

    /// Removes a collection a part at a time, and returns how many of its records had not expired.
    pub(crate) async fn clear(&self, collection: &CollectionName) -> Result<u64> {
        self.check_open()?;
        let (_, live) = self.remove(collection, doc! {}, Timestamp::now()).await?;
        self.remove_lost_items(collection).await?;
        Ok(live)
    }

    /// Removes what matches a part at a time, and returns how many records that were, and how many of them had not expired.
    async fn remove(
        &self,
        collection: &CollectionName,
        filter: Document,
        now: Timestamp,
    ) -> Result<(u64, u64)> {
        let (mut removed, mut live) = (0, 0);
        loop {
            let documents = self.records(collection);
            let find = documents.find(filter.clone());
            let find = find.projection(doc! {field::EXPIRES_AT: 1}).limit(REMOVED_AT_ONCE);
            let mut keys = Vec::new();
            let reading = async {
                let mut cursor = find.await?;
                while cursor.advance().await? {
                    let document = cursor.current();
                    let expired = document.get_datetime(field::EXPIRES_AT).is_ok_and(|at| at <= date(now));
                    live += u64::from(!expired);
                    if let Ok(Some(key)) = document.get(field::ID) {
                        keys.push(Bson::try_from(key)?);
                    }
                }
                Ok(())
            };
            self.within(reading).await?;
            if keys.is_empty() {
                return Ok((removed, live));
            }
            removed += keys.len() as u64;
            // What was written anew since, and does not match any more, stays.
            let mut matching = filter.clone();
            matching.insert(field::ID, doc! {"$in": keys});
            let delete = doc! {"q": matching, "limit": 0};
            self.command(doc! {"delete": self.layout.records(collection), "deletes": [delete]}, None).await?;
        }
    }
}

fn number(value: Option<&Bson>) -> Option<u64> {
    match value? {
        Bson::Int32(number) => u64::try_from(*number).ok(),
        Bson::Int64(number) => u64::try_from(*number).ok(),
        // The server tells sizes as doubles, which are whole and far below 2^53.
        Bson::Double(number) => Some(*number as u64),
        _ => None,
    }
}
