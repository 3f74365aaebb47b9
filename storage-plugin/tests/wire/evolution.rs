//! Messages of a newer minor version, and of writers with other habits, mean the same.

use bytes::Bytes;
use storage_core::{Capabilities, ErrorKind, Feature, Limits, Retry, Stats};
use storage_plugin::Outgoing;
use storage_plugin::wire::{self, Call, StoreCall};

use crate::examples::{self, Example};
use crate::node::{Node, Width};

/// The names of tuples, apart from lists of text.
const TUPLES: [&str; 23] = [
    "ok",
    "error",
    "json",
    "bytes",
    "counters",
    "list",
    "absent",
    "present",
    "version",
    "put",
    "delete",
    "touch",
    "increment",
    "append",
    "check",
    "done",
    "deleted",
    "length",
    "get",
    "write",
    "scan",
    "query",
    "open",
];

#[test]
fn examples_come_back() {
    unchanged(|_| {});
}

#[test]
fn unknown_keys_are_ignored() {
    unchanged(|node| {
        if let Node::Map(pairs) = node
            && !pairs.iter().any(|(name, _)| name == "hits")
        {
            let deep =
                Node::Array(vec![Node::Map(vec![("x".to_owned(), Node::Nil)]), Node::Integer(-70_000)]);
            pairs.insert(0, ("teleports".to_owned(), deep));
            pairs.push(("wormholes".to_owned(), Node::Bool(false)));
        }
    });
}

#[test]
fn elements_after_those_known_are_ignored() {
    unchanged(|node| {
        if let Node::Array(items) = node
            && matches!(items.first(), Some(Node::Text(name)) if TUPLES.contains(&name.as_str()))
        {
            items.push(Node::text("more"));
            items.push(Node::Map(vec![("x".to_owned(), Node::Integer(1))]));
        }
    });
}

#[test]
fn keys_come_in_any_order() {
    unchanged(|node| {
        if let Node::Map(pairs) = node {
            pairs.reverse();
        }
    });
}

#[test]
fn what_follows_a_map_is_no_key_of_it() {
    let text = r#"["count", {"collection": "users"}, "filter", "{}"]"#;
    let call = wire::call(Outgoing::new(head(text), []).into_incoming()).unwrap();
    let Call::Store(StoreCall::Count(count)) = call else { panic!("{call:?}") };
    assert_eq!(count.filter, None);
}

#[test]
fn every_width_is_read() {
    for example in examples::all() {
        let head = Node::parse(example.message.head()).encode(Width::Longest);
        assert!(head.len() > example.message.head().len());
        same(example, head);
    }
}

