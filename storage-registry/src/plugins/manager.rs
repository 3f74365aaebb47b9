//! Changing what is in the plugin directory.

use std::fs;
use std::path::{Path, PathBuf};

use semver::Version as Semver;
use storage_core::{Error, ErrorKind, Result, Timestamp};

use super::copies::{self, PrivateCopy};
use super::directory::{Directory, State, WriterLock, remove_file};
use super::info::{PluginInfo, PluginState};
use super::pins::{Pin, Pins};
use super::survey::{Passed, Survey, Surveyed};
use super::{
    Description, KeyId, Keyring, Package, PluginOptions, Problem, ProblemKind, PublicKey, SignatureState,
    TrustedKey, files, load, pack, quarantine, trial,
};
use crate::entry::shown;

/// The plugin directory, to look at and to change.
///
/// A change is made at one instant: after a crash, there is what was before or what should be. Changes of several
/// processes come one after the other. Programs that run take them in when they start again, or when they
/// [watch](crate::Registry::watch_plugins) the directory; what they have loaded stays loaded.
#[derive(Debug)]
pub struct PluginManager {
    options: PluginOptions,
    path: PathBuf,
}

impl PluginManager {
    /// The [plugin directory](PluginOptions::directory) of these options. It need not be there: it is made when
    /// something is installed.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it cannot be told where the directory is.
    pub fn new(options: PluginOptions) -> Result<Self> {
        let path = options.directory().ok_or_else(|| {
            Error::invalid(format!(
                "there is no plugin directory: the user has no home; name one in {}",
                PluginOptions::DIR_VARIABLE
            ))
        })?;
        Ok(Self { options, path })
    }

    /// The plugin directory.
    pub fn directory(&self) -> &Path {
        &self.path
    }

    /// All plugins, and all files that should be one, with their state; those that are pinned but gone as well. All
    /// checks are made, and nothing is loaded.
    ///
    /// # Errors
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if others could change the directory, and
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the keyring or the lock file is damaged.
    pub fn list(&self) -> Result<Vec<PluginInfo>> {
        let Some(directory) = Directory::open(&self.path)? else { return Ok(Vec::new()) };
        load::quarantine_dead(&directory.state()?);
        let mut survey = Survey::new(&directory, &self.options)?;
        let mut plugins = survey.look_at_all()?;
        for pin in survey.pins().iter() {
            if plugins.iter().any(|plugin| plugin.is(&pin.name, Some(&pin.version))) {
                continue;
            }
            let mut info = PluginInfo::new(&directory.path().join(format!("{}-{}", pin.name, pin.version)));
            (info.name, info.version) = (Some(pin.name.clone()), Some(pin.version.clone()));
            (info.installed_at, info.source) = (pin.installed_at.clone(), pin.source.clone());
            info.refuse(Problem::new(
                ProblemKind::Missing,
                format!(
                    "{} pins it, but it is gone: install it again, or run `storage plugin uninstall {}@{}`",
                    Pins::FILE,
                    pin.name,
                    pin.version
                ),
            ));
            plugins.push(info);
        }
        Ok(plugins)
    }

    /// As [`list`](Self::list), and checks the private copies that are loaded, too. What has a problem is
    /// [`Refused`](PluginState::Refused).
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub fn verify(&self) -> Result<Vec<PluginInfo>> {
        let mut plugins = self.list()?;
        let Some(directory) = Directory::open(&self.path)? else { return Ok(plugins) };
        let state = directory.state()?;
        for plugin in &mut plugins {
            if let (Some(name), Some(version), Some(sha256)) = (&plugin.name, &plugin.version, &plugin.sha256)
                && !copies::is_intact(&state, name, version, sha256)
            {
                let message =
                    "its private copy was changed: it will be made anew when the plugin is next loaded";
                plugin.refuse(Problem::new(ProblemKind::Hash, message));
            }
        }
        Ok(plugins)
    }

    /// Installs a plugin: the directory of a package, or a library, which is made a package. All is checked, and the
    /// plugin tried in a process of its own, before anything changes. Other versions stay. If unsigned plugins are
    /// allowed and nobody who is trusted has signed this one, that is recorded: this very library is loaded from
    /// then on, also where unsigned plugins are not allowed.
    ///
    /// # Errors
    /// The [`Problem`] of the check that fails, with the path; that of the trial;
    /// [`InvalidInput`](ErrorKind::InvalidInput) if this version is installed already;
    /// [`Busy`](ErrorKind::Busy) if another process changes the directory for more than 10 seconds.
    pub fn install(&self, path: &Path) -> Result<PluginInfo> {
        self.put(path, |_, _| Ok(()))
    }

