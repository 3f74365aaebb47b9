//! The encoding of each example, byte by byte. A difference means that plugins which were built before would no longer
//! be understood. Where a new key or element was added on purpose, write the files anew with `GOLDEN=write`.

use std::fmt::Write as _;
use std::path::Path;

use storage_plugin::Outgoing;

use crate::examples::{self, Example};
use crate::node::Node;

#[test]
fn requests_are_encoded_as_ever() {
    compare("requests.txt", examples::requests());
}

#[test]
fn replies_are_encoded_as_ever() {
    compare("replies.txt", examples::replies());
}

fn compare(file: &str, examples: Vec<Example>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let now: String = examples.iter().map(|example| shown(example.name, &example.message)).collect();
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, &now).unwrap();
    }
    let before = std::fs::read_to_string(&path).unwrap();
    for (before, now) in before.split("\n\n").zip(now.split("\n\n")) {
        assert_eq!(now, before, "the wire format has changed");
    }
    assert_eq!(now.len(), before.len(), "examples were added or removed");
}

/// The head as text and as bytes, and the blobs.
fn shown(name: &str, message: &Outgoing) -> String {
    let mut out = format!("{name}\n{}\n", Node::parse(message.head()));
    for line in message.head().chunks(32) {
        let bytes: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(out, "    {}", bytes.join(" "));
    }
    for (position, blob) in message.blobs().enumerate() {
        let _ = match std::str::from_utf8(blob) {
            Ok(text) if !text.contains(char::is_control) => writeln!(out, "blob {position}: {text}"),
            _ => writeln!(out, "blob {position}, escaped: {}", blob.escape_ascii()),
        };
    }
    out.push('\n');
    out
}
