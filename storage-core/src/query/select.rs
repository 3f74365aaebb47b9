//! Filtering, sorting and paging of a stream of records in constant memory, for backends that evaluate
//! queries themselves.

use std::cmp::Ordering;

use crate::query::{Query, SortKey};
use crate::{Cursor, Key, Page, Record, Result};

/// Soft limit of a page's size in bytes: a page ends once it is passed.
const PAGE_BYTES: usize = 4 << 20;

/// Collects one page of a [`Query`] from records offered in key order.
///
/// Without a sort it stops as soon as the page is full; with one it sees every record but keeps only the
/// best `limit` of those after the cursor.
pub struct Selection<'q> {
    query: &'q Query,
    after: Option<Position>,
    kept: Vec<(Position, Record)>,
    bytes: usize,
    /// The first position that did not fit: nothing from there on belongs to this page.
    bound: Option<Position>,
}

/// Where a record stands in the order of a query.
type Position = (Vec<SortKey>, Key);

impl<'q> Selection<'q> {
    /// Starts a page.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the cursor belongs to another request.
    pub fn new(query: &'q Query) -> Result<Self> {
        let after = query.after.as_ref().map(|cursor| cursor.open(&query.identity())).transpose()?;
        Ok(Self { query, after, kept: Vec::new(), bytes: 0, bound: None })
    }

    /// For an unsorted query, the key after which to begin offering records.
    pub fn resume_after(&self) -> Option<&Key> {
        if self.query.sort.is_empty() { self.after.as_ref().map(|(_, key)| key) } else { None }
    }

    /// Offers the next record in key order. Returns whether more are wanted.
    ///
    /// # Errors
    /// [`Decode`](crate::ErrorKind::Decode) if a stored JSON text is damaged.
    pub fn offer(&mut self, record: Record) -> Result<bool> {
        let Some(json) = record.value.as_json() else { return Ok(true) };
        let unconditional = self.query.filter.is_all() && self.query.sort.is_empty();
        let mut keys = Vec::new();
        if !unconditional {
            let tree = json.tree()?;
            if !self.query.filter.matches(&tree) {
                return Ok(true);
            }
            keys = self.query.sort.iter().map(|sort| sort.key(&tree)).collect();
        }
        let position = (keys, record.address.key.clone());
        if self.after.as_ref().is_some_and(|after| self.compare(&position, after) != Ordering::Greater) {
            return Ok(true);
        }
        Ok(self.keep(position, record))
    }

    fn keep(&mut self, position: Position, record: Record) -> bool {
        let limit = self.query.limit as usize;
        if self.query.sort.is_empty() {
            if self.kept.len() == limit || self.bytes > PAGE_BYTES {
                self.bound = Some(position);
                return false;
            }
            self.bytes += record.size();
            self.kept.push((position, record));
            return true;
        }
        if self.bound.as_ref().is_some_and(|bound| self.compare(&position, bound) != Ordering::Less) {
            return true;
        }
        let at = self.kept.partition_point(|(kept, _)| self.compare(kept, &position) == Ordering::Less);
        self.bytes += record.size();
        self.kept.insert(at, (position, record));
        while self.kept.len() > limit || (self.bytes > PAGE_BYTES && self.kept.len() > 1) {
            if let Some((position, dropped)) = self.kept.pop() {
                self.bytes -= dropped.size();
                self.bound = Some(position);
            }
        }
        true
    }

    /// The page.
    pub fn finish(self) -> Result<Page<Record>> {
        let next = match self.kept.last() {
            Some((position, _)) if self.bound.is_some() => {
                Some(Cursor::seal(&self.query.identity(), position)?)
            }
            _ => None,
        };
        Ok(Page { items: self.kept.into_iter().map(|(_, record)| record).collect(), next })
    }

    fn compare(&self, (a, a_key): &Position, (b, b_key): &Position) -> Ordering {
        let by_sort = self.query.sort.iter().zip(a.iter().zip(b)).map(|(sort, (a, b))| sort.compare(a, b));
        by_sort.fold(Ordering::Equal, Ordering::then).then_with(|| a_key.cmp(b_key))
    }
}

/// Counts the records that a [`Count`](crate::Count) asks for.
pub struct Counting<'q> {
    filter: Option<&'q crate::Filter>,
    total: u64,
}

impl<'q> Counting<'q> {
    /// Starts at zero.
    pub fn new(filter: Option<&'q crate::Filter>) -> Self {
        Self { filter, total: 0 }
    }

    /// Counts the record if it matches.
    ///
    /// # Errors
    /// [`Decode`](crate::ErrorKind::Decode) if a stored JSON text is damaged.
    pub fn offer(&mut self, record: &Record) -> Result<()> {
        let matches = match (self.filter, record.value.as_json()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(filter), Some(_)) if filter.is_all() => true,
            (Some(filter), Some(json)) => filter.matches(&json.tree()?),
        };
        self.total += u64::from(matches);
        Ok(())
    }

    /// The count.
    pub fn total(&self) -> u64 {
        self.total
    }
}
