//! The JSON shape of each command, and of errors.

use std::collections::BTreeSet;

use serde_json::{Value as Tree, json};

use crate::shell::Shell;

#[track_caller]
fn keys(tree: &Tree, expected: &[&str]) {
    let found: BTreeSet<&str> = tree.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, expected.iter().copied().collect(), "{tree}");
}

const RECORD: [&str; 8] =
    ["collection", "key", "kind", "value", "version", "created_at", "updated_at", "expires_at"];

#[test]
fn every_command_has_its_shape() {
    let shell = Shell::new();
    let put = shell.json(&["put", "c", "a", r#"{"id":"a","n":1}"#, "--ttl", "1h"]);
    keys(&put, &["collection", "key", "version"]);
    shell.ok(&["put", "c", "b", "2"]);

    let got = shell.json(&["get", "c", "a"]);
    keys(&got, &["records", "missing"]);
    keys(&got["records"][0], &RECORD);
    assert_eq!(got["records"][0]["version"], put["version"]);
    assert_eq!(got["records"][0]["kind"], "json");
    assert!(got["records"][0]["expires_at"].as_str().unwrap().ends_with('Z'));

    let listed = shell.json(&["list", "c", "--limit", "1"]);
    assert_eq!(listed["keys"], json!(["a"]));
    assert!(listed["next"].is_string());
    let after = shell.json(&["list", "c", "--after", listed["next"].as_str().unwrap()]);
    assert_eq!(after, json!({"keys": ["b"], "next": null}));
    let values = shell.json(&["list", "c", "--values"]);
    keys(&values, &["records", "next"]);
    keys(&values["records"][1], &RECORD);
    let found = shell.json(&["query", "c", "--filter", r#"{"n":1}"#]);
    keys(&found, &["records", "next"]);
    assert_eq!(found["records"].as_array().unwrap().len(), 1);
    assert_eq!(shell.json(&["query", "c", "--count"]), json!({"collection": "c", "count": 2}));

    let incr = shell.json(&["incr", "n", "k", "f", "2"]);
    keys(&incr, &["collection", "key", "field", "value", "version"]);
    assert_eq!(incr["value"], 2);
    let append = shell.json(&["append", "l", "k", "1", "2"]);
    keys(&append, &["collection", "key", "length", "version"]);
    let range = shell.json(&["range", "l", "k", "0", "1"]);
    assert_eq!(range, json!({"items": [1], "start": 0, "length": 2, "next": 1}));
    let rest = shell.json(&["range", "l", "k", "1"]);
    assert_eq!(rest, json!({"items": [2], "start": 1, "length": 2, "next": null}));
    assert_eq!(shell.json(&["get", "l", "k"])["records"][0]["value"], json!({"length": 2}));

    let file = shell.file("in.ndjson", "{\"id\":1}\n");
    let imported = shell.json(&["import", "i", file.to_str().unwrap(), "--key", "id"]);
    keys(&imported, &["imported", "skipped", "existing", "expired", "seconds", "per_second"]);
    assert_eq!(imported["imported"], 1);
    let exported = shell.json(&["export", "i", "--output", "out.ndjson"]);
    assert_eq!(exported, json!({"exported": 1, "collections": ["i"], "output": "out.ndjson"}));

    let batch = shell.file("b.json", r#"[{"op":"delete","collection":"i","key":"1"}]"#);
    let applied = shell.json(&["apply", batch.to_str().unwrap()]);
    let result = json!({"op": "delete", "collection": "i", "key": "1", "version": null, "existed": true});
    assert_eq!(applied, json!({"already_applied_at": null, "results": [result]}));

    assert_eq!(shell.json(&["collections"]), json!({"collections": ["c", "l", "n"]}));
    assert_eq!(shell.json(&["count", "c"]), json!({"collection": "c", "count": 2}));
    let added = shell.json(&["index", "add", "c", "n"]);
    assert_eq!(added, json!({"collection": "c", "path": "n", "unique": false, "created": true}));
    let indexes = shell.json(&["index", "list", "c"]);
    assert_eq!(indexes, json!({"collection": "c", "indexes": [{"path": "n", "unique": false}]}));
    let dropped = shell.json(&["index", "drop", "c", "n"]);
    assert_eq!(dropped, json!({"collection": "c", "path": "n", "dropped": true}));
    let deleted = shell.json(&["delete", "c", "b"]);
    assert_eq!(deleted, json!({"collection": "c", "deleted": ["b"], "missing": []}));
    assert_eq!(shell.json(&["clear", "c", "--yes"]), json!({"collection": "c", "removed": 1}));

    let types = shell.json(&["types"]);
    for field in
        ["name", "version", "origin", "status", "schemes", "capabilities", "config_schema", "summary"]
    {
        assert!(types["types"][0].get(field).is_some(), "{field}");
    }
    let stats = shell.json(&["stats"]);
    keys(&stats, &["backend", "records", "bytes", "reads", "writes", "details"]);
    keys(&stats["backend"], &["name", "version", "location"]);
    let health = shell.json(&["health"]);
    keys(&health, &["status", "latency_ms", "detail"]);
    assert_eq!(health["status"], "up");
    assert_eq!(shell.json(&["verify"])["problems"], json!([]));
    keys(&shell.json(&["compact"]), &["examined", "removed", "freed_bytes"]);
    keys(&shell.json(&["completions", "bash"]), &["shell", "script"]);
}

#[test]
fn errors_are_json_too() {
    let shell = Shell::new();
    shell.ok(&["put", "c", "a", "1"]);
    for (arguments, status, kind, operation, backend) in [
        (&["get", "c", "x"] as &[&str], 1, "not_found", "get", ""),
        (&["put", "c", "", "1"], 2, "invalid_input", "usage", ""),
        (&["putt"], 2, "invalid_input", "usage", ""),
        (&[], 2, "invalid_input", "usage", ""),
        (&["put", "c", "k", "{"], 2, "invalid_input", "input", ""),
        (&["put", "c", "a", "1", "--if-absent"], 3, "precondition_failed", "write", "file"),
        (&["incr", "c", "a", "n"], 2, "type_mismatch", "write", "file"),
        (&["--store", "nowhere:", "get", "c", "a"], 2, "not_found", "open", ""),
        (&["--store", "data", "get", "c", "a"], 2, "invalid_input", "open", ""),
    ] {
        let arguments: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        let run = shell.run(&arguments).expect(status);
        let error: Tree = serde_json::from_str(&run.err).unwrap();
        keys(&error, &["error"]);
        let error = &error["error"];
        keys(error, &["kind", "message", "operation", "backend"]);
        assert_eq!(
            (error["kind"].as_str(), error["operation"].as_str(), error["backend"].as_str()),
            (Some(kind), Some(operation), Some(backend)),
            "{error}"
        );
        assert_eq!(run.err.lines().count(), 1);
        // A way out is named without --json too, on one line.
        let plain = shell.run(&arguments[1..]).expect(status);
        assert!(plain.err.starts_with("storage: ") && plain.err.lines().count() == 1, "{}", plain.err);
    }
}

#[test]
fn missing_keys_are_in_the_answer() {
    let shell = Shell::new();
    shell.ok(&["put", "c", "a", "1"]);
    let run = shell.run(&["--json", "get", "c", "x", "a"]).expect(1);
    let answer: Tree = serde_json::from_slice(&run.out).unwrap();
    assert_eq!(answer["missing"], json!(["x"]));
    assert_eq!(answer["records"][0]["value"], 1);
    let run = shell.run(&["delete", "c", "x", "a", "--json"]).expect(1);
    let answer: Tree = serde_json::from_slice(&run.out).unwrap();
    assert_eq!(answer, json!({"collection": "c", "deleted": ["a"], "missing": ["x"]}));
}
