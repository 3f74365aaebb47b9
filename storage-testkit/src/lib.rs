#![doc = include_str!("../README.md")]

pub mod cases;
#[cfg(unix)]
pub mod crash;
mod cx;
pub mod differential;
pub mod faults;
mod harness;
pub mod helpers;
mod list;
pub mod negative;
pub mod proxy;
pub mod queries;
#[cfg(unix)]
pub mod servers;
mod suite;

pub(crate) use suite::__case_list;

pub use cx::Cx;
pub use harness::{Fixture, Harness, ServerControl};
pub use suite::{Case, Outcome, Run, TIME_LIMIT, cases, find, run_as_test};
