//! The differential tester with the reference on both sides: it has to find nothing, or the tester itself
//! takes something for a difference that is none.

mod harness;

storage_testkit::differential!(harness::Memory);
