//! The in-memory backend against the conformance suite.

mod harness;

storage_testkit::conformance!(harness::Memory);
