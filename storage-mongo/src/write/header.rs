//! What is read of records before they are changed here.

use std::collections::HashMap;

use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, RawBsonRef, RawDocument, doc};
use mongodb::options::{ReadConcern, ReadPreference, SelectionCriteria};
use storage_core::{Address, CollectionName, Record, Result, Version};

use crate::client::Client;
use crate::convert::{damaged, record};
use crate::layout::field;
use crate::read::without_items;

/// Most records that are asked for at once.
const KEYS_AT_ONCE: usize = 1_000;

/// A stored record, expired or not, without the items of its list.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) record: Record,
    /// Where the items of a list are.
    pub(crate) list: Option<ListHead>,
}

/// What a list is, and what its document holds of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListHead {
    /// What the names of its chunks begin with.
    pub(crate) id: String,
    /// How many items there are.
    pub(crate) length: u64,
    /// How many of them, from the first on, are in chunks.
    pub(crate) spilled: u64,
    /// The size of those that are not.
    pub(crate) bytes: u64,
}

pub(crate) type Headers = HashMap<Address, Header>;

impl Client {
    /// The record at an address as it is on the primary, expired or not.
    pub(crate) async fn header(&self, address: &Address) -> Result<Option<Header>> {
        Ok(self.headers([address], None).await?.remove(address))
    }

    /// The records at addresses as they are on the primary, or in the snapshot of a transaction.
    pub(crate) async fn headers<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a Address>,
        mut session: Option<&mut ClientSession>,
    ) -> Result<Headers> {
        let mut keys: HashMap<&CollectionName, Vec<&str>> = HashMap::new();
        for address in addresses {
            keys.entry(&address.collection).or_default().push(address.key.as_str());
        }
        let mut headers = Headers::new();
        for (collection, keys) in keys {
            for keys in keys.chunks(KEYS_AT_ONCE) {
                let read = self.read_headers(collection, keys, session.as_deref_mut());
                headers.extend(read.await?.into_iter().map(|header| (header.record.address.clone(), header)));
            }
        }
        Ok(headers)
    }

    async fn read_headers(
        &self,
        collection: &CollectionName,
        keys: &[&str],
        session: Option<&mut ClientSession>,
    ) -> Result<Vec<Header>> {
        let records = self.records(collection);
        let filter = match keys {
            [key] => doc! {field::ID: *key},
            keys => doc! {field::ID: {"$in": keys}},
        };
        let find = records
            .find(filter)
            .projection(without_items())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        let mut headers = Vec::with_capacity(keys.len());
        let read = async {
            match session {
                Some(session) => {
                    let mut cursor = find.session(&mut *session).await?;
                    while cursor.advance(session).await? {
                        headers.push(header(collection, cursor.current()));
                    }
                }
                None => {
                    // What others wrote just now counts, as it does for the write that follows.
                    let mut cursor = find.read_concern(ReadConcern::local()).await?;
                    while cursor.advance().await? {
                        headers.push(header(collection, cursor.current()));
                    }
                }
            }
            Ok(())
        };
        self.within(read).await?;
        headers.into_iter().collect()
    }
}

fn header(collection: &CollectionName, document: &RawDocument) -> Result<Header> {
    let list = match document.get(field::LIST).map_err(damaged)? {
        Some(RawBsonRef::Document(list)) => Some(ListHead::of(&list.try_into().map_err(damaged)?)?),
        _ => None,
    };
    Ok(Header { record: record(collection, document)?, list })
}

impl ListHead {
    /// An empty list that the write of this version makes.
    pub(crate) fn new(version: &Version) -> Self {
        Self { id: version.as_str().to_owned(), length: 0, spilled: 0, bytes: 0 }
    }

    /// From the field `list` of a document.
    pub(crate) fn of(list: &Document) -> Result<Self> {
        let count = |name: &str| match list.get(name) {
            Some(Bson::Int64(count)) => u64::try_from(*count).map_err(damaged),
            Some(Bson::Int32(count)) => u64::try_from(*count).map_err(damaged),
            _ => Err(damaged(format!("a list has no {name}"))),
        };
        Ok(Self {
            id: list.get_str("id").map_err(damaged)?.to_owned(),
            length: count("length")?,
            spilled: count("spilled")?,
            bytes: count("bytes")?,
        })
    }
}
