//! Group *query*: what filters and orders mean, paging, and indexes. The expected keys are written out by
//! hand; only [`agrees_with_the_reference`] asks [`Filter::matches`].

mod filters;
mod generated;
mod indexes;
mod order;

pub use filters::*;
pub use generated::agrees_with_the_reference;
pub use indexes::*;
pub use order::*;

use std::sync::Arc;

use serde_json::Value as Tree;
use storage_core::{Backend, Batch, CollectionName, Filter, Query, Sort};

use crate::Cx;
use crate::helpers::{keys_of, put, query_all, sorted, write_all};

/// A collection of documents to query.
struct Table {
    backend: Arc<dyn Backend>,
    collection: CollectionName,
}

impl Table {
    /// Puts `documents`, an object of them by key.
    async fn new(cx: &Cx, documents: Tree) -> Self {
        let (backend, collection) = (cx.open().await, cx.collection());
        let Tree::Object(documents) = documents else { panic!("the case gives documents by key") };
        let puts = documents.into_iter().map(|(key, document)| put(&collection, &key, document)).collect();
        write_all(&*backend, Batch::independent(puts)).await;
        Self { backend, collection }
    }

    fn query(&self, filter: &str) -> Query {
        let filter: Filter =
            filter.parse().unwrap_or_else(|error| panic!("the case's filter {filter}: {error}"));
        Query::new(self.collection.clone(), filter)
    }

    /// The keys that a filter finds, in key order.
    async fn keys(&self, filter: &str, limit: u32) -> Vec<String> {
        let found = query_all(&*self.backend, Query { limit, ..self.query(filter) }).await;
        sorted(keys_of(&found))
    }

    /// Whether each filter finds these keys, separated by spaces, on one page and on many.
    async fn finds(&self, rows: &[(&str, &str)]) {
        for (filter, expected) in rows {
            let expected = sorted(expected.split_whitespace().map(str::to_owned).collect());
            for limit in [100, 2] {
                let found = self.keys(filter, limit).await;
                assert_eq!(found, expected, "the filter {filter} in pages of {limit}");
            }
        }
    }

    /// Whether each order gives these keys in this sequence, on one page and on many.
    async fn orders(&self, rows: &[(&str, &str)]) {
        for (order, expected) in rows {
            let sort: Vec<Sort> =
                order.split(' ').map(|sort| sort.parse().expect("the case's sort")).collect();
            for limit in [100, 3, 1] {
                let query = Query { sort: sort.clone(), limit, ..self.query("{}") };
                let found = keys_of(&query_all(&*self.backend, query).await).join(" ");
                assert_eq!(found, *expected, "sorted by {order} in pages of {limit}");
            }
        }
    }
}
