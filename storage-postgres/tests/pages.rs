//! What a page costs, as the server counts it.
#![allow(clippy::unwrap_used, reason = "a panic is the failing test's message, also in helpers")]

mod harness;

use storage_core::{Backend, CollectionName, Cursor, Filter, Query, Scan};
use storage_testkit::servers::{PostgresServer, PostgresSettings};

use harness::{open, with};

const RECORDS: usize = 200_000;
/// Blocks for a page of 1,000 small records, and of the index for them; with room to spare.
const FEW: u64 = 100;

/// How many blocks each statement read that begins with `SELECT`, as the log tells.
fn blocks(log: &str) -> Vec<u64> {
    let plans = log.split("Query Text: ").filter(|plan| plan.starts_with("SELECT"));
    let buffers = plans.filter_map(|plan| plan.split_once("Buffers: shared ")?.1.lines().next());
    let number = |field: &str| field.split_once('=')?.1.parse::<u64>().ok();
    buffers.map(|fields| fields.split(' ').filter_map(number).sum()).collect()
}

/// Reads a page from each position by each method, and returns the most blocks that one of them took.
async fn cost(server: &PostgresServer, backend: &dyn Backend, after: &Option<Cursor>, query: &Query) -> u64 {
    let before = server.log().len();
    let users = query.collection.clone();
    let scan = Scan { limit: 1_000, after: after.clone(), ..Scan::new(users.clone()) };
    assert_eq!(backend.scan(&scan).await.unwrap().items.len(), 1_000);
    assert_eq!(backend.keys(&scan).await.unwrap().items.len(), 1_000);
    let within = Scan { prefix: "k".to_owned(), after: None, ..scan };
    assert_eq!(backend.scan(&within).await.unwrap().items.len(), 1_000);
    assert_eq!(backend.query(query).await.unwrap().items.len(), 1_000);
    let blocks = blocks(&server.log()[before..]);
    assert_eq!(blocks.len(), 4, "a plan of each statement is in the log");
    blocks.into_iter().max().unwrap()
}

#[tokio::test]
async fn a_page_costs_the_same_at_the_end_of_a_table_that_was_never_analysed() {
    let server = PostgresServer::start(&PostgresSettings::with([
        "autovacuum = off",
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_analyze = on",
        "auto_explain.log_buffers = on",
        "auto_explain.log_timing = off",
    ]))
    .unwrap();
    let direct = open(&with(&server.url(), "pool_max", "1")).await.unwrap();
    server
        .psql(&format!(
            "INSERT INTO storage.records (collection, key, json) \
             SELECT 'users', 'k' || lpad(i::text, 6, '0'), '{{}}' FROM generate_series(1, {RECORDS}) i"
        ))
        .unwrap();
    // As behind a pooler: the settings come with each transaction.
    let pooled = open(&with(&server.url(), "prepared_statements", "false")).await.unwrap();
    let users = CollectionName::new("users").unwrap();
    let mut scan = Scan { limit: 9_900, ..Scan::new(users.clone()) };
    let mut query = Query { limit: 9_900, ..Query::new(users, Filter::all()) };
    while let Some(next) = direct.keys(&scan).await.unwrap().next {
        scan.after = Some(next);
    }
    loop {
        let next = direct.query(&query).await.unwrap().next;
        if next.is_none() {
            break;
        }
        query.after = next;
    }
    let last = Query { limit: 1_000, ..query };
    let first = Query { after: None, ..last.clone() };
    for backend in [&*direct, &*pooled] {
        // From the sixth on it may be a plan for any value.
        for round in 0..8 {
            let start = cost(&server, backend, &None, &first).await;
            let end = cost(&server, backend, &scan.after, &last).await;
            assert!(
                start <= FEW && end <= FEW,
                "round {round}: {start} blocks at the start, {end} at the end"
            );
        }
    }
}
