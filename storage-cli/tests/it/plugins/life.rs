//! The life of a plugin, from its key to its end.

use serde_json::{Value as Tree, json};

use crate::shell::Shell;

fn states(shell: &Shell) -> String {
    let states = shell.states().into_iter();
    states.map(|(name, version, state)| format!("{name}@{version} {state}")).collect::<Vec<_>>().join(", ")
}

/// The versions of the type that `storage types` shows, with their status.
fn types(shell: &Shell) -> Vec<String> {
    let types = shell.json(&["types"]);
    let types = types["types"].as_array().unwrap().iter().filter(|entry| entry["name"] == "c-memory");
    types.map(|entry| format!("{} {}", entry["version"], entry["status"]).replace('"', "")).collect()
}

#[test]
fn from_the_key_to_the_end() {
    let shell = Shell::new();
    let put = ["--store", "c-memory:", "put", "users", "ada", "1"];
    assert_eq!(states(&shell), "");
    shell.run(&put).expect(2).says("unknown URL scheme");

    let package = shell.signed("1.0.0");
    shell.run(&["plugin", "install", &package]).expect(5).says("storage plugin trust");
    shell.ok(&["plugin", "trust", "release.key.pub", "--name", "acme"]);
    assert!(shell.ok(&["plugin", "keys"]).contains("acme"));
    assert!(shell.ok(&["plugin", "install", &package]).contains("c-memory@1.0.0"));
    assert_eq!(states(&shell), "c-memory@1.0.0 enabled");
    assert_eq!(types(&shell), ["1.0.0 active"]);

    // Through the plugin: it gives out a version, and sums up.
    assert!(!shell.ok(&put).trim().is_empty());
    assert_eq!(shell.ok(&["--store", "c-memory:", "incr", "n", "k", "f", "5"]), "5\n");
    // Each command has a store of its own: the plugin keeps nothing.
    shell.run(&["--store", "c-memory:", "get", "users", "ada"]).expect(1).says("\"ada\" is not in users");
    shell.run(&["--store", "c-memory:", "query", "users", "--filter", "{}"]).expect(2).says("query");

    let update = shell.signed("1.1.0");
    assert!(shell.ok(&["plugin", "update", &update]).contains("c-memory@1.1.0"));
    assert_eq!(types(&shell), ["1.0.0 active", "1.1.0 active"]);
    let version =
        |shell: &Shell| shell.json(&["--store", "c-memory:", "stats"])["backend"]["version"].clone();
    assert_eq!(version(&shell), "1.1.0");

    shell.ok(&["plugin", "rollback", "c-memory"]);
    assert_eq!(states(&shell), "c-memory@1.0.0 enabled, c-memory@1.1.0 disabled");
    assert_eq!(version(&shell), "1.0.0");
    shell.run(&["plugin", "rollback", "c-memory"]).expect(2).says("no lower version");
    shell.ok(&["plugin", "disable", "c-memory@1.0.0"]);
    shell.run(&put).expect(4).says("disabled");
    shell.ok(&["plugin", "enable", "c-memory@1.1.0"]);
    assert_eq!(states(&shell), "c-memory@1.0.0 disabled, c-memory@1.1.0 enabled");
    assert_eq!(version(&shell), "1.1.0");
    assert!(shell.ok(&["plugin", "verify"]).contains("no problems"));

    shell.ok(&["plugin", "uninstall", "c-memory@1.1.0"]);
    assert_eq!(states(&shell), "c-memory@1.0.0 disabled");
    shell.ok(&["plugin", "uninstall", "c-memory"]);
    assert_eq!(states(&shell), "");
    shell.run(&put).expect(2).says("unknown URL scheme");
    shell.run(&["plugin", "uninstall", "c-memory"]).expect(1);
}

#[test]
fn an_unsigned_library_goes_in_with_the_option_alone() {
    let shell = Shell::new();
    let file = shell.plugin("1.0.0");
    let file = file.to_str().unwrap();
    let refused = shell.run(&["plugin", "install", file]).expect(5);
    refused.says("storage plugin sign").says("--allow-unsigned");
    assert_eq!(states(&shell), "");
    shell.ok(&["plugin", "install", file, "--allow-unsigned"]);
    // It was approved when it was installed: this very file needs no option any more.
    assert_eq!(states(&shell), "c-memory@1.0.0 enabled");
    shell.ok(&["--store", "c-memory:", "put", "users", "ada", "1"]);
}

#[test]
fn a_library_that_is_dropped_in_needs_the_option() {
    let shell = Shell::new();
    let file = shell.plugin("1.0.0");
    std::fs::create_dir(shell.directory.path().join("plugins")).unwrap();
    std::fs::copy(file, shell.directory.path().join("plugins/dropped.so")).unwrap();
    assert_eq!(states(&shell), "c-memory@1.0.0 refused");
    let put = ["--store", "c-memory:", "put", "users", "ada", "1"];
    let run =
        shell.run(&put).expect(2).says("unknown URL scheme").says("dropped.so").says("--allow-unsigned");
    assert_eq!(run.err.lines().count(), 2, "{}", run.err);
    // What is refused matters to nobody who does not want it.
    assert_eq!(shell.run(&["put", "users", "ada", "1"]).expect(0).err, "");
    shell.ok(&[&["--allow-unsigned"], &put[..]].concat());
}

#[test]
fn the_suite_runs_against_a_plugin() {
    let shell = Shell::new();
    let file = shell.plugin("1.0.0");
    let run = shell.run(&["plugin", "test", file.to_str().unwrap(), "--volatile"]).expect(0);
    run.says("cases that need power over a server");
    let report = shell.json(&["plugin", "test", file.to_str().unwrap(), "--volatile", "--url", "c-memory:"]);
    assert_eq!((&report["name"], &report["version"]), (&json!("c-memory"), &json!("1.0.0")));
    assert_eq!(report["failed"], 0);
    let count = |outcome: &str| {
        report["cases"].as_array().unwrap().iter().filter(|case| case["outcome"] == outcome).count() as u64
    };
    assert!(count("passed") > 80 && count("refused") > 10, "{report}");
    assert_eq!(
        (report["passed"].as_u64(), report["refused"].as_u64()),
        (Some(count("passed")), Some(count("refused")))
    );
    assert!(report["not_run"].as_array().unwrap().iter().all(|case| case["group"] == "server"));
    assert!(!shell.directory.path().join("plugins").exists(), "testing installs nothing");
}

#[test]
fn a_plugin_that_fails_is_told_case_by_case() {
    let shell = Shell::new();
    let file = shell.plugin("1.0.0");
    // It keeps nothing, and is said to.
    let run = shell
        .run(&["plugin", "test", file.to_str().unwrap()])
        .expect(5)
        .says("cases failed")
        .says("--volatile");
    assert!(run.text().contains("failed: errors_and_life::reopened_store_is_as_it_was: "));
    let run = shell.run(&["plugin", "test", file.to_str().unwrap(), "--json"]).expect(5);
    let report: Tree = serde_json::from_slice(&run.out).unwrap();
    let failed: Vec<&Tree> =
        report["cases"].as_array().unwrap().iter().filter(|case| case["outcome"] == "failed").collect();
    assert!(failed.iter().all(|case| case["message"].is_string()), "{failed:?}");
    assert_eq!(report["failed"], failed.len());
}
