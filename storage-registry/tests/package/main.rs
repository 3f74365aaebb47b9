//! Packages of plugins: what is checked before anything of them runs.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod keys;
mod library;
mod manifest;
mod package;
mod support;