    /// As [`install`](Self::install), for a version higher than all that are installed, of which there must be one.
    ///
    /// # Errors
    /// As [`install`](Self::install); [`InvalidInput`](ErrorKind::InvalidInput) if it is no update.
    pub fn update(&self, path: &Path) -> Result<PluginInfo> {
        self.put(path, |new, present| {
            let versions = present.iter().filter(|plugin| plugin.is(&new.name, None));
            match versions.filter_map(|plugin| plugin.version.as_ref()).max() {
                None => Err(Error::invalid(format!(
                    "plugin {} is not installed, so that there is nothing to update: run `storage plugin install`",
                    new.name
                ))),
                Some(highest) if *highest >= new.version => Err(Error::invalid(format!(
                    "plugin {0} has version {highest} already, and {1} is not higher: for a lower version run `storage \
                     plugin rollback {0}` or `storage plugin install`",
                    new.name, new.version
                ))),
                Some(_) => Ok(()),
            }
        })
    }

    /// Removes a version of a plugin, or all: its files, and what is recorded about it. What programs have loaded is
    /// not touched. Returns what was there.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none; [`Busy`](ErrorKind::Busy).
    pub fn uninstall(&self, name: &str, version: Option<&Semver>) -> Result<Vec<PluginInfo>> {
        let (directory, state, _lock) = self.begin()?;
        let found = self.find(name, version)?;
        let mut pins = Pins::read(&directory)?;
        for plugin in &found {
            remove(&directory, &plugin.path)?;
            if let (Some(name), Some(version), Some(sha256)) = (&plugin.name, &plugin.version, &plugin.sha256)
            {
                copies::remove_unused(&state, name, version, sha256)?;
                trial::forget(&state, sha256)?;
                quarantine::clear(&state, sha256)?;
            }
        }
        // The pins go last: one whose plugin is gone is seen, and a plugin without its pin might be loaded.
        found
            .iter()
            .filter_map(|plugin| plugin.version.as_ref())
            .for_each(|version| pins.remove(name, version));
        pins.write(&directory)?;
        Ok(found)
    }

    /// Goes back to the version before: disables the highest enabled version of a plugin. Returns the one that was
    /// disabled and the one that is used now.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such plugin; [`InvalidInput`](ErrorKind::InvalidInput) if there
    /// is no lower version to go back to; [`Busy`](ErrorKind::Busy).
    pub fn rollback(&self, name: &str) -> Result<(PluginInfo, PluginInfo)> {
        let (directory, _state, _lock) = self.begin()?;
        let mut enabled = self.find(name, None)?;
        enabled.retain(|plugin| plugin.state == PluginState::Enabled);
        enabled.sort_by(|a, b| a.version.cmp(&b.version));
        let (Some(mut highest), Some(below)) = (enabled.pop(), enabled.pop()) else {
            return Err(Error::invalid(format!(
                "plugin {name} has no lower version that is enabled: `storage plugin list` shows its versions"
            )));
        };
        self.switch(&directory, &mut highest, false)?;
        Ok((highest, below))
    }

    /// Lets a version of a plugin, or all, be loaded again that was disabled or quarantined. Returns what it is now.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none; [`Busy`](ErrorKind::Busy).
    pub fn enable(&self, name: &str, version: Option<&Semver>) -> Result<Vec<PluginInfo>> {
        let (directory, state, _lock) = self.begin()?;
        for mut plugin in self.find(name, version)? {
            if let Some(sha256) = &plugin.sha256 {
                quarantine::clear(&state, sha256)?;
            }
            self.switch(&directory, &mut plugin, true)?;
        }
        self.find(name, version)
    }

    /// Has a version of a plugin, or all, not loaded any more. Returns what it is now.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none; [`Busy`](ErrorKind::Busy).
    pub fn disable(&self, name: &str, version: Option<&Semver>) -> Result<Vec<PluginInfo>> {
        let (directory, _state, _lock) = self.begin()?;
        for mut plugin in self.find(name, version)? {
            self.switch(&directory, &mut plugin, false)?;
        }
        self.find(name, version)
    }

