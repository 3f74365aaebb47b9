//! A plugin's files as bytes in memory, and the checks of them.

use std::fs::File;
use std::path::{Path, PathBuf};

use storage_plugin::abi::{ABI_MAJOR, ABI_MINOR};
use storage_plugin::note::{self, Note};

use super::files::Opened;
use super::manifest::MajorMinor;
use super::{Digest, ElfFacts, Keyring, Manifest, Problem, ProblemKind, SignatureState, elf, signature};

/// How large a library may be, in bytes.
pub(super) const MAX_LIBRARY: u64 = 512 << 20;
/// How large a manifest may be, in bytes; the configuration schema makes up most of it.
const MAX_MANIFEST: u64 = 1 << 20;

/// A plugin's files, read once: all checks are of these bytes, whatever happens to the files meanwhile.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    library_path: PathBuf,
    library: Vec<u8>,
    sha256: Digest,
    manifest: Option<Signed>,
}

/// A manifest, the bytes it was read from, and the signature over these.
#[derive(Debug)]
struct Signed {
    manifest: Manifest,
    bytes: Vec<u8>,
    signature: Option<Vec<u8>>,
}

/// What the checks of a package found out.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What the plugin says about itself.
    pub note: Note,
    /// What its headers say.
    pub elf: ElfFacts,
    /// Whether somebody who is trusted vouches for it.
    pub signature: SignatureState,
}

