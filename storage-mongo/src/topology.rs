//! What servers there are.

use mongodb::bson::{Document, doc};
use mongodb::{Database, error::Result};

/// What servers there are, as far as it decides what the store offers.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    /// A replica set or a sharded cluster, which have transactions and change streams.
    pub(crate) transactions: bool,
    /// In words, such as `replica set rs0`.
    pub(crate) kind: String,
    /// The server's version.
    pub(crate) version: String,
}

impl Topology {
    /// Asks the server.
    pub(crate) async fn of(database: &Database) -> Result<Self> {
        let hello = database.run_command(doc! {"hello": 1}).await?;
        let version = database.run_command(doc! {"buildInfo": 1}).await?;
        let (transactions, kind) = kind(&hello);
        let version = version.get_str("version").unwrap_or("unknown").to_owned();
        Ok(Self { transactions, kind, version })
    }
}

fn kind(hello: &Document) -> (bool, String) {
    if let Ok(name) = hello.get_str("setName") {
        (true, format!("replica set {name}"))
    } else if hello.get_str("msg").is_ok_and(|message| message == "isdbgrid") {
        (true, "sharded cluster".to_owned())
    } else {
        (false, "standalone".to_owned())
    }
}
