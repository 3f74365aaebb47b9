//! Plugins that end the program.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::compile_with_constructor;
use crate::shell::Shell;

/// A `get` from the plugin's store.
const GET: [&str; 6] = ["--allow-unsigned", "--store", "c-memory:", "get", "users", "ada"];

/// Runs [`GET`], and expects that the plugin ends the program with SIGABRT.
#[track_caller]
fn expect_aborted(shell: &Shell) {
    const SIGABRT: i32 = 6;

    let output = shell.command().args(GET).output().unwrap();
    assert_eq!(output.status.signal(), Some(SIGABRT), "{output:?}");
}

#[test]
fn one_that_ends_the_program_while_it_is_loaded_is_quarantined() {
    let shell = Shell::new();
    // It gets through the trial.
    let file = shell.directory.path().join("harm.so");
    compile_with_constructor(&file, r#"if (!getenv("STORAGE_PLUGIN_TRIAL")) abort();"#);
    shell.ok(&["plugin", "install", "harm.so", "--allow-unsigned"]);
    let states = |state: &str| vec![("c-memory".to_owned(), "1.0.0".to_owned(), state.to_owned())];
    assert_eq!(shell.states(), states("enabled"));
    expect_aborted(&shell);

    assert_eq!(shell.states(), states("quarantined"));
    let list = shell.json(&["plugin", "list"]);
    let reason = list["plugins"][0]["reason"].as_str().unwrap();
    for words in ["while it was loaded", "storage plugin enable c-memory@1.0.0"] {
        assert!(reason.contains(words), "{words:?} is not in {reason:?}");
        assert!(shell.ok(&["plugin", "list"]).contains(words));
    }
    // The program lives without it, and says why it has to.
    shell.run(&GET).expect(4).says("while it was loaded");
    shell.ok(&["put", "users", "ada", "1"]);

    shell.ok(&["plugin", "enable", "c-memory@1.0.0"]);
    assert_eq!(shell.states(), states("enabled"));
    expect_aborted(&shell);
    assert_eq!(shell.states(), states("quarantined"));
}

#[test]
fn a_trial_leaves_no_core_file() {
    let shell = Shell::new();
    let limit = "struct rlimit core; getrlimit(RLIMIT_CORE, &core); \
                 fprintf(stderr, \"core=%llu\\n\", (unsigned long long)core.rlim_cur); abort();";
    compile_with_constructor(&shell.directory.path().join("abort.so"), limit);
    let storage = shell.command();
    let mut unlimited = Command::new("sh");
    // As far as the system allows.
    unlimited.args(["-c", "ulimit -S -c \"$(ulimit -H -c)\"; exec \"$@\"", "sh"]).arg(storage.get_program());
    unlimited.args(["plugin", "install", "abort.so", "--allow-unsigned"]);
    for (name, value) in storage.get_envs() {
        match value {
            Some(value) => unlimited.env(name, value),
            None => unlimited.env_remove(name),
        };
    }
    let output = unlimited.current_dir(shell.directory.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("core=0"), "{said}");
}
