//! Making a package of a library.

use std::path::{Path, PathBuf};

use storage_core::{Error, Result};

use super::{Description, Manifest, Package, Problem, files};

/// Makes the package `<out_dir>/<name>-<version>/` of a library, with all of `description` if it is given: what the
/// plugin said when it was loaded. The package is there whole or not at all, and is not signed. Returns its directory
/// and manifest.
///
/// The library may be for another system than this one.
///
/// # Errors
/// The [`Problem`] that keeps the file from being a plugin; [`InvalidInput`](storage_core::ErrorKind::InvalidInput) if
/// the package is there already, or if the description is not of this plugin; and what writing meets.
pub fn pack(
    library: &Path,
    out_dir: &Path,
    description: Option<&Description>,
) -> Result<(PathBuf, Manifest)> {
    let package = Package::read(library)?;
    if package.manifest().is_some() {
        return Err(Error::invalid(format!("{} is a package already: give its library", library.display())));
    }
    let manifest = manifest(&package, description).map_err(|problem| {
        Problem::new(problem.kind, format!("{}: {}", library.display(), problem.message))
    })?;
    let text = manifest.to_toml()?;
    // Only what can be read again is written.
    text.parse::<Manifest>()?;
    let dir = out_dir.join(manifest.directory());
    files::create_dir(&dir, &[(&manifest.file, package.library()), (Manifest::FILE, text.as_bytes())])?;
    Ok((dir, manifest))
}

pub(super) fn manifest(package: &Package, description: Option<&Description>) -> Result<Manifest, Problem> {
    let elf = package.elf()?;
    let note = package.note()?;
    if let Some(said) = description {
        said.check_note(&note.name, &note.version)?;
    }
    Ok(Manifest {
        version: note.version,
        target: elf.target(),
        abi: note.abi.into(),
        glibc: elf.glibc,
        // Of the name of the type, because that of the build may say anything.
        file: format!("lib{}.so", note.name),
        size: package.library().len() as u64,
        sha256: package.sha256(),
        built_with: note.build,
        summary: description.map(|said| said.summary.clone()),
        schemes: description.map(|said| said.schemes.clone()),
        config_schema: description.map(|said| said.config_schema.clone()),
        capabilities: description.map(|said| said.capabilities.clone()),
        name: note.name.into(),
    })
}
