//! Unique indexes against the reference.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use storage_core::{Backend, IndexSpec, Json, MemoryBackend, Mutation, Path, Retry, Timestamp};

use super::{generate, name};
use crate::helpers::{address, write_one};

/// A few scalars under `u`, alone, in lists, and as `k` of objects.
fn document() -> impl Strategy<Value = Json> {
    let long = format!("\"{}\"", "x".repeat(5_000));
    let scalars = vec![
        "null",
        "true",
        "false",
        "0",
        "-0.0",
        "1",
        "1.0",
        "1e0",
        "1.5",
        "\"1\"",
        "\"\"",
        "\"a\"",
        "\"A\"",
        "\"null\"",
        "9007199254740992",
        "9007199254740993",
        "9007199254740992.0",
        "\"\\u0000\"",
        "2",
        "3",
    ];
    let scalars: Vec<String> = scalars.into_iter().map(str::to_owned).chain([long]).collect();
    let scalar = move || select(scalars.clone());
    let list = vec(scalar(), 0..4).prop_map(|items| format!("[{}]", items.join(", ")));
    let object = scalar().prop_map(|k| format!(r#"{{"k": {k}}}"#));
    let objects = vec(scalar(), 0..3).prop_map(|ks| {
        let objects: Vec<String> = ks.iter().map(|k| format!(r#"{{"k": {k}}}"#)).collect();
        format!("[{}]", objects.join(", "))
    });
    let value = prop_oneof![4 => scalar(), 1 => list, 1 => object, 1 => objects];
    prop_oneof![6 => value.prop_map(|u| format!(r#"{{"u": {u}}}"#)), 1 => Just("{}".to_owned())]
        .prop_map(|text| Json::parse(text).expect("valid JSON"))
}

fn unique(collection: &str, path: &str) -> IndexSpec {
    IndexSpec { unique: true, ..IndexSpec::new(name(collection), Path::new(path).expect("a path")) }
}

/// Random writes are taken and refused as by the reference, whatever the indexes, and nothing stays behind.
pub async fn writes_are_refused_as_by_the_reference(backend: &dyn Backend, rounds: usize) {
    let mut runner = TestRunner::deterministic();
    let (mut taken, mut refused, mut made, mut unmade) = (0, 0, 0, 0);
    for round in 0..rounds {
        let (collection, reference) = (name(&format!("c{round}")), MemoryBackend::new());
        let paths = ["u", "u.k", "u.0"].map(|path| unique(collection.as_str(), path));
        let steps = generate(&mut runner, &(document(), 0..12_usize, 0..10_usize), 80);
        for (step, (json, key, what)) in steps.into_iter().enumerate() {
            if step % 20 == 5 {
                let index = &paths[(round + step / 20) % 3];
                let (here, there) = (backend.ensure_index(index).await, reference.ensure_index(index).await);
                assert_eq!(
                    here.as_ref().map_err(|e| e.kind()),
                    there.as_ref().map_err(|e| e.kind()),
                    "{index:?}"
                );
                if here.is_ok() { made += 1 } else { unmade += 1 }
            }
            let at = address(&collection, &format!("k{key}"));
            let mutation = match what {
                0 => Mutation::delete(at),
                1 => {
                    let later = Timestamp::now().saturating_add(std::time::Duration::from_secs(3_600));
                    Mutation::put(at, json).expiring(Some(later))
                }
                _ => Mutation::put(at, json),
            };
            let here = write_one(backend, mutation.clone()).await;
            let there = write_one(&reference, mutation.clone()).await;
            assert_eq!(
                here.as_ref().err().map(|e| e.kind()),
                there.as_ref().err().map(|e| e.kind()),
                "{mutation:?}"
            );
            match here {
                Ok(_) => taken += 1,
                Err(error) => {
                    assert_eq!(error.retry(), Retry::Never);
                    refused += 1;
                }
            }
        }
        for index in &paths {
            let dropped = backend.drop_index(&index.collection, &index.path).await;
            assert_eq!(dropped.ok(), reference.drop_index(&index.collection, &index.path).await.ok());
        }
    }
    assert!(taken > 100 && refused > 50 && made > 3 && unmade > 3, "{taken} {refused} {made} {unmade}");
}
