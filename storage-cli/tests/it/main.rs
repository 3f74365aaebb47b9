//! The contract of the command line, checked on the real binary with stores in temporary directories.

mod contract;
mod shell;