impl Package {
    /// Reads a library or the directory of a package that a person named. `path` itself may be a symbolic link;
    /// within the directory, none is followed.
    ///
    /// # Errors
    /// A [`Problem`] of the kinds [`Missing`](ProblemKind::Missing), [`Unreadable`](ProblemKind::Unreadable) or
    /// [`Manifest`](ProblemKind::Manifest). A library is at most 512 MiB large.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        Self::from_opened(Opened::follow(path)?)
    }

    /// As [`read`](Self::read), for an entry of a plugin directory, which may not be a symbolic link.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_in(dir: &Path, name: &str) -> Result<Self, Problem> {
        let opened = File::open(dir).map_err(|error| {
            Problem::new(ProblemKind::Unreadable, format!("{} cannot be read: {error}", dir.display()))
        })?;
        Self::from_opened(Opened::entry(&opened, dir, name)?)
    }

    fn from_opened(opened: Opened) -> Result<Self, Problem> {
        let path = opened.path().to_owned();
        if !opened.is_dir() {
            let library = opened.read(MAX_LIBRARY)?;
            let sha256 = Digest::of(&library);
            return Ok(Self { library_path: path.clone(), path, library, sha256, manifest: None });
        }
        let bytes =
            opened.inner(Manifest::FILE).and_then(|file| file.read(MAX_MANIFEST)).map_err(|problem| {
                match problem.kind {
                    ProblemKind::Missing => Problem::new(
                        ProblemKind::Missing,
                        format!(
                            "{} is no package: it has no {}; `storage plugin pack` makes one",
                            path.display(),
                            Manifest::FILE
                        ),
                    ),
                    _ => problem,
                }
            })?;
        let damaged = |message: &str| {
            let file = path.join(Manifest::FILE);
            Problem::new(ProblemKind::Manifest, format!("{}: {message}", file.display()))
        };
        let text = str::from_utf8(&bytes).map_err(|_| damaged("it is not UTF-8 text"))?;
        let manifest: Manifest =
            text.parse().map_err(|error: storage_core::Error| damaged(error.message()))?;
        let signature = match opened.inner(signature::FILE) {
            Ok(file) => Some(file.read(signature::MAX_FILE)?),
            Err(problem) if problem.kind == ProblemKind::Missing => None,
            Err(problem) => return Err(problem),
        };
        let library = opened.inner(&manifest.file)?;
        let library_path = library.path().to_owned();
        let library = library.read(MAX_LIBRARY)?;
        let sha256 = Digest::of(&library);
        Ok(Self {
            path,
            library_path,
            library,
            sha256,
            manifest: Some(Signed { manifest, bytes, signature }),
        })
    }

    /// The path that was read: of the library, or of the package's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the library.
    pub fn library_path(&self) -> &Path {
        &self.library_path
    }

    /// The bytes of the library.
    pub fn library(&self) -> &[u8] {
        &self.library
    }

    /// The digest of the library.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }

    /// The manifest; none of a bare library.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref().map(|signed| &signed.manifest)
    }

    pub(super) fn manifest_bytes(&self) -> Option<&[u8]> {
        self.manifest.as_ref().map(|signed| &signed.bytes[..])
    }

    /// The files of the package with their names, byte for byte as they were read; of a bare library, it alone.
    pub fn files(&self) -> Vec<(&str, &[u8])> {
        let Some(signed) = &self.manifest else {
            let name = self.library_path.file_name().and_then(|name| name.to_str());
            return vec![(name.unwrap_or("plugin.so"), &self.library)];
        };
        let mut files =
            vec![(signed.manifest.file.as_str(), &self.library[..]), (Manifest::FILE, &signed.bytes)];
        files.extend(signed.signature.as_deref().map(|signature| (signature::FILE, signature)));
        files
    }

    /// Whether somebody who is trusted vouches for it.
    pub fn signature(&self, keyring: &Keyring) -> SignatureState {
        match &self.manifest {
            Some(signed) => SignatureState::of(&signed.bytes, signed.signature.as_deref(), keyring),
            None => SignatureState::Unsigned,
        }
    }

    /// The note of the library.
    ///
    /// # Errors
    /// [`NotAPlugin`](ProblemKind::NotAPlugin).
    pub fn note(&self) -> Result<Note, Problem> {
        note::read(&self.library)
            .map_err(|error| Problem::new(ProblemKind::NotAPlugin, format!("it {}", error.message())))
    }

    /// What the headers of the library say.
    ///
    /// # Errors
    /// [`NotALibrary`](ProblemKind::NotALibrary).
    pub fn elf(&self) -> Result<ElfFacts, Problem> {
        ElfFacts::read(&self.library)
    }

    /// Makes all checks that need no code of the plugin to run. With `allow_unsigned`, a missing signature and one
    /// by a key that is not trusted are let pass; one that is not good is not.
    ///
    /// # Errors
    /// The first [`Problem`], with the path in its message.
    pub fn verify(&self, keyring: &Keyring, allow_unsigned: bool) -> Result<Verified, Problem> {
        self.check(keyring, allow_unsigned).map_err(|problem| {
            Problem::new(problem.kind, format!("{}: {}", self.path.display(), problem.message))
        })
    }

    /// As [`verify`](Self::verify), without the path in the message.
    pub(super) fn check(&self, keyring: &Keyring, allow_unsigned: bool) -> Result<Verified, Problem> {
        self.check_library()?;
        let signature = self.signature(keyring);
        match signature.problem() {
            Some(problem) if !(allow_unsigned && problem.kind.is_unsigned()) => return Err(problem),
            _ => {}
        }
        let elf = self.elf()?;
        elf.check_host()?;
        let note = self.note()?;
        check_abi(&note)?;
        self.check_manifest(&note, &elf)?;
        Ok(Verified { note, elf, signature })
    }

    /// All problems, without their path, in the order in which [`verify`](Self::verify) meets them.
    pub(super) fn problems(&self, keyring: &Keyring) -> Vec<Problem> {
        let (elf, note) = (self.elf(), self.note());
        let mut problems: Vec<_> = self.check_library().err().into_iter().collect();
        problems.extend(self.signature(keyring).problem());
        problems
            .extend(elf.as_ref().map_or_else(|problem| Some(problem.clone()), |elf| elf.check_host().err()));
        // A note that cannot be read says nothing new of a file that is no library.
        if let Ok(elf) = &elf {
            problems.extend(
                note.as_ref().map_or_else(|problem| Some(problem.clone()), |note| check_abi(note).err()),
            );
            problems.extend(note.ok().and_then(|note| self.check_manifest(&note, elf).err()));
        }
        problems
    }

    /// Whether the library is the one that the manifest describes.
    pub(super) fn check_library(&self) -> Result<(), Problem> {
        let Some(manifest) = self.manifest() else { return Ok(()) };
        let size = self.library.len();
        if manifest.size != size as u64 {
            return Err(Problem::new(
                ProblemKind::Size,
                format!(
                    "{} has {size} bytes, and {} says {}: it was cut off or replaced; get the package again",
                    manifest.file,
                    Manifest::FILE,
                    manifest.size
                ),
            ));
        }
        if manifest.sha256 != self.sha256 {
            return Err(Problem::new(
                ProblemKind::Hash,
                format!(
                    "{} has the SHA-256 digest {}, and {} says {}: it was damaged or replaced; get the package again",
                    manifest.file,
                    self.sha256,
                    Manifest::FILE,
                    manifest.sha256
                ),
            ));
        }
        Ok(())
    }

    /// Whether manifest, note and headers say the same.
    fn check_manifest(&self, note: &Note, elf: &ElfFacts) -> Result<(), Problem> {
        let Some(manifest) = self.manifest() else { return Ok(()) };
        let same = |key: &str, manifest: String, library: String| {
            if manifest == library {
                return Ok(());
            }
            Err(Problem::new(
                ProblemKind::Contradiction,
                format!(
                    "{} says {key} {manifest:?}, and the library {library:?}: pack it again with `storage plugin pack`",
                    Manifest::FILE
                ),
            ))
        };
        same("name", manifest.name.to_string(), note.name.clone())?;
        same("version", manifest.version.to_string(), note.version.to_string())?;
        same("abi", manifest.abi.to_string(), MajorMinor::from(note.abi).to_string())?;
        let machine = manifest.target.split('-').next().unwrap_or_default();
        same("target", machine.to_owned(), elf.machine.clone())?;
        // Above what the library asks for by version, an author may know better.
        elf::check_glibc(manifest.glibc)
    }
}

/// Minors only append, and the host knows by sizes what is there: only the major counts.
fn check_abi(note: &Note) -> Result<(), Problem> {
    if note.abi.0 == ABI_MAJOR {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::Incompatible,
        format!(
            "it is for the plugin ABI {}, and this program for {ABI_MAJOR}.{ABI_MINOR}: build it for that, or use a \
             program of its time",
            MajorMinor::from(note.abi)
        ),
    ))
}
