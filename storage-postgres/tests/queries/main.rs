//! Queries and indexes against the reference semantics: random and nasty, on a real server.

mod filters;
#[path = "../harness/mod.rs"]
mod harness;
mod indexes;
mod numbers;
mod unique;

use std::sync::Arc;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use storage_core::{Backend, CollectionName};
use storage_testkit::helpers::ok;

/// A store in a schema of its own.
struct Own {
    backend: Arc<dyn Backend>,
    url: String,
    schema: String,
}

impl Own {
    async fn open() -> Self {
        let (url, schema) = (harness::shared_url(), harness::schema());
        let backend = ok(harness::open(&harness::with(&url, "schema", &schema)).await, "open");
        Self { backend, url, schema }
    }

    /// A connection beside the store.
    async fn beside(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("a connection")
    }

    /// One number that a statement gives, with `@` for the schema.
    async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.replace('@', &self.schema));
        sqlx::query_scalar(sql).fetch_one(&mut self.beside().await).await.expect("a number")
    }
}

fn name(text: &str) -> CollectionName {
    CollectionName::new(text).expect("a name")
}

/// How much to try: more with `STORAGE_LONG=1`.
fn rounds(normal: usize) -> usize {
    if std::env::var_os("STORAGE_LONG").is_some_and(|value| value == "1") { 20 * normal } else { normal }
}
