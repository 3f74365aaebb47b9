//! Secondary indexes: made without blocking writers, listed, dropped.
//!
//! For one index in our sense there are two of PostgreSQL, both of the records of one collection. A B-tree has rank,
//! number and head of text of the value at the path, and then the key: for equality, ranges and order. A GIN index has
//! the elements of those records in which the path meets an array; it is empty if there are none. The comment on the
//! B-tree says what it is for. It is written last and removed first: what has no comment was interrupted, is not used
//! by anybody, and makes way when the index is asked for again.
//!
//! Whether values are unique is kept by [`crate::unique`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::{Executor as _, Row as _};
use storage_core::{CollectionName, Error, ErrorKind, IndexSpec, Path, Result, Retry};

use crate::client::{Client, Transaction};
use crate::convert::damaged;
use crate::error::{During, driver};
use crate::layout::{Layout, quote};
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
        let IndexSpec { collection, path, .. } = spec;
        let whole = format!("{}\0{collection}\0{path}", layout.records());
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

    /// The statements that make the indexes of the database.
    fn definitions(&self, layout: &Layout) -> [String; 2] {
        let mut values = Values::literals();
        let place = Place::new("json", &self.spec.path, &mut values);
        let value = place.value();
        let (records, collection) = (layout.records(), literal(self.spec.collection.as_str()));
        let these = format!("WHERE collection = {collection}::text AND json IS NOT NULL");
        let ordered = format!(
            "CREATE INDEX CONCURRENTLY {} ON {records} ({}, {}, {}, key) {these}",
            quote(&self.name),
            rank(&value),
            number(&value),
            head(&value),
        );
        let elements = format!(
            "CREATE INDEX CONCURRENTLY {} ON {records} USING gin (({}) jsonb_path_ops) {these} AND {}",
            quote(&self.elements()),
            place.elements(&mut values),
            place.meets_array(),
        );
        [ordered, elements]
    }
}

/// FNV-1a of 128 bits: names must stay the same over releases. See <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

/// Which paths of a collection have an index, as far as is known.
#[derive(Default)]
pub(crate) struct Known(Mutex<HashMap<CollectionName, (Instant, Vec<Path>)>>);

impl Known {
    /// How long it is believed: others make and drop indexes too. It decides how a query is read, never what it finds.
    const BELIEVED: Duration = Duration::from_secs(10);
    /// So many collections are known at most.
    const COLLECTIONS: usize = 1_000;

    fn has(&self, collection: &CollectionName, path: &Path) -> Option<bool> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, paths) = known.get(collection)?;
        (since.elapsed() < Self::BELIEVED).then(|| paths.contains(path))
    }

    fn learn(&self, collection: &CollectionName, found: &[IndexSpec]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= Self::COLLECTIONS {
            known.clear();
        }
        let paths = found.iter().map(|spec| spec.path.clone()).collect();
        known.insert(collection.clone(), (Instant::now(), paths));
    }

    fn forget(&self, collection: &CollectionName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(collection);
    }
}

impl Client {
    /// Whether a path has an index, or had one a moment ago.
    pub(crate) async fn has_index(&self, collection: &CollectionName, path: &Path) -> Result<bool> {
        if let Some(has) = self.known_indexes.has(collection, path) {
            return Ok(has);
        }
        let found = self.list_indexes(collection).await?;
        self.known_indexes.learn(collection, &found);
        Ok(found.iter().any(|spec| spec.path == *path))
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
        for definition in index.definitions(&self.layout) {
            self.alone(definition).await?;
        }
        let remark = Remark { storage_index: index.spec.clone() };
        let remark = serde_json::to_string(&remark)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("the comment on an index: {error}")))?;
        let name = index.qualified(&index.name, &self.layout);
        self.alone(format!("COMMENT ON INDEX {name} IS {}", literal(&remark))).await
    }

    /// Removes what there is of an index.
    async fn remove(&self, index: &Named<'_>) -> Result<()> {
        let name = index.qualified(&index.name, &self.layout);
        if self.relation_exists(&name).await? {
            self.alone(format!("COMMENT ON INDEX {name} IS NULL")).await?;
        }
        self.keep_unique_no_more(index).await?;
        for name in [&index.name, &index.elements()] {
            let name = index.qualified(name, &self.layout);
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
        let mut sql = Sql::new();
        sql.push("SELECT obj_description(i.indexrelid, 'pg_class') FROM pg_index i WHERE i.indrelid = to_regclass(");
        sql.bind(self.layout.records().to_owned());
        sql.push(") AND i.indisvalid AND i.indisready");
        let mut found = Vec::new();
        for row in self.rows(sql).await? {
            let remark: Option<String> = row.try_get(0).map_err(damaged)?;
            // Indexes that somebody else made have other comments, or none.
            let remark: Option<Remark> = remark.and_then(|remark| serde_json::from_str(&remark).ok());
            found.extend(
                remark.map(|remark| remark.storage_index).filter(|spec| spec.collection == *collection),
            );
        }
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
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

    async fn relation_exists(&self, name: &str) -> Result<bool> {
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
            sql.push("SELECT pg_try_advisory_xact_lock(").bind(number.cast_signed()).push(")");
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
