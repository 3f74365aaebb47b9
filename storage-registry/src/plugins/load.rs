//! From the plugin directory into a registry.

use std::path::Path;
use std::sync::Arc;

use storage_core::{Error, ErrorKind, Result, TypeDescriptor};
use storage_plugin::host::Plugin;

use super::copies::PrivateCopy;
use super::directory::{Directory, State};
use super::info::{LoadReport, PluginInfo, PluginState};
use super::plugin_type::{self, PluginType, PluginTypes};
use super::quarantine::{self, Marker, Step};
use super::survey::{Passed, Survey, Surveyed};
use super::{Description, Digest, Package, PluginOptions, Problem, trial};
use crate::{Origin, Registry, Status, TypeEntry};

impl Registry {
    /// Loads the plugins of the [plugin directory](PluginOptions::directory) and registers them. A directory that is
    /// not there is as good as an empty one.
    ///
    /// One bad file harms no other: it is refused, and the report says why. A plugin that was never loaded on this
    /// system is tried in a process of its own first. A plugin that is disabled or quarantined is not loaded, but
    /// registered with that status if it is known what it says about itself.
    ///
    /// May be called again, to take in what has changed: new plugins are loaded, those that were disabled or enabled
    /// get that status, and those that were uninstalled are unregistered. Stores that are open stay as they are.
    ///
    /// Blocks, for a plugin that is tried as long as the options allow.
    ///
    /// # Errors
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) if others could change the directory, and
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the keyring or the lock file is damaged.
    pub fn load_plugins(&self, options: &PluginOptions) -> Result<LoadReport> {
        let Some(path) = options.directory() else { return Ok(LoadReport::default()) };
        let mut report = LoadReport { directory: Some(path.clone()), plugins: Vec::new() };
        let Some(directory) = Directory::open(&path)? else {
            self.unregister_missing(&path);
            return Ok(report);
        };
        let mut survey = Survey::new(&directory, options)?;
        quarantine_dead(survey.state());
        let mut types = plugin_type::all();
        for candidate in directory.candidates()? {
            let Surveyed { mut info, passed } = survey.look(&candidate);
            if let Some(passed) = passed {
                let state = survey.state();
                match info.state {
                    PluginState::Enabled => {
                        if let Err(error) = self.take_in(&mut types, state, &passed, options) {
                            info.fail(&error);
                            self.give_up(&passed, error.message());
                        }
                    }
                    _ => self.note_unused(&mut types, state, &passed, &info),
                }
            }
            if info.state == PluginState::Refused {
                let reason = info.reason.as_deref();
                tracing::warn!(path = %info.path.display(), reason, "a plugin is refused");
            }
            report.plugins.push(info);
        }
        drop(types);
        self.unregister_missing(&path);
        Ok(report)
    }

    /// Loads one plugin, which need not be installed, and registers it: to test it, for example. It makes the same
    /// checks as [`load_plugins`](Self::load_plugins), and tries the plugin in a process of its own each time.
    ///
    /// # Errors
    /// The [`Problem`](super::Problem) of the check that fails, with the path, and what loading meets.
    pub fn load_plugin(&self, path: &Path, options: &PluginOptions) -> Result<Arc<TypeEntry>> {
        let keyring = options.keyring()?;
        let package = Package::read(path)?;
        let note = package.verify(&keyring, options.allow_unsigned)?.note;
        let passed = Passed::new(package, note);
        let sha256 = passed.package.sha256();
        let mut types = plugin_type::all();
        if !types.get(&sha256).is_some_and(|plugin| plugin.was_loaded()) {
            let (_dir, copy, description) = try_apart(&passed, options)?;
            let plugin = known(&mut types, sha256, None, description);
            plugin.load_with(|| Ok((load(&passed, &copy, options)?, copy)))?;
        }
        let plugin =
            types.get(&sha256).ok_or_else(|| Error::new(ErrorKind::Internal, "the plugin is not kept"))?;
        self.enrol(plugin, &passed.package)
    }

    /// Loads a plugin unless it is, and registers it unless it is.
    fn take_in(
        &self,
        types: &mut PluginTypes,
        state: &State,
        passed: &Passed,
        options: &PluginOptions,
    ) -> Result<()> {
        let Passed { package, name, version } = passed;
        let sha256 = package.sha256();
        let loaded = match types.get(&sha256) {
            Some(plugin) if plugin.was_loaded() => Arc::clone(plugin),
            _ => {
                // The copy is made of the very bytes that were checked, and what is tried is what is loaded.
                let copy = PrivateCopy::make(state, package, name, version)?;
                let description = described(state, passed, &copy, options)?;
                let plugin = known(types, sha256, Some(state), description);
                plugin.load_with(|| {
                    let _marker = Marker::set(state, &plugin.suspect(), Step::Loading);
                    Ok((load(passed, &copy, options)?, copy))
                })?;
                Arc::clone(plugin)
            }
        };
        self.enrol(&loaded, package).map(drop)
    }

    /// Registers a loaded plugin, or makes it active again if it is registered.
    fn enrol(&self, plugin: &Arc<PluginType>, package: &Package) -> Result<Arc<TypeEntry>> {
        let loaded = plugin.plugin()?;
        let (name, version) = (plugin.name(), plugin.version());
        if let Some(entry) = self.get(name, &version) {
            if entry.origin == origin(package) {
                return match entry.status {
                    _ if loaded.disabled().is_some() => Ok(entry),
                    Status::Disabled | Status::Quarantined { .. } => {
                        self.set_status(name, &version, initial(&version))
                    }
                    _ => Ok(entry),
                };
            }
            // Another library was installed in its place. If it is gone from the registry by now, all the better.
            if matches!(&entry.origin, Origin::Plugin { path, .. } if path == package.library_path()) {
                let _ = self.unregister(name, &version);
            }
        }
        let entry = self.register(Arc::clone(plugin) as Arc<dyn TypeDescriptor>, origin(package))?;
        let (registry, suspect) = (self.downgrade(), plugin.suspect());
        loaded.on_disabled(move |reason| {
            let Some(registry) = registry.upgrade() else { return };
            // That it was unregistered meanwhile is fine.
            let status = Status::Quarantined { reason: reason.to_owned() };
            let _ = registry.set_status(&suspect.name, &suspect.version, status);
        });
        Ok(entry)
    }

    /// Has a plugin that must not be used in the registry all the same, if it is known what it brings.
    fn note_unused(&self, types: &mut PluginTypes, state: &State, passed: &Passed, info: &PluginInfo) {
        let Passed { package, name, version } = passed;
        let status = match info.state {
            PluginState::Disabled => Status::Disabled,
            _ => Status::Quarantined { reason: info.reason.clone().unwrap_or_default() },
        };
        if self.get(name, version).is_none_or(|entry| entry.origin != origin(package)) {
            let said = || trial::last_description(state, &package.sha256());
            let Some(description) = said().or_else(|| package.manifest()?.description()) else { return };
            let plugin = Arc::clone(known(types, package.sha256(), Some(state), description));
            if let Err(error) = self.register(plugin as Arc<dyn TypeDescriptor>, origin(package)) {
                tracing::warn!(%error, "a plugin that is not used is not listed as a type");
                return;
            }
        }
        // It is there: it was registered above, at the latest.
        let _ = self.set_status(name, version, status);
    }

    /// Has a plugin that was registered while it was not used say why it cannot be used now.
    fn give_up(&self, Passed { package, name, version }: &Passed, why: &str) {
        if self.get(name, version).is_some_and(|entry| entry.origin == origin(package)) {
            let _ = self.set_status(name, version, Status::Quarantined { reason: why.to_owned() });
        }
    }

    /// Takes out the types of a plugin directory whose files are gone.
    fn unregister_missing(&self, directory: &Path) {
        for entry in self.list() {
            if let Origin::Plugin { path, .. } = &entry.origin
                && path.starts_with(directory)
                && !path.exists()
            {
                // Another thread may have been quicker.
                let _ = self.unregister(&entry.name, &entry.version);
            }
        }
    }
}