#[test]
fn what_is_optional_may_be_nil_or_missing() {
    let with = |stats: &str| Outgoing::new(head(&format!(r#"["ok", {stats}]"#)), []);
    let plain = Stats { reads: 1, writes: 2, ..Stats::default() };
    let missing = r#"{"reads": 1, "writes": 2}"#;
    let nil = r#"{"reads": 1, "writes": 2, "records": null, "bytes": null, "details": null}"#;
    assert_eq!(wire::reply::<Stats>(with(missing).into_incoming()).unwrap(), plain);
    assert_eq!(wire::reply::<Stats>(with(nil).into_incoming()).unwrap(), plain);

    for request in [
        r#"["count", {"collection": "users"}]"#,
        r#"["count", {"collection": "users", "filter": null}]"#,
        r#"["query", {"collection": "users", "filter": "{}", "limit": 1}]"#,
        r#"["query", {"collection": "users", "filter": "{}", "limit": 1, "sort": null, "after": null}]"#,
        r#"["changes", {"limit": 1, "wait_ms": 0, "collection": null, "after": null}]"#,
        r#"["health"]"#,
    ] {
        let message = Outgoing::new(head(request), []);
        wire::call(message.into_incoming()).unwrap_or_else(|error| panic!("{request}: {error}"));
    }
}

#[test]
fn what_capabilities_leave_out_is_the_default() {
    let read = |text: &str| {
        let message = Outgoing::new(head(&format!(r#"["ok", {text}]"#)), []);
        wire::reply::<Capabilities>(message.into_incoming()).unwrap()
    };
    assert_eq!(read(r#"{"features": {}}"#), Capabilities::none());
    assert_eq!(
        read(
            r#"{"features": {"get": true, "teleport": [1], "scan": "slow"}, "atomic_scope": "galaxy",
            "coalesce_reads": null, "limits": {"batch_len": 5, "page_len": null, "charm": "x", "json_depth": 900}}"#
        ),
        Capabilities {
            limits: Limits { batch_len: 5, ..Limits::default() },
            ..Capabilities::none().native([Feature::Get]).emulated(Feature::Scan, "slow")
        }
    );
}

#[test]
fn errors_of_a_newer_plugin_are_internal() {
    let text =
        r#"["error", {"kind": "haunted", "message": "boo", "retry": "at_midnight", "panicked": null}]"#;
    let message = Outgoing::new(head(text), []);
    let failure = wire::reply::<()>(message.into_incoming()).unwrap_err();
    assert_eq!((failure.error.kind(), failure.error.retry()), (ErrorKind::Internal, Retry::Never));
    assert_eq!((failure.error.message(), failure.panicked), ("boo", false));

    let cancelled = wire::reply::<()>(wire::cancelled("get").into_incoming()).unwrap_err();
    assert_eq!(cancelled.error.kind(), ErrorKind::Internal);
}

#[test]
fn unknown_operations_are_unsupported() {
    let message = Outgoing::new(head(r#"["teleport", {"to": [1, {"x": null}]}]"#), []);
    let error = wire::call(message.into_incoming()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.message(), "the operation \"teleport\" is not offered by this backend");
}

#[test]
fn filters_of_a_newer_host_are_unsupported() {
    let text = r#"["count", {"collection": "users", "filter": "{\"name\": {\"$sounds_like\": \"Ada\"}}"}]"#;
    let error = wire::call(Outgoing::new(head(text), []).into_incoming()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("$sounds_like"), "{error}");
}

/// Each example is read as before after `change` has been at every part of its head.
fn unchanged(change: fn(&mut Node)) {
    fn everywhere(node: &mut Node, change: fn(&mut Node)) {
        match node {
            Node::Array(items) => items.iter_mut().for_each(|item| everywhere(item, change)),
            Node::Map(pairs) => pairs.iter_mut().for_each(|(_, value)| everywhere(value, change)),
            _ => {}
        }
        change(node);
    }

    for example in examples::all() {
        let mut node = Node::parse(example.message.head());
        everywhere(&mut node, change);
        same(example, node.encode(Width::Shortest));
    }
}

fn same(example: Example, head: Vec<u8>) {
    let Example { name, message, again } = example;
    let changed = Outgoing::new(head, message.blobs().map(Bytes::copy_from_slice));
    let read = again(changed.into_incoming()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(Node::parse(read.head()).to_string(), Node::parse(message.head()).to_string(), "{name}");
    assert!(read.blobs().eq(message.blobs()), "{name}");
}

/// A head from JSON text.
pub(crate) fn head(text: &str) -> Vec<u8> {
    fn node(tree: serde_json::Value) -> Node {
        match tree {
            serde_json::Value::Null => Node::Nil,
            serde_json::Value::Bool(value) => Node::Bool(value),
            serde_json::Value::Number(value) => Node::Integer(value.as_i64().unwrap().into()),
            serde_json::Value::String(text) => Node::Text(text),
            serde_json::Value::Array(items) => Node::Array(items.into_iter().map(node).collect()),
            serde_json::Value::Object(pairs) => {
                Node::Map(pairs.into_iter().map(|(key, value)| (key, node(value))).collect())
            }
        }
    }
    node(serde_json::from_str(text).unwrap()).encode(Width::Shortest)
}
