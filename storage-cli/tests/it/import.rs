//! `import`: shapes of files, bad lines, conditions.

use crate::shell::Shell;

fn import(shell: &Shell, file: impl AsRef<[u8]>, more: &[&str]) -> crate::shell::Run {
    let arguments: Vec<&str> = ["import", "c", "-", "--key", "id"].iter().chain(more).copied().collect();
    shell.fed(&arguments, file.as_ref())
}

#[test]
fn lines_and_arrays_with_all_their_quirks() {
    for file in [
        "{\"id\":\"a\"}\n{\"id\":2}\n",
        "\u{feff}\r\n{\"id\":\"a\"}\r\n\r\n {\"id\":2} ",
        "[{\"id\":\"a\"},{\"id\":2}]",
        "\u{feff} [\n  {\n    \"id\": \"a\"\n  },\n  {\"id\":2}\n]\n",
    ] {
        let shell = Shell::new();
        assert!(import(&shell, file, &[]).expect(0).text().starts_with("2 imported, 0 skipped"));
        assert_eq!(shell.ok(&["list", "c", "--values"]), "2\t{\"id\":2}\na\t{\"id\":\"a\"}\n", "{file}");
    }
    for empty in ["", "\n \n", "[]", "\u{feff}[ ]\n"] {
        assert!(import(&Shell::new(), empty, &[]).expect(0).text().starts_with("0 imported"));
    }
}

#[test]
fn the_real_file_is_imported_queried_and_exported() {
    let shell = Shell::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/countries.ndjson");
    assert!(shell.ok(&["import", "countries", file, "--key", "code"]).starts_with("196 imported"));
    let filter = r#"{"region":"Europe","population.count":{"$gte":50000000}}"#;
    let found = shell.ok(&["query", "countries", "--filter", filter, "--sort", "population.count:desc"]);
    let codes: Vec<&str> = found.lines().map(|line| &line[..2]).collect();
    assert_eq!(codes, ["DE", "GB", "FR", "IT"]);
    // What was put reads back as it stood in the file.
    let lines: Vec<String> = std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
    let listed = shell.ok(&["list", "countries", "--limit", "1000", "--values"]);
    let values: Vec<&str> = listed.lines().map(|line| &line[3..]).collect();
    assert_eq!(values, lines);
    assert_eq!(shell.ok(&["export"]).lines().count(), 196);
}

#[test]
fn a_bad_line_stops_or_is_skipped() {
    let deep = format!("{{\"id\":\"deep\",\"v\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let mut file = b"{\"id\":1}\n{\"id\":2\n".to_vec();
    file.extend_from_slice(b"{\"id\":\"\xff\"}\n{\"other\":1}\n{\"id\":1.5}\n{\"id\":\"\"}\n");
    file.extend_from_slice(format!("{deep}\n{{\"id\":\"{}\"}}\n", "k".repeat(513)).as_bytes());
    file.extend_from_slice(b"{\"id\":9,\"n\":1e400}\n{\"id\":10}");
    let shell = Shell::new();
    let run = import(&shell, &file, &[]).expect(2).says("line 2:").says("1 records were imported before");
    assert_eq!(run.err.lines().count(), 1);
    assert_eq!(shell.ok(&["list", "c"]), "1\n");

    let shell = Shell::new();
    let run = import(&shell, &file, &["--on-error", "skip"]).expect(0);
    assert_eq!(run.err.lines().count(), 8, "{}", run.err);
    for line in 2..=9 {
        assert!(run.err.contains(&format!("line {line}: ")), "{line}: {}", run.err);
    }
    assert!(run.text().starts_with("2 imported, 8 skipped"));
    assert_eq!(shell.ok(&["list", "c"]), "1\n10\n");
}

#[test]
fn a_record_that_the_store_refuses_is_a_bad_line() {
    let shell = Shell::new();
    shell.ok(&["index", "add", "c", "mail", "--unique"]);
    let file = "{\"id\":1,\"mail\":\"x\"}\n{\"id\":2,\"mail\":\"x\"}\n{\"id\":3}\n";
    let run = import(&shell, file, &["--on-error", "skip"]).expect(0).says("line 2: ");
    assert!(run.text().starts_with("2 imported, 1 skipped"));
    let shell = Shell::new();
    shell.ok(&["index", "add", "c", "mail", "--unique"]);
    import(&shell, file, &[]).expect(2).says("line 2: ");
}

#[test]
fn the_last_record_of_a_key_wins() {
    let shell = Shell::new();
    let file: String = (0..20_000).map(|i| format!("{{\"id\":{},\"at\":{i}}}\n", i % 3_000)).collect();
    import(&shell, file, &[]).expect(0);
    assert_eq!(shell.ok(&["count", "c"]), "3000\n");
    assert_eq!(shell.ok(&["query", "c", "--filter", r#"{"at":{"$lt":17000}}"#, "--count"]), "0\n");
}

#[test]
fn options() {
    let shell = Shell::new();
    shell.ok(&["put", "c", "1", "\"mine\""]);
    let run = import(&shell, "{\"id\":1}\n{\"id\":2}", &["--if-absent", "--ttl", "1h"]).expect(0);
    assert!(run.text().starts_with("1 imported, 0 skipped, 1 there already"));
    assert_eq!(shell.ok(&["get", "c", "1"]), "\"mine\"\n");
    assert!(!shell.ok(&["get", "c", "2", "--meta"]).contains("\"expires_at\":null"));
    let file = shell.file("nested.ndjson", "{\"a\":{\"b\":[{\"c\":\"deep\"}]}}");
    shell.ok(&["import", "n", file.to_str().unwrap(), "--key", "a.b.0.c"]);
    assert_eq!(shell.ok(&["list", "n"]), "deep\n");
}

#[test]
fn usage() {
    let shell = Shell::new();
    let file = shell.file("f", "{}");
    let file = file.to_str().unwrap();
    shell.run(&["import", "c", file]).expect(2).says("--key");
    shell.run(&["import", file, "--key", "id"]).expect(2).says("COLLECTION FILE");
    shell.run(&["import", "--exported", file, "--key", "id"]).expect(2).says("--key");
    shell.run(&["import", "c", "none.ndjson", "--key", "id"]).expect(2).says("none.ndjson");
    shell.run(&["import", "c", ".", "--key", "id"]).expect(2).says("directory");
    shell.run(&["import", "c", file, "--key", "a..b"]).expect(2).says("path");
    shell.run(&["import", "c d", file, "--key", "id"]).expect(2).says("collection name");
}
