//! Numbers beyond doubles and 64 bits: every digit comes back, and they compare as the reference compares them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value as Tree, json};
use storage_core::{
    Backend, Batch, CollectionName, ErrorKind, Filter, IndexSpec, Json, ListRange, Mutation, Precondition,
    Query, Test, Value,
};
use storage_testkit::helpers::{
    address, expect_kind, get_record, keys_of, numbered, ok, put, query_all, write_all, write_ok,
};
use storage_testkit::queries::random_documents;

use crate::{Own, name, rounds};

/// A JSON text as a tree in which each number is a text: sign, digits without zeros at the ends, and the power of ten of
/// the last. So trees are equal only if no digit differs.
fn digits(text: &str) -> Tree {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with('"') { string_end(rest) } else { number_end(rest) };
        let token = &rest[..end];
        out.push_str(&if token.starts_with('"') { token.to_owned() } else { format!("{:?}", number(token)) });
        rest = &rest[end..];
    }
    serde_json::from_str(&(out + rest)).expect("valid JSON")
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    let end = text[1..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.expect("a string ends") + 2
}

fn number_end(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(text.len())
}

fn number(token: &str) -> String {
    let (sign, token) = token.strip_prefix('-').map_or(("+", token), |token| ("-", token));
    let (mantissa, exponent) = token.split_once(['e', 'E']).unwrap_or((token, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    let exponent: i128 = exponent.parse().expect("an exponent");
    let power = exponent - fraction.len() as i128 + (digits.len() - significant.len()) as i128;
    if significant.is_empty() { format!("{sign}0") } else { format!("{sign}{significant}e{power}") }
}

/// A spelling of any number that JSON may have here, and mostly of one that no double has.
fn spelling() -> impl Strategy<Value = String> {
    let long = ("-?", "[1-9][0-9]{0,40}", "(\\.[0-9]{1,40})?", "([eE][+-]?[0-9]{1,2})?")
        .prop_map(|(sign, whole, fraction, exponent)| format!("{sign}{whole}{fraction}{exponent}"));
    let small = ("-?0\\.0{0,30}[0-9]{1,30}", "([eE]-[0-9]{1,5})?")
        .prop_map(|(mantissa, exponent)| format!("{mantissa}{exponent}"));
    let edges = [i64::MIN as f64, i64::MAX as f64, u64::MAX as f64, 2f64.powi(53), -(2f64.powi(53))];
    let near = (proptest::sample::select(edges.to_vec()), -3_i128..4, "(\\.[0-9]{1,20})?")
        .prop_map(|(edge, beside, fraction)| format!("{}{fraction}", edge as i128 + beside));
    prop_oneof![3 => long, 2 => small, 3 => near]
}

fn json(text: &str) -> Json {
    Json::parse(text.to_owned()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn stored(value: &Value) -> &str {
    value.as_json().expect("JSON").as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_digit_is_lost() {
    let own = Own::open().await;
    let collection = name("numbers");
    let mut runner = TestRunner::deterministic();
    let (mut beyond, count) = (0, rounds(500));
    let spellings = vec(spelling(), 1..4);
    let spellings = (0..count).map(|_| spellings.new_tree(&mut runner).expect("numbers").current());
    let mut documents = random_documents(count);
    documents.extend(spellings.map(|numbers| {
        let text =
            format!(r#"{{"n": {}, "more": [{}], "t": "1e400 \\\" -0"}}"#, numbers[0], numbers.join(", "));
        json(&text)
    }));
    let documents: Vec<_> = documents.into_iter().enumerate().map(|(i, json)| (numbered(i), json)).collect();
    for chunk in documents.chunks(100) {
        let puts = chunk.iter().map(|(key, json)| Mutation::put(address(&collection, key), json.clone()));
        write_all(&*own.backend, Batch::independent(puts.collect())).await;
    }
    for (key, json) in &documents {
        let found = get_record(&*own.backend, &collection, key).await;
        assert_eq!(digits(stored(&found.value)), digits(json.as_str()), "{} became another", json.as_str());
        let rounded = ok(json.tree(), "a document").to_string();
        beyond += usize::from(digits(json.as_str()) != digits(&rounded));
    }
    assert!(beyond > count / 2, "only {beyond} have numbers beyond doubles");
}

/// The longest and the smallest ones, which not even the database's decimals hold.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_no_decimal_holds_are_kept() {
    let own = Own::open().await;
    let collection = name("numbers");
    let texts = [
        "-0".to_owned(),
        "-0.0".into(),
        "1e308".into(),
        "5e-324".into(),
        "1e-400".into(),
        "1e-16383".into(),
        "1e-16384".into(),
        "1e-99999".into(),
        "-1e-999999999".into(),
        "0e-99999".into(),
        "0e99999".into(),
        format!("{}.{}", "7".repeat(300), "3".repeat(5_000)),
        format!("0.{}1", "0".repeat(20_000)),
        format!("1.{}", "0".repeat(20_000)),
        format!("0.{}1e20000", "0".repeat(20_000)),
        format!("1{}e-20000", "0".repeat(20_000)),
        format!("0.{}", "9".repeat(140_000)),
    ];
    for text in texts {
        let shown = &text[..text.len().min(40)];
        write_ok(&*own.backend, Mutation::put(address(&collection, "n"), json(&text))).await;
        let found = get_record(&*own.backend, &collection, "n").await;
        assert!(digits(stored(&found.value)) == digits(&text), "{shown} became another");
    }
    for text in ["1e309", "-1e400", &format!("1{}", "0".repeat(400))] {
        assert!(Json::parse(text.to_owned()).is_err(), "{text}: not even a double");
    }
}

const LONG: &str = "123456789012345678901234567890.5";

/// Every way to write keeps what is exact, and drops what was.
#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_write_keeps_them() {
    let own = Own::open().await;
    let (backend, users) = (&*own.backend, name("users"));
    let at = |key: &str| address(&users, key);
    let long = || json(&format!("[{LONG}]"));
    let plain = || json("[1]");
    let absent = || Mutation::check(at("never"), Precondition::Absent);
    let ways: [fn(Mutation, Mutation) -> Batch; 4] = [
        |put, _| Batch::independent(vec![put]),
        |put, beside| Batch::independent(vec![put, beside]),
        |put, _| Batch::independent(vec![put.on(Precondition::Present)]),
        |put, beside| Batch::atomic(vec![put, beside.on(Precondition::Absent)]),
    ];
    write_ok(backend, put(&users, "a", json!(0))).await;
    for way in ways {
        for value in [plain(), long(), plain(), long(), json("[1e-400]")] {
            write_ok(backend, Mutation::delete(at("beside"))).await;
            let beside = put(&users, "beside", json!(1));
            write_all(backend, way(Mutation::put(at("a"), value.clone()), beside)).await;
            assert_eq!(read(backend, &users).await, digits(value.as_str()));
        }
        // What does not write the value leaves it.
        write_ok(backend, Mutation::touch(at("a"), None)).await;
        write_all(backend, Batch::atomic(vec![Mutation::touch(at("a"), None), absent()])).await;
        assert_eq!(read(backend, &users).await, digits("[1e-400]"));
    }
    let items = vec![long(), plain(), json("1e-400")];
    write_ok(backend, Mutation::append(at("list"), items.clone())).await;
    write_all(backend, Batch::atomic(vec![Mutation::append(at("list"), items.clone()), absent()])).await;
    let range = ListRange { address: at("list"), start: 0, limit: 9 };
    let found = ok(backend.list_range(&range).await, "list_range").expect("a list").items;
    let texts = |items: &[Json]| items.iter().map(|item| digits(item.as_str())).collect::<Vec<_>>();
    assert_eq!(texts(&found), texts(&[items.clone(), items].concat()));
}

async fn read(backend: &dyn Backend, users: &CollectionName) -> Tree {
    digits(stored(&get_record(backend, users, "a").await.value))
}

/// What others write by SQL is what is read, also into a record that had exact digits beside.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_counts() {
    let own = Own::open().await;
    let users = name("users");
    let long = json(&format!(r#"{{"n": {LONG}}}"#));
    for (change, expected) in [
        ("version = DEFAULT", format!(r#"{{"n": {LONG}}}"#)),
        (r#"json = json || '{"m": 1}'"#, r#"{"m": 1, "n": 1.2345678901234568e29}"#.to_owned()),
        (r#"json = '{"n": 2}'"#, r#"{"n": 2}"#.to_owned()),
        (
            r#"json = '{"n": 123456789012345678901234567890.25}'"#,
            r#"{"n": 123456789012345678901234567890.25}"#.to_owned(),
        ),
    ] {
        write_ok(&*own.backend, Mutation::put(address(&users, "a"), long.clone())).await;
        let update = format!("WITH u AS (UPDATE @.records SET {change} RETURNING 1) SELECT count(*) FROM u");
        assert_eq!(own.number(&update).await, 1);
        assert_eq!(read(&*own.backend, &users).await, digits(&expected), "{change}");
    }
}

/// A filter finds each number of the same double, as the reference does; a unique index takes them for the same.
#[tokio::test(flavor = "multi_thread")]
async fn they_compare_as_doubles() {
    let own = Own::open().await;
    let users = name("users");
    let numbers = [LONG, "123456789012345678901234567891", "1.2345678901234568e29"];
    for (key, number) in numbers.iter().enumerate() {
        let document = json(&format!(r#"{{"n": {number}}}"#));
        write_ok(&*own.backend, Mutation::put(address(&users, &key.to_string()), document)).await;
    }
    for number in numbers {
        let number = ok(json(number).tree(), "a number");
        let filter = Filter::Field("n".parse().expect("a path"), Test::Eq(number));
        let found = query_all(&*own.backend, Query::new(users.clone(), filter)).await;
        assert_eq!(keys_of(&found), ["0", "1", "2"]);
    }
    let index = IndexSpec { unique: true, ..IndexSpec::new(users, "n".parse().expect("a path")) };
    expect_kind(
        own.backend.ensure_index(&index).await,
        ErrorKind::Conflict,
        "a unique index of equal numbers",
    );
}
