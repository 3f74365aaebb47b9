//! `schema status` and `schema apply`, on a real server.

use storage_testkit::servers::{PostgresServer, PostgresSettings};

use crate::shell::Shell;

#[test]
fn tables_are_shown_and_made() {
    let server = PostgresServer::start(&PostgresSettings::default()).unwrap();
    let store = format!("{}?create_schema=false", server.url());
    let shell = Shell::new();
    let before = shell.json(&["--store", &store, "schema", "status"]);
    assert_eq!((&before["version"], &before["current"]), (&0.into(), &false.into()), "{before}");
    assert!(before["migrations"][0]["applied_at"].is_null());
    let refused = shell.run(&["--store", &store, "collections"]).expect(2);
    assert!(refused.err.contains("storage schema apply"), "{}", refused.err);
    let applied = shell.json(&["--store", &store, "schema", "apply"]);
    assert_eq!(applied["applied"][0]["name"], "records");
    assert_eq!(shell.ok(&["--store", &store, "schema", "apply"]), "nothing to do\n");
    assert!(shell.ok(&["--store", &store, "schema", "status"]).contains("records"));
    let after = shell.json(&["--store", &store, "schema", "status"]);
    assert_eq!((&after["version"], &after["current"]), (&after["wanted"], &true.into()), "{after}");
    shell.ok(&["--store", &store, "put", "users", "ada", "{}"]);
    server.psql("INSERT INTO storage.migrations (version, name) VALUES (99, 'of the future')").unwrap();
    let newer = shell.run(&["--store", &store, "schema", "apply"]).expect(2);
    assert!(newer.err.contains("newer"), "{}", newer.err);
}

#[test]
fn other_stores_have_no_schema() {
    let shell = Shell::new();
    for command in ["status", "apply"] {
        let run = shell.run(&["schema", command]).expect(2);
        assert!(run.err.contains("type file has no schema"), "{}", run.err);
    }
    assert!(!shell.directory.path().join("store").exists(), "nothing was made");
}
