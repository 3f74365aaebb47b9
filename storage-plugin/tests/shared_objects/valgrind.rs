//! Plugins under valgrind, which sees what the two sides do to each other's memory.

use std::env;
use std::process::Command;

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
    for example in ["memory_plugin", "memory_spawned_plugin", "misbehaving_plugin"] {
        build::example(example);
    }
    let mut valgrind = Command::new("valgrind");
    // With its own scheduler, threads that spin starve the others.
    valgrind.args(["--quiet", "--error-exitcode=9", "--fair-sched=yes"]);
    let output = valgrind.arg(env::current_exe().expect("this program")).args(TESTS).output();
    let output = output.expect("valgrind, which `cargo xtask services install` installs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.contains("test result: ok.") && !out.contains(" 0 passed"), "{out}");
}
