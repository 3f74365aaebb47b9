//! The names on the wire are those that the rest of the project uses.

use serde_json::Value as Tree;
use storage_core::{Capabilities, Error, ErrorKind, Feature, Limits};
use storage_plugin::wire;

use crate::node::Node;

/// The variants of an enum, as the message of its deserialiser lists them.
fn variants<T>(parse: fn(&str) -> serde_json::Result<T>) -> Vec<T> {
    let message = parse("\"?\"").err().unwrap().to_string();
    let names = message.split('`').skip(3).step_by(2);
    names.map(|name| parse(&format!("{name:?}")).unwrap()).collect()
}

#[test]
fn every_kind_of_error_comes_back() {
    let kinds = variants::<ErrorKind>(|text| serde_json::from_str(text));
    assert!(kinds.len() >= 18, "{kinds:?}");
    for kind in kinds {
        let message = wire::error(&Error::new(kind, "x"));
        let failure = wire::reply::<()>(message.into_incoming()).unwrap_err();
        assert_eq!((failure.error.kind(), failure.error.retry()), (kind, kind.default_retry()));
    }
}

#[test]
fn every_feature_comes_back() {
    let capabilities = Capabilities::none().native(variants::<Feature>(|text| serde_json::from_str(text)));
    assert!(capabilities.features.len() >= 22);
    let message = wire::ok(&capabilities);
    assert_eq!(wire::reply::<Capabilities>(message.into_incoming()).unwrap(), capabilities);
}

#[test]
fn limits_are_named_as_in_json() {
    let Node::Array(reply) = Node::parse(wire::ok(&Limits::default()).head()) else { panic!("a reply") };
    let Node::Map(pairs) = &reply[1] else { panic!("limits are a map") };
    let Tree::Object(json) = serde_json::to_value(Limits::default()).unwrap() else { panic!("an object") };
    let mut names: Vec<_> = pairs.iter().map(|(name, _)| name).collect();
    let mut expected: Vec<_> = json.keys().collect();
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
}
