//! The MongoDB backend against the conformance suite, on every kind of server.

mod harness;

mod replica_set {
    storage_testkit::conformance!(super::harness::ReplicaSet, ignored: [
        query::leading_zeros_make_no_position = "the stand-in takes 01 for a position: docs/mongodb-stand-in.md",
    ]);
}

mod standalone {
    storage_testkit::conformance!(super::harness::Standalone, ignored: [
        query::leading_zeros_make_no_position = "the stand-in takes 01 for a position: docs/mongodb-stand-in.md",
    ]);
}

/// What depends on the connection: large values, errors, the end. `tls.rs` has who is let in.
mod tls {
    storage_testkit::conformance!(only crud text errors_and_life: super::harness::Tls);
}

mod server_of_its_own {
    storage_testkit::conformance!(only server: super::harness::ServerOfItsOwn);
}
