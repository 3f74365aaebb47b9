//! The PostgreSQL backend against the in-memory reference.

mod harness;

mod standalone {
    storage_testkit::differential!(super::harness::Standalone);
}
