//! Reading records by key and in the order of their keys.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use storage_core::{
    Address, CollectionName, Cursor, Error, ErrorKind, Key, ListItems, ListRange, Page, Record, Result, Scan,
    Timestamp,
};

use crate::client::Client;
use crate::convert::{
    RECORD_COLUMNS, RECORD_WIDTH, Time, damaged, kind, kind_name, read_json, record, record_at,
};
use crate::sql::Sql;
use crate::statements::PAGE_BYTES;

impl Client {
    pub(crate) async fn get(&self, addresses: &[Address]) -> Result<Vec<Option<Record>>> {
        self.check_open()?;
        let records = self.read_many(addresses).await?;
        self.reads.fetch_add(addresses.len() as u64, Ordering::Relaxed);
        Ok(records)
    }

    /// The records at addresses, without those that have expired.
    pub(crate) async fn read_many(&self, addresses: &[Address]) -> Result<Vec<Option<Record>>> {
        let Some(first) = addresses.first() else { return Ok(Vec::new()) };
        let now = Timestamp::now();
        let live = |record: &Record| !record.is_expired(now);
        if let [address] = addresses {
            Ok(vec![self.read_one(address).await?.filter(live)])
        } else {
            let keys: Vec<&str> = addresses.iter().map(|address| address.key.as_str()).collect();
            let one = addresses.iter().all(|address| address.collection == first.collection);
            let mut sql = if one {
                let mut sql = Sql::prepared(&self.statements.get_many);
                sql.value(first.collection.as_str());
                sql
            } else {
                let collections = addresses.iter().map(|address| address.collection.as_str());
                let mut sql = Sql::prepared(&self.statements.get_any);
                sql.value(collections.collect::<Vec<_>>());
                sql
            };
            sql.value(keys);
            in_order(addresses, &self.rows(sql).await?, live)
        }
    }

    /// The record at an address, expired or not.
    pub(crate) async fn read_one(&self, address: &Address) -> Result<Option<Record>> {
        let mut sql = Sql::prepared(&self.statements.get);
        sql.value(address.collection.as_str());
        sql.value(address.key.as_str());
        self.row(sql).await?.map(|row| record_at(address.clone(), &row)).transpose()
    }

