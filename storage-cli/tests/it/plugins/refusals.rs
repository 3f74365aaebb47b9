//! What is refused, with what to do about it.

use serde_json::{Value as Tree, json};

use super::compile_with_constructor;
use crate::shell::Shell;

#[test]
fn files_that_are_no_plugins() {
    let shell = Shell::new();
    let plugin = std::fs::read(shell.plugin("1.0.0")).unwrap();
    for (name, content) in [
        ("empty.so", &b""[..]),
        ("text.so", b"not a library\n"),
        ("truncated.so", &plugin[..plugin.len() / 2]),
        ("headers.so", &plugin[..128]),
    ] {
        shell.file(name, content);
        for command in ["install", "test", "pack"] {
            shell.run(&["plugin", command, name, "--allow-unsigned"]).expect(2).says(name);
        }
        shell.run(&["plugin", "inspect", name]);
    }
    for command in ["install", "test", "pack", "inspect", "update"] {
        shell.run(&["plugin", command, "missing.so", "--allow-unsigned"]).expect(2).says("missing.so");
    }
    std::fs::create_dir(shell.directory.path().join("empty")).unwrap();
    shell.run(&["plugin", "install", "empty"]).expect(2).says("plugin.toml");
    assert!(shell.states().is_empty());
}

#[test]
fn a_plugin_that_ends_its_process_ends_the_trial_alone() {
    let shell = Shell::new();
    let file = shell.directory.path().join("abort.so");
    compile_with_constructor(&file, "abort();");
    for command in ["install", "test", "pack"] {
        let run = shell.run(&["plugin", command, "abort.so", "--allow-unsigned"]);
        assert_ne!(run.status, 0);
        run.says("abort.so").says("signal");
    }
    assert!(shell.states().is_empty());
}

#[test]
fn a_package_that_was_changed() {
    let shell = Shell::new();
    let package = shell.signed("1.0.0");
    shell.ok(&["plugin", "trust", "release.key.pub"]);
    let manifest = shell.directory.path().join(&package).join("plugin.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("1.0.0", "1.0.1")).unwrap();
    shell.run(&["plugin", "install", &package]).expect(5).says("signature");
    std::fs::write(&manifest, format!("sumary = \"x\"\n{text}")).unwrap();
    shell.run(&["plugin", "install", &package]).expect(2).says("sumary");
    std::fs::write(&manifest, text).unwrap();
    shell.ok(&["plugin", "install", &package]);

    // In the directory, too: it is found at the next use.
    let library = std::fs::read_dir(shell.directory.path().join("plugins").join(&package)).unwrap();
    let library =
        library.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some_and(|e| e == "so"));
    let library = library.unwrap();
    let mut bytes = std::fs::read(&library).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::remove_file(&library).unwrap();
    std::fs::write(&library, bytes).unwrap();
    let run = shell.run(&["plugin", "verify"]).expect(5);
    assert!(String::from_utf8(run.out).unwrap().contains("SHA-256"));
    assert_eq!(shell.states()[0].2, "refused");
    shell
        .run(&["--store", "c-memory:", "put", "c", "k", "1"])
        .expect(2)
        .says("unknown URL scheme")
        .says("SHA-256");
}

#[test]
fn keys_that_are_none_of_ours() {
    let shell = Shell::new();
    let package = shell.signed("1.0.0");
    shell.run(&["plugin", "keygen", "release.key"]).expect(2).says("release.key");
    shell.run(&["plugin", "trust", "release.key"]).expect(2);
    shell.run(&["plugin", "trust", "missing.pub"]).expect(2).says("missing.pub");
    shell.run(&["plugin", "sign", &package, "--key", "release.key.pub"]).expect(2);
    shell.run(&["plugin", "untrust", "nobody"]).expect(1).says("trusted: none");
    shell.ok(&["plugin", "trust", "release.key.pub", "--name", "acme"]);
    shell.ok(&["plugin", "install", &package]);
    shell.ok(&["plugin", "untrust", "acme"]);
    assert_eq!(shell.states()[0].2, "refused");
    let list = shell.json(&["plugin", "list"]);
    assert!(list["plugins"][0]["reason"].as_str().unwrap().contains("storage plugin trust"), "{list}");
}

#[test]
fn names_that_are_not_there() {
    let shell = Shell::new();
    for command in ["uninstall", "enable", "disable", "rollback"] {
        shell.run(&["plugin", command, "nothing"]).expect(1).says("storage plugin list");
    }
    shell.run(&["plugin", "enable", "c-memory@one"]).expect(2).says("c-memory@1.0.0");
    shell.run(&["plugin", "uninstall", "./lib.so"]).expect(2).says("storage plugin list");
}

#[test]
fn a_directory_that_anybody_can_write_to() {
    use std::os::unix::fs::PermissionsExt as _;

    let shell = Shell::new();
    let directory = shell.directory.path().join("plugins");
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    shell.run(&["plugin", "list"]).expect(5).says("chmod");
    shell.run(&["--store", "c-memory:", "get", "c", "k"]).expect(2).says("unknown URL scheme").says("chmod");
    // Stores that need no plugin are none of its business.
    shell.ok(&["put", "c", "k", "1"]);
}

#[test]
fn urls_to_test_with() {
    let shell = Shell::new();
    let file = shell.plugin("1.0.0");
    let file = file.to_str().unwrap();
    for url in ["redis://localhost", "c-memory", "c-memory:path"] {
        shell.run(&["plugin", "test", file, "--url", url]).expect(2).says("--url");
    }
}

#[test]
fn errors_have_the_usual_shape() {
    let shell = Shell::new();
    let run = shell.run(&["--json", "plugin", "install", "missing.so"]).expect(2);
    let error: Tree = serde_json::from_str(&run.err).unwrap();
    assert_eq!(error["error"]["operation"], json!("plugin install"), "{error}");
}
