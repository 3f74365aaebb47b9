//! What cargo knows of this workspace.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::step::cargo;

/// The workspace's directory.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir(metadata: &Value) -> Result<PathBuf> {
    let path = metadata["target_directory"].as_str().context("cargo metadata: no target_directory")?;
    Ok(path.into())
}

/// `cargo metadata` of the workspace's own packages.
pub(crate) fn metadata() -> Result<Value> {
    let output = cargo(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot start: cargo metadata")?;
    if !output.status.success() {
        anyhow::bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata: not JSON")
}

/// The workspace's packages and their features, in order of name.
pub(crate) fn features(metadata: &Value) -> Vec<(String, Vec<String>)> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut found: Vec<_> = packages
        .iter()
        .filter_map(|package| {
            let names = package["features"].as_object()?.keys().cloned().collect();
            Some((package["name"].as_str()?.to_owned(), names))
        })
        .collect();
    found.sort();
    found
}
