//! The texts of the statements that are used most, made once: so that no call builds them, and so that each connection has
//! few to prepare. Their values come in the order of the parameters.

use std::sync::Arc;

use crate::convert::RECORD_COLUMNS;
use crate::layout::Layout;

/// Texts of statements on one layout.
pub(crate) struct Statements {
    /// One record: collection, key.
    pub(crate) get: Arc<str>,
    /// Records of one collection: collection, keys.
    pub(crate) get_many: Arc<str>,
    /// Records of several collections: collections, keys.
    pub(crate) get_any: Arc<str>,
    /// A list and some of its items: collection, key, first position, first position after.
    pub(crate) list_range: Arc<str>,
    /// Puts JSON into one collection: collection, now, keys, versions, texts.
    pub(crate) put_json: Arc<str>,
    /// Puts one JSON: collection, key, version, now, text.
    pub(crate) put_one_json: Arc<str>,
    /// Puts one record of any kind: now, then the columns of [`Rows`](crate::write::rows::Rows).
    pub(crate) put_one: Arc<str>,
    /// Whether there is none of some records: collection, first key, last key, all keys.
    pub(crate) absent: Arc<str>,
    /// As `put_json`, of which the records are new.
    pub(crate) insert_json: Arc<str>,
    /// As `put_any`, of which the records are new.
    pub(crate) insert_any: Arc<str>,
    /// Puts anything: now, and the arrays of [`Rows`](crate::write::rows::Rows).
    pub(crate) put_any: Arc<str>,
    /// As `put_any`, if there is no record; returns a row for each that there was not.
    pub(crate) put_absent: Arc<str>,
    /// As `put_any`, if there is a record, and it has the version if one is given: now, arrays, versions. Returns a row for
    /// each that there was.
    pub(crate) put_present: Arc<str>,
    /// Deletes one record: collection, key; returns when it expires.
    pub(crate) delete: Arc<str>,
    /// Deletes records: collections, keys; returns collection, key and when it expires of each.
    pub(crate) delete_many: Arc<str>,
    /// Deletes one record of a version, or of any: collection, key, now, version or null. Returns a row if it did.
    pub(crate) delete_present: Arc<str>,
    /// Sets expiries: now, collections, keys, versions, expiries; returns collection and key of each that is there.
    pub(crate) touch: Arc<str>,
    /// Adds to counters: now, collections, keys, versions, initial expiries, deltas as JSON; returns collection, key and
    /// counters of each that was done.
    pub(crate) increment: Arc<str>,
    /// As `increment`, one counter of one record: collection, key, version, now, initial expiry, name, delta. Returns what it
    /// counts if it was done.
    pub(crate) increment_one: Arc<str>,
    /// Appends to lists: now, collections, keys, versions, initial expiries, numbers of items; then of each item the
    /// collection, the key, how many places from the end it is, the text, and the exact text or null. Returns collection,
    /// key and length of each that was done.
    pub(crate) append: Arc<str>,
    /// Locks records in order: collections, keys. Returns them, then the numbers of their lists.
    pub(crate) lock: Arc<str>,
    /// Locks the places of records in order, also where there are none: collections, keys.
    pub(crate) claim: Arc<str>,
    /// Reads what `claim` locked: collections, keys. As `lock`.
    pub(crate) claimed: Arc<str>,
    /// Writes into rows that are locked: the arrays of [`Rows`](crate::write::rows::Rows), then created and updated.
    pub(crate) store: Arc<str>,
    /// Removes rows that are locked: collections, keys.
    pub(crate) remove: Arc<str>,
    /// Adds items: numbers of lists, positions, texts, exact texts or nulls.
    pub(crate) add_items: Arc<str>,
    /// Removes what has expired: now, most rows.
    pub(crate) sweep: Arc<str>,
    /// Removes records of a collection: collection, most rows. Returns when each expires.
    pub(crate) clear: Arc<str>,
}

/// The arrays of [`Rows`](crate::write::rows::Rows), whose first parameter has the number `first`.
fn rows_from(first: usize, more: &[(&str, &str)]) -> String {
    let mut columns = vec![
        ("collection", "text"),
        ("key", "text"),
        ("kind", "\"char\""),
        ("version", "bigint"),
        ("expires_at", "timestamptz"),
        ("json", "text"),
        ("bytes", "bytea"),
        ("media_type", "text"),
        ("counters", "text"),
        ("list_id", "bigint"),
        ("list_len", "bigint"),
    ];
    columns.extend(more);
    unnest(first, &columns)
}

