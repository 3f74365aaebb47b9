//! Passwords in configurations.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A password or the like; `Debug` does not show it. Serialised it is the text itself, as a configuration has it.
///
/// ```
/// use storage_core::Secret;
///
/// let password = Secret::from("swordfish");
/// assert_eq!(format!("{password:?}"), "[redacted]");
/// assert_eq!(password.reveal(), "swordfish");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
