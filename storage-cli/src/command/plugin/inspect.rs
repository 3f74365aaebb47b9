//! `plugin inspect`.

use std::path::PathBuf;

use clap::Args;
use storage_core::ErrorKind;
use storage_registry::plugins::{Inspection, SignatureState, inspect};

use super::{failed, failed_on_file};
use crate::command::Outcome;
use crate::exit::{Failure, Status};
use crate::output::Output;
use crate::plugins::PluginArgs;

const OPERATION: &str = "plugin inspect";

/// Tell what a plugin says of itself, without loading it.
///
/// Reads the ELF note and headers of a shared library, and with a package its manifest and signature. Problems
/// that would keep it from being loaded are listed, and the exit status is then 5.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage plugin inspect ./libstorage_redis.so
  storage --json plugin inspect ./redis-1.0.0")]
pub(crate) struct Inspect {
    /// The plugin: a shared library, or the directory of a package
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
}

impl Inspect {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let keyring = plugins.manager()?.keyring().map_err(failed(OPERATION))?;
        let found = inspect(&self.path, &keyring).map_err(failed_on_file(OPERATION))?;
        if out.is_json() {
            out.json(&found)?;
        } else {
            out.table(&["WHAT", "VALUE"], rows(&found))?;
            for problem in &found.problems {
                out.line(format!("problem: {problem}"))?;
            }
        }
        // That nobody vouches for a plugin is told, but no fault of the file.
        match found.problems.iter().filter(|problem| !problem.kind.is_unsigned()).count() {
            0 => Ok(Status::Done),
            count => {
                let problems = if count == 1 { "1 problem" } else { &format!("{count} problems") };
                let message = format!("{} has {problems} and will not be loaded", self.path.display());
                Err(Failure::new(ErrorKind::Corrupt, OPERATION, message).without_hint())
            }
        }
    }
}

fn rows(found: &Inspection) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |what: &str, value: Option<String>| {
        rows.extend(value.map(|value| vec![what.to_owned(), value.replace(char::is_control, " ")]));
    };
    let (note, elf, manifest) = (found.note.as_ref(), found.elf.as_ref(), found.manifest.as_ref());
    row("name", note.map(|note| note.name.clone()));
    row("version", note.map(|note| note.version.to_string()));
    row("build", note.map(|note| note.build.clone()));
    row("abi", note.map(|note| format!("{}.{}", note.abi.0, note.abi.1)));
    row("machine", elf.map(|elf| elf.machine.clone()));
    row("glibc", elf.and_then(|elf| elf.glibc).map(|version| format!("{version} or later")));
    row("needs", elf.map(|elf| elf.needed.join(" ")));
    row("library", found.library.as_ref().map(|path| path.display().to_string()));
    row("bytes", found.size.map(|size| size.to_string()));
    row("sha256", found.sha256.map(|digest| digest.to_string()));
    row("signature", found.signature.as_ref().map(signature));
    row("summary", manifest.and_then(|manifest| manifest.summary.clone()));
    row("schemes", manifest.and_then(|manifest| manifest.schemes.as_ref()).map(|schemes| schemes.join(" ")));
    let features = manifest.and_then(|manifest| manifest.capabilities.as_ref()).map(|capabilities| {
        let names: Vec<_> = capabilities.features.keys().map(ToString::to_string).collect();
        names.join(" ")
    });
    row("capabilities", features);
    rows
}

fn signature(state: &SignatureState) -> String {
    match state {
        SignatureState::Unsigned => "none".to_owned(),
        SignatureState::Trusted { key, name } => format!("by {name} ({key}), who is trusted"),
        SignatureState::Untrusted { key } => format!("by {key}, which is not trusted"),
        SignatureState::Bad { reason } => format!("bad: {reason}"),
    }
}
