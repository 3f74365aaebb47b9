//! How long the records of each collection live, as data.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{Address, Capabilities, CollectionName, Error, ErrorKind, Feature, Record, Result, Timestamp};

/// How long records live, by collection.
///
/// The layer gives an expiry to records that are written without one; what a caller says itself always counts.
/// The [strategies](Strategy) say when. As data, with durations like `30m`, `1h 30m` or `7d`:
///
/// ```
/// use std::sync::Arc;
/// use storage_core::layer::Layers;
/// use storage_core::{Address, Batch, Json, MemoryBackend, Mutation, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layers: Layers = serde_json::from_str(
///     r#"[
///         {"time_to_live": {
///             "default": "none",
///             "collections": {
///                 "sessions": {"sliding": {"ttl": "30m", "jitter": 0.1}},
///                 "cache": {"fixed": {"ttl": "1h"}}
///             }
///         }},
///         "tracing", "metrics", {"retry": {}}, {"timeout": {}}
///     ]"#,
/// )?;
/// assert_eq!(layers.to_string(), "time_to_live > tracing > metrics > retry > timeout > guard");
///
/// let store = Store::with_layers(Arc::new(MemoryBackend::new()), layers);
/// let (page, user) = (Address::new("cache", "page")?, Address::new("users", "ada")?);
/// let puts = [&page, &user].map(|at| Mutation::put(at.clone(), Json::encode(&1).unwrap()));
/// store.write(Batch::independent(puts.to_vec())).await?;
/// assert!(store.get(&page).await?.unwrap().expires_at.is_some());
/// assert!(store.get(&user).await?.unwrap().expires_at.is_none());
/// # Ok(())
/// # }
/// ```
///
/// In code, [`Layers::with`](crate::layer::Layers::with) puts it into its usual place:
///
/// ```
/// use std::time::Duration;
/// use storage_core::layer::{Layer, Layers, Lifetime, Strategy, TimeToLive};
/// use storage_core::{Capabilities, CollectionName};
///
/// let half_an_hour = Lifetime::new(Duration::from_secs(30 * 60))?.with_jitter(0.1)?;
/// let ttl = TimeToLive::default().with(CollectionName::new("sessions")?, Strategy::Sliding(half_an_hour));
/// let layers = Layers::default_for(&Capabilities::none()).with(Layer::TimeToLive(ttl));
/// assert_eq!(layers.to_string(), "time_to_live > tracing > metrics > retry > timeout > guard");
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeToLive {
    /// For collections that are not named. Default: [`Strategy::None`].
    pub default: Strategy,
    /// For the collections of these names.
    pub collections: BTreeMap<CollectionName, Strategy>,
}

impl TimeToLive {
    /// With this strategy for a collection.
    #[must_use]
    pub fn with(mut self, collection: CollectionName, strategy: Strategy) -> Self {
        self.collections.insert(collection, strategy);
        self
    }

    /// The strategy of a collection.
    pub fn of(&self, collection: &CollectionName) -> &Strategy {
        self.collections.get(collection).unwrap_or(&self.default)
    }

    /// Whether a backend with these capabilities can do it.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) that names a strategy and the feature it lacks.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        let named = self.collections.iter().map(|(name, strategy)| (format!("of {name}"), strategy));
        for (of, strategy) in named.chain([("by default".to_owned(), &self.default)]) {
            if let Some(missing) = strategy.needs().iter().find(|feature| !capabilities.has(**feature)) {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "the layer time_to_live: the strategy {} {of} needs the feature {missing}, which this \
                         backend does not offer: set it to none",
                        strategy.name()
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// When the records of a collection expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// When their writers say, else never.
    #[default]
    None,
    /// A lifetime after they were put, or made by an increment or append.
    Fixed(Lifetime),
    /// A lifetime after they were last put, or read by key.
    Sliding(Lifetime),
}

impl Strategy {
    /// The stable name: `none`, `fixed` or `sliding`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Fixed(_) => "fixed",
            Self::Sliding(_) => "sliding",
        }
    }

    /// The lifetime of what is written without an expiry.
    pub(super) fn lifetime(&self) -> Option<&Lifetime> {
        match self {
            Self::None => None,
            Self::Fixed(lifetime) | Self::Sliding(lifetime) => Some(lifetime),
        }
    }

    fn needs(&self) -> &'static [Feature] {
        match self {
            Self::None => &[],
            Self::Fixed(_) => &[Feature::Expiry],
            Self::Sliding(_) => &[Feature::Expiry, Feature::Preconditions],
        }
    }
}

/// A time to live, and how much shorter it may be for some records.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Lifetime {
    #[serde(with = "crate::duration")]
    ttl: Duration,
    jitter: f64,
}

/// The jitter is never NaN.
impl Eq for Lifetime {}

/// A lifetime that was not checked yet.
#[derive(Deserialize)]
#[serde(rename = "Lifetime", deny_unknown_fields)]
struct Fields {
    #[serde(with = "crate::duration")]
    ttl: Duration,
    #[serde(default)]
    jitter: f64,
}

impl TryFrom<Fields> for Lifetime {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<Self> {
        Self::new(fields.ttl)?.with_jitter(fields.jitter)
    }
}

