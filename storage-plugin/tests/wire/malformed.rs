//! Messages that are broken, by accident or not: an error that says where, and neither a panic nor a heap of memory.

use bytes::Bytes;
use proptest::prelude::*;
use storage_core::{
    Capabilities, ChangeEvent, ErrorKind, Health, IndexSpec, Json, Key, ListItems, MaintenanceReport, Page,
    Record, Result, Stats, Written,
};
use storage_plugin::Outgoing;
use storage_plugin::wire::{self, Description, Opened};

use crate::evolution::head;
use crate::node::{Node, Width};
use crate::{allocations, examples};

/// The error of a request.
fn refused(head: Vec<u8>, blobs: &[&'static [u8]]) -> String {
    let blobs = blobs.iter().map(|blob| Bytes::from_static(blob));
    let error = wire::call(Outgoing::new(head, blobs).into_incoming()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    let Some(why) = error.message().strip_prefix("malformed message: ") else { panic!("{error}") };
    why.to_owned()
}

#[test]
fn the_error_says_what_and_where() {
    for (request, says) in [
        ("7", "expected an array at byte 0, found an integer"),
        ("[]", "the array at byte 0 has too few elements"),
        (r#"["get"]"#, "the array at byte 0 has too few elements"),
        (r#"["get", {}]"#, "the map at byte 5 has no key \"keys\""),
        (r#"["get", {"keys": null}]"#, "expected an array at byte 11, found nil"),
        (r#"["get", {"keys": [["users"]]}]"#, "the array at byte 12 has too few elements"),
        (r#"["get", {"keys": [["users", 1]]}]"#, "expected a str at byte 19, found an integer"),
        (r#"["clear", {"collection": "no spaces"}]"#, "the value at byte 19 is not valid: collection name"),
        (r#"["get", {"keys": [["users", ""]]}]"#, "the value at byte 19 is not valid: key is empty"),
        (
            r#"["scan", {"collection": "a", "limit": -1, "prefix": ""}]"#,
            "expected an unsigned integer at byte 26, found -1",
        ),
        (
            r#"["scan", {"collection": "a", "prefix": "", "limit": 4294967296}]"#,
            "4294967296 is more than 32 bits hold",
        ),
        (
            r#"["scan", {"collection": "a", "prefix": "", "limit": 1, "after": "no cursor!"}]"#,
            "is not valid: the cursor",
        ),
        (
            r#"["maintain", {"task": "dance"}]"#,
            "expected the name of a maintenance task at byte 16, found \"dance\"",
        ),
        (
            r#"["write", {"atomicity": "some", "mutations": []}]"#,
            "expected \"independent\" or \"atomic\" at byte 18",
        ),
        (r#"["validate", {"config": 3}]"#, "byte 18 refers to the blob 3, and there are 2"),
        (r#"["validate", {"config": 0}]"#, "the JSON that byte 18 refers to is not UTF-8"),
        (r#"["validate", {"config": 1}]"#, "the value at byte 18 is not valid: the stored JSON"),
    ] {
        let refused = refused(head(request), &[b"\xff", b"{"]);
        assert!(refused.contains(says), "{request}: {refused}");
    }
}

#[test]
fn heads_that_are_no_messagepack_are_refused() {
    let whole = examples::requests().remove(0).message.head().to_vec();
    for len in 0..whole.len() {
        refused(whole[..len].to_vec(), &[]);
    }
    let more = [whole.as_slice(), &[0xc0]].concat();
    assert!(refused(more, &[]).contains("1 bytes follow"));
    assert!(refused(vec![0xc1], &[]).contains("0xc1"));
    assert!(refused(vec![0xdd, 0xff, 0xff, 0xff, 0xff], &[]).contains("claims 4294967295 values"));
    assert!(refused(vec![0x91, 0xa1, 0xff], &[]).contains("not UTF-8"));
}

#[test]
fn nesting_is_limited() {
    let nested = |levels: usize| {
        let mut node = Node::Nil;
        for _ in 0..levels {
            node = Node::Array(vec![node]);
        }
        node
    };
    let with = |inner: Node| {
        Node::Array(vec![Node::text("health"), Node::Map(vec![("x".to_owned(), inner)])])
            .encode(Width::Shortest)
    };
    let call = |head| wire::call(Outgoing::new(head, []).into_incoming());
    assert!(call(with(nested(30))).is_ok(), "32 levels in all");
    assert!(refused(with(nested(31)), &[]).contains("deeper than 32 levels"));
    let mut bottomless = with(Node::Nil);
    bottomless.pop();
    bottomless.extend([0x91; 100_000]);
    assert!(refused(bottomless, &[]).contains("deeper than 32 levels"));
}

#[test]
fn replies_are_checked() {
    fn refused<T: wire::Wire>(text: &str, says: &str) {
        let message = Outgoing::new(head(text), []);
        let Err(failure) = wire::reply::<T>(message.into_incoming()) else { panic!("{text} was read") };
        assert!(!failure.panicked);
        assert_eq!(failure.error.kind(), ErrorKind::Internal);
        assert!(failure.error.message().contains(says), "{text}: {}", failure.error);
    }
    refused::<()>(r#"["maybe", null]"#, "expected \"ok\" or \"error\" at byte 0, found \"maybe\"");
    refused::<()>(r#"["ok", 1]"#, "expected nil at byte 4, found an integer");
    refused::<()>(r#"["ok"]"#, "too few elements");
    refused::<()>(r#"["error", {"kind": "busy"}]"#, "no key \"message\"");
    let more = Outgoing::new([head(r#"["ok", null]"#), vec![0xc0]].concat(), []);
    assert!(wire::reply::<()>(more.into_incoming()).unwrap_err().error.message().contains("1 bytes follow"));
    refused::<bool>(r#"["ok", 1]"#, "expected a boolean");
    refused::<Capabilities>(r#"["ok", {"features": {"get": false}}]"#, "leave out what is not offered");
    refused::<Stats>(r#"["ok", {"reads": 1, "writes": 1, "details": "[]"}]"#, "no object");
    refused::<Opened>(
        r#"["ok", {"store": 0, "name": "a", "version": "1.0.0", "location": "", "capabilities": {"features": {}}}]"#,
        "the number of a store is not 0",
    );
    refused::<Description>(r#"["ok", {"version": "one"}]"#, "is not valid: unexpected character");
}

/// More errors than people read are cut, so that freeing the chain needs no deep recursion.
#[test]
fn an_endless_chain_of_sources_is_cut() {
    let sources = vec![Node::text("again"); 1_000_000];
    let error = vec![
        ("kind".to_owned(), Node::text("busy")),
        ("message".to_owned(), Node::text("x")),
        ("sources".to_owned(), Node::Array(sources)),
    ];
    let head = Node::Array(vec![Node::text("error"), Node::Map(error)]).encode(Width::Shortest);
    let failure = wire::reply::<()>(Outgoing::new(head, []).into_incoming()).unwrap_err();
    let error: &dyn std::error::Error = &failure.error;
    assert_eq!(std::iter::successors(error.source(), |source| (*source).source()).count(), 16);
}

/// Reads a message as everything that there is.
fn read_as_anything(message: &Outgoing) {
    let again = || Outgoing::new(message.head(), message.blobs().map(Bytes::copy_from_slice)).into_incoming();
    let _ = wire::call(again());
    let _ = wire::reply::<()>(again());
    let _ = wire::reply::<bool>(again());
    let _ = wire::reply::<u64>(again());
    let _ = wire::reply::<serde_json::Value>(again());
    let _ = wire::reply::<Vec<Option<Record>>>(again());
    let _ = wire::reply::<Vec<Result<Written>>>(again());
    let _ = wire::reply::<Page<Record>>(again());
    let _ = wire::reply::<Page<Key>>(again());
    let _ = wire::reply::<Page<ChangeEvent>>(again());
    let _ = wire::reply::<Option<ListItems>>(again());
    let _ = wire::reply::<Vec<IndexSpec>>(again());
    let _ = wire::reply::<Vec<Json>>(again());
    let _ = wire::reply::<Health>(again());
    let _ = wire::reply::<Stats>(again());
    let _ = wire::reply::<MaintenanceReport>(again());
    let _ = wire::reply::<Description>(again());
    let _ = wire::reply::<Opened>(again());
}

fn within_reason(message: &Outgoing) {
    let size = message.head().len() + message.blobs().map(<[u8]>::len).sum::<usize>();
    let allocated = allocations::during(|| read_as_anything(message));
    assert!(allocated <= 100_000 + 20_000 * size, "{allocated} bytes for a message of {size}");
}

/// One change that a broken writer could make.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
    LoseBlobs,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => any::<(prop::sample::Index, u8)>().prop_map(|(at, byte)| Damage::Set(at, byte)),
        2 => any::<(prop::sample::Index, u8)>().prop_map(|(at, byte)| Damage::Insert(at, byte)),
        2 => any::<prop::sample::Index>().prop_map(Damage::Remove),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => Just(Damage::LoseBlobs),
    ]
}

fn damaged(message: &mut Outgoing, damage: &Damage) {
    let len = message.head().len();
    if len == 0 {
        return;
    }
    match damage {
        Damage::Set(at, byte) => message.head_mut()[at.index(len)] = *byte,
        Damage::Insert(at, byte) => message.head_mut().insert(at.index(len), *byte),
        Damage::Remove(at) => drop(message.head_mut().remove(at.index(len))),
        Damage::Cut(at) => message.head_mut().truncate(at.index(len)),
        Damage::LoseBlobs => *message = Outgoing::new(message.head(), []),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_do_no_harm(
        head in prop::collection::vec(any::<u8>(), 0..200),
        blobs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..3),
    ) {
        within_reason(&Outgoing::new(head, blobs.into_iter().map(Bytes::from)));
    }

    #[test]
    fn damaged_messages_do_no_harm(
        which in any::<prop::sample::Index>(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let mut all = examples::all();
        let mut message = all.swap_remove(which.index(all.len())).message;
        damages.iter().for_each(|damage| damaged(&mut message, damage));
        within_reason(&message);
    }
}

#[test]
fn claims_are_not_believed() {
    for marker in [0xdd, 0xdf, 0xdb, 0xc6, 0xc9] {
        let mut message = Outgoing::new(vec![0x92, 0xa2, b'o', b'k', marker], []);
        message.head_mut().extend([0xff; 4]);
        within_reason(&message);
        message.head_mut().extend([0x90; 50]);
        within_reason(&message);
    }
    // Bytes enough for so many items, of which the first is none.
    let size = 1 << 20;
    let mut message = Outgoing::new(vec![0x92, 0xa2, b'o', b'k', 0xdd], []);
    message.head_mut().extend((size as u32).to_be_bytes());
    message.head_mut().resize(size + 9, 0xc1);
    let message = message.into_incoming();
    let allocated = allocations::during(|| assert!(wire::reply::<Vec<Option<Record>>>(message).is_err()));
    assert!(allocated < size, "{allocated} bytes for nothing");
}
