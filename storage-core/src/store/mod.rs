//! The public store.

use std::sync::Arc;

use crate::Backend;

/// A store: a backend under its layers, with typed views on top. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Arc<dyn Backend>,
}

impl Store {
    /// A store over `backend` with the default layers for it.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// The backend with all layers on top: the untyped interface, for everything the typed one leaves out.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }
}