/// Tries a library that is in no plugin directory: with a private copy in a directory that goes away.
pub(super) fn try_apart(
    passed: &Passed,
    options: &PluginOptions,
) -> Result<(tempfile::TempDir, PrivateCopy, Description)> {
    let dir = tempfile::Builder::new().prefix("storage-plugin-").tempdir().map_err(|error| {
        let message = format!("there is no temporary directory for a private copy of the plugin: {error}");
        Error::new(ErrorKind::Unavailable, message).with_source(error)
    })?;
    let copy = PrivateCopy::make_in(dir.path(), &passed.package, &passed.name, &passed.version)?;
    let description = tried(passed, &copy, options)?;
    Ok((dir, copy, description))
}

/// What a plugin says about itself when it is tried.
fn tried(passed: &Passed, copy: &PrivateCopy, options: &PluginOptions) -> Result<Description> {
    let description = trial::run(copy.path(), passed.package.path(), &options.trial, &options.limits)?;
    check_note(&description, passed)?;
    Ok(description)
}

/// Loads a plugin that was tried.
fn load(passed: &Passed, copy: &PrivateCopy, options: &PluginOptions) -> Result<Arc<Plugin>> {
    let plugin = Plugin::load(copy.path(), options.limits.clone())?;
    // Nothing makes it say the same as in the trial.
    check_note(&Description::of(&*plugin), passed)?;
    Ok(plugin)
}

fn check_note(description: &Description, Passed { package, name, version }: &Passed) -> Result<(), Problem> {
    description.check_note(name, version).map_err(|problem| {
        Problem::new(problem.kind, format!("{}: {}", package.path().display(), problem.message))
    })
}

/// Quarantines the plugins that ended a process. If that cannot be written down, such as on a full disk, the
/// program starts nevertheless.
pub(super) fn quarantine_dead(state: &State) {
    if let Err(error) = quarantine::collect(state) {
        tracing::error!(%error, "a plugin that ended a process cannot be quarantined");
    }
}

fn origin(package: &Package) -> Origin {
    Origin::Plugin { path: package.library_path().to_owned(), sha256: package.sha256().to_string() }
}

/// The plugin of a library in this process.
fn known<'types>(
    types: &'types mut PluginTypes,
    sha256: Digest,
    state: Option<&State>,
    description: Description,
) -> &'types Arc<PluginType> {
    let new = || Arc::new(PluginType::new(description, sha256, state.cloned()));
    types.entry(sha256).or_insert_with(new)
}

/// What a plugin says about itself. It is tried for that unless it was.
pub(super) fn described(
    state: &State,
    passed: &Passed,
    copy: &PrivateCopy,
    options: &PluginOptions,
) -> Result<Description> {
    let sha256 = passed.package.sha256();
    if let Some(description) = trial::recorded(state, &sha256) {
        return Ok(description);
    }
    let description = tried(passed, copy, options)?;
    if let Err(error) = trial::remember(state, &sha256, &description) {
        tracing::warn!(%error, "a trial is not recorded, and will be made again at the next start");
    }
    Ok(description)
}

/// The status that a version begins with.
fn initial(version: &semver::Version) -> Status {
    if version.pre.is_empty() { Status::Active } else { Status::Experimental }
}
