//! Sending statements, many in one command.

use std::sync::atomic::Ordering;

use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, doc};
use storage_core::{Error, ErrorKind, Result, Retry, Timestamp};

use super::statement::{Kind, Statement};
use crate::client::Client;
use crate::error::{DUPLICATE, code, index_of, server, server_reply};
use crate::layout::{date, field};

/// Most statements, and about most bytes, in one command. More would gain nothing, and several such commands are under way
/// at once: each has to be done in time.
const STATEMENTS_AT_ONCE: usize = 250;
const BYTES_AT_ONCE: usize = 16 << 20;

/// What a statement did.
pub(crate) enum Reply {
    /// It found its document, or made it.
    Found,
    /// There is no such document.
    NotFound,
    /// It was refused, and did nothing, unless the error says that nobody knows.
    Refused(Refusal),
}

/// Why the server did not do a statement.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: Error,
    /// The value that is there already, if it is that: by the path of an index.
    taken: Option<Document>,
}

impl Refusal {
    /// From what is told of one statement, or of a command.
    fn new(told: &Document, error: Error) -> Self {
        let duplicate = number(told, "code") == i64::from(DUPLICATE);
        let taken = duplicate.then(|| {
            let value = told.get_document("keyValue").cloned();
            value.unwrap_or_else(|_| match index_of(told.get_str("errmsg").unwrap_or_default()) {
                "_id_" => doc! {field::ID: Bson::Null},
                _ => Document::new(),
            })
        });
        Self { error, taken }
    }

    /// As [`new`](Self::new), from the error of a command of one statement.
    pub(crate) fn of_command(error: Error) -> Self {
        match server_reply(&error) {
            Some(told) => Self::new(&told, error),
            None => Self { error, taken: None },
        }
    }

    /// Of a write of which nobody knows whether it will last.
    pub(crate) fn unknown(error: Error) -> Self {
        Self { error, taken: None }
    }

    /// Whether there is a document with the key.
    pub(crate) fn is_of_key(&self) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.contains_key(field::ID))
    }

    /// Whether another record holds a value that a unique index takes once.
    pub(crate) fn is_of_value(&self) -> bool {
        self.taken.is_some() && !self.is_of_key()
    }

    /// Whether others were in the way, so that it may be tried again.
    pub(crate) fn is_of_others(&self) -> bool {
        self.error.kind() == ErrorKind::Conflict && self.error.retry() == Retry::Safe
    }
}

