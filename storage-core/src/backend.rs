//! The one trait that a database implements.

use std::fmt;

use async_trait::async_trait;
use semver::Version as Semver;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{
    Address, Batch, Capabilities, ChangeEvent, Changes, CollectionName, Count, Health, IndexSpec, Key,
    ListItems, ListRange, Maintenance, MaintenanceReport, Page, Path, Query, Record, Result, Scan, Stats,
    Written,
};

/// What an open backend says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendInfo {
    /// The type's name, such as `file`.
    pub name: SmolStr,
    /// The type's version.
    pub version: Semver,
    /// Where the data is, without secrets, such as `file:///var/lib/app`.
    pub location: String,
    /// What it offers.
    pub capabilities: Capabilities,
}

/// An open database: about a dozen unary requests, each with one reply.
///
/// Programs use [`Store`](crate::Store), which puts types, layers and conveniences on top. Authors of
/// backends implement this trait. There are no default methods, so that no layer forgets one; an operation
/// that the backend does not offer returns [`Unsupported`](crate::ErrorKind::Unsupported) before any I/O.
///
/// Every method is cancel-safe: dropping its future leaves all or nothing of each atomic step done. Every
/// method returns within the backend's own deadlines. After [`close`](Self::close) every method but `info`
/// and `close` returns [`Closed`](crate::ErrorKind::Closed) (`closed_store_errors`).
///
/// Each sentence under *Behavior* names the conformance case that checks it.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Name, version, location and capabilities; constant while the backend is open.
    ///
    /// # Behavior
    /// - The location, like every `Debug` output and error, holds no secret (`debug_and_errors_hide_secrets`).
    fn info(&self) -> &BackendInfo;

    /// Reads records by key.
    ///
    /// # Behavior
    /// - The reply has one entry for each key, in order, `None` where there is no record
    ///   (`get_many_keeps_order_and_gaps`, `get_missing_none`).
    /// - A key may be asked for twice (`get_duplicate_keys`); no keys give an empty reply (`empty_batch_is_noop`).
    /// - A record reads back exactly as it was put, JSON by value and bytes by byte (`put_get_roundtrip`,
    ///   `json_types_roundtrip`, `bytes_roundtrip_all_256`).
    /// - A record past its expiry is absent (`expired_hidden_in_get`).
    async fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>>;

    /// Applies mutations.
    ///
    /// # Behavior
    /// - The reply has one result for each mutation, in order (`write_results_in_order`).
    /// - In an independent batch a failure harms no other mutation (`independent_failure_isolated`).
    /// - An atomic batch is applied whole or not at all (`atomic_all_or_nothing`); if a mutation or precondition
    ///   fails, the call fails with that error, whose [`failed_mutation`](crate::Error::failed_mutation) says
    ///   which (`atomic_precondition_aborts_all`).
    /// - Readers never see half of an atomic batch (`readers_never_see_half_a_batch`).
    /// - Mutations of the same key are applied in order, each seeing the one before (`same_key_in_order`,
    ///   `atomic_same_key_twice`).
    /// - A precondition that does not hold is [`PreconditionFailed`](crate::ErrorKind::PreconditionFailed) and
    ///   changes nothing (`failed_precondition_changes_nothing`); an expired record counts as absent
    ///   (`expired_counts_as_absent_for_preconditions`).
    /// - Every write gives the record a version it never had (`version_changes_on_every_write`,
    ///   `recreate_never_reuses_a_version`), if [`Preconditions`](crate::Feature::Preconditions) are offered.
    /// - A put replaces value, kind and expiry (`put_overwrites`, `put_without_ttl_clears_it`) and keeps
    ///   `created_at` (`overwrite_keeps_created_at`).
    /// - Deleting what is not there is quiet (`delete_missing_is_quiet`), touching it is
    ///   [`NotFound`](crate::ErrorKind::NotFound) (`touch_missing_fails`).
    /// - Increments return the new values (`increment_returns_new`) and none is lost (`concurrent_sum_exact`); one
    ///   that leaves 64 bits is [`OutOfRange`](crate::ErrorKind::OutOfRange) (`overflow_is_an_error`).
    /// - Increments and appends of a record of another kind are [`TypeMismatch`](crate::ErrorKind::TypeMismatch)
    ///   (`on_json_value_is_type_error`).
    /// - Dropping the future leaves each atomic step done or not done (`dropped_future_leaves_no_half_write`).
    async fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>>;

    /// Reads a page of records by key prefix.
    ///
    /// # Behavior
    /// - The prefix is literal (`wildcards_are_literal`, `unicode_prefix`, `prefix_only`).
    /// - Paging to the end returns every record that stays put exactly once, whatever is written meanwhile
    ///   (`every_stable_record_exactly_once_under_writes`, `more_than_10_000`).
    /// - Keys come in byte order if [`OrderedScan`](crate::Feature::OrderedScan) is offered
    ///   (`ordered_by_key_bytes`).
    /// - A cursor that is damaged or of another request is [`InvalidInput`](crate::ErrorKind::InvalidInput)
    ///   (`cursor_invalid_rejected`, `cursor_of_another_scan_rejected`); a good one outlives the connection
    ///   (`cursor_survives_reconnect`).
    /// - Other collections do not leak in (`collections_do_not_leak`), nor do expired records
    ///   (`expired_hidden_in_scan_query_count`).
    async fn scan(&self, scan: &Scan) -> Result<Page<Record>>;

    /// Reads a page of keys: [`scan`](Self::scan) without the values, and without reading them where the
    /// database can.
    ///
    /// # Behavior
    /// - Keys and cursors are those of `scan` (`keys_agree_with_scan`).
    async fn keys(&self, scan: &Scan) -> Result<Page<Key>>;

    /// Reads a page of JSON records by filter.
    ///
    /// # Behavior
    /// - Filters mean what [`Filter`](crate::Filter) says, with an index or without
    ///   (`indexed_and_unindexed_agree` and the other cases of the group `query`).
    /// - Sorted pages come in order, with ties by key (`sort_asc_desc`, `sort_ties_stable_over_pages`).
    /// - Paging to the end returns every record that stays put exactly once (`paging_exactly_once`).
    async fn query(&self, query: &Query) -> Result<Page<Record>>;

    /// Reads items of a list; `None` if there is no record.
    ///
    /// # Behavior
    /// - Items keep the order in which they were appended (`order_kept`, `concurrent_append_no_loss`).
    /// - A start past the end gives no items and the length (`range_past_end`).
    /// - A record of another kind is [`TypeMismatch`](crate::ErrorKind::TypeMismatch)
    ///   (`on_json_value_is_type_error`).
    async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>>;

    /// Counts records, without those past their expiry.
    ///
    /// # Behavior
    /// - With a filter it counts what the query would return (`count_agrees_with_query`).
    async fn count(&self, count: &Count) -> Result<u64>;

    /// The names of the collections that hold a record, in order.
    ///
    /// # Behavior
    /// - A collection appears with its first record and goes with its last (`collections_are_listed`); one
    ///   whose records have all expired may stay until the next sweep.
    async fn collections(&self) -> Result<Vec<CollectionName>>;

    /// Removes all records of a collection and returns how many of them had not expired. Its indexes stay.
    ///
    /// # Behavior
    /// - Other collections are untouched (`clear_removes_only_its_collection`).
    /// - It is not atomic: readers may see part of the collection gone, and what is put meanwhile may stay
    ///   or go.
    async fn clear(&self, collection: &CollectionName) -> Result<u64>;

    /// Makes an index and fills it; returns whether it was new.
    ///
    /// # Behavior
    /// - An index that is there already is left as it is (`index_lifecycle`); asking for a unique one where a
    ///   plain one is, or the other way round, is a [`Conflict`](crate::ErrorKind::Conflict)
    ///   (`unique_index_conflicts`).
    /// - A unique index over records that break it, and a write that would break it, is a
    ///   [`Conflict`](crate::ErrorKind::Conflict) that is not worth a retry (`unique_index_conflicts`). `null`
    ///   counts as a value; a record without the path holds none.
    /// - Mutations of an independent batch take such values, and give them back, in their order
    ///   (`unique_values_pass_in_order`).
    async fn ensure_index(&self, index: &IndexSpec) -> Result<bool>;

    /// The indexes of a collection, by path.
    async fn list_indexes(&self, collection: &CollectionName) -> Result<Vec<IndexSpec>>;

    /// Drops the index of a path; returns whether there was one (`index_lifecycle`).
    async fn drop_index(&self, collection: &CollectionName, path: &Path) -> Result<bool>;

    /// Reads a page of the feed of changes.
    async fn changes(&self, changes: &Changes) -> Result<Page<ChangeEvent>>;

    /// Probes whether the database does its work. A database that does not is a [`Health`] that says so, not
    /// an error (`health_turns_with_the_server`).
    async fn health(&self) -> Result<Health>;

    /// What the store holds and has done since it was opened (`stats_count_what_was_done`).
    async fn stats(&self) -> Result<Stats>;

    /// Does a chore now.
    ///
    /// # Behavior
    /// - A sweep removes what has expired and says how many (`sweep_removes_and_reports`).
    async fn maintain(&self, task: Maintenance) -> Result<MaintenanceReport>;

    /// Finishes what is under way, makes it durable and lets go of files and connections. A second call does
    /// nothing (`double_close_ok`).
    async fn close(&self) -> Result<()>;
}
