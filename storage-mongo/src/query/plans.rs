//! Which indexes the server uses for what queries ask.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

use mongodb::bson::{Bson, Document, doc};
use storage_core::{Batch, Filter, IndexSpec, Json, Mutation};
use storage_testkit::helpers::{address, numbered};
use storage_testkit::servers::{MongoServer, MongoSettings};

use super::matching;
use crate::client::Client;
use crate::config::MongoConfig;
use crate::filter::condition;

const RECORDS: usize = 2_000;

/// The indexes that the server would use to find what matches.
async fn indexes_of(client: &Client, matching: Document) -> Vec<String> {
    let users = client.layout.records(&"users".parse().unwrap());
    let explain = doc! {"explain": {"find": users, "filter": matching}, "verbosity": "queryPlanner"};
    let told = client.database.run_command(explain).await.unwrap();
    let mut found = Vec::new();
    names(told.get_document("queryPlanner").unwrap().get("winningPlan").unwrap(), &mut found);
    found
}

fn names(plan: &Bson, found: &mut Vec<String>) {
    match plan {
        Bson::Document(node) => {
            found.extend(node.get_str("indexName").map(str::to_owned));
            node.values().for_each(|value| names(value, found));
        }
        Bson::Array(nodes) => nodes.iter().for_each(|node| names(node, found)),
        _ => {}
    }
}

/// Equality, ranges, lists and prefixes are found by the index of their path.
///
/// The stand-in for MongoDB uses an index for one comparison alone. So there only the filter itself is asked for, without
/// what else a query says, and prefixes and unique indexes are left out.
#[tokio::test(flavor = "multi_thread")]
async fn queries_use_the_index_of_their_path() {
    let given = std::env::var("STORAGE_TEST_MONGODB_URL").ok().filter(|url| !url.is_empty());
    let server = given.is_none().then(|| MongoServer::start(&MongoSettings::default()).unwrap());
    let url = given.clone().unwrap_or_else(|| server.as_ref().unwrap().url());
    let mut config = MongoConfig::from_url(&url).unwrap();
    config.prefix = format!("plans{}.", std::process::id());
    let client = Client::open(&config).await.unwrap();
    let collection = "users".parse().unwrap();
    for first in (0..RECORDS).step_by(1_000) {
        let puts = (first..first + 1_000).map(|i| {
            let document = serde_json::json!({
                "n": i, "email": format!("u{i}@example.org"), "o": {"k": i}, "tags": [format!("t{}", i % 500), "all"],
            });
            Mutation::put(address(&collection, &numbered(i)), Json::from(document))
        });
        client.write(&Batch::independent(puts.collect())).await.unwrap();
    }
    let filter = |text: &str| text.parse::<Filter>().unwrap();
    let before = indexes_of(&client, condition(&filter(r#"{"n": 77}"#)).unwrap()).await;
    assert_eq!(before, Vec::<String>::new(), "without an index all is read");
    for (path, unique) in [("n", false), ("email", true), ("o.k", false), ("tags", false)] {
        let index = IndexSpec::new(collection.clone(), path.parse().unwrap());
        client.ensure_index(&IndexSpec { unique, ..index }).await.unwrap();
    }
    for (text, index, by_stand_in) in [
        (r#"{"n": 77}"#, "storage_json.n", true),
        (r#"{"n": 77.0}"#, "storage_json.n", true),
        (r#"{"n": {"$in": [1, 2, 3]}}"#, "storage_json.n", true),
        (r#"{"n": {"$gt": 1990}}"#, "storage_json.n", true),
        (r#"{"n": {"$gte": 100, "$lt": 110}}"#, "storage_json.n", false),
        (r#"{"o.k": 77}"#, "storage_json.o.k", true),
        (r#"{"tags": "t77"}"#, "storage_json.tags", true),
        (r#"{"tags": {"$in": ["t77", "t78"]}}"#, "storage_json.tags", true),
        (r#"{"tags": {"$prefix": "t77"}}"#, "storage_json.tags", false),
        (r#"{"email": "u77@example.org"}"#, "storage_json.email", false),
        (r#"{"email": {"$prefix": "u77"}}"#, "storage_json.email", false),
    ] {
        let asked = match (&given, by_stand_in) {
            (Some(_), _) => matching(&filter(text)).unwrap(),
            (None, true) => condition(&filter(text)).unwrap(),
            (None, false) => continue,
        };
        assert_eq!(indexes_of(&client, asked).await, [index], "{text}");
    }
    if given.is_some() {
        let records = client.records(&collection);
        records.drop().await.unwrap();
    }
}
