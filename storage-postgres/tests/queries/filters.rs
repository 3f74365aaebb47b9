//! Filters, orders and pages.

use storage_core::{ErrorKind, Filter, Query};
use storage_testkit::queries::{self, Trial};

use crate::{Own, name, rounds};

/// Thousands of random filters over random documents find what the reference says, with indexes and without.
#[tokio::test(flavor = "multi_thread")]
async fn filters_mean_what_the_reference_says() {
    queries::filters_mean_what_the_reference_says(&*Own::open().await.backend, Trial::of(rounds(24))).await;
}

/// Pages in random orders are those of the reference, one by one, with indexes and without.
#[tokio::test(flavor = "multi_thread")]
async fn orders_and_pages_are_those_of_the_reference() {
    queries::orders_and_pages_are_those_of_the_reference(&*Own::open().await.backend, Trial::of(rounds(6)))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn few_values_are_paged_by_key() {
    queries::few_values_are_paged_by_key(&*Own::open().await.backend).await;
}

/// Texts that are equal over more than an index has of them.
#[tokio::test(flavor = "multi_thread")]
async fn long_texts_compare_to_their_end() {
    queries::long_texts_compare_to_their_end(&*Own::open().await.backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_sorted_and_filtered_by_one_path() {
    queries::lists_are_sorted_and_filtered_by_one_path(&*Own::open().await.backend).await;
}

/// Numbers that the database would read differently are found by their value.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_what_they_are_read_as() {
    queries::numbers_are_what_they_are_read_as(&*Own::open().await.backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_limited_in_bytes() {
    queries::pages_are_limited_in_bytes(&*Own::open().await.backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_wide_filters_are_answered() {
    queries::deep_and_wide_filters_are_answered(&*Own::open().await.backend).await;
}

/// A filter of more operands than a statement takes is refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn filters_of_too_many_operands_are_refused() {
    let own = Own::open().await;
    let wide = Filter::Or((0..30_000).map(|i| Filter::eq("x".parse().expect("a path"), i)).collect());
    let error = own.backend.query(&Query::new(name("c"), wide)).await.expect_err("a filter of 30,000 parts");
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
}