/// Arrays side by side as rows with the alias `n`.
fn unnest(first: usize, columns: &[(&str, &str)]) -> String {
    let arrays = columns.iter().enumerate().map(|(at, (_, of))| format!("${}::{of}[]", first + at));
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    format!("unnest({}) AS n({})", arrays.collect::<Vec<_>>().join(", "), names.join(", "))
}

const COLUMNS: &str = "collection, key, kind, version, created_at, updated_at, expires_at, json, bytes, media_type, counters, \
                       list_id, list_len";
/// What a put sets. An expired record counts as none, so its time of creation goes too.
const OVERWRITE: &str = "kind = excluded.kind, version = excluded.version, \
     created_at = CASE WHEN r.expires_at <= excluded.updated_at THEN excluded.created_at ELSE r.created_at END, \
     updated_at = excluded.updated_at, expires_at = excluded.expires_at, json = excluded.json, bytes = excluded.bytes, \
     media_type = excluded.media_type, counters = excluded.counters, list_id = excluded.list_id, \
     list_len = excluded.list_len";
const PLACES: &[(&str, &str)] = &[("collection", "text"), ("key", "text")];

impl Statements {
    pub(crate) fn new(layout: &Layout) -> Self {
        let (records, items) = (layout.records(), layout.list_items());
        let places = unnest(1, PLACES);
        let same = "r.collection = n.collection AND r.key = n.key";
        let insert = |rows: &str| {
            format!(
                "INSERT INTO {records} AS r ({COLUMNS}) SELECT n.collection, n.key, n.kind, n.version, $1, $1, n.expires_at, \
                 n.json::jsonb, n.bytes, n.media_type, n.counters::jsonb, n.list_id, n.list_len FROM {rows}"
            )
        };
        let insert_json = |rows: &str| {
            format!(
                "INSERT INTO {records} AS r (collection, key, kind, version, created_at, updated_at, json) {rows}"
            )
        };
        let or_update = format!("ON CONFLICT (collection, key) DO UPDATE SET {OVERWRITE}");
        let put = |rows: &str| format!("{} {or_update}", insert(rows));
        let put_json = |rows: &str| format!("{} {or_update}", insert_json(rows));
        let many = "SELECT $1, n.key, 'j', n.version, $2, $2, n.json::jsonb \
                    FROM unnest($3::text[], $4::bigint[], $5::text[]) AS n(key, version, json)";
        let store = rows_from(1, &[("created_at", "timestamptz"), ("updated_at", "timestamptz")]);
        let current = format!(
            "SELECT {RECORD_COLUMNS}, r.list_id FROM {places} JOIN {records} r ON {same} ORDER BY r.collection, r.key"
        );
        let locked = format!(
            "WITH n AS (SELECT r.collection, r.key FROM {places} JOIN {records} r ON {same} \
                     ORDER BY r.collection, r.key FOR UPDATE OF r)"
        );
        let touched = unnest(
            2,
            &[("collection", "text"), ("key", "text"), ("version", "bigint"), ("expires_at", "timestamptz")],
        );
        Self {
            get: format!("SELECT {RECORD_COLUMNS} FROM {records} r WHERE r.collection = $1 AND r.key = $2").into(),
            get_many: format!("SELECT {RECORD_COLUMNS} FROM {records} r WHERE r.collection = $1 AND r.key = ANY($2)")
                .into(),
            get_any: format!("SELECT {RECORD_COLUMNS} FROM {places} JOIN {records} r ON {same}").into(),
            list_range: list_range(records, items).into(),
            put_json: put_json(many).into(),
            put_one_json: put_json("VALUES ($1, $2, 'j', $3, $4, $4, $5::text::jsonb)").into(),
            put_one: format!(
                "INSERT INTO {records} AS r ({COLUMNS}) VALUES ($2, $3, $4, $5, $1, $1, $6, $7::text::jsonb, $8, $9, \
                 $10::text::jsonb, $11, $12) {or_update}"
            )
            .into(),
            absent: format!(
                // Mostly all are new and behind each other: then one look at the index tells.
                "SELECT NOT EXISTS (SELECT FROM {records} r WHERE r.collection = $1 AND r.key BETWEEN $2 AND $3) \
                 OR NOT EXISTS (SELECT FROM {records} r WHERE r.collection = $1 AND r.key = ANY($4))"
            )
            .into(),
            insert_json: insert_json(many).into(),
            insert_any: insert(&rows_from(2, &[])).into(),
            put_any: put(&rows_from(2, &[])).into(),
            put_absent: format!("{} WHERE r.expires_at <= excluded.updated_at RETURNING 1", put(&rows_from(2, &[])))
                .into(),
            put_present: format!(
                "UPDATE {records} r SET kind = n.kind, version = n.version, updated_at = $1, expires_at = n.expires_at, \
                 json = n.json::jsonb, bytes = n.bytes, media_type = n.media_type, counters = n.counters::jsonb, \
                 list_id = n.list_id, list_len = n.list_len FROM {} WHERE {same} \
                 AND (r.expires_at IS NULL OR r.expires_at > $1) AND (n.expected IS NULL OR r.version = n.expected) \
                 RETURNING 1",
                rows_from(2, &[("expected", "bigint")])
            )
            .into(),
            delete: format!("DELETE FROM {records} r WHERE r.collection = $1 AND r.key = $2 RETURNING r.expires_at")
                .into(),
            delete_many: format!(
                "{locked} DELETE FROM {records} r USING n WHERE {same} RETURNING r.collection, r.key, r.expires_at"
            )
            .into(),
            delete_present: format!(
                "DELETE FROM {records} r WHERE r.collection = $1 AND r.key = $2 \
                 AND (r.expires_at IS NULL OR r.expires_at > $3) AND ($4::bigint IS NULL OR r.version = $4) RETURNING 1"
            )
            .into(),
            touch: format!(
                "WITH n AS (SELECT r.collection, r.key, n.version, n.expires_at FROM {touched} JOIN {records} r ON {same} \
                 WHERE r.expires_at IS NULL OR r.expires_at > $1 ORDER BY r.collection, r.key FOR UPDATE OF r) \
                 UPDATE {records} r SET version = n.version, updated_at = $1, expires_at = n.expires_at FROM n WHERE {same} \
                 RETURNING r.collection, r.key"
            )
            .into(),
            increment: increment(records).into(),
            increment_one: increment_one(records).into(),
            append: append(records, items).into(),
            lock: format!("{current} FOR UPDATE OF r").into(),
            claim: format!(
                // What expired long ago counts as absent to everybody, should it ever be seen.
                "INSERT INTO {records} AS r (collection, key, kind, version, expires_at, bytes, media_type) \
                 SELECT n.collection, n.key, 'b', 0, '-infinity', '', '' FROM {places} \
                 ON CONFLICT (collection, key) DO UPDATE SET version = excluded.version WHERE false"
            )
            .into(),
            claimed: current.into(),
            store: format!(
                "UPDATE {records} r SET kind = n.kind, version = n.version, created_at = n.created_at, \
                 updated_at = n.updated_at, expires_at = n.expires_at, json = n.json::jsonb, bytes = n.bytes, \
                 media_type = n.media_type, counters = n.counters::jsonb, list_id = n.list_id, list_len = n.list_len \
                 FROM {store} WHERE {same}"
            )
            .into(),
            remove: format!("DELETE FROM {records} r USING {places} WHERE {same}").into(),
            add_items: format!(
                "INSERT INTO {items} (list_id, position, item, bytes) \
                 SELECT n.list_id, n.position, n.item::jsonb, n.bytes \
                 FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[]) AS n(list_id, position, item, bytes)"
            )
            .into(),
            sweep: format!(
                "DELETE FROM {records} r USING (SELECT s.collection, s.key FROM {records} s WHERE s.expires_at <= $1 \
                 ORDER BY s.expires_at LIMIT $2 FOR UPDATE SKIP LOCKED) AS n WHERE {same}"
            )
            .into(),
            clear: format!(
                "DELETE FROM {records} r USING (SELECT s.collection, s.key FROM {records} s WHERE s.collection = $1 \
                 ORDER BY s.key LIMIT $2 FOR UPDATE) AS n WHERE {same} RETURNING r.expires_at"
            )
            .into(),
        }
    }
}

