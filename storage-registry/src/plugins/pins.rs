//! `plugins.lock`: which exact files may be loaded.

use semver::Version as Semver;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use storage_core::{Error, Result};

use super::directory::Directory;
use super::files::{self, Opened};
use super::{Digest, ProblemKind, text};

/// A file of some thousands of pins.
const MAX_FILE: u64 = 4 << 20;

/// What is laid down for one version of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
    pub(super) name: SmolStr,
    pub(super) version: Semver,
    /// Of the library: another one of this name and version is refused.
    pub(super) sha256: Digest,
    pub(super) enabled: bool,
    /// An operator has let this very library in although nobody who is trusted has signed it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) unsigned: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) installed_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
}

/// The file, sorted by name and version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pins {
    #[serde(default, rename = "plugin")]
    pins: Vec<Pin>,
}

impl Pins {
    pub(super) const FILE: &'static str = "plugins.lock";
    const KEYS: [&'static str; 7] =
        ["name", "version", "sha256", "enabled", "unsigned", "installed_at", "source"];

    /// A file that is not there has no pins.
    pub(super) fn read(directory: &Directory) -> Result<Self> {
        let path = directory.path().join(Self::FILE);
        let file = match Opened::follow(&path) {
            Err(problem) if problem.kind == ProblemKind::Missing => return Ok(Self::default()),
            opened => opened?,
        };
        file.check_owner(0o022)?;
        let pins: Result<Self> = text::decode_list(&file.read_text(MAX_FILE)?, "plugin", &Self::KEYS);
        let pins = pins.and_then(|pins| {
            let mut checked = Self::default();
            for pin in pins.pins {
                if checked.get(&pin.name, &pin.version).is_some() {
                    return Err(Error::invalid(format!("{}@{} stands there twice", pin.name, pin.version)));
                }
                checked.set(pin);
            }
            Ok(checked)
        });
        pins.map_err(|error| Error::invalid(format!("{}: {}", path.display(), error.message())))
    }

    pub(super) fn write(&self, directory: &Directory) -> Result<()> {
        files::replace(&directory.path().join(Self::FILE), text::encode(self)?.as_bytes(), 0o644)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pin> {
        self.pins.iter()
    }

    pub(super) fn get(&self, name: &str, version: &Semver) -> Option<&Pin> {
        self.position(name, version).ok().map(|position| &self.pins[position])
    }

    /// Whether an operator has let this very library in.
    pub(super) fn approves(&self, sha256: &Digest) -> bool {
        self.pins.iter().any(|pin| pin.unsigned && pin.sha256 == *sha256)
    }

    /// Adds a pin, or replaces the one of the same name and version.
    pub(super) fn set(&mut self, pin: Pin) {
        match self.position(&pin.name, &pin.version) {
            Ok(position) => self.pins[position] = pin,
            Err(position) => self.pins.insert(position, pin),
        }
    }

    pub(super) fn remove(&mut self, name: &str, version: &Semver) {
        self.pins.retain(|pin| (pin.name.as_str(), &pin.version) != (name, version));
    }

    fn position(&self, name: &str, version: &Semver) -> Result<usize, usize> {
        self.pins.binary_search_by(|pin| (pin.name.as_str(), &pin.version).cmp(&(name, version)))
    }
}
