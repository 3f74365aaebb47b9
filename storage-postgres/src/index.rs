//! Secondary indexes: made without blocking writers, listed, dropped.
//!
//! For one index in our sense there are two of PostgreSQL, both of the records of one collection. A B-tree has rank,
//! number and head of text of the value at the path, and then the key: for equality, ranges and order. A GIN index has
//! the elements of those records in which the path meets an array; it is empty if there are none. The comment on the
//! B-tree says what it is for. It is written last and removed first: what has no comment was interrupted, is not used
//! by anybody, and makes way when the index is asked for again.
//!
//! Whether values are unique is kept by [`crate::unique`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::{Executor as _, Row as _};
use storage_core::{CollectionName, Error, ErrorKind, IndexSpec, Path, Result, Retry};

use crate::client::{Client, Transaction};
use crate::convert::damaged;
use crate::error::{During, driver};
use crate::layout::{Layout, quote};
use crate::partition::Turn;
use crate::path::{Place, Values, head, literal, number, rank};
use crate::sql::Sql;

/// How long a change of indexes may take, and wait for others.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Between two attempts to get the lock. A session that waited for it within a statement would be waited for by the
/// build of an index.
const POLL: Duration = Duration::from_millis(50);

/// Names have at most 63 bytes, with what is added to them: longer ones would be cut by the server.
const READABLE: usize = 24;

/// What the comment on an index says.
#[derive(Serialize, Deserialize)]
struct Remark {
    storage_index: IndexSpec,
}

/// An index with the names that it has in the database.
pub(crate) struct Named<'a> {
    pub(crate) spec: &'a IndexSpec,
    pub(crate) name: String,
}

impl<'a> Named<'a> {
    pub(crate) fn new(spec: &'a IndexSpec, layout: &Layout) -> Self {
        Self::within(spec, layout.records())
    }

    /// The part of it that stands on one of the tables of its collection, which has a name of its own.
    pub(crate) fn on(&self, table: &str) -> Named<'a> {
        Self::within(self.spec, table)
    }

    fn within(spec: &'a IndexSpec, table: &str) -> Self {
        let IndexSpec { collection, path, .. } = spec;
        let whole = format!("{table}\0{collection}\0{path}");
        let readable: String = format!("{collection}.{path}")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
            .take(READABLE)
            .collect();
        Self { spec, name: format!("{readable}_{:032x}", fnv(whole.as_bytes())) }
    }

    pub(crate) fn elements(&self) -> String {
        format!("{}_e", self.name)
    }

    /// The name as it stands in a statement.
    pub(crate) fn qualified(&self, name: &str, layout: &Layout) -> String {
        format!("{}.{}", layout.schema(), quote(name))
    }

    /// The statements that make the indexes of the database on a table, `CONCURRENTLY` or not.
    fn definitions(&self, table: &str, way: &str) -> [String; 2] {
        let mut values = Values::literals();
        let place = Place::new("json", &self.spec.path, &mut values);
        let value = place.value();
        let collection = literal(self.spec.collection.as_str());
        let these = format!("WHERE collection = {collection}::text AND json IS NOT NULL");
        let ordered = format!(
            "CREATE INDEX {way} {} ON {table} ({}, {}, {}, key) {these}",
            quote(&self.name),
            rank(&value),
            number(&value),
            head(&value),
        );
        let elements = format!(
            "CREATE INDEX {way} {} ON {table} USING gin (({}) jsonb_path_ops) {these} AND {}",
            quote(&self.elements()),
            place.elements(&mut values),
            place.meets_array(),
        );
        [ordered, elements]
    }

    /// The statement that says what it is for.
    fn remark(&self, layout: &Layout) -> Result<String> {
        let remark = Remark { storage_index: self.spec.clone() };
        let remark = serde_json::to_string(&remark)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("the comment on an index: {error}")))?;
        Ok(format!("COMMENT ON INDEX {} IS {}", self.qualified(&self.name, layout), literal(&remark)))
    }

    /// What makes it on a table that nobody uses yet.
    pub(crate) fn statements(&self, table: &str, layout: &Layout) -> Result<String> {
        let [ordered, elements] = self.definitions(table, "");
        Ok(format!("{ordered}; {elements}; {}; ", self.remark(layout)?))
    }
}

/// FNV-1a of 128 bits: names must stay the same over releases. See <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

