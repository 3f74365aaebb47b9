//! The Redis backend against the conformance suite.

mod harness;

storage_testkit::conformance!(server: harness::Standalone);
