//! What stands between a program and a backend: deadlines, repeats, observation, merging.
//!
//! There are two kinds of layer. A [`Policy`] treats all operations alike and is one function, `around`
//! the call; the adapter [`Around`] makes a backend of it. A layer that looks at values, such as
//! [`Coalesce`] or [`Expire`], implements [`Backend`](crate::Backend) itself. [`Layers`] is a stack of them
//! as data.
//!
//! Layers wait by the clock of tokio: calls are made on a tokio runtime with time enabled.
//!
//! ```
//! use std::time::Duration;
//! use storage_core::Capabilities;
//! use storage_core::layer::{Layer, Layers, Timeout};
//!
//! let quick = Timeout { read: Some(Duration::from_secs(2)), ..Timeout::default() };
//! let layers = Layers::default_for(&Capabilities::none()).with(Layer::Timeout(quick)).without("metrics");
//! assert_eq!(layers.to_string(), "tracing > retry > timeout > guard");
//! ```

mod around;
mod coalesce;
mod guard;
mod metrics;
mod policies;
mod policy;
mod retry;
mod stack;
mod time_to_live;
mod timeout;
mod tracing;

pub use around::Around;
pub use coalesce::Coalesce;
pub use guard::Guard;
pub use metrics::Metrics;
pub use policy::{Call, Policy, Reply};
pub use retry::Retry;
pub use stack::{Layer, Layers};
pub use time_to_live::{Expire, Lifetime, Strategy, TimeToLive};
pub use timeout::Timeout;
pub use tracing::Tracing;
