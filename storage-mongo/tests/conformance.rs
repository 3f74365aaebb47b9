//! The MongoDB backend against the conformance suite, on every kind of server.

mod harness;

mod replica_set {
    storage_testkit::conformance!(super::harness::ReplicaSet);
}

mod standalone {
    storage_testkit::conformance!(super::harness::Standalone);
}

mod tls {
    storage_testkit::conformance!(super::harness::Tls);
}

mod server_of_its_own {
    storage_testkit::conformance!(only server: super::harness::ServerOfItsOwn);
}
