//! The plugin directory: loading, refusing, changing, watching, and plugins that do harm.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;
mod flips;
mod harm;
mod life;
mod load;
mod refusals;
mod shared;
mod watch;
