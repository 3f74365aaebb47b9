//! Requests that read many records, their pages, and indexes.

use std::time::Duration;

use storage_core::{
    Changes, Count, Direction, Error, ErrorKind, Filter, IndexSpec, ListItems, ListRange, Page, Query,
    Result, Scan, Sort,
};

use super::{Reader, Wire, Writer};

wire_map!(Scan {
    required collection: "collection",
    required prefix: "prefix",
    optional after: "after",
    required limit: "limit",
});

wire_map!(Query {
    required collection: "collection",
    required filter: "filter",
    defaulted sort: "sort",
    optional after: "after",
    required limit: "limit",
});

wire_map!(Count {
    required collection: "collection",
    optional filter: "filter",
});

wire_map!(ListRange {
    required address: "at",
    required start: "start",
    required limit: "limit",
});

wire_map!(ListItems {
    required items: "items",
    required length: "length",
});

wire_map!(IndexSpec {
    required collection: "collection",
    required path: "path",
    required unique: "unique",
});

wire_map!(Page<T> {
    required items: "items",
    optional next: "next",
});

/// JSON text in the operator form.
///
/// A filter that does not parse is [`Unsupported`](ErrorKind::Unsupported): the host made it from a good one, so it
/// has an operator that this side does not know.
impl Wire for Filter {
    fn write(&self, to: &mut Writer) {
        to.str(&self.to_json().to_string());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.str()?.parse().map_err(|error: Error| {
            Error::new(ErrorKind::Unsupported, format!("this filter is not offered: {}", error.message()))
        })
    }
}

impl Wire for Sort {
    fn write(&self, to: &mut Writer) {
        // With a colon in it, the path alone could be taken for one with a direction.
        if self.direction == Direction::Asc && !self.path.as_str().contains(':') {
            to.str(self.path.as_str());
        } else {
            to.str(&self.to_string());
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        from.str()?.parse().map_err(|error: Error| from.invalid(at, &error))
    }
}

impl Wire for Changes {
    fn write(&self, to: &mut Writer) {
        to.map(2 + usize::from(self.collection.is_some()) + usize::from(self.after.is_some()));
        if let Some(collection) = &self.collection {
            to.entry("collection", collection);
        }
        if let Some(after) = &self.after {
            to.entry("after", after);
        }
        to.entry("limit", &self.limit);
        // Up, so that a short wait does not become none, and its caller a busy loop.
        let wait = self.wait.as_nanos().div_ceil(1_000_000);
        to.entry("wait_ms", &u64::try_from(wait).unwrap_or(u64::MAX));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        let (mut collection, mut after, mut limit, mut wait) = (None, None, None, None);
        from.map(|from| {
            match from.name()? {
                b"collection" => collection = from.read()?,
                b"after" => after = from.read()?,
                b"limit" => limit = Some(from.read()?),
                b"wait_ms" => wait = Some(Duration::from_millis(from.uint()?)),
                _ => from.skip()?,
            }
            Ok(())
        })?;
        Ok(Self {
            collection,
            after,
            limit: limit.ok_or_else(|| from.missing(at, "limit"))?,
            wait: wait.ok_or_else(|| from.missing(at, "wait_ms"))?,
        })
    }
}