impl Client {
    /// Whether a path has an index, or had one a moment ago.
    pub(crate) async fn has_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        Ok(self.known(collection).await?.iter().any(|spec| spec.path == *path))
    }

    /// The unique indexes that a collection has, or had a moment ago.
    pub(crate) async fn unique_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        Ok(self.known(collection).await?.iter().filter(|spec| spec.unique).cloned().collect())
    }

    async fn known(&self, collection: &CollectionName) -> Result<Arc<[IndexSpec]>> {
        self.known_indexes.of(collection, self.list_indexes(collection)).await
    }

    /// Makes an index, and returns whether it was new.
    pub(crate) async fn ensure_index(&self, spec: &IndexSpec) -> Result<bool> {
        self.check_open()?;
        if self.is_there(spec).await? {
            return Ok(false);
        }
        let index = Named::new(spec, &self.layout);
        let _turn = self.indexing.lock().await;
        let lock = self.lock(&index).await?;
        self.known_indexes.forget(&spec.collection);
        let made = self.make(&index).await;
        self.known_indexes.forget(&spec.collection);
        lock.rollback().await;
        made
    }

    async fn make(&self, index: &Named<'_>) -> Result<bool> {
        if self.is_there(index.spec).await? {
            return Ok(false);
        }
        self.remove(index).await?;
        if let Err(error) = self.build(index).await {
            if let Err(also) = self.remove(index).await {
                tracing::warn!(error = %also, index = index.name, "what is left of an index could not be removed");
            }
            return Err(error);
        }
        Ok(true)
    }

    async fn build(&self, index: &Named<'_>) -> Result<()> {
        if index.spec.unique {
            self.keep_unique(index).await?;
        }
        for table in self.leaves(&index.spec.collection).await? {
            self.build_on(index, &table).await?;
        }
        Ok(())
    }

    /// Makes the part of an index that stands on one table.
    pub(crate) async fn build_on(&self, index: &Named<'_>, table: &str) -> Result<()> {
        let part = index.on(table);
        for definition in part.definitions(table, "CONCURRENTLY") {
            self.alone(definition).await?;
        }
        self.alone(part.remark(&self.layout)?).await
    }

    /// Removes what there is of an index.
    async fn remove(&self, index: &Named<'_>) -> Result<()> {
        let tables = self.leaves(&index.spec.collection).await?;
        for table in &tables {
            self.unremark(&index.on(table)).await?;
        }
        self.keep_unique_no_more(index).await?;
        for table in &tables {
            self.remove_on(index, table).await?;
        }
        Ok(())
    }

    async fn unremark(&self, part: &Named<'_>) -> Result<()> {
        let name = part.qualified(&part.name, &self.layout);
        if self.relation_exists(&name).await? {
            self.alone(format!("COMMENT ON INDEX {name} IS NULL")).await?;
        }
        Ok(())
    }

    /// Removes what there is of an index on one table.
    pub(crate) async fn remove_on(&self, index: &Named<'_>, table: &str) -> Result<()> {
        let part = index.on(table);
        for name in [&part.name, &part.elements()] {
            let name = part.qualified(name, &self.layout);
            if self.relation_exists(&name).await? {
                self.alone(format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await?;
            }
        }
        Ok(())
    }

    /// Drops an index, and returns whether there was one.
    pub(crate) async fn drop_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        self.check_open()?;
        if self.find(collection, path).await?.is_none() {
            return Ok(false);
        }
        let spec = IndexSpec::new(collection.clone(), path.clone());
        let index = Named::new(&spec, &self.layout);
        let _turn = self.indexing.lock().await;
        let lock = self.lock(&index).await?;
        let dropped = async {
            let there = self.find(collection, path).await?.is_some();
            self.remove(&index).await?;
            Ok(there)
        };
        let dropped = dropped.await;
        self.known_indexes.forget(collection);
        lock.rollback().await;
        dropped
    }

    /// The indexes of a collection, by path.
    pub(crate) async fn list_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>> {
        self.check_open()?;
        let tables = self.leaves(collection).await?;
        let mut found: Vec<IndexSpec> = self
            .indexes_on(&tables)
            .await?
            .into_iter()
            .filter(|spec| spec.collection == *collection)
            .collect();
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path).then(a.unique.cmp(&b.unique)));
        // It is there once each table has its part.
        Ok(found
            .chunk_by(|a, b| a == b)
            .filter(|parts| parts.len() == tables.len())
            .filter_map(|parts| parts.first().cloned())
            .collect())
    }

    /// The indexes on some tables, once for each table.
    pub(crate) async fn indexes_on(&self, tables: &[String]) -> Result<Vec<IndexSpec>> {
        let mut sql = Sql::new();
        sql.push("SELECT obj_description(i.indexrelid, 'pg_class') FROM pg_index i WHERE i.indrelid IN ");
        sql.push("(SELECT to_regclass(t) FROM unnest(").bind(tables.to_vec());
        sql.push(") t) AND i.indisvalid AND i.indisready");
        let mut found = Vec::new();
        for row in self.rows(sql).await? {
            let remark: Option<String> = row.try_get(0).map_err(damaged)?;
            // Indexes that somebody else made have other comments, or none.
            let remark: Option<Remark> = remark.and_then(|remark| serde_json::from_str(&remark).ok());
            found.extend(remark.map(|remark| remark.storage_index));
        }
        Ok(found)
    }

    /// Forgets which paths have an index.
    pub(crate) fn forget_indexes(&self) {
        self.known_indexes.forget_all();
    }

    async fn find(&self, collection: &CollectionName, path: &Path) -> Result<Option<IndexSpec>> {
        Ok(self.list_indexes(collection).await?.into_iter().find(|spec| spec.path == *path))
    }

    /// Whether the index is there.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if one of the other kind is.
    async fn is_there(&self, wanted: &IndexSpec) -> Result<bool> {
        let Some(there) = self.find(&wanted.collection, &wanted.path).await? else { return Ok(false) };
        if there.unique == wanted.unique {
            return Ok(true);
        }
        let kind = if there.unique { "unique" } else { "not unique" };
        let message =
            format!("the index {} of {} is there and is {kind}: drop it first", there.path, there.collection);
        Err(Error::new(ErrorKind::Conflict, message).with_retry(Retry::Never))
    }

    pub(crate) async fn relation_exists(&self, name: &str) -> Result<bool> {
        let mut sql = Sql::new();
        sql.push("SELECT to_regclass(").bind(name.to_owned()).push(") IS NOT NULL");
        let row = self.row(sql).await?;
        row.map_or(Ok(false), |row| row.try_get(0)).map_err(damaged)
    }

    /// Keeps others from changing this index, as long as the transaction is open.
    async fn lock(&self, index: &Named<'_>) -> Result<Transaction<'_>> {
        let until = Instant::now() + PATIENCE;
        let mut transaction = self.begin_patiently().await?;
        transaction.simple("SET LOCAL idle_in_transaction_session_timeout = 0".to_owned()).await?;
        // The upper half of the hash is as good as the whole.
        let number = (fnv(index.name.as_bytes()) >> 64) as u64;
        loop {
            let mut sql = Sql::new();
            sql.push("SELECT pg_try_advisory_xact_lock(").bind(number.cast_signed());
            // Nor the tables below it.
            sql.push(") AND pg_try_advisory_xact_lock_shared(")
                .bind(Turn::Tables.lock(&self.layout))
                .push(")");
            let rows = transaction.rows(sql).await?;
            let mine = rows.first().map_or(Ok(false), |row| row.try_get::<bool, _>(0)).map_err(damaged)?;
            if mine {
                return Ok(transaction);
            }
            if Instant::now() > until {
                let message = format!(
                    "the index {} of {} is being changed by others for {PATIENCE:?}",
                    index.spec.path, index.spec.collection
                );
                return Err(Error::new(ErrorKind::Busy, message));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Runs a statement that cannot be part of a transaction and may take long, on a connection of its own.
    pub(crate) async fn alone(&self, text: String) -> Result<()> {
        let mut connection = self.pool.apart().await?;
        let request = connection.driver()?.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(text)));
        match tokio::time::timeout(PATIENCE, request).await {
            Ok(Ok(_)) => {
                connection.done();
                Ok(())
            }
            Ok(Err(error)) => Err(driver(error, During::Request)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("no answer within {PATIENCE:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(collection: &str, path: &str) -> IndexSpec {
        IndexSpec::new(CollectionName::new(collection).unwrap(), Path::new(path).unwrap())
    }

    #[test]
    fn names_fit_and_differ() {
        let layout = Layout::new("storage", "");
        let name = |collection: &str, path: &str, layout: &Layout| {
            let spec = spec(collection, path);
            let index = Named::new(&spec, layout);
            assert!(index.elements().len() <= 63, "{}", index.elements());
            index.name
        };
        let long = "x".repeat(64);
        assert!(name("users", "email", &layout).starts_with("users.email_"));
        assert_ne!(name(&long, &long, &layout), name(&long, &format!("{long}y"), &layout));
        assert_ne!(name("a", "b.c", &layout), name("a.b", "c", &layout));
        assert_ne!(name("a", "b", &layout), name("a", "b", &Layout::new("storage", "p_")));
        assert_eq!(name("a", "b", &layout), "a.b_965e5ad3c12ecb80a8e6a6df8559deb5");
    }
}
