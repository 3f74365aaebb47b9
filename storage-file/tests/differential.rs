//! The file backend against the in-memory reference.

mod harness;

storage_testkit::differential!(harness::Files);