fn increment(records: &str) -> String {
    let rows = unnest(
        2,
        &[
            ("collection", "text"),
            ("key", "text"),
            ("version", "bigint"),
            ("expires_at", "timestamptz"),
            ("counters", "text"),
        ],
    );
    // Where a sum comes near the end of its range, mutations are done one by one.
    format!(
        "INSERT INTO {records} AS r (collection, key, kind, version, created_at, updated_at, expires_at, counters) \
         SELECT n.collection, n.key, 'c', n.version, $1, $1, n.expires_at, n.counters::jsonb FROM {rows} \
         ON CONFLICT (collection, key) DO UPDATE SET version = excluded.version, updated_at = excluded.updated_at, \
         counters = r.counters || (SELECT jsonb_object_agg(d.key, \
         coalesce((r.counters ->> d.key)::bigint, 0) + d.value::bigint) FROM jsonb_each_text(excluded.counters) AS d) \
         WHERE r.kind = 'c' AND (r.expires_at IS NULL OR r.expires_at > excluded.updated_at) \
         AND NOT EXISTS (SELECT FROM jsonb_each_text(excluded.counters) AS d \
         WHERE (r.counters ->> d.key)::bigint NOT BETWEEN -4611686018427387904 AND 4611686018427387904) \
         RETURNING r.collection, r.key, r.counters::text"
    )
}

