//! Backends as plugins: the shared libraries that `cargo xtask plugins --release` makes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use storage_core::{Backend, TypeDescriptor};
use storage_plugin::host::{LoadLimits, Plugin};

/// Opens a store of the plugin `<directory>/<name>-<version>/lib….so`.
pub(crate) async fn open(directory: &Path, name: &str, url: &str) -> Result<Arc<dyn Backend>> {
    let path = library(directory, name).with_context(|| {
        format!("no plugin {name} in {}: cargo xtask plugins --release", directory.display())
    })?;
    open_library(&path, url).await
}

/// Opens a store of one shared library.
pub(crate) async fn open_library(path: &Path, url: &str) -> Result<Arc<dyn Backend>> {
    let plugin = Plugin::load(path, LoadLimits::default())?;
    Ok(plugin.open(plugin.config_from_url(url)?).await?)
}

fn library(directory: &Path, name: &str) -> Option<PathBuf> {
    let packages = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let prefix = format!("{name}-");
    let named =
        |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&prefix));
    let files =
        packages.filter(named).filter_map(|package| std::fs::read_dir(package).ok()).flatten().flatten();
    files.map(|file| file.path()).find(|path| path.extension().is_some_and(|extension| extension == "so"))
}
