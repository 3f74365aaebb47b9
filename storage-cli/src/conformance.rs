//! The conformance suite against a type that a registry opens by URL.

mod fixture;
mod run;

pub(crate) use fixture::{DIRECTORY, NUMBER, Stores};
pub(crate) use run::{Verdict, run};
