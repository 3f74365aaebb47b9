//! Queries and counts of JSON records.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use storage_core::query::SortKey;
use storage_core::{CollectionName, Count, Cursor, Direction, Key, Page, Query, Record, Result, Timestamp};

use crate::client::Client;
use crate::convert::{RECORD_COLUMNS, RECORD_WIDTH, damaged, record};
use crate::filter::{condition, split};
use crate::path::Values;
use crate::read::OWN_BYTES;
use crate::sort::{Group, Order, is_open};
use crate::sql::Sql;
use crate::statements::PAGE_BYTES;

/// Where a record stands in the order of a query.
type Position = (Vec<SortKey>, Key);

impl Client {
    /// A page of the JSON records that match.
    pub(crate) async fn query(&self, query: &Query) -> Result<Page<Record>> {
        self.check_open()?;
        let after: Option<Position> =
            query.after.as_ref().map(|cursor| cursor.open(&query.identity())).transpose()?;
        let mut whole = after.as_ref().is_some_and(|(keys, _)| is_open(keys));
        loop {
            let grouped = self.is_grouped(query, whole).await?;
            let rows = self.rows(self.page(query, after.as_ref(), whole, grouped)?).await?;
            let open = |row: &PgRow| row.try_get::<bool, _>(RECORD_WIDTH).map_err(damaged);
            // By heads alone their order is not known. It is rare, and so is read again.
            if !whole && rows.iter().map(open).collect::<Result<Vec<bool>>>()?.contains(&true) {
                whole = true;
                continue;
            }
            return cut(query, &rows);
        }
    }

    /// The statement for a page and the record after it, as far as they are not too large together.
    ///
    /// `whole` says whether to compare texts beyond their heads, `grouped` whether to go by [`groups`].
    pub(crate) fn page(
        &self,
        query: &Query,
        after: Option<&Position>,
        whole: bool,
        grouped: bool,
    ) -> Result<Sql> {
        let mut sql = Sql::once();
        let mut values = Values::bound(&mut sql);
        let order = Order::new(&query.sort, whole, &mut values);
        let these = self.json_of(&query.collection, &mut values);
        let columns = format!("SELECT r.*, {OWN_BYTES}::bigint AS own, {} AS open", order.is_open());
        let most = i64::from(query.limit) + 1;
        let by = format!("ORDER BY {} LIMIT {most}", order.by());
        let parts = if grouped {
            let group = order.first(after.map(|(keys, _)| &keys[..]), &mut values);
            let key = after.map(|(_, key)| values.text(key.as_str()));
            vec![groups(&columns, &these, &group, key.as_deref(), &by, most)]
        } else {
            let after = match after {
                Some((keys, key)) => format!(" AND {}", order.after(keys, key, &mut values)),
                None => String::new(),
            };
            // By the value that is sorted by, a range of the index comes in order, and few records with arrays beside it.
            let split = match query.sort.first() {
                Some(sort) => split(&query.filter, &sort.path, &mut values)?,
                None => None,
            };
            let conditions = match split {
                Some(halves) => Vec::from(halves),
                None => vec![condition(&query.filter, &mut values)?],
            };
            let part = |condition: &String| format!("{columns} {these} AND {condition}{after} {by}");
            conditions.iter().map(part).collect()
        };
        let found = match &parts[..] {
            [one] if !grouped => one.clone(),
            parts => format!("SELECT r.* FROM (({})) r {by}", parts.join(") UNION ALL (")),
        };
        sql.push("SELECT ").push(RECORD_COLUMNS).push(", r.open, r.found FROM (SELECT r.*, ");
        // The sizes are those as stored: nothing is read for them.
        sql.push("sum(r.own) OVER page - r.own AS before, row_number() OVER page AS place, count(*) OVER () AS found ");
        sql.push("FROM (")
            .push(&found)
            .push(") r WINDOW page AS (ROWS UNBOUNDED PRECEDING)) r WHERE r.before <= ");
        sql.push(&PAGE_BYTES.to_string()).push(" ORDER BY r.place");
        Ok(sql)
    }

    /// Whether to read a page by groups: see [`groups`]. Without an index each of its parts would read all records, and with
    /// a filter, of which the planner knows little, it may sort all that match.
    async fn is_grouped(&self, query: &Query, whole: bool) -> Result<bool> {
        match &query.sort[..] {
            [sort] if sort.direction == Direction::Desc && !whole && query.filter.is_all() => {
                self.has_index(&query.collection, &sort.path).await
            }
            _ => Ok(false),
        }
    }

