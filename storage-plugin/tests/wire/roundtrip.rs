//! What is written is read again as it was.

use std::error::Error as _;
use std::fmt::Debug;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use storage_core::{Address, Error, Record, Result, Timestamp, Value, Version, Written};
use storage_plugin::wire::{self, Call, Wire};

use crate::strategies as any;

fn comes_back<T: Wire + PartialEq + Debug>(value: &T) {
    let back: T = wire::reply(wire::ok(value).into_incoming()).unwrap();
    assert_eq!(back, *value);
}

/// All of an error, as something that can be compared.
fn parts(error: &Error) -> impl PartialEq + Debug + use<> {
    let sources: Vec<String> =
        std::iter::successors(error.source(), |source| (*source).source()).map(ToString::to_string).collect();
    let place = (error.operation_name().to_owned(), error.backend_name().to_owned(), error.failed_mutation());
    (error.kind(), error.retry(), error.message().to_owned(), place, sources)
}

proptest! {
    #[test]
    fn requests(call in any::call()) {
        let message = wire::request(&call.request()).into_incoming();
        prop_assert_eq!(wire::call(message).unwrap(), Call::Store(call));
    }

    #[test]
    fn requests_to_the_type(url in ".{0,80}", config in any::tree()) {
        let call = wire::call(wire::config_from_url(&url).into_incoming()).unwrap();
        prop_assert_eq!(call, Call::ConfigFromUrl { url });
        let call = wire::call(wire::validate(&config).into_incoming()).unwrap();
        prop_assert_eq!(call, Call::Validate { config: config.clone() });
        let call = wire::call(wire::open(&config).into_incoming()).unwrap();
        prop_assert_eq!(call, Call::Open { config });
    }

    #[test]
    fn records(records in vec(option::of(any::record()), 0..40)) {
        comes_back(&records);
    }

    #[test]
    fn records_asked_for(
        records in vec(option::of(any::record()), 0..20),
        others in vec(any::address(), 0..3),
        order in prop::sample::select(vec![1, -1, 0]),
    ) {
        let mut asked: Vec<_> = records.iter().flatten().map(|record| record.address.clone()).collect();
        match order {
            1 => {}
            -1 => asked.reverse(),
            _ => asked.clear(),
        }
        asked.splice(asked.len() / 2..asked.len() / 2, others);
        let reply = wire::ok(&records).into_incoming();
        prop_assert_eq!(wire::reply_about::<Vec<Option<Record>>>(&asked, reply).unwrap(), records);
    }

    #[test]
    fn values(value in any::value()) {
        comes_back(&value);
    }

    #[test]
    fn pages(records in any::page(any::record()), keys in any::page(any::key())) {
        comes_back(&records);
        comes_back(&keys);
    }

    #[test]
    fn list_items(items in any::list_items()) {
        comes_back(&items);
    }

    #[test]
    fn changes(events in any::page(any::event())) {
        comes_back(&events);
    }

    #[test]
    fn batches(batch in any::batch()) {
        comes_back(&batch);
    }

    #[test]
    fn names_and_indexes(collections in vec(any::collection(), 0..20), indexes in vec(any::index(), 0..20)) {
        comes_back(&collections);
        comes_back(&indexes);
    }

    #[test]
    fn administration(health in any::health(), stats in any::stats(), report in any::report()) {
        comes_back(&health);
        comes_back(&stats);
        comes_back(&report);
    }

    #[test]
    fn descriptions(description in any::description(), opened in any::opened(), info in any::info()) {
        comes_back(&description);
        comes_back(&opened);
        comes_back(&info);
    }

    #[test]
    fn trees_and_numbers(tree in any::tree(), number in prop::num::u64::ANY, truth in prop::bool::ANY, text in ".*") {
        comes_back(&tree);
        comes_back(&number);
        comes_back(&truth);
        comes_back(&text);
    }

    #[test]
    fn outcomes(outcomes in vec(prop_oneof![any::written().prop_map(Ok), any::error().prop_map(Err)], 0..20)) {
        let back: Vec<Result<Written>> = wire::reply(wire::ok(&outcomes).into_incoming()).unwrap();
        prop_assert_eq!(back.len(), outcomes.len());
        for (back, outcome) in back.iter().zip(&outcomes) {
            match (back, outcome) {
                (Ok(back), Ok(written)) => prop_assert_eq!(back, written),
                (Err(back), Err(error)) => prop_assert_eq!(parts(back), parts(error)),
                _ => prop_assert!(false, "{:?} came back as {:?}", outcome, back),
            }
        }
    }

    #[test]
    fn errors(error in any::error()) {
        let failure = wire::reply::<()>(wire::error(&error).into_incoming()).unwrap_err();
        prop_assert!(!failure.panicked);
        prop_assert_eq!(parts(&failure.error), parts(&error));
    }
}

#[test]
fn names_that_are_asked_for_are_shared() {
    let asked = ["a", "b", "c"].map(|key| Address::new("long".repeat(16), key.repeat(200)).unwrap());
    let found = |address: &Address| Record {
        address: Address::new(&address.collection, &address.key).unwrap(),
        value: Value::bytes("x"),
        version: Version::from_sequence(1),
        created_at: Timestamp::from_millis(1),
        updated_at: Timestamp::from_millis(1),
        expires_at: None,
    };
    let records = [Some(found(&asked[0])), None, Some(found(&asked[2]))].to_vec();
    let reply = wire::ok(&records).into_incoming();
    let read: Vec<Option<Record>> = wire::reply_about(&asked, reply).unwrap();
    assert_eq!(read, records);
    for (record, asked) in read.iter().zip(&asked) {
        if let Some(Record { address, .. }) = record {
            assert_eq!(address.collection.as_str().as_ptr(), asked.collection.as_str().as_ptr());
            assert_eq!(address.key.as_str().as_ptr(), asked.key.as_str().as_ptr());
        }
    }
}

#[test]
fn a_panic_is_told() {
    let failure = wire::reply::<u64>(wire::panicked("get", "boom").into_incoming()).unwrap_err();
    assert!(failure.panicked);
    assert_eq!(failure.error.to_string(), "get: the plugin panicked: boom");
}
