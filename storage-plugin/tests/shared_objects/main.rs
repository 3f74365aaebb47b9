//! Plugins as they are used: real shared libraries, built by cargo and loaded by the host.

mod build;
mod conformance;
mod exit;
mod misbehaving;
mod valgrind;
