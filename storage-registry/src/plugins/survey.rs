//! Looking through a plugin directory: what may be loaded, and why the rest may not.

use std::collections::HashMap;
use std::path::PathBuf;

use semver::Version as Semver;
use smol_str::SmolStr;
use storage_core::{LinkedType, Result};
use storage_plugin::note::Note;

use super::directory::{Directory, State};
use super::info::{PluginInfo, PluginState};
use super::pins::Pins;
use super::{Keyring, Package, PluginOptions, Problem, ProblemKind, quarantine};

/// What a plugin directory says about all plugins, read once.
pub(super) struct Survey<'dir> {
    directory: &'dir Directory,
    state: State,
    keyring: Keyring,
    pins: Pins,
    allow_unsigned: bool,
    /// The files that have passed, by what they bring.
    seen: HashMap<(SmolStr, Semver), PathBuf>,
}

/// A plugin that was looked at.
pub(super) struct Surveyed {
    pub(super) info: PluginInfo,
    /// What passed all checks, also if it is disabled or quarantined.
    pub(super) passed: Option<Passed>,
}

/// A plugin that passed all checks that can be made without loading it.
pub(super) struct Passed {
    pub(super) package: Package,
    pub(super) name: SmolStr,
    pub(super) version: Semver,
}

impl Passed {
    /// A package of which this is the note.
    pub(super) fn new(package: Package, note: Note) -> Self {
        Self { package, name: note.name.into(), version: note.version }
    }
}

impl<'dir> Survey<'dir> {
    pub(super) fn new(directory: &'dir Directory, options: &PluginOptions) -> Result<Self> {
        Ok(Self {
            directory,
            state: directory.state()?,
            keyring: directory.keyring()?,
            pins: Pins::read(directory)?,
            allow_unsigned: options.allow_unsigned,
            seen: HashMap::new(),
        })
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Looks at a candidate of the directory. Each is looked at once, in their order: of two that bring the same, the
    /// first counts.
    pub(super) fn look(&mut self, candidate: &str) -> Surveyed {
        let mut info = PluginInfo::new(&self.directory.path().join(candidate));
        match Package::read_in(self.directory.path(), candidate) {
            Ok(package) => self.judge(package, info),
            Err(problem) => {
                info.refuse(problem);
                Surveyed { info, passed: None }
            }
        }
    }

    /// Looks at everything. Reads one library after the other, so that no two are in memory at once.
    pub(super) fn look_at_all(&mut self) -> Result<Vec<PluginInfo>> {
        let candidates = self.directory.candidates()?;
        Ok(candidates.iter().map(|candidate| self.look(candidate).info).collect())
    }

    /// What is to be said about a package, and whether it passes.
    pub(super) fn judge(&mut self, package: Package, mut info: PluginInfo) -> Surveyed {
        let sha256 = package.sha256();
        info.sha256 = Some(sha256);
        info.signature = Some(package.signature(&self.keyring));
        let (name, version) = match (package.note(), package.manifest()) {
            (Ok(note), _) => (Some(note.name.into()), Some(note.version)),
            (_, Some(manifest)) => (Some(manifest.name.clone()), Some(manifest.version.clone())),
            _ => (None, None),
        };
        (info.name, info.version) = (name, version);
        let allow_unsigned = self.allow_unsigned || self.pins.approves(&sha256);
        let checked = package.check(&self.keyring, allow_unsigned);
        let passed = checked.and_then(|checked| {
            let passed = Passed::new(package, checked.note);
            self.check_pin(&passed)?;
            self.check_duplicate(&passed)?;
            Ok(passed)
        });
        let passed = match passed {
            Ok(passed) => passed,
            Err(problem) => {
                info.refuse(problem);
                return Surveyed { info, passed: None };
            }
        };
        if let Some(pin) = self.pins.get(&passed.name, &passed.version) {
            info.installed_at.clone_from(&pin.installed_at);
            info.source.clone_from(&pin.source);
            if !pin.enabled {
                info.disable();
            }
        }
        if let Some(record) = quarantine::record(&self.state, &sha256) {
            info.set(PluginState::Quarantined, record.reason());
        }
        Surveyed { info, passed: Some(passed) }
    }

    fn check_pin(&self, Passed { package, name, version }: &Passed) -> Result<(), Problem> {
        match self.pins.get(name, version) {
            Some(pin) if pin.sha256 != package.sha256() => Err(Problem::new(
                ProblemKind::Pin,
                format!(
                    "{} pins {name}@{version} to the library with the SHA-256 digest {}, and this one has {}: get that \
                     one back, or run `storage plugin uninstall {name}@{version}` and install this one",
                    Pins::FILE,
                    pin.sha256,
                    package.sha256()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn check_duplicate(&mut self, Passed { package, name, version }: &Passed) -> Result<(), Problem> {
        let duplicate = |of: String| {
            Problem::new(
                ProblemKind::Duplicate,
                format!("it brings {name}@{version}, and so does {of}, which is kept"),
            )
        };
        if LinkedType::all().any(|linked| linked.name() == name && linked.version() == *version) {
            return Err(duplicate("this program itself".to_owned()));
        }
        let key = (name.clone(), version.clone());
        if let Some(other) = self.seen.get(&key) {
            return Err(duplicate(other.display().to_string()));
        }
        self.seen.insert(key, package.path().to_owned());
        Ok(())
    }
}
