//! `plugin.toml`: what a package says about its plugin.

use std::fmt;
use std::str::FromStr;

use semver::Version as Semver;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Tree;
use smol_str::SmolStr;
use storage_core::{Capabilities, Error, Feature, Result, TypeDescriptor};

use super::{Digest, Problem, ProblemKind, files, text};
use crate::entry::{check_name, check_scheme, shown};

/// What `plugin.toml` says.
///
/// What stands in the ELF headers and the note is checked against them. `summary`, `schemes`, `capabilities` and
/// `config_schema` are known only once the plugin has been loaded, and are missing if it was packed without that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// The type's name, `[a-z][a-z0-9-]{0,31}`.
    pub name: SmolStr,
    /// The type's version.
    pub version: Semver,
    /// The system that it is for, such as `x86_64-unknown-linux-gnu`.
    pub target: String,
    /// The plugin ABI that it was built for.
    pub abi: MajorMinor,
    /// The lowest glibc that it runs with, such as `2.34`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glibc: Option<MajorMinor>,
    /// The library's file in the directory of the package.
    pub file: String,
    /// The library's size in bytes.
    pub size: u64,
    /// The library's SHA-256 digest.
    pub sha256: Digest,
    /// What made the library, for people.
    pub built_with: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The URL schemes that it answers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemes: Option<Vec<SmolStr>>,
    /// The JSON Schema of its configuration; in the file, as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "json_text")]
    pub config_schema: Option<Tree>,
    /// What its stores offer in the default configuration. Features that this version does not know are left out.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "capabilities")]
    pub capabilities: Option<Capabilities>,
}

impl Manifest {
    /// The name of the file.
    pub const FILE: &'static str = "plugin.toml";

    const KEYS: [&'static str; 13] = [
        "name",
        "version",
        "target",
        "abi",
        "glibc",
        "file",
        "size",
        "sha256",
        "built_with",
        "summary",
        "schemes",
        "config_schema",
        "capabilities",
    ];
    /// In the tables, what is misspelt would count as the default; features are open for those of later versions.
    const TABLES: [text::Table<'static>; 3] = [
        text::Table { path: &[], keys: &Self::KEYS },
        text::Table {
            path: &["capabilities"],
            keys: &["features", "atomic_scope", "coalesce_reads", "coalesce_writes", "limits"],
        },
        text::Table {
            path: &["capabilities", "limits"],
            keys: &[
                "batch_len",
                "batch_bytes",
                "atomic_len",
                "atomic_bytes",
                "value_bytes",
                "json_depth",
                "page_len",
                "counter_fields",
            ],
        },
    ];

    /// The text of the file.
    ///
    /// # Errors
    /// [`Internal`](storage_core::ErrorKind::Internal) if a value has no form in TOML.
    pub fn to_toml(&self) -> Result<String> {
        text::encode(self)
    }

    /// The name of the package's directory, such as `redis-1.2.0`.
    pub fn directory(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// What the plugin says about itself once it is loaded, if the manifest has all of it.
    pub(super) fn description(&self) -> Option<Description> {
        Some(Description {
            name: self.name.clone(),
            version: self.version.clone(),
            summary: self.summary.clone()?,
            schemes: self.schemes.clone()?,
            capabilities: self.capabilities.clone()?,
            config_schema: self.config_schema.clone()?,
        })
    }

    fn check(&self) -> Result<()> {
        let text = |key: &str, text: &str| {
            if !text.is_empty() && text.len() <= 1_024 && !text.contains(char::is_control) {
                return Ok(());
            }
            Err(Error::invalid(format!("{key} is not one line of at most 1024 bytes")))
        };
        check_name(&self.name)?;
        text("target", &self.target)?;
        text("built_with", &self.built_with)?;
        self.summary.as_deref().map_or(Ok(()), |summary| text("summary", summary))?;
        if !files::is_file_name(&self.file) || self.file == Self::FILE {
            return Err(Error::invalid(format!(
                "file {} is not the name of a file in the package's directory, of a-z A-Z 0-9 . _ + -",
                shown(&self.file)
            )));
        }
        if self.size == 0 {
            return Err(Error::invalid("size is 0: a library has bytes"));
        }
        for scheme in self.schemes.iter().flatten() {
            check_scheme(&self.name, scheme)?;
        }
        if self.config_schema.as_ref().is_some_and(|schema| !schema.is_object()) {
            return Err(Error::invalid("config_schema is not a JSON object"));
        }
        Ok(())
    }
}

impl FromStr for Manifest {
    type Err = Error;

