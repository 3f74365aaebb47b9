//! `plugin pack`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use storage_registry::plugins::pack;

use super::failed_on_file;
use crate::command::Outcome;
use crate::exit::Status;
use crate::output::Output;
use crate::plugins::PluginArgs;

/// Make a package of a shared library: a directory NAME-VERSION with the library and its manifest, plugin.toml.
///
/// The library is loaded on trial, in a process of its own, to learn what the manifest says of it. Sign the package
/// next: `storage plugin sign`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage plugin pack ./libstorage_redis.so
  storage plugin pack ./libstorage_redis.so --output ./dist")]
pub(crate) struct Pack {
    /// The shared library
    file: PathBuf,
    /// Where to make the package's directory
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

impl Pack {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let failed = failed_on_file("plugin pack");
        let description = plugins.manager()?.trial(&self.file).map_err(&failed)?;
        let (package, manifest) = pack(&self.file, &self.output, Some(&description)).map_err(&failed)?;
        let package = package.display().to_string();
        out.either(&json!({"package": package, "manifest": manifest}), &package)?;
        Ok(Status::Done)
    }
}