impl Client {
    /// How many of the statements, from the first on, can be sent by one [`send`](Self::send).
    pub(crate) fn fit<'s>(
        &self,
        statements: impl IntoIterator<Item = &'s Statement>,
        transaction: bool,
    ) -> usize {
        let (mut first, mut weight): (Option<&Statement>, _) = (None, 0);
        let fits = |statement: &&'s Statement| {
            let first = *first.get_or_insert(statement);
            weight += statement.weight;
            let alike = statement.namespace == first.namespace
                && matches!(statement.kind, Kind::Delete) == matches!(first.kind, Kind::Delete);
            // The results of single statements are told only where they are refused.
            let told = transaction || (statement.is_certain() && first.is_certain());
            weight <= BYTES_AT_ONCE && (self.has_bulk_write() || alike && told)
        };
        statements.into_iter().take(STATEMENTS_AT_ONCE).take_while(fits).count().max(1)
    }

    /// Sends statements as one command, which does them in their order; they [`fit`](Self::fit). One that is refused does
    /// not keep the others from being done; in a transaction it ends it, and the replies end with it.
    ///
    /// # Errors
    /// Those of the whole command. Where there are several statements, some may have been done, unless the error says that
    /// it was not sent.
    pub(crate) async fn send(
        &self,
        statements: Vec<Statement>,
        session: Option<&mut ClientSession>,
    ) -> Result<Vec<Reply>> {
        let (count, ordered) = (statements.len(), session.is_some());
        let Some(namespace) = statements.first().map(|first| first.namespace.clone()) else {
            return Ok(Vec::new());
        };
        let deletes = statements.iter().filter(|statement| matches!(statement.kind, Kind::Delete)).count();
        let told =
            |statement: &Statement| statement.namespace == namespace && (ordered || statement.is_certain());
        let plain = count == 1 || (deletes == 0 || deletes == count) && statements.iter().all(told);
        let command = match plain {
            true => plain_command(&namespace, statements, ordered),
            false => bulk_write(self.database.name(), statements, ordered),
        };
        let reply = match self.command(command, session).await {
            Ok(reply) => reply,
            Err(error) if count > 1 && !ordered && error.retry() == Retry::Safe && code(&error).is_some() => {
                // The server may have begun.
                return Err(error.with_retry(Retry::IfIdempotent));
            }
            Err(error) if !plain && error.kind() == ErrorKind::Unsupported => {
                // Nothing was done. From now on, without that command.
                self.bulk_write.store(false, Ordering::Relaxed);
                return Err(Error::new(ErrorKind::Conflict, "the server has no bulkWrite"));
            }
            Err(error) if count == 1 && code(&error) == Some(DUPLICATE) => {
                return Ok(vec![Reply::Refused(Refusal::of_command(error))]);
            }
            Err(error) => return Err(error),
        };
        let mut replies = match plain {
            true => plain_replies(&reply, count, ordered)?,
            false => self.bulk_replies(&reply, count, ordered).await?,
        };
        if let Some(error) = not_replicated(&reply) {
            for reply in replies.iter_mut().filter(|reply| matches!(reply, Reply::Found)) {
                *reply = Reply::Refused(Refusal::unknown(error.clone()));
            }
        }
        Ok(replies)
    }

    /// Removes expired records that hold a value which a unique index takes once; returns whether there were any.
    pub(crate) async fn free_value(
        &self,
        namespace: &str,
        refusal: &Refusal,
        now: Timestamp,
    ) -> Result<bool> {
        let Some(taken) = &refusal.taken else { return Ok(false) };
        let mut filter = doc! {field::EXPIRES_AT: {"$lte": date(now)}};
        filter.extend(
            taken.iter().map(|(path, value)| (path.clone(), Bson::Document(doc! {"$eq": value.clone()}))),
        );
        let command = doc! {"delete": namespace, "deletes": [{"q": filter, "limit": 0}]};
        // Nothing of the batch is done by it.
        let reply = self.command(command, None).await.map_err(|error| error.with_retry(Retry::Safe))?;
        Ok(number(&reply, "n") > 0)
    }

    /// The results of `bulkWrite`, which come by a cursor where there are very many.
    async fn bulk_replies(&self, reply: &Document, count: usize, ordered: bool) -> Result<Vec<Reply>> {
        let mut replies: Vec<Option<Reply>> = Vec::with_capacity(count);
        replies.resize_with(count, || None);
        let mut cursor = reply.get_document("cursor").cloned().unwrap_or_default();
        loop {
            let batch = cursor.get_array("firstBatch").or_else(|_| cursor.get_array("nextBatch"));
            for result in batch.map(Vec::as_slice).unwrap_or_default().iter().filter_map(Bson::as_document) {
                let at = usize::try_from(number(result, "idx")).unwrap_or(usize::MAX);
                if let Some(place) = replies.get_mut(at) {
                    *place = Some(match number(result, "ok") {
                        1 if number(result, "n") > 0 => Reply::Found,
                        1 => Reply::NotFound,
                        _ => refused(result),
                    });
                }
            }
            let id = number(&cursor, "id");
            if id == 0 {
                return complete(replies, ordered);
            }
            let more = doc! {"getMore": id, "collection": "$cmd.bulkWrite"};
            let admin = self.client.database("admin");
            let told = self.within(admin.run_command(more).into_future()).await;
            // Without it nobody knows what the statements did.
            let told = told.map_err(|error| error.with_retry(Retry::IfIdempotent))?;
            cursor = told.get_document("cursor").cloned().unwrap_or_default();
        }
    }

    /// Whether the server has the command `bulkWrite`, which tells the result of each statement.
    fn has_bulk_write(&self) -> bool {
        self.bulk_write.load(Ordering::Relaxed)
    }
}

fn plain_command(namespace: &str, statements: Vec<Statement>, ordered: bool) -> Document {
    let deletes = matches!(statements.first(), Some(Statement { kind: Kind::Delete, .. }));
    let statement = |Statement { filter, kind, .. }| match kind {
        Kind::Update { update, upsert } => doc! {"q": filter, "u": update, "upsert": upsert},
        Kind::Delete => doc! {"q": filter, "limit": 1},
    };
    let all: Vec<Document> = statements.into_iter().map(statement).collect();
    match deletes {
        true => doc! {"delete": namespace, "deletes": all, "ordered": ordered},
        false => doc! {"update": namespace, "updates": all, "ordered": ordered},
    }
}

