//! The negative twins: what a backend does not offer, it refuses.

use std::time::Duration;

use storage_core::{
    Backend, Batch, Changes, CollectionName, Count, ErrorKind, Feature, Filter, IndexSpec, Json, ListRange,
    Maintenance, Mutation, Path, Precondition, Query, Result, Scan, Sort, Value,
};

use crate::helpers::{address, expect_kind, in_millis, keys_all, ok, put, put_numbered, sorted};

/// Runs in place of a case that needs `feature` on a backend without it: the request is refused as
/// [`Unsupported`](ErrorKind::Unsupported), and neither read nor written anything.
pub async fn twin(backend: &dyn Backend, collection: &CollectionName, feature: Feature) {
    if feature == Feature::OrderedScan && backend.info().capabilities.has(Feature::Scan) {
        return unordered(backend, collection).await;
    }
    let before = ok(backend.stats().await, "stats");
    let what = format!("a request that needs the feature {feature}, which is not offered,");
    let error = expect_kind(request(backend, collection, feature).await, ErrorKind::Unsupported, &what);
    assert_eq!(error.retry(), storage_core::Retry::Never, "{what} fails the same way every time");
    let after = ok(backend.stats().await, "stats");
    assert_eq!((after.reads, after.writes), (before.reads, before.writes), "{what} did something");
}

/// No request asks for order: without it the keys are all there nevertheless.
async fn unordered(backend: &dyn Backend, collection: &CollectionName) {
    put_numbered(backend, collection, 20).await;
    let expected: Vec<String> = (0..20).map(crate::helpers::numbered).collect();
    assert_eq!(sorted(keys_all(backend, collection, "", 3).await), expected);
}

/// A harmless request that needs `feature` and is otherwise in order.
pub async fn request(backend: &dyn Backend, collection: &CollectionName, feature: Feature) -> Result<()> {
    let at = |key: &str| address(collection, key);
    let write = |mutation: Mutation| async move {
        backend
            .write(&Batch::independent(vec![mutation]))
            .await?
            .into_iter()
            .try_for_each(|one| one.map(drop))
    };
    let index = IndexSpec::new(collection.clone(), Path::new("probe")?);
    let mut query = Query::new(collection.clone(), Filter::all());
    match feature {
        Feature::Get => backend.get(&[at("probe")]).await.map(drop),
        Feature::Put => write(put(collection, "probe", 1.into())).await,
        Feature::Preconditions => {
            write(put(collection, "probe-absent", 1.into()).on(Precondition::Absent)).await
        }
        Feature::Expiry => write(put(collection, "probe", 1.into()).expiring(Some(in_millis(60_000)))).await,
        Feature::Atomic => {
            let twice = vec![put(collection, "probe", 1.into()), put(collection, "probe", 2.into())];
            backend.write(&Batch::atomic(twice)).await.map(drop)
        }
        Feature::Scan | Feature::OrderedScan => backend.scan(&Scan::new(collection.clone())).await.map(drop),
        Feature::Query => backend.query(&query).await.map(drop),
        Feature::Sort => {
            query.sort = vec!["probe:asc".parse::<Sort>()?];
            backend.query(&query).await.map(drop)
        }
        Feature::Indexes => backend.ensure_index(&index).await.map(drop),
        Feature::UniqueIndexes => {
            let other = Path::new("unique")?;
            backend.ensure_index(&IndexSpec { path: other, unique: true, ..index }).await.map(drop)
        }
        Feature::Count => {
            backend.count(&Count { collection: collection.clone(), filter: None }).await.map(drop)
        }
        Feature::Collections => backend.collections().await.map(drop),
        Feature::Clear => backend.clear(collection).await.map(drop),
        Feature::Bytes => write(Mutation::put(at("probe"), Value::bytes(vec![0xff]))).await,
        Feature::Counters => write(Mutation::increment(at("probe-counter"), "n", 1)).await,
        Feature::Lists => {
            let range = ListRange { address: at("probe-list"), start: 0, limit: 1 };
            backend.list_range(&range).await?;
            write(Mutation::append(at("probe-list"), vec![Json::parse("1")?])).await
        }
        Feature::Changes => {
            let collection = Some(collection.clone());
            let changes = Changes { collection, after: None, limit: 1, wait: Duration::ZERO };
            backend.changes(&changes).await.map(drop)
        }
        Feature::Sweep => backend.maintain(Maintenance::Sweep).await.map(drop),
        Feature::Analyse => backend.maintain(Maintenance::Analyse).await.map(drop),
        Feature::Compact => backend.maintain(Maintenance::Compact).await.map(drop),
        Feature::Verify => backend.maintain(Maintenance::Verify).await.map(drop),
        other => panic!("the suite knows no request for the feature {other}"),
    }
}
