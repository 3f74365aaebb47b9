//! The Redis backend against the conformance suite, on every kind of server.

mod harness;

mod standalone {
    storage_testkit::conformance!(server: super::harness::Standalone);
}

mod cluster {
    storage_testkit::conformance!(super::harness::Cluster { shards: 64 });
}

mod cluster_of_one_shard {
    storage_testkit::conformance!(super::harness::Cluster { shards: 1 });
}

mod sentinel {
    storage_testkit::conformance!(super::harness::Sentinel);
}
