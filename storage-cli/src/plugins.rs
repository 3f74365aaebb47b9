//! The plugin directory: the options that say where it is, and loading what is in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use storage_core::Error;
use storage_registry::plugins::{LoadReport, PluginManager, PluginOptions};
use storage_registry::{Registry, TypeEntry};

use crate::exit::Failure;
use crate::output::Output;

/// Where plugins come from, and which of them are loaded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct PluginArgs {
    /// The plugin directory, instead of STORAGE_PLUGIN_DIR or storage/plugins in your data directory
    #[arg(long, global = true, value_name = "DIR")]
    plugin_dir: Option<PathBuf>,
    /// Load plugins that nobody whom you trust has signed, too; for development
    #[arg(long, global = true)]
    allow_unsigned: bool,
}

impl PluginArgs {
    fn options(&self) -> PluginOptions {
        PluginOptions {
            dir: self.plugin_dir.clone(),
            allow_unsigned: self.allow_unsigned,
            ..PluginOptions::default()
        }
    }

    pub(crate) fn manager(&self) -> Result<PluginManager, Failure> {
        PluginManager::new(self.options()).map_err(|error| error.operation("plugin").into())
    }

    /// Loads a plugin into a registry of its own, to test it: nobody need have signed it.
    pub(crate) fn load_alone(&self, path: &Path) -> Result<(Arc<Registry>, Arc<TypeEntry>), Error> {
        let registry = Arc::new(Registry::new());
        let entry = registry.load_plugin(path, &PluginOptions { allow_unsigned: true, ..self.options() })?;
        Ok((registry, entry))
    }

    /// Loads the plugin directory into the registry of this process. What is not loaded harms no other type, and so is
    /// told only to those who miss it.
    pub(crate) fn load(&self) -> Loaded {
        Loaded(Registry::global().load_plugins(&self.options()))
    }
}

/// What became of the plugin directory.
pub(crate) struct Loaded(Result<LoadReport, Error>);

impl Loaded {
    /// Tells which plugins are refused and why, a line each.
    pub(crate) fn warn(self, out: &mut Output) -> Result<(), Failure> {
        match &self.0 {
            Ok(report) => report.refused().try_for_each(|plugin| {
                let reason = plugin.reason.as_deref().unwrap_or_default();
                out.warn(&Failure::invalid(
                    "plugin",
                    format!("{} is refused: {reason}", plugin.path.display()),
                ))
            }),
            Err(_) => self.warn_of_directory(out),
        }
    }

    /// Tells only why nothing could be loaded at all.
    pub(crate) fn warn_of_directory(self, out: &mut Output) -> Result<(), Failure> {
        match self.0 {
            Ok(_) => Ok(()),
            Err(error) => out.warn(&Failure::from(error.operation("plugin")).without_hint()),
        }
    }
}
