//! A registered type: what it is, where it came from, and whether it may be used.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use semver::Version as Semver;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use storage_core::{Capabilities, Error, Result, TypeDescriptor};

/// Where a type came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "origin", rename_all = "snake_case")]
pub enum Origin {
    /// Compiled into this program.
    Linked,
    /// Loaded from a shared library.
    Plugin {
        /// The library's file.
        path: PathBuf,
        /// The SHA-256 digest of the file, in lower-case hex.
        sha256: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linked => f.write_str("linked-in"),
            Self::Plugin { path, sha256 } => {
                let digest: String = sha256.chars().take(12).collect();
                write!(f, "plugin {} (sha256 {digest})", path.display())
            }
        }
    }
}

/// Whether a type may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// For use.
    Active,
    /// Not settled yet: used if asked for by its exact version, or if nothing better matches.
    Experimental,
    /// On its way out: used if no active version matches, with a warning in the log.
    Deprecated,
    /// Switched off by an operator: never used.
    Disabled,
    /// Taken out of use because it did harm, such as a plugin that ended the process: never used.
    Quarantined {
        /// What it did.
        reason: String,
    },
}

impl Status {
    /// The stable name, such as `quarantined`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Experimental => "experimental",
            Self::Deprecated => "deprecated",
            Self::Disabled => "disabled",
            Self::Quarantined { .. } => "quarantined",
        }
    }

    /// Whether a type of this status is opened at all.
    pub const fn is_usable(&self) -> bool {
        !matches!(self, Self::Disabled | Self::Quarantined { .. })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quarantined { reason } => write!(f, "quarantined: {reason}"),
            status => f.write_str(status.as_str()),
        }
    }
}

/// A handle to a [`TypeDescriptor`]: linked-in ones are `static`, those of plugins shared.
#[derive(Clone)]
pub struct Descriptor(Handle);

#[derive(Clone)]
enum Handle {
    Static(&'static dyn TypeDescriptor),
    Shared(Arc<dyn TypeDescriptor>),
}

impl Deref for Descriptor {
    type Target = dyn TypeDescriptor;

    fn deref(&self) -> &Self::Target {
        match &self.0 {
            Handle::Static(descriptor) => *descriptor,
            Handle::Shared(descriptor) => &**descriptor,
        }
    }
}

impl From<&'static dyn TypeDescriptor> for Descriptor {
    fn from(descriptor: &'static dyn TypeDescriptor) -> Self {
        Self(Handle::Static(descriptor))
    }
}

impl<T: TypeDescriptor> From<&'static T> for Descriptor {
    fn from(descriptor: &'static T) -> Self {
        Self(Handle::Static(descriptor))
    }
}

impl From<Arc<dyn TypeDescriptor>> for Descriptor {
    fn from(descriptor: Arc<dyn TypeDescriptor>) -> Self {
        Self(Handle::Shared(descriptor))
    }
}

impl<T: TypeDescriptor> From<Arc<T>> for Descriptor {
    fn from(descriptor: Arc<T>) -> Self {
        Self(Handle::Shared(descriptor))
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptor({} {})", self.name(), self.version())
    }
}

/// A registered type, as of the moment it was asked for. Serialises flat, for listings:
/// `{"name": "file", "version": "1.0.0", "origin": "linked", "status": "active", …}`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TypeEntry {
    /// The type's name, `[a-z][a-z0-9-]{0,31}`.
    pub name: SmolStr,
    /// The type's version.
    pub version: Semver,
    /// One line for people.
    pub summary: String,
    /// Where it came from.
    #[serde(flatten)]
    pub origin: Origin,
    /// Whether it may be used.
    #[serde(flatten)]
    pub status: Status,
    /// The URL schemes it answers to.
    pub schemes: Vec<SmolStr>,
    /// What its backends offer in the default configuration.
    pub capabilities: Capabilities,
    /// The JSON Schema of its configuration.
    pub config_schema: serde_json::Value,
    #[serde(skip)]
    descriptor: Descriptor,
}

impl TypeEntry {
    /// Reads a descriptor once, so that a listing calls into no plugin. A pre-release version begins as
    /// experimental, any other as active.
    pub(crate) fn new(descriptor: Descriptor, origin: Origin) -> Result<Self> {
        let name = SmolStr::new(descriptor.name());
        check_name(&name)?;
        let version = descriptor.version();
        let schemes: Vec<SmolStr> = descriptor.schemes().iter().map(SmolStr::new).collect();
        for scheme in &schemes {
            check_scheme(&name, scheme)?;
        }
        Ok(Self {
            status: if version.pre.is_empty() { Status::Active } else { Status::Experimental },
            summary: descriptor.summary().to_owned(),
            capabilities: descriptor.capabilities(),
            config_schema: descriptor.config_schema(),
            name,
            version,
            origin,
            schemes,
            descriptor,
        })
    }

    /// The descriptor, for what the registry leaves out.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    pub(crate) fn with_status(&self, status: Status) -> Self {
        Self { status, ..self.clone() }
    }
}

impl fmt::Display for TypeEntry {
    /// Name and version, such as `file@1.0.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// Whether `name` is the name of a type: `[a-z][a-z0-9-]{0,31}`.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let head = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let tail = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if head && tail && name.len() <= 32 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "type name {} is not valid: it begins with a-z and has at most 32 characters of a-z 0-9 -",
        shown(name)
    )))
}

pub(crate) fn check_scheme(name: &str, scheme: &str) -> Result<()> {
    let head = scheme.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let tail = scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    if head && tail {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "URL scheme {} of type {name} is not valid: it begins with a-z and has only a-z 0-9 + - .",
        shown(scheme)
    )))
}

/// At most 40 characters of `text`, quoted and escaped, for messages.
pub(crate) fn shown(text: &str) -> String {
    let head: String = text.chars().take(40).collect();
    if head.len() < text.len() { format!("{head:?}…") } else { format!("{head:?}") }
}
