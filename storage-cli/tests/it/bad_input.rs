//! Nothing panics, whatever comes in, and limits are named.

use crate::shell::Shell;

#[test]
fn keys_at_and_beyond_the_edges() {
    let shell = Shell::new();
    shell.run(&["put", "c", "", "1"]).expect(2).says("empty");
    let longest = "k".repeat(512);
    shell.ok(&["put", "c", &longest, "1"]);
    assert_eq!(shell.ok(&["get", "c", &longest]), "1\n");
    shell.run(&["put", "c", &"k".repeat(513), "1"]).expect(2).says("512");
    shell.run(&["put", "c", &"é".repeat(257), "1"]).expect(2).says("514");
    shell.run(&["put", "-bad", "k", "1"]).expect(2);
    shell.run(&["put", "a/b", "k", "1"]).expect(2).says("collection name");
    shell.run(&["list", "c", "--prefix", "%"]).expect(0);
    shell.run(&["list", "c", "--after", "no cursor"]).expect(2).says("cursor");
    shell.run(&["list", "c", "--after", "AAAA"]).expect(2).says("cursor");
}

#[test]
fn arguments_that_are_not_utf_8() {
    use std::os::unix::ffi::OsStrExt as _;

    let shell = Shell::new();
    for position in 0..3 {
        let mut arguments = [b"c".as_slice(), b"k", b"1"];
        arguments[position] = b"\xff\xfe";
        let arguments = arguments.map(std::ffi::OsStr::from_bytes);
        let output = shell.command().arg("put").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("UTF-8"));
    }
}

#[test]
fn json_that_is_deep_wrong_or_beyond_64_bits() {
    let shell = Shell::new();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    shell.fed(&["put", "c", "k", "-"], nested(100_000).as_bytes()).expect(2).says("recursion");
    shell.fed(&["put", "c", "k", "-"], nested(127).as_bytes()).expect(0);
    shell.fed(&["put", "c", "k", "-"], b"\"\xff\"").expect(2);
    shell.fed(&["put", "c", "k", "-"], b"").expect(2);
    shell.fed(&["apply", "-"], nested(100_000).as_bytes()).expect(2);
    shell.fed(&["apply", "-"], b"\xff").expect(2);
    let line =
        format!("{{\"collection\":\"c\",\"key\":\"k\",\"kind\":\"json\",\"json\":{}}}", nested(100_000));
    shell.fed(&["import", "--exported", "-"], line.as_bytes()).expect(2).says("line 1: ");
    shell.run(&["query", "c", "--filter", &format!("{{\"a\":{}}}", nested(20_000))]).expect(2);
    for number in ["9223372036854775807", "-9223372036854775809", "18446744073709551616", "-0.0", "1e308"] {
        shell.ok(&["put", "c", "n", "--", number]);
        assert_eq!(shell.ok(&["get", "c", "n"]), format!("{number}\n"));
    }
    shell.run(&["put", "c", "n", "1e400"]).expect(2).says("number");
}

#[test]
fn values_of_20_mib_and_beyond_the_limit() {
    let shell = Shell::new();
    let big = format!("\"{}\"", "x".repeat(20 << 20));
    shell.fed(&["put", "c", "big", "-"], big.as_bytes()).expect(0);
    assert_eq!(shell.ok(&["get", "c", "big"]), format!("{big}\n"));
    let exported = shell.ok(&["export"]);
    let to = Shell::new();
    to.fed(&["import", "--exported", "-"], exported.as_bytes()).expect(0);
    assert_eq!(to.ok(&["export"]), exported);
    let line = format!("{{\"id\":1,\"v\":{big}}}");
    to.fed(&["import", "c", "-", "--key", "id"], line.as_bytes()).expect(0);
    let types = shell.json(&["types"]);
    let file = types["types"].as_array().unwrap().iter().find(|t| t["name"] == "file").unwrap();
    let limit = usize::try_from(file["capabilities"]["limits"]["value_bytes"].as_u64().unwrap()).unwrap();
    let beyond = vec![b'1'; limit + 1];
    let named = limit.to_string();
    shell.fed(&["put", "c", "beyond", "-", "--bytes"], &beyond).expect(2).says(&named);
    shell.fed(&["import", "c", "-", "--key", "id"], &beyond).expect(2).says("line 1: ").says(&named);
}

#[test]
fn output_that_cannot_be_written() {
    let shell = Shell::new();
    shell.ok(&["put", "c", "k", "1"]);
    for command in [vec!["get", "c", "k"], vec!["export"], vec!["completions", "bash"], vec!["--help"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = shell.command().args(&command).stdout(full).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!error.contains("panicked"), "{error}");
        assert_eq!(output.status.code(), Some(5), "{command:?}: {error}");
    }
    shell.run(&["export", "--output", "/dev/full/x"]).expect(5);
}

#[test]
fn stores_that_cannot_be_opened() {
    let shell = Shell::new();
    let file = shell.file("a-file", "text");
    let url = format!("file:{}", file.display());
    let run = shell.run(&["--store", &url, "get", "c", "k"]);
    assert!([2, 5].contains(&run.status), "{run:?}");
    let damaged = shell.directory.path().join("damaged");
    shell.ok(&["--store", "file:./damaged", "put", "c", "k", "1"]);
    for entry in std::fs::read_dir(&damaged).unwrap() {
        std::fs::write(entry.unwrap().path(), b"not what it was").unwrap();
    }
    shell.run(&["--store", "file:./damaged", "get", "c", "k"]).expect(5).says("damaged");
    shell.run(&["--store", "file:", "get", "c", "k"]).expect(2);
    shell
        .run(&["--store", "file:./x?durabilty=none", "get", "c", "k"])
        .expect(2)
        .says("did you mean \"durability\"?");
}