    /// Loads a plugin, which need not be installed, in a process of its own, and returns what it says about itself. It
    /// need not be signed: it is for those who make plugins.
    ///
    /// # Errors
    /// The [`Problem`] of the check that fails, with the path; [`InvalidInput`](ErrorKind::InvalidInput) if the
    /// plugin ends the process or fails, and [`Timeout`](ErrorKind::Timeout) if it takes too long.
    pub fn trial(&self, path: &Path) -> Result<Description> {
        let package = Package::read(path)?;
        let note = package.verify(&Keyring::default(), true)?.note;
        let tried = load::try_apart(&Passed::new(package, note), &self.options);
        tried.map(|(_, _, description)| description)
    }

    /// The keys whose signatures count.
    ///
    /// # Errors
    /// As [`Keyring::read`].
    pub fn keyring(&self) -> Result<Keyring> {
        self.options.keyring()
    }

    /// Trusts a key from now on: plugins that it has signed are loaded.
    ///
    /// # Errors
    /// As [`Keyring::add`]; [`Busy`](ErrorKind::Busy).
    pub fn trust(&self, name: &str, key: PublicKey) -> Result<KeyId> {
        let (directory, _state, _lock) = self.begin()?;
        let mut keyring = directory.keyring()?;
        let id = keyring.add(name, key)?;
        keyring.write(&directory.path().join(Keyring::FILE))?;
        Ok(id)
    }

    /// Trusts a key, given by its name or id, no longer: plugins that it has signed are refused. Returns what it was.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound); [`Busy`](ErrorKind::Busy).
    pub fn untrust(&self, name_or_id: &str) -> Result<TrustedKey> {
        // A key that is not there is no reason to make a directory.
        self.keyring()?.remove(name_or_id)?;
        let (directory, _state, _lock) = self.begin()?;
        let mut keyring = directory.keyring()?;
        let removed = keyring.remove(name_or_id)?;
        keyring.write(&directory.path().join(Keyring::FILE))?;
        Ok(removed)
    }

    /// Begins a change.
    fn begin(&self) -> Result<(Directory, State, WriterLock)> {
        let directory = Directory::create(&self.path)?;
        let state = directory.state()?;
        let lock = state.lock()?;
        directory.tidy()?;
        state.tidy()?;
        Ok((directory, state, lock))
    }

    /// The plugins of this name and, if one is given, version.
    fn find(&self, name: &str, version: Option<&Semver>) -> Result<Vec<PluginInfo>> {
        let mut found = self.list()?;
        found.retain(|plugin| plugin.is(name, version));
        if found.is_empty() {
            let version = version.map(|version| format!(" in version {version}")).unwrap_or_default();
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "plugin {} is not installed{version}: `storage plugin list` shows what is",
                    shown(name)
                ),
            ));
        }
        Ok(found)
    }

    /// Writes down whether a plugin is to be loaded. One that was put into the directory by hand is pinned when it is
    /// disabled.
    fn switch(&self, directory: &Directory, plugin: &mut PluginInfo, enabled: bool) -> Result<()> {
        let mut pins = Pins::read(directory)?;
        let (Some(name), Some(version)) = (&plugin.name, &plugin.version) else { return Ok(()) };
        let pin = match (pins.get(name, version), plugin.sha256) {
            // A user who cannot change the directory can take a plugin out of quarantine all the same.
            (Some(pin), _) if pin.enabled == enabled => return Ok(()),
            (Some(pin), _) => Pin { enabled, ..pin.clone() },
            (None, Some(sha256)) if !enabled => Pin {
                name: name.clone(),
                version: version.clone(),
                sha256,
                enabled,
                unsigned: false,
                installed_at: None,
                source: None,
            },
            (None, _) => return Ok(()),
        };
        pins.set(pin);
        pins.write(directory)?;
        if !enabled && plugin.state == PluginState::Enabled {
            plugin.disable();
        }
        Ok(())
    }

    /// Installs, if `may` finds nothing against it among what is there.
    fn put(&self, path: &Path, may: impl FnOnce(&Passed, &[PluginInfo]) -> Result<()>) -> Result<PluginInfo> {
        // What can be seen without it fails before a directory is made.
        let package = Package::read(path)?;
        package.verify(&self.keyring()?, self.options.allow_unsigned || self.approves(&package)?)?;
        let (directory, state, _lock) = self.begin()?;
        directory.check_writable()?;
        let present = self.list()?;
        let mut survey = Survey::new(&directory, &self.options)?;
        let Surveyed { info, passed } = survey.judge(package, PluginInfo::new(path));
        let Some(passed) = passed else { return Err(refusal(path, info)) };
        if info.state == PluginState::Quarantined {
            return Err(refusal(path, info));
        }
        let is_there = |plugin: &&PluginInfo| {
            plugin.is(&passed.name, Some(&passed.version)) && plugin.problem != Some(ProblemKind::Missing)
        };
        if let Some(there) = present.iter().find(is_there) {
            return Err(Error::invalid(format!(
                "plugin {0}@{1} is installed already, as {2}: to replace it, run `storage plugin uninstall {0}@{1}` first",
                passed.name,
                passed.version,
                there.path.display()
            )));
        }
        may(&passed, &present)?;
        let description = try_here(&state, &passed, &self.options)?;
        let unsigned = !matches!(info.signature, Some(SignatureState::Trusted { .. }));
        let mut pins = survey.pins().clone();
        pins.set(Pin {
            name: passed.name.clone(),
            version: passed.version.clone(),
            sha256: passed.package.sha256(),
            enabled: true,
            unsigned,
            installed_at: Some(Timestamp::now().to_string()),
            source: Some(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()),
        });
        // The pin comes first: one without its plugin is seen, and is replaced when it is installed again.
        pins.write(&directory)?;
        let installed = write(&directory, &passed, &description)?;
        let Surveyed { info, .. } = Survey::new(&directory, &self.options)?.look(&installed);
        Ok(info)
    }

    fn approves(&self, package: &Package) -> Result<bool> {
        let directory = Directory::open(&self.path)?;
        directory.map_or(Ok(false), |directory| Ok(Pins::read(&directory)?.approves(&package.sha256())))
    }
}

