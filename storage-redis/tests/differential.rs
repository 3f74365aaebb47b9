//! The Redis backend against the in-memory reference.

mod harness;

storage_testkit::differential!(harness::Standalone);
