//! The PostgreSQL backend against the conformance suite, on every kind of server.

mod harness;

mod standalone {
    storage_testkit::conformance!(super::harness::Standalone);
}

mod server_of_its_own {
    storage_testkit::conformance!(only server: super::harness::ServerOfItsOwn);
}

mod tls {
    storage_testkit::conformance!(super::harness::Tls);
}

mod pooler {
    storage_testkit::conformance!(super::harness::Pooled);
}

mod replicated {
    storage_testkit::conformance!(super::harness::Replicated);
}

mod partitioned {
    storage_testkit::conformance!(super::harness::Partitioned);
}