    /// From which records a query selects, without its filter.
    fn json_of(&self, collection: &CollectionName, values: &mut Values<'_>) -> String {
        // As the indexes have it.
        format!("{} AND r.json IS NOT NULL", self.live_of(collection, values))
    }

    fn live_of(&self, collection: &CollectionName, values: &mut Values<'_>) -> String {
        let (collection, now) = (values.text(collection.as_str()), values.time(Timestamp::now()));
        format!(
            "FROM {} r WHERE r.collection = {collection} AND (r.expires_at IS NULL OR r.expires_at > {now})",
            self.layout.records()
        )
    }

    /// The number of records, or of JSON records that match.
    pub(crate) async fn count(&self, count: &Count) -> Result<u64> {
        self.check_open()?;
        let mut sql = Sql::once();
        let mut values = Values::bound(&mut sql);
        let these = match &count.filter {
            Some(filter) => {
                let condition = condition(filter, &mut values)?;
                format!("{} AND {condition}", self.json_of(&count.collection, &mut values))
            }
            None => self.live_of(&count.collection, &mut values),
        };
        sql.push("SELECT count(*) ").push(&these);
        let row = self.row(sql).await?;
        let number: i64 = row.map_or(Ok(0), |row| row.try_get(0)).map_err(damaged)?;
        Ok(u64::try_from(number).unwrap_or(0))
    }
}

/// A page of all records from the largest value on, in parts, of which none is read that is not needed.
///
/// Records with the same value come by key upwards, which is not the order of an index that is read backwards: all of
/// them would be read and sorted for each page. So first come those with the value of the position after its key (`a`),
/// then those with the next value (`b`), both in the order of the index, and then the rest, sorted.
fn groups(columns: &str, these: &str, group: &Group, key: Option<&str>, by: &str, most: i64) -> String {
    let Group { rank, number, head, position } = group;
    let value = format!("({rank}, {number}, {head})");
    let (first, below) = match (position, key) {
        (Some(position), Some(key)) => (
            format!(
                "{columns} {these} AND {value} = ({position}) AND r.key > {key} ORDER BY r.key LIMIT {most}"
            ),
            format!(" AND {value} < ({position})"),
        ),
        _ => (format!("{columns} {these} AND FALSE"), String::new()),
    };
    let next = "(SELECT v.rank FROM v), (SELECT v.number FROM v), (SELECT v.head FROM v)";
    format!(
        "WITH a AS MATERIALIZED ({first}), \
         v AS MATERIALIZED (SELECT {rank} AS rank, {number} AS number, {head} AS head {these}{below} \
         AND (SELECT count(*) FROM a) < {most} ORDER BY {rank} DESC, {number} DESC, {head} DESC LIMIT 1), \
         b AS MATERIALIZED ({columns} {these} AND {value} = ({next}) ORDER BY r.key LIMIT {most}) \
         SELECT * FROM a UNION ALL SELECT * FROM b UNION ALL ({columns} {these} AND {value} < ({next}) \
         AND (SELECT count(*) FROM a) + (SELECT count(*) FROM b) < {most} {by})"
    )
}

/// The page that these rows are, with the first of the next if it was small enough.
fn cut(query: &Query, rows: &[PgRow]) -> Result<Page<Record>> {
    let items = rows.iter().take(query.limit as usize).map(record).collect::<Result<Vec<_>>>()?;
    let found = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>(RECORD_WIDTH + 1)).map_err(damaged)?;
    let next = match items.last() {
        Some(last) if usize::try_from(found).is_ok_and(|found| found > items.len()) => {
            Some(Cursor::seal(&query.identity(), &position(query, last)?)?)
        }
        _ => None,
    };
    Ok(Page { items, next })
}

fn position(query: &Query, record: &Record) -> Result<Position> {
    let tree = match record.value.as_json() {
        Some(json) if !query.sort.is_empty() => json.tree()?,
        _ => serde_json::Value::Null,
    };
    Ok((query.sort.iter().map(|sort| sort.key(&tree)).collect(), record.address.key.clone()))
}

#[cfg(test)]
mod plans;
