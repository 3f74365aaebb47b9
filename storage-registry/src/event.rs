//! What happens to the set of types.

use std::fmt;
use std::sync::Arc;

use semver::Version as Semver;
use serde::Serialize;
use smol_str::SmolStr;

use crate::{Status, TypeEntry};

/// A change of a [`Registry`](crate::Registry); see [`subscribe`](crate::Registry::subscribe).
///
/// Serialises with its kind in `event`, such as `{"event": "unregistered", "name": …, "version": …}`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RegistryEvent {
    /// A type was added.
    Registered(#[serde(serialize_with = "by_value")] Arc<TypeEntry>),
    /// A type's status is another than before.
    StatusChanged {
        /// The type's name.
        name: SmolStr,
        /// The type's version.
        version: Semver,
        /// The status until now.
        from: Status,
        /// The status from now on.
        to: Status,
    },
    /// A type was removed.
    Unregistered {
        /// The type's name.
        name: SmolStr,
        /// The type's version.
        version: Semver,
    },
}

impl fmt::Display for RegistryEvent {
    /// One line, such as `registered file@1.0.0 (linked-in)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered(entry) => write!(f, "registered {entry} ({})", entry.origin),
            Self::StatusChanged { name, version, from, to } => {
                write!(f, "{name}@{version} was {}, is {to}", from.as_str())
            }
            Self::Unregistered { name, version } => write!(f, "unregistered {name}@{version}"),
        }
    }
}

/// Serialises what the pointer points to, without serde's feature `rc`.
fn by_value<S: serde::Serializer>(entry: &Arc<TypeEntry>, serializer: S) -> Result<S::Ok, S::Error> {
    entry.as_ref().serialize(serializer)
}
