//! The stack of layers as data.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::policies::Policies;
use super::{Around, Coalesce, Expire, Guard, Retry, TimeToLive, Timeout};
use crate::{Backend, Capabilities, Coalescing, Error, Result};

/// One layer of a stack and its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layer {
    /// Lets records expire as their collection says: [`Expire`].
    TimeToLive(TimeToLive),
    /// A span for every call: [`Tracing`](super::Tracing).
    Tracing,
    /// How long calls take: [`Metrics`](super::Metrics).
    Metrics,
    /// Repeats what failed for a passing reason: [`Retry`].
    Retry(Retry),
    /// A deadline for every call: [`Timeout`].
    Timeout(Timeout),
    /// Merges concurrent calls into batches: [`Coalesce`].
    Coalesce,
}

impl Layer {
    /// The stable name, such as `retry`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TimeToLive(_) => "time_to_live",
            Self::Tracing => "tracing",
            Self::Metrics => "metrics",
            Self::Retry(_) => "retry",
            Self::Timeout(_) => "timeout",
            Self::Coalesce => "coalesce",
        }
    }

    /// Where it belongs, from the outside in.
    const fn rank(&self) -> u8 {
        match self {
            Self::TimeToLive(_) => 0,
            Self::Tracing => 1,
            Self::Metrics => 2,
            Self::Retry(_) => 3,
            Self::Timeout(_) => 4,
            Self::Coalesce => 5,
        }
    }
}

/// The layers between a program and a backend, from the outside in; the [`Guard`] is always the innermost
/// and needs no mention.
///
/// In the usual order each layer has a reason to be where it is:
///
/// 1. `time_to_live` — the touches it makes are calls of their own, which all other layers see.
/// 2. `tracing` — one span holds all attempts of a call.
/// 3. `metrics` — the duration is what the caller waited, attempts and waits included.
/// 4. `retry` — outside the deadline, so that each attempt has its own.
/// 5. `timeout` — outside the merging, so that a caller is not held by the batch that its call is in.
/// 6. `coalesce` — merges what really goes to the backend, repeats included.
/// 7. `guard` — what a backend does not offer is refused before any I/O, merged or not.
///
/// `time_to_live` is there only if it is named: without strategies it would do nothing.
///
/// As data it is a list. A layer with settings is an object of one key, in which what is left out is as by
/// default (`{"retry": {}}`), and durations are in human units:
///
/// ```
/// use storage_core::layer::{Layer, Layers, Retry};
///
/// let layers = Layers::none().with(Layer::Tracing).with(Layer::Retry(Retry { attempts: 5, ..Retry::default() }));
/// assert_eq!(layers.to_string(), "tracing > retry > guard");
///
/// let read: Layers = serde_json::from_str(r#"["tracing", {"retry": {"attempts": 5, "base": "20ms"}}]"#)?;
/// assert_eq!(read, layers);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Layer>", into = "Vec<Layer>")]
pub struct Layers(Vec<Layer>);

impl Layers {
    /// No layer but the guard.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// What a backend with these capabilities gets unless the program says otherwise: all layers that pay
    /// for it, with default settings.
    pub fn default_for(capabilities: &Capabilities) -> Self {
        let layers = Self::none()
            .with(Layer::Tracing)
            .with(Layer::Metrics)
            .with(Layer::Retry(Retry::default()))
            .with(Layer::Timeout(Timeout::default()));
        let merging = [capabilities.coalesce_reads, capabilities.coalesce_writes];
        if merging.contains(&Coalescing::Pays) { layers.with(Layer::Coalesce) } else { layers }
    }

    /// These layers, from the outside in, in just this order.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if a layer is there twice.
    pub fn new(layers: Vec<Layer>) -> Result<Self> {
        for (i, layer) in layers.iter().enumerate() {
            if layers.iter().take(i).any(|before| before.name() == layer.name()) {
                return Err(Error::invalid(format!("layer {} is there twice: name it once", layer.name())));
            }
        }
        Ok(Self(layers))
    }

    /// With `layer` in the place of the one of its name, or else in its usual place.
    #[must_use]
    pub fn with(mut self, layer: Layer) -> Self {
        if let Some(there) = self.0.iter_mut().find(|there| there.name() == layer.name()) {
            *there = layer;
            return self;
        }
        let place = self.0.iter().position(|there| there.rank() > layer.rank()).unwrap_or(self.0.len());
        self.0.insert(place, layer);
        self
    }

    /// Without the layer of this name; the same if there is none.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|layer| layer.name() != name);
        self
    }

    /// The layers, from the outside in.
    pub fn as_slice(&self) -> &[Layer] {
        &self.0
    }

    /// Whether a backend with these capabilities can do what the layers ask of it. One that cannot is refused at the
    /// first call, and by this beforehand.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) that names the layer and the feature it lacks.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        self.0.iter().try_for_each(|layer| match layer {
            Layer::TimeToLive(config) => config.check(capabilities),
            _ => Ok(()),
        })
    }

    /// Puts the layers on top of a backend.
    pub fn apply(&self, backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
        let mut top: Arc<dyn Backend> = Arc::new(Around::new(Guard, backend));
        let mut policies = Policies::default();
        for layer in self.0.iter().rev() {
            if policies.take(layer) {
                continue;
            }
            top = std::mem::take(&mut policies).apply(top);
            top = match layer {
                Layer::TimeToLive(config) => Arc::new(Expire::new(config.clone(), top)),
                Layer::Coalesce => Arc::new(Coalesce::new(top)),
                Layer::Tracing | Layer::Metrics | Layer::Retry(_) | Layer::Timeout(_) => {
                    policies.take(layer);
                    top
                }
            };
        }
        policies.apply(top)
    }
}

impl TryFrom<Vec<Layer>> for Layers {
    type Error = Error;

    fn try_from(layers: Vec<Layer>) -> Result<Self> {
        Self::new(layers)
    }
}

impl From<Layers> for Vec<Layer> {
    fn from(layers: Layers) -> Self {
        layers.0
    }
}

impl fmt::Display for Layers {
    /// The names from the outside in: `tracing > metrics > retry > timeout > coalesce > guard`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for layer in &self.0 {
            write!(f, "{} > ", layer.name())?;
        }
        f.write_str("guard")
    }
}

impl fmt::Debug for Layers {
    /// The layers and their settings from the outside in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).entry(&Guard).finish()
    }
}
