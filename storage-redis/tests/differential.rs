//! The Redis backend against the in-memory reference.

mod harness;

mod standalone {
    storage_testkit::differential!(super::harness::Standalone);
}

mod cluster {
    storage_testkit::differential!(super::harness::Cluster { shards: 4 });
}