fn bulk_write(database: &str, statements: Vec<Statement>, ordered: bool) -> Document {
    let mut namespaces: Vec<String> = Vec::new();
    let mut number_of = |namespace: String| -> i32 {
        let known = namespaces.iter().position(|known| *known == namespace);
        let at = known.unwrap_or_else(|| {
            namespaces.push(namespace);
            namespaces.len() - 1
        });
        i32::try_from(at).unwrap_or(i32::MAX)
    };
    let operation = |Statement { namespace, filter, kind, .. }| match kind {
        Kind::Update { update, upsert } => {
            doc! {"update": number_of(namespace), "filter": filter, "updateMods": update, "upsert": upsert}
        }
        Kind::Delete => doc! {"delete": number_of(namespace), "filter": filter},
    };
    let operations: Vec<Document> = statements.into_iter().map(operation).collect();
    let namespaces: Vec<Document> =
        namespaces.into_iter().map(|name| doc! {"ns": format!("{database}.{name}")}).collect();
    doc! {"bulkWrite": 1, "ops": operations, "nsInfo": namespaces, "ordered": ordered, "errorsOnly": false}
}

/// The replies of `update` and `delete`, which tell only of those that were refused, and how many were not.
fn plain_replies(reply: &Document, count: usize, ordered: bool) -> Result<Vec<Reply>> {
    let found = number(reply, "n");
    let mut replies: Vec<Option<Reply>> = Vec::with_capacity(count);
    replies.resize_with(count, || None);
    let mut refusals: i64 = 0;
    let told = reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
    for refusal in told.iter().filter_map(Bson::as_document) {
        let at = usize::try_from(number(refusal, "index")).unwrap_or(usize::MAX);
        if let Some(place) = replies.get_mut(at) {
            *place = Some(refused(refusal));
            refusals += 1;
        }
    }
    if ordered {
        let done = replies.iter().position(Option::is_some).unwrap_or(count);
        replies[..done].fill_with(|| Some(Reply::Found));
    } else if let [place @ None] = replies.as_mut_slice() {
        *place = Some(if found > 0 { Reply::Found } else { Reply::NotFound });
    } else if usize::try_from(found + refusals) == Ok(count) {
        replies.iter_mut().filter(|place| place.is_none()).for_each(|place| *place = Some(Reply::Found));
    }
    complete(replies, ordered)
}

/// All replies; in a transaction, those up to the first that was refused.
fn complete(replies: Vec<Option<Reply>>, ordered: bool) -> Result<Vec<Reply>> {
    let count = replies.len();
    let told: Vec<Reply> = replies.into_iter().map_while(|reply| reply).collect();
    if told.len() == count || ordered && matches!(told.last(), Some(Reply::Refused(_))) {
        return Ok(told);
    }
    let message = "the server does not tell what each statement did";
    Err(Error::new(ErrorKind::Unavailable, message).with_retry(Retry::IfIdempotent))
}

fn refused(told: &Document) -> Reply {
    let code = i32::try_from(number(told, "code")).unwrap_or_default();
    let error = server(code, told.get_str("errmsg").unwrap_or("no message"), false);
    Reply::Refused(Refusal::new(told, error))
}

/// The error of a write that is done on the primary, of which nobody knows whether it will last.
pub(crate) fn not_replicated(reply: &Document) -> Option<Error> {
    let told = reply.get_document("writeConcernError").ok()?;
    let code = i32::try_from(number(told, "code")).unwrap_or_default();
    let error = server(code, told.get_str("errmsg").unwrap_or("no message"), false);
    Some(error.with_retry(Retry::IfIdempotent))
}

/// A number of a reply, whatever its type; 0 if there is none.
pub(crate) fn number(reply: &Document, name: &str) -> i64 {
    match reply.get(name) {
        Some(Bson::Int32(number)) => i64::from(*number),
        Some(Bson::Int64(number)) => *number,
        // Numbers of replies are small.
        Some(Bson::Double(number)) => *number as i64,
        Some(Bson::Boolean(yes)) => i64::from(*yes),
        _ => 0,
    }
}
