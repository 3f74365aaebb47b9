//! Requests, as the host writes them.

use serde_json::Value as Tree;
use storage_core::{Address, Request};

use super::{Wire, Writer};
use crate::Outgoing;

/// A request to a store.
///
/// A kind of request that this version of the crate does not know goes out under its name and without arguments,
/// so that the plugin answers `unsupported`.
pub fn request(request: &Request<'_>) -> Outgoing {
    let mut to = begin(request.operation());
    match *request {
        Request::Get(keys) => argument(&mut to, "keys", |to| to.list::<Address>(keys)),
        Request::Write(batch) => batch.write(&mut to),
        Request::Scan(scan) | Request::Keys(scan) => scan.write(&mut to),
        Request::Query(query) => query.write(&mut to),
        Request::ListRange(range) => range.write(&mut to),
        Request::Count(count) => count.write(&mut to),
        Request::Clear(collection) | Request::ListIndexes(collection) => {
            argument(&mut to, "collection", |to| collection.write(to));
        }
        Request::EnsureIndex(index) => index.write(&mut to),
        Request::DropIndex(collection, path) => {
            to.map(2);
            to.entry("collection", collection);
            to.entry("path", path);
        }
        Request::Changes(changes) => changes.write(&mut to),
        Request::Maintain(task) => argument(&mut to, "task", |to| task.write(to)),
        Request::Collections | Request::Health | Request::Stats | Request::Close => to.map(0),
        _ => to.map(0),
    }
    to.into_message()
}

/// The request for the configuration that a URL stands for.
pub fn config_from_url(url: &str) -> Outgoing {
    let mut to = begin("config_from_url");
    argument(&mut to, "url", |to| to.str(url));
    to.into_message()
}

/// The request to check a configuration.
pub fn validate(config: &Tree) -> Outgoing {
    with_config("validate", config)
}

/// The request to open a store.
pub fn open(config: &Tree) -> Outgoing {
    with_config("open", config)
}

fn with_config(operation: &str, config: &Tree) -> Outgoing {
    let mut to = begin(operation);
    argument(&mut to, "config", |to| config.write(to));
    to.into_message()
}

fn begin(operation: &str) -> Writer {
    let mut to = Writer::new();
    to.array(2);
    to.str(operation);
    to
}

/// A map of one argument.
fn argument(to: &mut Writer, name: &str, write: impl FnOnce(&mut Writer)) {
    to.map(1);
    to.str(name);
    write(to);
}
