//! The last step of a move: the tables change places.

use std::time::Instant;

use storage_core::{IndexSpec, Result};

use super::{AGAIN, LOCK_TIMEOUT, PATIENCE, Turn, ask_leaves, is_locked, next, texts};
use crate::client::{Client, Transaction};
use crate::index::Named;
use crate::layout::quote;
use crate::sql::Sql;

impl Client {
    /// Puts the second table into the place of the first, with its indexes, triggers and grants.
    pub(super) async fn swap(&self) -> Result<()> {
        let next = next(&self.layout);
        // Nobody makes or drops indexes meanwhile.
        let turn = self.turn(Turn::Tables).await?;
        let swapped = async {
            self.copy_indexes(&next).await?;
            // Otherwise the first plans would be made for an empty table.
            self.run_apart(format!("ANALYZE {next}")).await?;
            let until = Instant::now() + PATIENCE;
            loop {
                let mut transaction = self.begin_patiently().await?;
                match self.swap_within(&mut transaction).await {
                    Ok(()) => return transaction.commit().await,
                    Err(error) => {
                        transaction.rollback().await;
                        if !is_locked(&error) || Instant::now() > until {
                            return Err(error);
                        }
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        };
        let swapped = swapped.await;
        turn.rollback().await;
        self.forget_indexes();
        swapped
    }

    async fn swap_within(&self, transaction: &mut Transaction<'_>) -> Result<()> {
        let (layout, records, next) = (&self.layout, self.layout.records(), next(&self.layout));
        transaction
            .simple(format!(
                "SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; LOCK TABLE {records} IN ACCESS EXCLUSIVE MODE"
            ))
            .await?;
        let mut there = Sql::new();
        there.push("SELECT 1 WHERE to_regclass(").bind(next.clone()).push(") IS NOT NULL");
        if transaction.rows(there).await?.is_empty() {
            // Somebody else was here first.
            return Ok(());
        }
        let triggers = texts(&transaction.rows(self.ask_triggers()).await?)?;
        let mut text = texts(&transaction.rows(self.ask_grants(&next)).await?)?.join("");
        text.push_str(&format!(
            "DROP TABLE {records}; DROP FUNCTION {}(); DROP TABLE {}; ALTER TABLE {next} RENAME TO {}; ",
            layout.qualified("records_next_copy"),
            layout.qualified("records_next_state"),
            quote(&layout.name("records")),
        ));
        for part in ["pkey", "expiry"] {
            text.push_str(&format!(
                "ALTER INDEX {} RENAME TO {}; ",
                layout.qualified(&format!("records_next_{part}")),
                quote(&layout.name(&format!("records_{part}")))
            ));
        }
        text.push_str(&triggers.join(""));
        transaction.simple(text).await
    }

    /// Makes the indexes on the second table that are on the first.
    async fn copy_indexes(&self, next: &str) -> Result<()> {
        let division = self.division(next).await?;
        for spec in self.all_indexes().await? {
            let index = Named::new(&spec, &self.layout);
            for table in self.leaves_in(next, &division, &spec.collection).await? {
                if !self.indexes_on(std::slice::from_ref(&table)).await?.contains(&spec) {
                    // What an attempt before this one left.
                    self.remove_on(&index, &table).await?;
                    self.build_on(&index, &table).await?;
                }
            }
        }
        Ok(())
    }

    /// The indexes of all collections.
    async fn all_indexes(&self) -> Result<Vec<IndexSpec>> {
        let records = self.layout.records();
        let mut tables = vec![records.to_owned()];
        tables.extend(texts(&self.rows(ask_leaves(records)).await?)?);
        let mut collections: Vec<_> =
            self.indexes_on(&tables).await?.into_iter().map(|spec| spec.collection).collect();
        collections.sort_unstable();
        collections.dedup();
        let mut all = Vec::new();
        for collection in collections {
            all.extend(self.list_indexes(&collection).await?);
        }
        Ok(all)
    }

    /// Asks for the statements that make the triggers of the records, as they are, anew.
    fn ask_triggers(&self) -> Sql {
        let records = self.layout.records();
        let mut sql = Sql::new();
        sql.push("SELECT pg_get_triggerdef(t.oid) || '; ' || CASE t.tgenabled WHEN 'O' THEN '' ELSE format('ALTER TABLE ");
        sql.push(&records.replace('\'', "''").replace('%', "%%"));
        sql.push(" %s TRIGGER %I; ', CASE t.tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ");
        sql.push("ELSE 'DISABLE' END, t.tgname) END FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgrelid = to_regclass(");
        sql.bind(records.to_owned()).push(") AND t.tgname <> ALL (");
        let own = ["records_next_copy", "records_next_empty"].map(|name| self.layout.name(name));
        sql.bind(own.to_vec()).push(") ORDER BY t.tgname");
        sql
    }

    /// Asks for the statements that let everybody do to a table what they may do to the records.
    fn ask_grants(&self, table: &str) -> Sql {
        let mut sql = Sql::new();
        sql.push("SELECT format('GRANT %s ON %s TO %s%s; ', a.privilege_type, ").bind(table.to_owned());
        sql.push(
            "::text, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, ",
        );
        sql.push("CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) FROM pg_class c, aclexplode(c.relacl) a ");
        sql.push("WHERE c.oid = to_regclass(").bind(self.layout.records().to_owned());
        sql.push(") AND a.grantee <> c.relowner");
        sql
    }
}