impl Lifetime {
    /// The greatest [jitter](Self::with_jitter).
    pub const MAX_JITTER: f64 = 0.5;

    /// The same lifetime for all records.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for one under a millisecond.
    pub fn new(ttl: Duration) -> Result<Self> {
        Timestamp::after(ttl)?;
        Ok(Self { ttl, jitter: 0.0 })
    }

    /// With lifetimes that are up to this share shorter, so that records written together do not all expire
    /// together. How much shorter depends on collection and key alone: a record always gets the same lifetime.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a share that is not between 0 and 0.5.
    pub fn with_jitter(mut self, share: f64) -> Result<Self> {
        if !(0.0..=Self::MAX_JITTER).contains(&share) {
            return Err(Error::invalid(format!("jitter {share}: a share of the time to live from 0 to 0.5")));
        }
        self.jitter = share;
        Ok(self)
    }

    /// The longest lifetime.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The share by which it may be shorter.
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// The lifetime of one record, to the millisecond.
    fn of(&self, address: &Address) -> Duration {
        let hash = xxh3_64_with_seed(address.collection.as_str().as_bytes(), 0);
        let hash = xxh3_64_with_seed(address.key.as_str().as_bytes(), hash);
        let ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        let shorter = ttl as f64 * self.jitter * (hash as f64 / u64::MAX as f64);
        Duration::from_millis(ttl.saturating_sub(shorter as u64))
    }

    /// When a record that is written now expires.
    pub(super) fn expiry(&self, address: &Address, now: Timestamp) -> Timestamp {
        now.saturating_add(self.of(address))
    }

    /// The new expiry of a record that is read now; `None` if less than a tenth of its lifetime would be gained.
    pub(super) fn extension(&self, record: &Record, now: Timestamp) -> Option<Timestamp> {
        let lifetime = self.of(&record.address);
        let extended = now.saturating_add(lifetime);
        let gained = extended.since(record.expires_at?);
        (gained >= (lifetime / 10).max(Duration::from_millis(1))).then_some(extended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Json, Version};

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000_000);

    fn record(expires_at: Option<Timestamp>) -> Record {
        Record {
            address: Address::new("sessions", "ada").unwrap(),
            value: Json::parse("1").unwrap().into(),
            version: Version::from_sequence(1),
            created_at: NOW,
            updated_at: NOW,
            expires_at,
        }
    }

    #[test]
    fn jitter_spreads_and_never_lengthens() {
        let lifetime = Lifetime::new(HOUR).unwrap().with_jitter(0.5).unwrap();
        let of = |i: usize| lifetime.of(&Address::new("sessions", format!("k{i}")).unwrap());
        let mut tenths = [0; 10];
        for i in 0..10_000 {
            let share = of(i).as_secs_f64() / HOUR.as_secs_f64();
            assert!((0.5..=1.0).contains(&share), "{share}");
            tenths[(((share - 0.5) * 20.0) as usize).min(9)] += 1;
            assert_eq!(of(i), of(i));
        }
        assert!(tenths.iter().all(|count| (800..1200).contains(count)), "{tenths:?}");
        let other = Address::new("other", "k1").unwrap();
        assert_ne!(lifetime.of(&other), of(1), "collections do not expire in step");
        assert_eq!(Lifetime::new(HOUR).unwrap().of(&other), HOUR);
    }

    #[test]
    fn a_record_is_extended_once_a_tenth_of_its_time_has_passed() {
        for jitter in [0.0, 0.1, 0.5] {
            let lifetime = Lifetime::new(HOUR).unwrap().with_jitter(jitter).unwrap();
            let mut record = record(None);
            assert_eq!(lifetime.extension(&record, NOW), None, "one that never expires stays so");
            let expires_at = lifetime.expiry(&record.address, NOW);
            record.expires_at = Some(expires_at);
            let tenth = expires_at.since(NOW) / 10;
            let (early, late) = (tenth - Duration::from_secs(1), tenth + Duration::from_secs(1));
            assert_eq!(lifetime.extension(&record, NOW), None);
            assert_eq!(lifetime.extension(&record, NOW.saturating_add(early)), None);
            let extended = lifetime.extension(&record, NOW.saturating_add(late));
            assert_eq!(extended, Some(expires_at.saturating_add(late)));
            record.expires_at = Some(NOW.saturating_add(2 * HOUR));
            assert_eq!(lifetime.extension(&record, NOW.saturating_add(late)), None, "never shortened");
        }
    }

    #[test]
    fn the_shortest_lifetime_is_extended_too_and_the_longest_does_not_wrap() {
        let short = Lifetime::new(Duration::from_millis(1)).unwrap().with_jitter(0.5).unwrap();
        let mut record = record(Some(NOW));
        assert_eq!(short.extension(&record, NOW), Some(Timestamp::from_millis(NOW.as_millis() + 1)));
        record.expires_at = Some(Timestamp::from_millis(NOW.as_millis() + 1));
        assert_eq!(short.extension(&record, NOW), None);
        let long = Lifetime::new(Duration::MAX).unwrap().with_jitter(0.5).unwrap();
        assert!(long.expiry(&record.address, NOW) > NOW);
    }
}
