//! One put or delete under a precondition, in one statement.

use storage_core::apply::precondition_failed;
use storage_core::{Change, Effect, Mutation, Precondition, Result, Timestamp, Value, Written};

use super::Item;
use super::results::Results;
use super::rows::Rows;
use crate::client::Client;
use crate::convert::{Time, version, version_number};
use crate::error::code;
use crate::sql::Sql;

impl Client {
    /// Whether [`write_if`](Self::write_if) can do it.
    pub(super) fn is_conditional(&self, mutation: &Mutation, now: Timestamp) -> bool {
        match (&mutation.precondition, &mutation.change) {
            (Some(_), Change::Put { value: Value::List { .. }, .. }) => false,
            (Some(_), Change::Put { expires_at, .. }) => expires_at.is_none_or(|at| at > now),
            (Some(Precondition::Present | Precondition::Version(_)), Change::Delete) => true,
            _ => false,
        }
    }

    /// Puts or deletes if the precondition holds.
    pub(super) async fn write_if<'m>(
        &self,
        (position, mutation): Item<'m>,
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> Result<()> {
        let number = self.new_version();
        let expected = match &mutation.precondition {
            Some(Precondition::Version(wanted)) => match version_number(wanted) {
                Some(number) => Some(number),
                None => return self.refuse((position, mutation), now, results).await,
            },
            _ => None,
        };
        let statement = || self.statement_if(mutation, number, expected, now);
        let mut done = self.rows(statement()).await;
        if done.as_ref().is_err_and(|error| code(error) == Some("23505")) && self.sweep_some(now).await? > 0 {
            done = self.rows(statement()).await;
        }
        if done?.is_empty() {
            return self.refuse((position, mutation), now, results).await;
        }
        let written = match mutation.change {
            Change::Delete => Written { version: None, effect: Effect::Deleted { existed: true } },
            _ => Written { version: Some(version(number)), effect: Effect::Done },
        };
        results.set(position, Ok(written));
        Ok(())
    }

    fn statement_if(&self, mutation: &Mutation, number: i64, expected: Option<i64>, now: Timestamp) -> Sql {
        let address = &mutation.address;
        let Change::Put { value, expires_at } = &mutation.change else {
            let mut sql = Sql::prepared(&self.statements.delete_present);
            sql.value(address.collection.as_str());
            sql.value(address.key.as_str());
            sql.value(Time(now));
            sql.value(expected);
            return sql;
        };
        let mut rows = Rows::default();
        rows.push(address, value, number, *expires_at, 0);
        let absent = mutation.precondition == Some(Precondition::Absent);
        let mut sql =
            Sql::prepared(if absent { &self.statements.put_absent } else { &self.statements.put_present });
        sql.value(Time(now));
        rows.bind(&mut sql);
        if !absent {
            sql.value(vec![expected]);
        }
        sql
    }

    /// Says that the precondition did not hold, and which version there is.
    async fn refuse<'m>(
        &self,
        (position, mutation): Item<'m>,
        now: Timestamp,
        results: &mut Results<'m>,
    ) -> Result<()> {
        let current = match &mutation.precondition {
            Some(Precondition::Version(_)) => self.read_one(&mutation.address).await?,
            _ => None,
        };
        let current = current.filter(|record| !record.is_expired(now)).map(|record| record.version);
        results.set(position, Err(precondition_failed(mutation, current.as_ref())));
        Ok(())
    }
}
