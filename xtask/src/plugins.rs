//! Backend crates as plugins: shared libraries, each packed with its manifest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::step::{Session, cargo};
use crate::workspace;

/// Builds backend crates as plugins, and packs each with its manifest
///
/// A crate can become a plugin if it says `storage_plugin::export_backend!` and has in its Cargo.toml:
///
///   [package.metadata.storage]
///   plugin = true
///
/// The result is a directory NAME-VERSION with the library and plugin.toml, which `storage plugin sign` signs and
/// `storage plugin install` installs.
#[derive(Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  cargo xtask plugins                  every plugin, into target/plugins/debug
  cargo xtask plugins file --release   one, optimised, into target/plugins/release
  storage plugin test --allow-unsigned target/plugins/release/file-1.0.0"
)]
pub(crate) struct Plugins {
    /// Crates, with or without `storage-` before the name; all of them if none is named
    names: Vec<String>,
    /// Optimise
    #[arg(long)]
    release: bool,
    /// Where to put the packages [default: target/plugins/debug, or target/plugins/release]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Builds and packs what was asked for; the summary lists the files.
pub(crate) fn run(session: &mut Session, asked: &Plugins) -> Result<()> {
    let metadata = workspace::metadata()?;
    let packages = chosen(&exporting(&metadata), &asked.names)?;
    let out = match &asked.out {
        Some(out) => std::path::absolute(out).with_context(|| out.display().to_string())?,
        None => workspace::target_dir(&metadata)?.join("plugins").join(if asked.release {
            "release"
        } else {
            "debug"
        }),
    };
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    for package in packages {
        let library = build(session, &package, asked.release)?;
        let made = pack(session, &library, &out)?;
        for file in files(&made)? {
            let size = fs::metadata(&file).with_context(|| file.display().to_string())?.len();
            session.note(format!("{:>8} KiB  {}", size.div_ceil(1024), file.display()));
        }
    }
    Ok(())
}

/// The packages that can become plugins, in order of name.
fn exporting(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<_> = packages
        .iter()
        .filter(|package| package["metadata"]["storage"]["plugin"] == true)
        .filter_map(|package| package["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// Those of `known` that are named; all if none is.
fn chosen(known: &[String], names: &[String]) -> Result<Vec<String>> {
    if let Some(name) = names.iter().find(|name| !known.iter().any(|package| is_called(package, name))) {
        bail!("no crate {name:?} can become a plugin. Those that can: {}", known.join(", "));
    }
    let wanted = |package: &&String| names.is_empty() || names.iter().any(|name| is_called(package, name));
    Ok(known.iter().filter(wanted).cloned().collect())
}

fn is_called(package: &str, name: &str) -> bool {
    package == name || package.strip_prefix("storage-") == Some(name)
}

/// Builds a package's library as a plugin, and returns the file.
///
/// The crate type is asked for here, not in its Cargo.toml, as each build of the workspace would make the shared
/// library too, and crates that are linked in would lose optimisation across crates.
fn build(session: &mut Session, package: &str, release: bool) -> Result<PathBuf> {
    let mut command = cargo(["rustc", "--package", package, "--lib", "--crate-type", "cdylib"]);
    if release {
        command.arg("--release");
    }
    command.args(["--message-format", "json-render-diagnostics", "--", "--cfg", "storage_plugin"]);
    let messages = session.output(&mut command)?;
    library(&messages).with_context(|| format!("cargo named no shared library of {package}"))
}

/// The shared library among the artifacts of which cargo's JSON messages tell.
fn library(messages: &str) -> Option<PathBuf> {
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact");
    let mut libraries = artifacts.filter(|artifact| artifact["target"]["kind"][0] == "cdylib");
    Some(libraries.next_back()?["filenames"][0].as_str()?.into())
}

/// Packs a library into `out`, in the place of an older package of the same name and version.
fn pack(session: &mut Session, library: &Path, out: &Path) -> Result<PathBuf> {
    // Beside the place where the package goes, as only a rename within a file system is atomic.
    let fresh = out.join(format!(".packing-{}", std::process::id()));
    fs::create_dir(&fresh).with_context(|| fresh.display().to_string())?;
    let packed = pack_into(session, library, &fresh, out);
    let removed = fs::remove_dir_all(&fresh).with_context(|| fresh.display().to_string());
    let packed = packed?;
    removed.map(|()| packed)
}

fn pack_into(session: &mut Session, library: &Path, fresh: &Path, out: &Path) -> Result<PathBuf> {
    let pack = ["run", "--quiet", "--package", "storage-cli", "--", "plugin", "pack"];
    session.output(cargo(pack).arg(library).arg("--output").arg(fresh))?;
    let package = files(fresh)?.pop().context("`storage plugin pack` made no package")?;
    let place = out.join(package.file_name().context("a package without a name")?);
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| place.display().to_string())?;
    }
    fs::rename(&package, &place).with_context(|| place.display().to_string())?;
    Ok(place)
}

/// What is in a directory, in order of name.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_chosen_by_their_metadata_and_name() {
        let metadata = serde_json::json!({"packages": [
            {"name": "storage-redis", "metadata": {"storage": {"plugin": true}}},
            {"name": "storage-core", "metadata": null},
            {"name": "storage-file", "metadata": {"storage": {"plugin": true}}},
        ]});
        let known = exporting(&metadata);
        assert_eq!(known, ["storage-file", "storage-redis"]);
        assert_eq!(chosen(&known, &[]).unwrap(), known);
        assert_eq!(chosen(&known, &["redis".into()]).unwrap(), ["storage-redis"]);
        assert_eq!(chosen(&known, &["storage-file".into(), "file".into()]).unwrap(), ["storage-file"]);
        let error = chosen(&known, &["core".into()]).unwrap_err().to_string();
        assert!(error.contains("\"core\"") && error.contains("storage-file, storage-redis"), "{error}");
    }

    #[test]
    fn the_library_is_found_among_cargos_messages() {
        let messages = "\
            {\"reason\":\"compiler-artifact\",\"target\":{\"kind\":[\"lib\"]},\"filenames\":[\"/t/liba.rlib\"]}\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"kind\":[\"cdylib\"]},\"filenames\":[\"/t/libb.so\"]}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(library(messages).unwrap(), Path::new("/t/libb.so"));
        assert!(library("{\"reason\":\"build-finished\"}").is_none());
    }
}
