//! Plugins under valgrind, which sees what the two sides do to each other's memory.

use std::env;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use crate::build;

/// Panics, cancellations and races, and every kind of value both ways.
const TESTS: [&str; 5] = [
    "misbehaving::",
    "conformance::memory_inline::crud::",
    "conformance::memory_inline::counters::",
    "conformance::memory_spawned::crud::",
    "conformance::memory_spawned::counters::",
];

#[test]
fn valgrind_finds_nothing() {
    let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !valgrind.is_ok_and(|status| status.success()) {
        // Past the harness, which keeps what a test prints that passes.
        let told = writeln!(io::stderr(), "\nnot run: plugins under valgrind, which is not installed");
        return told.expect("the standard error");
    }
    for example in ["memory_plugin", "memory_spawned_plugin", "misbehaving_plugin"] {
        build::example(example);
    }
    let mut valgrind = Command::new("valgrind");
    // With its own scheduler, threads that spin starve the others.
    valgrind.args(["--quiet", "--error-exitcode=9", "--fair-sched=yes"]);
    let output =
        valgrind.arg(env::current_exe().expect("this program")).args(TESTS).output().expect("valgrind runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.contains("test result: ok.") && !out.contains(" 0 passed"), "{out}");
}
