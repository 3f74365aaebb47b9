//! `findAndModify`: changes one document and tells what it was or is.

use mongodb::bson::{Document, doc};
use storage_core::CollectionName;

use super::send::{Refusal, not_replicated};
use crate::client::Client;

/// What is to be done to one document.
pub(super) struct Modify {
    pub(super) query: Document,
    /// `None` removes it.
    pub(super) update: Option<Document>,
    /// Whether one is made if there is none.
    pub(super) upsert: bool,
    /// Which of its fields are told.
    pub(super) fields: Document,
    /// Whether those are told that it has after, not before.
    pub(super) after: bool,
}

/// What was done.
pub(super) struct Modified {
    /// The document; `None` if there was none.
    pub(super) document: Option<Document>,
    /// Whether a document was changed, made or removed.
    pub(super) done: bool,
}

impl Client {
    /// Changes one document by one command.
    pub(super) async fn modify(
        &self,
        collection: &CollectionName,
        modify: Modify,
    ) -> std::result::Result<Modified, Refusal> {
        let Modify { query, update, upsert, fields, after } = modify;
        let mut command =
            doc! {"findAndModify": self.layout.records(collection), "query": query, "fields": fields};
        match update {
            Some(update) => command.extend(doc! {"update": update, "upsert": upsert, "new": after}),
            None => command.extend(doc! {"remove": true}),
        }
        let mut reply = self.command(command, None).await.map_err(Refusal::of_command)?;
        let document = match reply.remove("value") {
            Some(mongodb::bson::Bson::Document(document)) => Some(document),
            _ => None,
        };
        let made = || reply.get_document("lastErrorObject").is_ok_and(|told| told.contains_key("upserted"));
        let done = document.is_some() || made();
        match not_replicated(&reply).filter(|_| done) {
            Some(error) => Err(Refusal::unknown(error)),
            None => Ok(Modified { document, done }),
        }
    }
}