impl PluginOptions {
    /// The keyring of the plugin directory; empty if there is none.
    pub(super) fn keyring(&self) -> Result<Keyring> {
        let Some(path) = self.directory() else { return Ok(Keyring::default()) };
        Directory::open(&path)?.map_or_else(|| Ok(Keyring::default()), |directory| directory.keyring())
    }
}

/// Tries a plugin as it will be loaded, unless that was done before. One that fails leaves nothing behind.
fn try_here(state: &State, passed: &Passed, options: &PluginOptions) -> Result<Description> {
    let Passed { package, name, version } = passed;
    let copy = PrivateCopy::make(state, package, name, version)?;
    let tried = load::described(state, passed, &copy, options);
    drop(copy);
    if tried.is_err() {
        copies::remove_unused(state, name, version, &package.sha256())?;
    }
    tried
}

/// Writes the files of a plugin into the directory, and returns the name there.
fn write(directory: &Directory, passed: &Passed, description: &Description) -> Result<String> {
    let package = &passed.package;
    if let Some(manifest) = package.manifest() {
        let name = manifest.directory();
        files::create_dir(&directory.path().join(&name), &package.files())?;
        return Ok(name);
    }
    let manifest = pack::manifest(package, Some(description))?;
    let name = manifest.directory();
    let text = manifest.to_toml()?;
    let parts = [(&*manifest.file, package.library()), (super::Manifest::FILE, text.as_bytes())];
    files::create_dir(&directory.path().join(&name), &parts)?;
    Ok(name)
}

/// Removes a plugin's files. A directory is hidden first, so that half of one is never seen.
fn remove(directory: &Directory, path: &Path) -> Result<()> {
    if !path.is_dir() || path.is_symlink() {
        return remove_file(path);
    }
    let removed = || {
        let hidden = tempfile::Builder::new().prefix(files::OLD).tempdir_in(directory.path())?;
        fs::rename(path, hidden.path())?;
        fs::File::open(directory.path())?.sync_all()?;
        hidden.close()
    };
    removed().map_err(|error| files::unwritable(path, error))
}

fn refusal(path: &Path, info: PluginInfo) -> Error {
    let why = format!("{}: {}", path.display(), info.reason.unwrap_or_default());
    match info.problem {
        Some(kind) => Problem::new(kind, why).into(),
        None => Error::new(ErrorKind::PermissionDenied, why),
    }
}