/// The most usual increment: the server has no JSON to take apart.
fn increment_one(records: &str) -> String {
    format!(
        "INSERT INTO {records} AS r (collection, key, kind, version, created_at, updated_at, expires_at, counters) \
         VALUES ($1, $2, 'c', $3, $4, $4, $5, jsonb_build_object($6::text, $7::bigint)) \
         ON CONFLICT (collection, key) DO UPDATE SET version = excluded.version, updated_at = excluded.updated_at, \
         counters = r.counters || jsonb_build_object($6::text, coalesce((r.counters ->> $6)::bigint, 0) + $7::bigint) \
         WHERE r.kind = 'c' AND (r.expires_at IS NULL OR r.expires_at > excluded.updated_at) \
         AND coalesce((r.counters ->> $6)::bigint, 0) BETWEEN -4611686018427387904 AND 4611686018427387904 \
         RETURNING (r.counters ->> $6)::bigint"
    )
}

fn append(records: &str, items: &str) -> String {
    let rows = unnest(
        2,
        &[
            ("collection", "text"),
            ("key", "text"),
            ("version", "bigint"),
            ("expires_at", "timestamptz"),
            ("list_len", "bigint"),
        ],
    );
    format!(
        "WITH done AS (INSERT INTO {records} AS r \
         (collection, key, kind, version, created_at, updated_at, expires_at, list_id, list_len) \
         SELECT n.collection, n.key, 'l', n.version, $1, $1, n.expires_at, n.version, n.list_len FROM {rows} \
         ON CONFLICT (collection, key) DO UPDATE SET version = excluded.version, updated_at = excluded.updated_at, \
         list_len = r.list_len + excluded.list_len \
         WHERE r.kind = 'l' AND (r.expires_at IS NULL OR r.expires_at > excluded.updated_at) \
         RETURNING r.collection, r.key, r.list_id, r.list_len), \
         added AS (INSERT INTO {items} (list_id, position, item, bytes) \
         SELECT done.list_id, done.list_len - i.back, i.item::jsonb, i.bytes \
         FROM unnest($7::text[], $8::text[], $9::bigint[], $10::text[], $11::bytea[]) \
         AS i(collection, key, back, item, bytes) \
         JOIN done ON done.collection = i.collection AND done.key = i.key) \
         SELECT collection, key, list_len FROM done"
    )
}

fn list_range(records: &str, items: &str) -> String {
    const OWN: &str = "(pg_column_size(s.item) + coalesce(pg_column_size(s.bytes), 0))";
    // A row for the record even if no item is in the range. Items are cut off by their size: the first is always there.
    format!(
        "SELECT r.kind, r.expires_at, r.list_len, i.item::text, i.bytes FROM {records} r LEFT JOIN LATERAL (\
         SELECT s.position, s.item, s.bytes, sum({OWN}) OVER (ORDER BY s.position) - {OWN} AS before \
         FROM {items} s WHERE r.kind = 'l' AND s.list_id = r.list_id AND s.position >= $3 AND s.position < $4) i \
         ON i.before <= {PAGE_BYTES} WHERE r.collection = $1 AND r.key = $2 ORDER BY i.position"
    )
}

/// Soft limit of a page's size in bytes as they are stored: a page ends once it is passed.
pub(crate) const PAGE_BYTES: usize = 4 << 20;
