//! Which indexes the server uses for what queries ask, and how much it reads.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

use serde_json::Value as Tree;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use storage_core::{IndexSpec, Query};
use storage_testkit::servers::{PostgresServer, PostgresSettings};

use super::Position;
use crate::client::Client;
use crate::config::PostgresConfig;

const RECORDS: u64 = 50_000;

/// A plan, with what was really read.
struct Plan {
    tree: Tree,
}

impl Plan {
    /// The value of a field in all nodes that have it.
    fn all(&self, field: &str) -> Vec<Tree> {
        fn walk(tree: &Tree, field: &str, found: &mut Vec<Tree>) {
            match tree {
                Tree::Object(fields) => {
                    found.extend(fields.get(field).cloned());
                    fields.values().for_each(|tree| walk(tree, field, found));
                }
                Tree::Array(items) => items.iter().for_each(|tree| walk(tree, field, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        walk(&self.tree, field, &mut found);
        found
    }

    fn uses(&self, index: &str) -> bool {
        self.all("Index Name").iter().filter_map(Tree::as_str).any(|name| name.starts_with(index))
    }

    /// The most rows that any node read or handed on.
    fn rows(&self) -> u64 {
        let fields = ["Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck"];
        fields.iter().flat_map(|field| self.all(field)).filter_map(|rows| rows.as_u64()).max().unwrap_or(0)
    }
}

async fn explain(client: &Client, connection: &mut PgConnection, query: &Query) -> Plan {
    let after: Option<Position> = query.after.as_ref().map(|cursor| cursor.open(&query.identity()).unwrap());
    let grouped = client.is_grouped(query, false).await.unwrap();
    let (text, arguments) = client.page(query, after.as_ref(), false, grouped).unwrap().into_parts().unwrap();
    let text = AssertSqlSafe(format!("EXPLAIN (ANALYZE, FORMAT JSON) {}", text.as_str()));
    let row = sqlx::query_with(text, arguments).persistent(false).fetch_one(connection).await.unwrap();
    let tree: &str = row.try_get_unchecked(0).unwrap();
    Plan { tree: serde_json::from_str(tree).unwrap() }
}

/// On 50,000 records: equality, ranges, lists, orders and pages from the middle read what they return, by the index of
/// their path, and little more.
#[tokio::test(flavor = "multi_thread")]
async fn queries_use_the_index_of_their_path() {
    let server = PostgresServer::start(&PostgresSettings::default()).unwrap();
    let client = Client::new(&PostgresConfig::from_url(&server.url()).unwrap()).unwrap();
    client.apply_schema().await.unwrap();
    let mut connection = PgConnection::connect(&server.url()).await.unwrap();
    for collection in ["users", "others"] {
        let fill = format!(
            "INSERT INTO storage.records (collection, key, json) SELECT '{collection}', 'k' || lpad(i::text, 8, '0'), \
             jsonb_build_object('n', i * 7919 % {RECORDS}, 'email', 'u' || i || '@example.org', 'o', jsonb_build_object('k', i), \
             'status', i % 3, 'tags', jsonb_build_array('t' || i % 1000, 'all')) \
             || CASE WHEN i % 10 = 0 THEN jsonb_build_object('rare', i) ELSE '{{}}' END \
             FROM generate_series(1, {RECORDS}) i"
        );
        connection.execute(AssertSqlSafe(fill)).await.unwrap();
    }
    connection.execute("ANALYZE storage.records").await.unwrap();
    connection.execute("SET jit = off").await.unwrap();
    let query = |filter: &str, sort: &str| Query {
        sort: sort.split_whitespace().map(|sort| sort.parse().unwrap()).collect(),
        limit: 10,
        ..Query::new("users".parse().unwrap(), filter.parse().unwrap())
    };
    let before = explain(&client, &mut connection, &query(r#"{"email": "u77@example.org"}"#, "")).await;
    assert!(!before.uses("users.email") && before.rows() > 10_000, "without an index all is read");
    for path in ["n", "email", "o.k", "status", "tags", "rare"] {
        let index = IndexSpec::new("users".parse().unwrap(), path.parse().unwrap());
        client.ensure_index(&index).await.unwrap();
    }
    for (filter, sort, index, most) in [
        (r#"{"email": "u77@example.org"}"#, "", "users.email", 1),
        (r#"{"n": 77}"#, "", "users.n_", 1),
        (r#"{"n": 77.0}"#, "n:desc", "users.n_", 1),
        (r#"{"o.k": 77}"#, "", "users.o.k", 1),
        (r#"{"n": {"$in": [1, 2, 3]}}"#, "", "users.n_", 3),
        (r#"{"n": {"$gte": 100, "$lt": 150}}"#, "", "users.n_", 50),
        (r#"{"n": {"$gt": 49900}}"#, "n:desc", "users.n_", 110),
        (r#"{"n": {"$gte": 25000}}"#, "n", "users.n_", 30),
        (r#"{"n": {"$lte": 25000}, "odd": {"$exists": false}}"#, "n:desc", "users.n_", 100),
        (r#"{"email": {"$prefix": "u77"}}"#, "", "users.email", 120),
        (r#"{"email": {"$gte": "u999"}}"#, "email", "users.email", 30),
        (r#"{"rare": {"$gt": 49000}}"#, "", "users.rare", 101),
        (r#"{"tags": "t77"}"#, "", "users.tags", 60),
        (r#"{"tags": {"$in": ["t77", "t78"]}}"#, "", "users.tags", 120),
        ("{}", "n", "users.n_", 11),
        ("{}", "n:desc", "users.n_", 50),
        ("{}", "status", "users.status", 11),
        ("{}", "status:desc", "users.status", 11),
        ("{}", "", "records_pkey", 11),
    ] {
        let plan = explain(&client, &mut connection, &query(filter, sort)).await;
        assert!(plan.uses(index), "{filter} by {sort:?} does not use {index}: {:#}", plan.tree);
        assert!(plan.rows() <= most, "{filter} by {sort:?} reads {} rows: {:#}", plan.rows(), plan.tree);
    }
    // The last page costs what the first does.
    for sort in ["n", "n:desc", "email", "status", "status:desc", ""] {
        let mut query = Query { limit: 10_000, ..query("{}", sort) };
        let mut cursor = None;
        for _ in 0..4 {
            query.after = cursor;
            cursor = client.query(&query).await.unwrap().next;
        }
        let query = Query { limit: 10, after: cursor, ..query };
        let plan = explain(&client, &mut connection, &query).await;
        assert!(
            plan.rows() <= 50,
            "a page by {sort:?} after 40,000 reads {} rows: {:#}",
            plan.rows(),
            plan.tree
        );
    }
}
