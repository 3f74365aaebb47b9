//! `index add`, `index list` and `index drop`.

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;
use storage_core::{Backend, CollectionName, ErrorKind, IndexSpec, Path};

use super::Outcome;
use crate::exit::{Failure, Status};
use crate::output::Output;

/// Add, list and drop indexes.
#[derive(Debug, Subcommand)]
pub(crate) enum Index {
    Add(Add),
    List(List),
    Drop(Drop),
}

/// Add an index on a path, and fill it.
///
/// Queries on the path get faster. An index that is there already is left as it is.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage index add users address.city
  storage index add users email --unique")]
pub(crate) struct Add {
    /// The collection
    collection: CollectionName,
    /// The dotted path
    path: Path,
    /// Refuse two records with the same value at the path
    #[arg(long)]
    unique: bool,
}

/// List the indexes of a collection.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage index list users")]
pub(crate) struct List {
    /// The collection
    collection: CollectionName,
}

/// Drop the index on a path.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage index drop users address.city")]
pub(crate) struct Drop {
    /// The collection
    collection: CollectionName,
    /// The dotted path
    path: Path,
}

impl Index {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        match self {
            Self::Add(Add { collection, path, unique }) => {
                let index = IndexSpec { collection, path, unique };
                let created = backend.ensure_index(&index).await?;
                let told = json!({
                    "collection": index.collection, "path": index.path, "unique": index.unique, "created": created,
                });
                out.either(&told, if created { "added" } else { "is there already" })?;
            }
            Self::List(List { collection }) => {
                let indexes = backend.list_indexes(&collection).await?;
                if out.is_json() {
                    let told: Vec<_> = (indexes.iter())
                        .map(|index| json!({"path": index.path, "unique": index.unique}))
                        .collect();
                    out.json(&json!({"collection": collection, "indexes": told}))?;
                } else if !indexes.is_empty() {
                    let unique = |index: &IndexSpec| if index.unique { "yes" } else { "no" };
                    let rows = indexes.iter().map(|i| vec![i.path.to_string(), unique(i).to_owned()]);
                    out.table(&["PATH", "UNIQUE"], rows.collect())?;
                }
            }
            Self::Drop(Drop { collection, path }) => {
                let dropped = backend.drop_index(&collection, &path).await?;
                if !dropped {
                    return Err(Failure::new(
                        ErrorKind::NotFound,
                        "index drop",
                        format!(
                            "{collection} has no index on {path}; `storage index list {collection}` lists them"
                        ),
                    ));
                }
                out.either(&json!({"collection": collection, "path": path, "dropped": true}), "dropped")?;
            }
        }
        Ok(Status::Done)
    }
}