    /// Reads the text of the file. An error says where, and names the nearest key if one is unknown.
    fn from_str(text: &str) -> Result<Self> {
        let manifest: Self = text::decode(text, &Self::TABLES)?;
        manifest.check()?;
        Ok(manifest)
    }
}

/// What a plugin says about itself once it is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The type's name.
    pub name: SmolStr,
    /// The type's version.
    pub version: Semver,
    /// One line for people.
    pub summary: String,
    /// The URL schemes that it answers to.
    pub schemes: Vec<SmolStr>,
    /// What its stores offer in the default configuration.
    pub capabilities: Capabilities,
    /// The JSON Schema of its configuration.
    pub config_schema: Tree,
}

impl Description {
    /// What a loaded type says.
    pub fn of(descriptor: &dyn TypeDescriptor) -> Self {
        Self {
            name: descriptor.name().into(),
            version: descriptor.version(),
            summary: descriptor.summary().to_owned(),
            schemes: descriptor.schemes().iter().map(SmolStr::new).collect(),
            capabilities: descriptor.capabilities(),
            config_schema: descriptor.config_schema(),
        }
    }

    /// Whether the plugin calls itself what its note does, by which it was checked.
    pub(super) fn check_note(&self, name: &str, version: &Semver) -> Result<(), Problem> {
        if self.name == name && self.version == *version {
            return Ok(());
        }
        Err(Problem::new(
            ProblemKind::Contradiction,
            format!(
                "its note says {name}@{version}, and the loaded plugin {}@{}: build it so that both say the same",
                self.name, self.version
            ),
        ))
    }
}

/// A version of an interface, such as that of the plugin ABI or of glibc; as text, `2.34`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MajorMinor {
    /// Another one is another interface.
    pub major: u32,
    /// A higher one has more.
    pub minor: u32,
}

impl fmt::Display for MajorMinor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for MajorMinor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number =
            |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        let parts = text.split_once('.').and_then(|(major, minor)| number(major).zip(number(minor)));
        let (major, minor) =
            parts.ok_or_else(|| Error::invalid(format!("{} is not of the form major.minor", shown(text))))?;
        Ok(Self { major, minor })
    }
}

impl From<(u16, u16)> for MajorMinor {
    fn from((major, minor): (u16, u16)) -> Self {
        Self { major: major.into(), minor: minor.into() }
    }
}

impl From<MajorMinor> for String {
    fn from(version: MajorMinor) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for MajorMinor {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// As text, because JSON has null and TOML has not.
mod json_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(tree: &Option<Tree>, to: S) -> Result<S::Ok, S::Error> {
        // The field is skipped if there is none.
        tree.as_ref().map(Tree::to_string).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Tree>, D::Error> {
        let text = String::deserialize(from)?;
        serde_json::from_str(&text).map(Some).map_err(serde::de::Error::custom)
    }
}

mod capabilities {
    use super::*;

    pub(super) fn serialize<S: Serializer>(offered: &Option<Capabilities>, to: S) -> Result<S::Ok, S::Error> {
        let mut tree = serde_json::to_value(offered).map_err(serde::ser::Error::custom)?;
        // Integers of TOML end there; as a limit, it means the same.
        for limit in tree["limits"].as_object_mut().into_iter().flat_map(|limits| limits.values_mut()) {
            if limit.as_u64().is_some_and(|limit| i64::try_from(limit).is_err()) {
                *limit = i64::MAX.into();
            }
        }
        tree.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Capabilities>, D::Error> {
        let mut tree = Tree::deserialize(from)?;
        if let Some(features) = tree.get_mut("features").and_then(Tree::as_object_mut) {
            features.retain(|name, _| Feature::ALL.iter().any(|feature| feature.as_str() == name));
        }
        serde_json::from_value(tree).map(Some).map_err(serde::de::Error::custom)
    }
}