    pub(crate) async fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.check_open()?;
        let mut sql = Sql::new();
        // One more than fits tells whether there is a next page; what it holds is cut off by its size as it is stored.
        sql.push("SELECT ").push(RECORD_COLUMNS).push(", r.total FROM (SELECT r.*, ");
        sql.push(OWN_BYTES).push(" AS own, sum(").push(OWN_BYTES);
        sql.push(") OVER (ORDER BY r.key ROWS UNBOUNDED PRECEDING) AS upto, count(*) OVER () AS total FROM (SELECT r.*");
        self.range(&mut sql, scan)?;
        sql.push(") r) r WHERE r.upto - r.own <= ").push(&PAGE_BYTES.to_string()).push(" ORDER BY r.key");
        let rows = self.rows(sql).await?;
        let found: i64 = match rows.first() {
            Some(row) => row.try_get_unchecked(RECORD_WIDTH).map_err(damaged)?,
            None => 0,
        };
        let limit = scan.limit as usize;
        let more = rows.len() > limit || usize::try_from(found).is_ok_and(|found| found > rows.len());
        let items = rows.iter().take(limit).map(record).collect::<Result<Vec<_>>>()?;
        let last = items.last().filter(|_| more).map(|record| &record.address.key);
        let next = last.map(|key| Cursor::seal(&scan.identity(), key)).transpose()?;
        Ok(Page { items, next })
    }

    pub(crate) async fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.check_open()?;
        let mut sql = Sql::new();
        sql.push("SELECT r.key");
        self.range(&mut sql, scan)?;
        let rows = self.rows(sql).await?;
        let limit = scan.limit as usize;
        let items = rows.iter().take(limit).map(key).collect::<Result<Vec<_>>>()?;
        let last = items.last().filter(|_| rows.len() > limit);
        let next = last.map(|key| Cursor::seal(&scan.identity(), key)).transpose()?;
        Ok(Page { items, next })
    }

    /// Adds which rows a scan asks for, in order, and one more.
    fn range(&self, sql: &mut Sql, scan: &Scan) -> Result<()> {
        let after: Option<Key> =
            scan.after.as_ref().map(|cursor| cursor.open(&scan.identity())).transpose()?;
        // No key has a NUL, and no text of the database: so nothing begins with this prefix.
        let nothing = scan.prefix.contains('\0');
        sql.push(" FROM ").push(self.layout.records()).push(" r WHERE r.collection = ");
        sql.bind(scan.collection.as_str());
        match &after {
            _ if nothing => sql.push(" AND false"),
            Some(after) if after.as_str() >= scan.prefix.as_str() => {
                sql.push(" AND r.key > ").bind(after.as_str())
            }
            _ if scan.prefix.is_empty() => sql,
            _ => sql.push(" AND r.key >= ").bind(scan.prefix.as_str()),
        };
        if let Some(end) = scan.end().filter(|_| !nothing) {
            sql.push(" AND r.key < ").bind(end);
        }
        sql.push(" AND (r.expires_at IS NULL OR r.expires_at > ").bind(Time(Timestamp::now()));
        sql.push(") ORDER BY r.key LIMIT ").bind(i64::from(scan.limit) + 1);
        Ok(())
    }

    pub(crate) async fn list_range(&self, range: &ListRange) -> Result<Option<ListItems>> {
        self.check_open()?;
        let address = &range.address;
        // No list is that long, so a start beyond is one past its end.
        let start = i64::try_from(range.start).unwrap_or(i64::MAX);
        let mut sql = Sql::prepared(&self.statements.list_range);
        sql.value(address.collection.as_str());
        sql.value(address.key.as_str());
        sql.value(start);
        sql.value(start.saturating_add(i64::from(range.limit)));
        let rows = self.rows(sql).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let expires_at: Option<Time> = first.try_get_unchecked(1).map_err(damaged)?;
        if expires_at.is_some_and(|Time(at)| at <= Timestamp::now()) {
            return Ok(None);
        }
        let found: i8 = first.try_get_unchecked(0).map_err(damaged)?;
        if found != kind::LIST {
            let message = format!("range of {address}: the record holds {}", kind_name(found));
            return Err(Error::new(ErrorKind::TypeMismatch, message));
        }
        let length: i64 = first.try_get_unchecked(2).map_err(damaged)?;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            let item: Option<&str> = row.try_get_unchecked(3).map_err(damaged)?;
            let exact: Option<&[u8]> = row.try_get_unchecked(4).map_err(damaged)?;
            items.extend(item.map(|item| read_json(item, exact)));
        }
        Ok(Some(ListItems { items, length: u64::try_from(length).unwrap_or(0) }))
    }

    pub(crate) async fn collections(&self) -> Result<Vec<CollectionName>> {
        self.check_open()?;
        let records = self.layout.records();
        // From one name to the next by the index, over however many records.
        let mut sql = Sql::new();
        sql.push("WITH RECURSIVE c AS ((SELECT r.collection FROM ").push(records);
        sql.push(" r ORDER BY r.collection LIMIT 1) UNION ALL SELECT (SELECT r.collection FROM ")
            .push(records);
        sql.push(" r WHERE r.collection > c.collection ORDER BY r.collection LIMIT 1) FROM c ");
        sql.push("WHERE c.collection IS NOT NULL) SELECT c.collection FROM c WHERE c.collection IS NOT NULL ORDER BY 1");
        let rows = self.rows(sql).await?;
        rows.iter()
            .map(|row| CollectionName::new(row.try_get_unchecked::<&str, _>(0).map_err(damaged)?))
            .collect()
    }
}

/// How many bytes the value of a row takes as it is stored, without reading it.
pub(crate) const OWN_BYTES: &str = "(coalesce(pg_column_size(r.json), pg_column_size(r.counters), 8) \
     + coalesce(pg_column_size(r.bytes), 0))";

/// The records of rows, in the order in which they were asked for.
fn in_order(
    addresses: &[Address],
    rows: &[PgRow],
    live: impl Fn(&Record) -> bool,
) -> Result<Vec<Option<Record>>> {
    let mut found: HashMap<Address, Record> = HashMap::with_capacity(rows.len());
    for row in rows {
        let record = record(row)?;
        if live(&record) {
            found.insert(record.address.clone(), record);
        }
    }
    // A record that is asked for twice is there twice.
    let mut records: Vec<Option<Record>> = Vec::with_capacity(addresses.len());
    if found.len() == addresses.len() {
        records.extend(addresses.iter().map(|address| found.remove(address)));
    } else {
        records.extend(addresses.iter().map(|address| found.get(address).cloned()));
    }
    Ok(records)
}

fn key(row: &PgRow) -> Result<Key> {
    Key::new(row.try_get_unchecked::<&str, _>(0).map_err(damaged)?)
}
