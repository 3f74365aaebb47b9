//! A plugin's handle to an open store.

use super::instance::Instance;

/// A store that a plugin opened. Freed when neither its backend nor a call in flight holds it any more.
pub(super) struct StoreHandle {
    instance: &'static Instance,
    number: u64,
}

impl StoreHandle {
    pub(super) fn new(instance: &'static Instance, number: u64) -> Self {
        Self { instance, number }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for StoreHandle {
    fn drop(&mut self) {
        self.instance.store_free(self.number);
    }
}
