//! What the driver tells of its pools and of the commands it sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mongodb::event::EventHandler;
use mongodb::event::cmap::CmapEvent;
use mongodb::event::command::CommandEvent;
use mongodb::options::ClientOptions;

/// The connections of a store, of all servers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections that are open or being opened.
    pub open: u64,
    /// Connections in use.
    pub in_use: u64,
    /// Calls that wait for a connection.
    pub waiting: u64,
    /// Connections made since the store was opened.
    pub connects: u64,
    /// Calls that got no connection.
    pub failures: u64,
    /// Commands sent since the store was opened.
    pub commands: u64,
}

/// Counts the driver's events.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    created: AtomicU64,
    closed: AtomicU64,
    waiting: AtomicU64,
    got: AtomicU64,
    failed: AtomicU64,
    returned: AtomicU64,
    commands: AtomicU64,
}

impl Monitor {
    /// A monitor of a client that is made with these options.
    pub(crate) fn of(options: &mut ClientOptions) -> Arc<Self> {
        let monitor = Arc::new(Self::default());
        let pools = Arc::clone(&monitor);
        options.cmap_event_handler = Some(EventHandler::callback(move |event| pools.pool(&event)));
        let commands = Arc::clone(&monitor);
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(_) = event {
                commands.commands.fetch_add(1, Relaxed);
            }
        }));
        monitor
    }

    fn pool(&self, event: &CmapEvent) {
        let count = match event {
            CmapEvent::ConnectionCreated(_) => &self.created,
            CmapEvent::ConnectionClosed(_) => &self.closed,
            CmapEvent::ConnectionCheckedOut(_) => &self.got,
            CmapEvent::ConnectionCheckoutFailed(_) => &self.failed,
            CmapEvent::ConnectionCheckedIn(_) => &self.returned,
            _ => return,
        };
        count.fetch_add(1, Relaxed);
    }

    /// Counts a call that waits for its turn, until this is dropped.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Relaxed);
        Waiting(&self.waiting)
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let count = |count: &AtomicU64| count.load(Relaxed);
        // They are not read at one moment, so a difference may seem to be below zero.
        PoolStats {
            open: count(&self.created).saturating_sub(count(&self.closed)),
            in_use: count(&self.got).saturating_sub(count(&self.returned)),
            waiting: count(&self.waiting),
            connects: count(&self.created),
            failures: count(&self.failed),
            commands: count(&self.commands),
        }
    }
}

/// A call that waits for its turn.
pub(crate) struct Waiting<'m>(&'m AtomicU64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
