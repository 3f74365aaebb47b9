//! Changing one document and telling what it was or is, which is `findAndModify`, and making one.

use mongodb::bson::{Bson, Document, doc};
use storage_core::{Address, CollectionName, Result};

use super::send::{Refusal, Reply, not_replicated};
use super::statement::Statement;
use crate::client::Client;
use crate::layout::field;

/// What is to be done to one document.
pub(super) struct Modify {
    pub(super) query: Document,
    /// `None` removes it.
    pub(super) update: Option<Document>,
    /// Which of its fields are told.
    pub(super) fields: Document,
    /// Whether those are told that it has after, not before.
    pub(super) after: bool,
}

impl Client {
    /// Changes or removes one document by one command; `None` if there is no such document.
    pub(super) async fn modify(
        &self,
        collection: &CollectionName,
        modify: Modify,
    ) -> std::result::Result<Option<Document>, Refusal> {
        let Modify { query, update, fields, after } = modify;
        let mut command =
            doc! {"findAndModify": self.layout.records(collection), "query": query, "fields": fields};
        match update {
            Some(update) => command.extend(doc! {"update": update, "new": after}),
            None => command.extend(doc! {"remove": true}),
        }
        let mut reply = self.command(command, None).await.map_err(Refusal::of_command)?;
        let Some(Bson::Document(document)) = reply.remove("value") else { return Ok(None) };
        match not_replicated(&reply) {
            Some(error) => Err(Refusal::unknown(error)),
            None => Ok(Some(document)),
        }
    }

    /// Makes a document with this key if there is none; [`Reply::Refused`] if there is one.
    pub(super) async fn make(&self, address: &Address, update: Document, size: usize) -> Result<Reply> {
        // Each record has a version, so it finds none.
        let filter = doc! {field::ID: address.key.as_str(), field::VERSION: {"$exists": false}};
        let namespace = self.layout.records(&address.collection);
        let replies = self.send(vec![Statement::update(namespace, filter, update, true, size)], None).await?;
        Ok(replies.into_iter().next().unwrap_or(Reply::NotFound))
    }
}
