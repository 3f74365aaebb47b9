//! Durations as configurations write them, for `#[serde(with = "storage_core::duration")]`: text such as `200ms`, `1m 30s`
//! or `7d`.
//!
//! ```
//! use std::time::Duration;
//!
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     #[serde(with = "storage_core::duration")]
//!     patience: Duration,
//! }
//!
//! let config: Config = serde_json::from_str(r#"{"patience": "1m 30s"}"#)?;
//! assert_eq!(config.patience, Duration::from_secs(90));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Writes a duration as text.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration.
///
/// # Errors
/// For what is no text, or no duration; the message shows it and what one looks like.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?)
}

fn parse<E: serde::de::Error>(text: &str) -> Result<Duration, E> {
    humantime::parse_duration(text).map_err(|error| {
        E::custom(format!("{} is no duration such as 200ms or 1m: {error}", crate::name::shown(text)))
    })
}

/// The same for `Option<Duration>`: `null` is none.
pub mod optional {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    /// Writes a duration as text, none as `null`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a duration, or `null`.
    ///
    /// # Errors
    /// As [`deserialize`](super::deserialize).
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        text.as_deref().map(super::parse).transpose()
    }
}
