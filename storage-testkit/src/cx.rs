//! What a case is given.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use storage_core::layer::{Around, Guard};
use storage_core::{Backend, Capabilities, CollectionName, Feature, Limits, Store};

use crate::{Fixture, ServerControl};

/// One store for one case, and how to open it. Cheap to clone.
#[derive(Clone)]
pub struct Cx {
    fixture: Arc<dyn Fixture>,
    capabilities: Arc<Capabilities>,
    opened: Arc<Mutex<Opened>>,
}

#[derive(Default)]
struct Opened {
    /// Opened to read the capabilities, and not handed out yet.
    first: Option<Arc<dyn Backend>>,
    all: Vec<Arc<dyn Backend>>,
}

impl Cx {
    /// Opens the store once, to learn what it offers.
    ///
    /// # Errors
    /// What opening meets.
    pub async fn new(fixture: Arc<dyn Fixture>) -> storage_core::Result<Self> {
        let first = guarded(fixture.open().await?);
        let capabilities = Arc::new(first.info().capabilities.clone());
        let opened = Opened { all: vec![first.clone()], first: Some(first) };
        Ok(Self { fixture, capabilities, opened: Arc::new(Mutex::new(opened)) })
    }

    /// The open store, with the guard around it. A case that calls this again closes what it was given
    /// before, and so sees what a restarted program sees.
    pub async fn open(&self) -> Arc<dyn Backend> {
        let first = self.opened().first.take();
        if let Some(first) = first {
            return first;
        }
        match self.fixture.open().await {
            Ok(backend) => {
                let backend = guarded(backend);
                self.opened().all.push(backend.clone());
                backend
            }
            Err(error) => panic!("opening the store again failed: {error} ({error:?})"),
        }
    }

    /// [`open`](Self::open) as the typed store with its default layers.
    pub async fn store(&self) -> Store {
        Store::new(self.open().await)
    }

    /// The fixture.
    pub fn fixture(&self) -> &dyn Fixture {
        &*self.fixture
    }

    /// Power over the server. Panics for a fixture without one: such cases run with `server:` only.
    pub fn server(&self) -> &dyn ServerControl {
        self.fixture.server().expect("`conformance!(server: …)` needs a fixture whose `server()` is there")
    }

    /// A collection name that was not used before.
    pub fn collection(&self) -> CollectionName {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        CollectionName::new(format!("case{number}")).expect("a letter and digits")
    }

    /// What the backend offers.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The limits of the backend.
    pub fn limits(&self) -> &Limits {
        &self.capabilities.limits
    }

    /// Whether the backend offers a feature.
    pub fn has(&self, feature: Feature) -> bool {
        self.capabilities.has(feature)
    }

    /// Closes what was opened, and removes the store.
    pub(crate) async fn finish(&self) -> storage_core::Result<()> {
        let all = std::mem::take(&mut self.opened().all);
        for backend in all {
            backend.close().await?;
        }
        self.fixture.discard().await
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn guarded(backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
    Arc::new(Around::new(Guard, backend))
}
