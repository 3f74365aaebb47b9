//! `plugin install`, `uninstall`, `update`, `rollback`, `enable` and `disable`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use serde_json::json;
use storage_registry::plugins::PluginInfo;
use storage_registry::semver::Version as Semver;

use super::{failed, failed_on_file};
use crate::command::Outcome;
use crate::exit::Status;
use crate::output::Output;
use crate::plugins::PluginArgs;

/// A plugin by its name, or one version of it: `redis`, `redis@1.2.0`.
#[derive(Clone, Debug)]
pub(super) struct Which {
    pub(super) name: String,
    pub(super) version: Option<Semver>,
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, version)) => {
                let parsed = version.parse().map_err(|error| {
                    format!("the version after the @ is not valid ({error}): write such as {name}@1.0.0")
                })?;
                (name, Some(parsed))
            }
        };
        if name.is_empty() || name.contains('/') || name.ends_with(".so") {
            return Err(
                "a plugin is named such as redis or redis@1.0.0; `storage plugin list` lists them".to_owned()
            );
        }
        Ok(Self { name: name.to_owned(), version })
    }
}

/// Install a plugin into the plugin directory.
///
/// A package (a directory with plugin.toml, as `storage plugin pack` makes it) must be signed by a trusted key; a
/// bare shared library is never signed. Either goes in unsigned with --allow-unsigned, which is recorded: the very
/// same file is then loaded without the option, too.
///
/// All is checked, and the plugin is loaded on trial in a process of its own, before anything changes. Versions
/// live side by side, and the highest is used. Programs that run already load the plugin when they start again,
/// unless they watch the directory.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage plugin install ./redis-1.0.0
  storage plugin install ./libstorage_redis.so --allow-unsigned")]
pub(crate) struct Install {
    /// The plugin: the directory of a package, or a shared library
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
}

/// Remove a plugin from the plugin directory: one version, or all.
///
/// Programs that have it loaded go on with it until they end.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage plugin uninstall redis
  storage plugin uninstall redis@1.0.0")]
pub(crate) struct Uninstall {
    /// The plugin, or one version of it
    #[arg(value_name = "NAME[@VERSION]")]
    plugin: Which,
}

/// Install a higher version of a plugin beside the one that is there.
///
/// As `install`, but the plugin must be there already, in lower versions only. Stores that are open keep the
/// version they have; new ones get the new version. `storage plugin rollback` goes back.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage plugin update ./redis-1.1.0")]
pub(crate) struct Update {
    /// The new version: the directory of a package, or a shared library
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
}

/// Go back to the version before: disable the highest enabled version of a plugin.
///
/// `storage plugin enable NAME@VERSION` goes forward again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage plugin rollback redis")]
pub(crate) struct Rollback {
    /// The plugin
    name: String,
}

/// Let a plugin be loaded again that was disabled or quarantined.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage plugin enable redis
  storage plugin enable redis@1.1.0")]
pub(crate) struct Enable {
    /// The plugin, or one version of it
    #[arg(value_name = "NAME[@VERSION]")]
    plugin: Which,
}

/// Keep a plugin in the plugin directory, but do not load it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage plugin disable redis
  storage plugin disable redis@1.1.0")]
pub(crate) struct Disable {
    /// The plugin, or one version of it
    #[arg(value_name = "NAME[@VERSION]")]
    plugin: Which,
}

impl Install {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let installed = plugins.manager()?.install(&self.path).map_err(failed_on_file("plugin install"))?;
        one(&installed, "is installed", out)
    }
}

impl Update {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let installed = plugins.manager()?.update(&self.path).map_err(failed_on_file("plugin update"))?;
        one(&installed, "is installed", out)
    }
}

impl Uninstall {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let Which { name, version } = &self.plugin;
        let removed =
            plugins.manager()?.uninstall(name, version.as_ref()).map_err(failed("plugin uninstall"))?;
        all(&removed, "is removed", out)
    }
}

impl Rollback {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let (disabled, used) = plugins.manager()?.rollback(&self.name).map_err(failed("plugin rollback"))?;
        out.either(
            &json!({"plugins": [&used, &disabled]}),
            format!("{disabled} is disabled, {used} is used"),
        )?;
        Ok(Status::Done)
    }
}

impl Enable {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let Which { name, version } = &self.plugin;
        let enabled = plugins.manager()?.enable(name, version.as_ref()).map_err(failed("plugin enable"))?;
        all(&enabled, "is enabled", out)
    }
}

impl Disable {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let Which { name, version } = &self.plugin;
        let disabled =
            plugins.manager()?.disable(name, version.as_ref()).map_err(failed("plugin disable"))?;
        all(&disabled, "is disabled", out)
    }
}

/// Tells what has become of a plugin.
fn one(plugin: &PluginInfo, now: &str, out: &mut Output) -> Outcome {
    out.either(plugin, format!("{plugin} {now}"))?;
    Ok(Status::Done)
}

/// Tells what has become of the versions of a plugin.
fn all(plugins: &[PluginInfo], now: &str, out: &mut Output) -> Outcome {
    if out.is_json() {
        out.json(&json!({"plugins": plugins}))?;
    } else {
        for plugin in plugins {
            out.line(format!("{plugin} {now}"))?;
        }
    }
    Ok(Status::Done)
}
