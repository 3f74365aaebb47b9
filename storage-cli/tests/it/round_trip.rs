//! `export` and `import --exported`: what comes back is what was there.

use crate::shell::Shell;

/// A store with every kind of value, awkward keys and expiries.
fn filled() -> Shell {
    let shell = Shell::new();
    let big = r#"{"i":123456789012345678901234567890,"u":18446744073709551615,"f":1e308,"z":-0.0,"t":"\u0000\ud83d\ude00"}"#;
    shell.ok(&["put", "json", "big", big]);
    shell.ok(&["put", "json", "null", "null"]);
    shell.ok(&["put", "json", "soon", "1", "--ttl", "1h"]);
    for key in ["50%", "a_b*?[", "line\nbreak", "'; drop table x;--", "\u{e9}", "e\u{301}", "🦀"] {
        shell.ok(&["put", "json", key, "true"]);
    }
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let file = shell.file("bytes", bytes);
    shell.ok(&[
        "put",
        "more",
        "bytes",
        "--file",
        file.to_str().unwrap(),
        "--bytes",
        "--media-type",
        "a/b",
        "--ttl",
        "2h",
    ]);
    shell.fed(&["put", "more", "no-bytes", "-", "--bytes"], b"").expect(0);
    shell.ok(&["incr", "more", "counters", "up", "9223372036854775807", "--ttl", "3h"]);
    shell.ok(&["incr", "more", "counters", "down", "-9223372036854775808"]);
    let items: String = (0..5_000).map(|i| format!("{{\"i\":{i}}}\n")).collect();
    shell.fed(&["append", "more", "list", "-", "--ttl", "4h"], items.as_bytes()).expect(0);
    shell.ok(&["append", "more", "short", "[]"]);
    shell
}

#[test]
fn all_kinds_and_expiries_survive() {
    let from = filled();
    let exported = from.ok(&["export"]);
    assert!(
        exported.lines().filter(|line| line.contains("\"key\":\"list\"")).count() > 1,
        "the list is in one line"
    );
    let to = Shell::new();
    // What is in the way is replaced, a list included.
    to.ok(&["append", "more", "list", "\"old\""]);
    to.ok(&["put", "more", "counters", "1"]);
    let run = to.fed(&["import", "--exported", "-"], exported.as_bytes()).expect(0);
    assert!(run.text().starts_with("15 imported, 0 skipped"), "{exported}");
    assert_eq!(to.ok(&["export"]), exported);
    assert_eq!(to.ok(&["get", "more", "list"]), from.ok(&["get", "more", "list"]));
    assert_eq!(to.run(&["get", "more", "bytes"]).out, from.run(&["get", "more", "bytes"]).out);
    // Once more changes nothing.
    to.fed(&["import", "--exported", "-"], exported.as_bytes()).expect(0);
    assert_eq!(to.ok(&["export"]), exported);
}

#[test]
fn one_collection_and_what_is_there_already() {
    let from = filled();
    let exported = from.ok(&["export"]);
    let to = Shell::new();
    to.ok(&["append", "more", "list", "\"mine\""]);
    to.ok(&["put", "more", "bytes", "\"mine\""]);
    let run = to.fed(&["import", "--exported", "more", "-", "--if-absent"], exported.as_bytes()).expect(0);
    assert!(run.text().starts_with("3 imported, 0 skipped, 2 there already"));
    assert_eq!(to.ok(&["collections"]), "more\n");
    assert_eq!(to.ok(&["get", "more", "list"]), "[\"mine\"]\n");
    assert_eq!(to.ok(&["get", "more", "bytes"]), "\"mine\"\n");
    assert_eq!(from.ok(&["export", "more"]).lines().count(), exported.lines().count() - 10);
}

#[test]
fn what_has_expired_meanwhile_stays_away() {
    let shell = Shell::new();
    shell.ok(&["put", "c", "k", "\"newer\""]);
    let lines = [
        r#"{"collection":"c","key":"k","kind":"json","json":1,"expires_at":"2020-01-01T00:00:00.000Z"}"#,
        r#"{"collection":"c","key":"l","kind":"list","items":[1],"expires_at":"2020-01-01T00:00:00.000Z"}"#,
        r#"{"collection":"c","key":"l","kind":"list","items":[2],"start":1,"expires_at":"2020-01-01T00:00:00.000Z"}"#,
    ];
    let run = shell.fed(&["import", "--exported", "-"], lines.join("\n").as_bytes()).expect(0);
    assert!(run.text().starts_with("0 imported, 0 skipped, 2 expired"));
    assert_eq!(shell.ok(&["list", "c", "--values"]), "k\t\"newer\"\n");
}

#[test]
fn lists_with_lines_missing_are_refused() {
    let shell = Shell::new();
    let lines = "{\"collection\":\"c\",\"key\":\"l\",\"kind\":\"list\",\"items\":[1]}\n\
        {\"collection\":\"c\",\"key\":\"l\",\"kind\":\"list\",\"items\":[3],\"start\":2}\n";
    shell.fed(&["import", "--exported", "-"], lines.as_bytes()).expect(2).says("line 2: ").says("missing");
    assert_eq!(shell.ok(&["get", "c", "l"]), "[1]\n");
}

#[test]
fn the_file_appears_when_it_is_complete() {
    let shell = filled();
    shell.file("out.ndjson", "old");
    shell.ok(&["export", "--output", "out.ndjson"]);
    let written = std::fs::read_to_string(shell.directory.path().join("out.ndjson")).unwrap();
    assert_eq!(written, shell.ok(&["export"]));
    shell.run(&["export", "--output", "no/such/dir/out"]).expect(5).says("no/such/dir/out");
    shell.run(&["export", "--output", "."]).expect(5).says("directory");
    let names: Vec<_> =
        std::fs::read_dir(shell.directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(".storage-export")), "{names:?}");
}
