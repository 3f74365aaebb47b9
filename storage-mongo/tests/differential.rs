//! The MongoDB backend against the in-memory reference.

mod harness;

mod replica_set {
    storage_testkit::differential!(super::harness::ReplicaSet);
}

mod standalone {
    storage_testkit::differential!(super::harness::Standalone);
}
