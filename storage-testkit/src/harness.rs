//! What the author of a backend tells the suite: how to make a store, and how to open it.

use std::sync::Arc;

use async_trait::async_trait;
use storage_core::{Backend, Result};

/// Makes stores for the suite, one for each case.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new, empty store that no other case sees: a directory, a schema, a key prefix, a database.
    async fn create(&self) -> Result<Box<dyn Fixture>>;
}

#[async_trait]
impl<H: Harness + ?Sized> Harness for &H {
    async fn create(&self) -> Result<Box<dyn Fixture>> {
        (**self).create().await
    }
}

/// One store, open or not.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// Opens the store, as a program would. Called again after the backend of the call before was closed.
    ///
    /// Return the backend as it is: the suite puts the [`Guard`](storage_core::layer::Guard) around it, as
    /// every store does.
    async fn open(&self) -> Result<Arc<dyn Backend>>;

    /// Whether what was written is there when the store was closed and is opened again.
    fn persistent(&self) -> bool;

    /// Texts that may appear in no error, location or `Debug` output, such as the password.
    fn secrets(&self) -> Vec<String>;

    /// Tries to open a store with an endpoint that is no good: a port on which nobody listens, a path that is
    /// a plain file, a configuration that does not validate. It has to fail.
    async fn open_bad_endpoint(&self) -> Result<Arc<dyn Backend>>;

    /// Power over the server behind the store; `None` if there is none.
    fn server(&self) -> Option<&dyn ServerControl> {
        None
    }

    /// Removes the store with all it holds, after its case has passed. One whose case failed stays, to be
    /// looked at.
    async fn discard(&self) -> Result<()> {
        Ok(())
    }
}

/// What the cases that need a server do to it. Each fixture has to have the server for itself, or a proxy
/// before it.
#[async_trait]
pub trait ServerControl: Send + Sync {
    /// Tries to open the store with a wrong password.
    async fn open_wrong_password(&self) -> Result<Arc<dyn Backend>>;

    /// Stops the server, so that connecting to it is refused. What was written stays.
    async fn stop(&self) -> Result<()>;

    /// Starts it again at the same endpoint and waits until it takes connections.
    async fn start(&self) -> Result<()>;

    /// Freezes the server: connections stay open and no byte passes.
    async fn pause(&self) -> Result<()>;

    /// Ends [`pause`](Self::pause).
    async fn resume(&self) -> Result<()>;

    /// Cuts the connections that are open, at once, also in the middle of a reply. New ones are taken.
    async fn cut_connections(&self) -> Result<()>;
}
