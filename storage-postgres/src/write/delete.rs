//! Deletes without preconditions.

use std::collections::HashMap;

use sqlx::Row as _;
use storage_core::{Effect, Result, Timestamp, Written};

use super::results::Results;
use super::{Item, by_record};
use crate::client::Client;
use crate::convert::{Time, damaged};
use crate::sql::Sql;

impl Client {
    /// Deletes records by one statement.
    pub(super) async fn delete<'m>(
        &self,
        group: &[Item<'m>],
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> Result<()> {
        let records = by_record(group);
        let lived = |at: Option<Time>| at.is_none_or(|Time(at)| at > now);
        let mut existed: HashMap<(String, String), bool> = HashMap::new();
        if let [(address, _)] = records.as_slice() {
            let mut sql = Sql::prepared(&self.statements.delete);
            sql.value(address.collection.as_str());
            sql.value(address.key.as_str());
            if let Some(row) = self.row(sql).await? {
                let names = (address.collection.to_string(), address.key.to_string());
                existed.insert(names, lived(row.try_get_unchecked(0).map_err(damaged)?));
            }
        } else {
            let mut sql = Sql::prepared(&self.statements.delete_many);
            sql.value(records.iter().map(|(address, _)| address.collection.as_str()).collect::<Vec<_>>());
            sql.value(records.iter().map(|(address, _)| address.key.as_str()).collect::<Vec<_>>());
            for row in self.rows(sql).await? {
                let names =
                    (row.try_get_unchecked(0).map_err(damaged)?, row.try_get_unchecked(1).map_err(damaged)?);
                existed.insert(names, lived(row.try_get_unchecked(2).map_err(damaged)?));
            }
        }
        for (address, items) in records {
            // The first of them found it; there was nothing left for the others.
            let mut existed = existed
                .get(&(address.collection.to_string(), address.key.to_string()))
                .copied()
                .unwrap_or(false);
            for (position, _) in items {
                let effect = Effect::Deleted { existed: std::mem::take(&mut existed) };
                results.set(position, Ok(Written { version: None, effect }));
            }
        }
        Ok(())
    }
}
