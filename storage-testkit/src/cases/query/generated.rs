//! Generated filters against the reference.

use std::collections::BTreeMap;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::Value as Tree;
use storage_core::{Batch, Feature, IndexSpec, Query};

use crate::Cx;
use crate::differential::arbitrary::{document, filter, path};
use crate::helpers::{keys_of, numbered, ok, put, query_all, sorted, write_all};

const DOCUMENTS: usize = 60;
const FILTERS: usize = 300;

/// A few hundred random filters over random documents find what [`Filter::matches`](storage_core::Filter)
/// says, also when there are indexes. The random numbers are the same in each run.
pub async fn agrees_with_the_reference(cx: Cx) {
    let (backend, collection) = (cx.open().await, cx.collection());
    let documents: BTreeMap<String, Tree> = generate(document(), DOCUMENTS)
        .into_iter()
        .enumerate()
        .map(|(i, tree)| (numbered(i), tree))
        .collect();
    let puts = documents.iter().map(|(key, tree)| put(&collection, key, tree.clone())).collect();
    write_all(&*backend, Batch::independent(puts)).await;
    for (i, filter) in generate(filter(), FILTERS).into_iter().enumerate() {
        if i == FILTERS / 2 && cx.has(Feature::Indexes) {
            for path in generate(path(), 6) {
                ok(backend.ensure_index(&IndexSpec::new(collection.clone(), path)).await, "ensure_index");
            }
        }
        let query = Query { limit: 50, ..Query::new(collection.clone(), filter.clone()) };
        let found = sorted(keys_of(&query_all(&*backend, query).await));
        for (key, tree) in &documents {
            assert_eq!(
                found.contains(key),
                filter.matches(tree),
                "whether the filter {} finds {tree}",
                filter.to_json()
            );
        }
        let expected = documents.values().filter(|tree| filter.matches(tree)).count();
        assert_eq!(found.len(), expected, "each record once by the filter {}", filter.to_json());
    }
}

fn generate<S: Strategy>(strategy: S, n: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    let one = |_| strategy.new_tree(&mut runner).expect("a strategy that rejects nothing").current();
    (0..n).map(one).collect()
}
