//! Queries and indexes against the reference semantics: random and nasty, on a real server.

mod filters;
#[path = "../harness/mod.rs"]
mod harness;
mod indexes;

use std::sync::Arc;

use storage_core::{Backend, CollectionName, Path};
use storage_testkit::helpers::ok;
use storage_testkit::queries::Trial;

/// A store under a prefix of its own.
struct Own {
    backend: Arc<dyn Backend>,
    url: String,
    prefix: String,
}

impl Own {
    async fn open() -> Self {
        let (url, prefix) = (harness::shared_url(), harness::prefix());
        let backend = ok(harness::open(&harness::with(&url, "prefix", &prefix)).await, "open");
        Self { backend, url, prefix }
    }

    /// A collection as the driver sees it.
    async fn beside(&self, collection: &str) -> mongodb::Collection<mongodb::bson::Document> {
        let database = harness::database(&self.url).await.expect("the database");
        database.collection(&format!("{}{collection}", self.prefix))
    }
}

fn name(text: &str) -> CollectionName {
    CollectionName::new(text).expect("a name")
}

/// What the stand-in for MongoDB takes for others, see `docs/mongodb-stand-in.md`: names for positions, and numbers as
/// decimals; and of a long text of NUL, the regular expression is too long for it.
const STAND_IN: &[&str] = &["01", "9223372036854775808", "\u{0}"];

/// How much to try on the server at hand: more with `STORAGE_LONG=1`.
fn trial(rounds: usize) -> Trial {
    let given = std::env::var_os("STORAGE_TEST_MONGODB_URL").is_some_and(|url| !url.is_empty());
    let without = if given { &[] } else { STAND_IN };
    Trial { rounds: self::rounds(rounds), indexable, without }
}

/// Whether an index on a path takes every document. MongoDB refuses those in which it could be a position as well as a name.
fn indexable(path: &Path) -> bool {
    path.segments().all(|segment| !segment.bytes().all(|byte| byte.is_ascii_digit()))
}

fn rounds(normal: usize) -> usize {
    if std::env::var_os("STORAGE_LONG").is_some_and(|value| value == "1") { 20 * normal } else { normal }
}
