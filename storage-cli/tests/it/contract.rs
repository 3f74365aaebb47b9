//! Each command as people use it, and each exit status.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

use crate::shell::Shell;

#[test]
fn put_prints_the_new_version_and_get_the_value() {
    let shell = Shell::new();
    let version = shell.ok(&["put", "users", "ada", r#"{"n":123456789012345678901234567890}"#]);
    assert_eq!(shell.ok(&["get", "users", "ada"]), "{\"n\":123456789012345678901234567890}\n");
    let version = version.trim();
    let newer = shell.ok(&["put", "users", "ada", "2", "--if-version", version]);
    assert_ne!(newer.trim(), version);
    shell.run(&["put", "users", "ada", "3", "--if-version", version]).expect(3).says("changed since");
    shell.run(&["put", "users", "ada", "3", "--if-absent"]).expect(3).says("exists already");
    shell.run(&["put", "users", "ada", "3", "--if-version", "no version"]).expect(2).says("malformed");
    assert_eq!(shell.ok(&["get", "users", "ada"]), "2\n");
}

#[test]
fn values_come_from_arguments_files_and_standard_input() {
    let shell = Shell::new();
    shell.ok(&["put", "c", "negative", "-5"]);
    shell.ok(&["put", "c", "after", "--", "-1.5e3"]);
    shell.ok(&["put", "c", "--", "-key", "\"-x\""]);
    shell.fed(&["put", "c", "stdin", "-"], b"{\"a\":\n [1, \"x y\"]}\n").expect(0);
    let file = shell.file("v.json", "[\n1]");
    shell.ok(&["put", "c", "file", "--file", file.to_str().unwrap()]);
    let all = shell.ok(&["get", "c", "--", "negative", "after", "-key", "stdin", "file"]);
    assert_eq!(all, "-5\n-1.5e3\n\"-x\"\n{\"a\":[1,\"x y\"]}\n[1]\n");
    shell.run(&["put", "c", "k"]).expect(2).says("JSON");
    shell.run(&["put", "c", "k", "ada"]).expect(2).says("quotes");
    shell.run(&["put", "c", "k", "1", "--bytes"]).expect(2).says("--file");
    shell.run(&["put", "c", "k", "--file", "missing.json"]).expect(2).says("missing.json");
}

#[test]
fn bytes_are_exact() {
    let shell = Shell::new();
    let bytes: Vec<u8> = (0..=255).collect();
    let file = shell.file("all", &bytes);
    let file = file.to_str().unwrap();
    shell.ok(&["put", "b", "all", "--file", file, "--bytes", "--media-type", "image/png"]);
    shell.fed(&["put", "b", "empty", "-", "--bytes"], b"").expect(0);
    assert_eq!(shell.run(&["get", "b", "all"]).expect(0).out, bytes);
    assert_eq!(shell.run(&["get", "b", "empty"]).expect(0).out, b"");
    let both = shell.ok(&["get", "b", "empty", "all"]);
    assert!(
        both.starts_with("{\"bytes\":\"\",\"media_type\":\"application/octet-stream\"}\n{\"bytes\":\"AAEC")
    );
    assert!(shell.ok(&["get", "b", "all", "--meta"]).contains("\"media_type\":\"image/png\""));
}

#[test]
fn missing_keys_are_status_1_and_named() {
    let shell = Shell::new();
    shell.ok(&["put", "c", "a", "1"]);
    let run = shell.run(&["get", "c", "a", "x", "y"]).expect(1).says("\"x\", \"y\" are not in c");
    assert_eq!(run.text(), "1\n");
    shell.run(&["delete", "c", "a", "x"]).expect(1).says("\"x\" is not in c");
    shell.run(&["get", "c", "a"]).expect(1);
    shell.run(&["range", "c", "none"]).expect(1);
    shell.run(&["index", "drop", "c", "path"]).expect(1).says("no index");
}

#[test]
fn delete_on_a_version() {
    let shell = Shell::new();
    let old = shell.ok(&["put", "c", "a", "1"]);
    let new = shell.ok(&["put", "c", "a", "2"]);
    shell.run(&["delete", "c", "a", "--if-version", old.trim()]).expect(3);
    shell.run(&["delete", "c", "a", "b", "--if-version", new.trim()]).expect(2).says("single key");
    shell.run(&["delete", "c", "a", "--if-version", new.trim()]).expect(0);
    shell.run(&["get", "c", "a"]).expect(1);
}

#[test]
fn records_expire() {
    let shell = Shell::new();
    shell.ok(&["put", "c", "short", "1", "--ttl", "1ms"]);
    shell.ok(&["put", "c", "long", "1", "--ttl", "1h 30m"]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    shell.run(&["get", "c", "short"]).expect(1);
    assert!(!shell.ok(&["get", "c", "long", "--meta"]).contains("\"expires_at\":null"));
    for ttl in ["0s", "soon", "-5s"] {
        shell.run(&["put", "c", "k", "1", &format!("--ttl={ttl}")]).expect(2);
    }
}

#[test]
fn listing_goes_on_with_its_cursor() {
    let shell = Shell::new();
    for key in ["a1", "a2", "a3", "b1", "line\nbreak"] {
        shell.ok(&["put", "c", key, "0"]);
    }
    assert_eq!(shell.ok(&["list", "c"]), "a1\na2\na3\nb1\n\"line\\nbreak\"\n");
    let run = shell.run(&["list", "c", "--prefix", "a", "--limit", "2"]).expect(0).says("next: ");
    let cursor = run.err.trim().strip_prefix("next: ").unwrap().to_owned();
    assert_eq!(run.text(), "a1\na2\n");
    let rest = shell.run(&["list", "c", "--prefix", "a", "--after", &cursor, "--values"]).expect(0);
    assert_eq!((rest.err.as_str(), rest.out.as_slice()), ("", b"a3\t0\n".as_slice()));
    shell.run(&["list", "c", "--prefix", "b", "--after", &cursor]).expect(2).says("cursor");
    shell.run(&["list", "c", "--limit", "0"]).expect(2);
}

#[test]
fn queries_filter_sort_page_and_count() {
    let shell = Shell::new();
    for (key, value) in
        [("a", r#"{"n":1,"t":"x"}"#), ("b", r#"{"n":3,"t":"y"}"#), ("c", r#"{"n":2,"t":"x"}"#)]
    {
        shell.ok(&["put", "q", key, value]);
    }
    let filter = r#"{"n":{"$gte":2}}"#;
    let found = shell.ok(&["query", "q", "--filter", filter, "--sort", "n:desc"]);
    assert_eq!(found, "b\t{\"n\":3,\"t\":\"y\"}\nc\t{\"n\":2,\"t\":\"x\"}\n");
    assert_eq!(shell.ok(&["query", "q", "--filter", filter, "--count"]), "2\n");
    let sorts = ["query", "q", "--sort", "t", "--sort", "n:desc", "--limit", "1"];
    let run = shell.run(&sorts).expect(0).says("next: ");
    let cursor = run.err.trim().strip_prefix("next: ").unwrap().to_owned();
    assert!(run.text().starts_with("c\t"));
    let more: Vec<&str> = sorts.iter().chain(&["--after", &cursor]).copied().collect();
    assert!(shell.ok(&more).starts_with("a\t"));
    shell.run(&["query", "q", "--filter", r#"{"n":{"$gtt":2}}"#]).expect(2).says("$gt?");
    shell.run(&["query", "q", "--sort", "n:down"]).expect(2).says("neither asc nor desc");
}

#[test]
fn counters_and_lists() {
    let shell = Shell::new();
    assert_eq!(shell.ok(&["incr", "c", "k", "n"]), "1\n");
    assert_eq!(shell.ok(&["incr", "c", "k", "n", "-5"]), "-4\n");
    assert_eq!(shell.ok(&["get", "c", "k"]), "{\"n\":-4}\n");
    shell.run(&["incr", "c", "k", "n", "-9223372036854775808"]).expect(2).says("64 bits");
    shell.run(&["incr", "c", "k", "n", "9223372036854775808"]).expect(2);
    assert_eq!(shell.ok(&["append", "c", "l", "1", "-2", "\"x\""]), "3\n");
    assert_eq!(String::from_utf8(shell.fed(&["append", "c", "l", "-"], b"4\r\n\n5").out).unwrap(), "5\n");
    assert_eq!(shell.ok(&["range", "c", "l"]), "1\n-2\n\"x\"\n4\n5\n");
    let run = shell.run(&["range", "c", "l", "1", "2"]).expect(0).says("next: 3");
    assert_eq!(run.text(), "-2\n\"x\"\n");
    assert_eq!(shell.ok(&["range", "c", "l", "9"]), "");
    assert_eq!(shell.ok(&["get", "c", "l"]), "[1,-2,\"x\",4,5]\n");
    shell.run(&["append", "c", "k", "1"]).expect(2).says("counters");
    shell.run(&["incr", "c", "l", "n"]).expect(2).says("list");
}

#[test]
fn a_batch_is_applied_whole_or_not_at_all() {
    let shell = Shell::new();
    shell.ok(&["put", "c", "old", "1"]);
    let batch = r#"[
        {"op":"put","collection":"c","key":"j","value":null,"ttl":"1h","if":"absent"},
        {"op":"put","collection":"c","key":"b","bytes":"AAE=","media_type":"a/b"},
        {"op":"increment","collection":"d","key":"n","fields":{"x":2,"y":-1}},
        {"op":"append","collection":"d","key":"l","items":[1,[2]]},
        {"op":"touch","collection":"c","key":"old","expires_at":"2999-01-01T00:00:00Z"},
        {"op":"check","collection":"c","key":"nothing","if":"absent"},
        {"op":"delete","collection":"c","key":"never"}]"#;
    let lines = shell.fed(&["apply", "-"], batch.as_bytes()).expect(0).text();
    assert_eq!(lines.lines().count(), 7, "{lines}");
    assert!(lines.contains("increment \"d/n\" {\"x\":2,\"y\":-1}"), "{lines}");
    assert_eq!(shell.ok(&["get", "c", "j"]), "null\n");
    assert_eq!(shell.run(&["get", "c", "b"]).out, [0, 1]);
    // Once more: the first condition does not hold now, and so nothing is done.
    shell.fed(&["apply", "-"], batch.as_bytes()).expect(3).says("mutation 0");
    assert_eq!(shell.ok(&["range", "d", "l"]), "1\n[2]\n");
    assert_eq!(shell.ok(&["get", "d", "n"]), "{\"x\":2,\"y\":-1}\n");
}

#[test]
fn an_idempotent_batch_is_applied_once() {
    let shell = Shell::new();
    let batch = shell.file("b.json", r#"[{"op":"increment","collection":"d","key":"n","fields":{"x":2}}]"#);
    let batch = batch.to_str().unwrap();
    shell.ok(&["apply", batch, "--idempotency-key", "once"]);
    assert!(shell.ok(&["apply", batch, "--idempotency-key", "once"]).contains("already applied"));
    assert_eq!(shell.ok(&["get", "d", "n"]), "{\"x\":2}\n");
    let other = br#"[{"op":"delete","collection":"d","key":"n"}]"#;
    shell.fed(&["apply", "-", "--idempotency-key", "once"], other).expect(2);
    let ttl = br#"[{"op":"put","collection":"d","key":"n","value":1,"ttl":"1h"}]"#;
    shell.fed(&["apply", "-", "--idempotency-key", "two"], ttl).expect(2).says("expires_at");
}

#[test]
fn batches_are_checked_before_anything_is_done() {
    let shell = Shell::new();
    for (batch, says) in [
        ("{}", "array"),
        ("[1]", "not an object"),
        (r#"[{"op":"putt","collection":"c","key":"k"}]"#, "did you mean \"put\"?"),
        (r#"[{"op":"put","collection":"c","key":"k","vallue":1}]"#, "did you mean \"value\"?"),
        (r#"[{"op":"delete","collection":"c","key":"k","value":1}]"#, "unknown field"),
        (r#"[{"op":"put","collection":"c","key":"k"}]"#, "needs one of"),
        (r#"[{"op":"put","collection":"c","key":"k","value":1,"bytes":""}]"#, "needs one of"),
        (r#"[{"op":"put","collection":"c","key":"k","bytes":"%"}]"#, "base64"),
        (r#"[{"op":"put","collection":"c","key":"","value":1}]"#, "empty"),
        (r#"[{"op":"put","collection":"c","value":1}]"#, "key is missing"),
        (r#"[{"op":"check","collection":"c","key":"k"}]"#, "condition"),
        (r#"[{"op":"delete","collection":"c","key":"k","if":"maybe"}]"#, "absent"),
        (r#"[{"op":"touch","collection":"c","key":"k","ttl":"0s"}]"#, "ttl"),
        (r#"[{"op":"touch","collection":"c","key":"k","expires_at":"soon"}]"#, "RFC 3339"),
        (r#"[{"op":"increment","collection":"c","key":"k","fields":{"n":9223372036854775808}}]"#, "fields"),
    ] {
        shell.fed(&["apply", "-"], batch.as_bytes()).expect(2).says(says);
    }
    assert_eq!(shell.ok(&["collections"]), "");
}

#[test]
fn collections_counts_and_clearing() {
    let shell = Shell::new();
    shell.ok(&["put", "b", "k", "1"]);
    shell.ok(&["put", "a", "k", "1"]);
    shell.ok(&["put", "a", "l", "1"]);
    assert_eq!(shell.ok(&["collections"]), "a\nb\n");
    assert_eq!(shell.ok(&["count", "a"]), "2\n");
    shell.run(&["clear", "a"]).expect(2).says("--yes");
    assert_eq!(shell.ok(&["count", "a"]), "2\n");
    assert_eq!(shell.ok(&["clear", "a", "--yes"]), "2 removed\n");
    assert_eq!(shell.ok(&["count", "a"]), "0\n");
    assert_eq!(shell.ok(&["count", "b"]), "1\n");
}

#[test]
fn indexes() {
    let shell = Shell::new();
    shell.ok(&["put", "u", "a", r#"{"mail":"a@x","city":"Bern"}"#]);
    assert_eq!(shell.ok(&["index", "add", "u", "city"]), "added\n");
    assert_eq!(shell.ok(&["index", "add", "u", "city"]), "is there already\n");
    shell.ok(&["index", "add", "u", "mail", "--unique"]);
    shell.run(&["put", "u", "b", r#"{"mail":"a@x"}"#]).expect(3).says("unique");
    assert!(shell.ok(&["index", "list", "u"]).contains("mail"));
    assert_eq!(shell.ok(&["index", "drop", "u", "city"]), "dropped\n");
}

#[test]
fn administration() {
    let shell = Shell::new();
    shell.ok(&["put", "c", "k", "1"]);
    let types = shell.ok(&["types"]);
    assert!(
        types.contains("memory") && types.contains("linked") && types.contains("ordered_scan"),
        "{types}"
    );
    assert!(shell.ok(&["stats"]).contains("file://"));
    assert!(shell.ok(&["health"]).starts_with("up"));
    assert_eq!(shell.ok(&["verify"]), "1 records examined, no problems\n");
    assert!(shell.ok(&["compact"]).contains("given back"));
    assert!(shell.ok(&["--version"]).starts_with("storage "));
    for name in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = shell.ok(&["completions", name]);
        assert!(
            script.contains("storage") && script.contains("plugin") && script.contains("keygen"),
            "{name}"
        );
    }
}

#[test]
fn a_store_in_use_is_status_4() {
    let shell = Shell::new();
    shell.ok(&["put", "c", "k", "1"]);
    let mut command = shell.command();
    command.args(["import", "c", "-", "--key", "id", "--on-error", "skip"]);
    let mut holder =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Once it tells about the bad line, it has the store open.
    let mut input = holder.stdin.take().unwrap();
    input.write_all(b"bad\n").unwrap();
    let mut told = String::new();
    BufReader::new(holder.stderr.as_mut().unwrap()).read_line(&mut told).unwrap();
    assert!(told.contains("line 1"), "{told}");
    shell.run(&["get", "c", "k"]).expect(4).says("in use");
    drop(input);
    assert!(holder.wait().unwrap().success());
    shell.run(&["get", "c", "k"]).expect(0);
}

#[test]
fn a_pipe_that_closes_ends_quietly() {
    let shell = Shell::new();
    let lines: String =
        (0..20_000).map(|i| format!("{{\"id\":{i},\"pad\":\"{}\"}}\n", "x".repeat(100))).collect();
    shell.fed(&["import", "c", "-", "--key", "id"], lines.as_bytes()).expect(0);
    let mut command = shell.command();
    command.arg("export").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn damage_is_found_by_verify() {
    let shell = Shell::new();
    let store = ["--store", "file:./store?check_on_open=never"];
    let lines: String =
        (0..2_000).map(|i| format!("{{\"id\":{i},\"pad\":\"{}\"}}\n", "x".repeat(100))).collect();
    shell.fed(&["import", "c", "-", "--key", "id"], lines.as_bytes()).expect(0);
    let path = shell.directory.path().join("store/storage.redb");
    let mut file = std::fs::read(&path).unwrap();
    let places: Vec<usize> =
        file.windows(50).enumerate().filter(|(_, w)| *w == [b'x'; 50]).map(|(i, _)| i).collect();
    file[places[places.len() / 2]] = b'y';
    std::fs::write(&path, file).unwrap();
    let run = shell.run(&[&store[..], &["verify"]].concat()).expect(5).says("problems in");
    assert!(run.text().contains("damaged"));
    let run = shell.run(&[&store[..], &["--json", "verify"]].concat()).expect(5).says("\"kind\":\"corrupt\"");
    let report: serde_json::Value = serde_json::from_slice(&run.out).unwrap();
    assert!(!report["problems"].as_array().unwrap().is_empty(), "{report}");
}
