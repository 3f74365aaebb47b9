//! All that can be known about a plugin without loading it.

use std::path::{Path, PathBuf};

use semver::Version as Semver;
use serde::Serialize;
use storage_core::Result;
use storage_plugin::note::Note;

use super::{Digest, ElfFacts, Keyring, MajorMinor, Manifest, Package, Problem, ProblemKind, SignatureState};

/// All that can be known about a plugin without loading it. What could not be read is null in JSON, and stands in
/// `problems`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// What was inspected.
    pub path: PathBuf,
    /// The library's file.
    pub library: Option<PathBuf>,
    /// The library's size in bytes.
    pub size: Option<u64>,
    /// The library's digest.
    pub sha256: Option<Digest>,
    /// What the plugin says about itself.
    #[serde(serialize_with = "note")]
    pub note: Option<Note>,
    /// What the headers of the library say.
    pub elf: Option<ElfFacts>,
    /// What the package says; none of a bare library.
    pub manifest: Option<Manifest>,
    /// Whether somebody who is trusted vouches for it.
    pub signature: Option<SignatureState>,
    /// What keeps it from being loaded here, most important first; empty if nothing does.
    pub problems: Vec<Problem>,
}

/// Reads all that can be known about a library, or about the directory of a package, without running any of it.
/// What is wrong with it is no error but stands in the answer.
///
/// # Errors
/// [`NotFound`](storage_core::ErrorKind::NotFound) if there is nothing at `path`.
pub fn inspect(path: &Path, keyring: &Keyring) -> Result<Inspection> {
    let package = match Package::read(path) {
        Ok(package) => package,
        Err(problem) if problem.kind == ProblemKind::Missing && !path.exists() => return Err(problem.into()),
        Err(problem) => return Ok(Inspection::unreadable(path, problem)),
    };
    Ok(Inspection {
        path: path.to_owned(),
        library: Some(package.library_path().to_owned()),
        size: Some(package.library().len() as u64),
        sha256: Some(package.sha256()),
        note: package.note().ok(),
        elf: package.elf().ok(),
        manifest: package.manifest().cloned(),
        signature: Some(package.signature(keyring)),
        problems: package.problems(keyring),
    })
}

impl Inspection {
    fn unreadable(path: &Path, problem: Problem) -> Self {
        Self {
            path: path.to_owned(),
            library: None,
            size: None,
            sha256: None,
            note: None,
            elf: None,
            manifest: None,
            signature: None,
            problems: vec![problem],
        }
    }
}

fn note<S: serde::Serializer>(note: &Option<Note>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown<'note> {
        abi: MajorMinor,
        name: &'note str,
        version: &'note Semver,
        build: &'note str,
    }
    let shown = note.as_ref().map(|note| Shown {
        abi: note.abi.into(),
        name: &note.name,
        version: &note.version,
        build: &note.build,
    });
    shown.serialize(to)
}
