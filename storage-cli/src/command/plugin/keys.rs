//! `plugin keygen`, `sign`, `trust`, `untrust` and `keys`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use storage_registry::plugins::{PrivateKey, PublicKey, TrustedKey, keygen, sign};

use super::{failed, failed_on_file};
use crate::command::Outcome;
use crate::exit::{Failure, Status};
use crate::output::Output;
use crate::plugins::PluginArgs;

/// Make a pair of keys to sign plugins with.
///
/// The private key is written to FILE, readable by you alone, and the public key to FILE.pub. Neither is overwritten.
/// Give the public key to those who install your plugins: `storage plugin trust` takes it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage plugin keygen release.key")]
pub(crate) struct Keygen {
    /// The file for the private key
    file: PathBuf,
}

/// Sign a package: its manifest, and with it the library's hash.
///
/// The signature is the file plugin.toml.sig in the package; one that is there is replaced.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage plugin sign ./redis-1.0.0 --key release.key")]
pub(crate) struct Sign {
    /// The directory of the package
    package: PathBuf,
    /// The file of the private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Trust a public key: plugins that it has signed are loaded from now on.
///
/// A plugin runs with all your rights: trust keys of those whose programs you would run.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage plugin trust release.key.pub
  storage plugin trust release.key.pub --name acme")]
pub(crate) struct Trust {
    /// The file of the public key
    file: PathBuf,
    /// What to call it; the file's name if not given
    #[arg(long)]
    name: Option<String>,
}

/// Trust a key no longer: plugins that it has signed are refused from now on.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage plugin untrust acme")]
pub(crate) struct Untrust {
    /// The key's name, or its id
    key: String,
}

/// List the trusted keys.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage plugin keys")]
pub(crate) struct Keys {}

impl Keygen {
    pub(crate) fn run(&self, out: &mut Output) -> Outcome {
        let key = keygen(&self.file).map_err(failed_on_file("plugin keygen"))?;
        let private = self.file.display().to_string();
        let public = format!("{private}.pub");
        let text = format!("key {}: {private} signs and stays with you, {public} is for everybody", key.id());
        out.either(&json!({"key": key.id(), "private": private, "public": public}), text)?;
        Ok(Status::Done)
    }
}

impl Sign {
    pub(crate) fn run(&self, out: &mut Output) -> Outcome {
        let failed = failed_on_file("plugin sign");
        let key = PrivateKey::read(&self.key).map_err(&failed)?;
        let id = sign(&self.package, &key).map_err(&failed)?;
        let told = json!({"package": self.package.display().to_string(), "key": id});
        out.either(&told, format!("{} is signed with the key {id}", self.package.display()))?;
        Ok(Status::Done)
    }
}

impl Trust {
    pub(crate) fn run(self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let failed = failed_on_file("plugin trust");
        let key = PublicKey::read(&self.file).map_err(&failed)?;
        let name = match self.name {
            Some(name) => name,
            None => file_name(&self.file)?,
        };
        let id = plugins.manager()?.trust(&name, key).map_err(&failed)?;
        out.either(&json!({"name": name, "key": id}), format!("{name} ({id}) is trusted"))?;
        Ok(Status::Done)
    }
}

/// The name of a key's file without its endings.
fn file_name(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.and_then(|name| name.split('.').find(|part| !part.is_empty()));
    name.map(ToOwned::to_owned).ok_or_else(|| {
        Failure::invalid(
            "plugin trust",
            format!("the file {} gives the key no name: add --name", path.display()),
        )
    })
}

impl Untrust {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let removed = plugins.manager()?.untrust(&self.key).map_err(failed("plugin untrust"))?;
        let told = json!({"name": removed.name, "key": removed.key.id()});
        out.either(&told, format!("{} ({}) is trusted no longer", removed.name, removed.key.id()))?;
        Ok(Status::Done)
    }
}

impl Keys {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let keyring = plugins.manager()?.keyring().map_err(failed("plugin keys"))?;
        let keys = keyring.keys();
        if out.is_json() {
            let told: Vec<_> = (keys.iter())
                .map(|TrustedKey { name, key, added }| {
                    json!({"name": name, "key": key.id(), "public_key": key, "added_at": added})
                })
                .collect();
            out.json(&json!({"keys": told}))?;
        } else if !keys.is_empty() {
            let row = |trusted: &TrustedKey| {
                vec![trusted.name.clone(), trusted.key.id().to_string(), trusted.added.clone()]
            };
            out.table(&["NAME", "KEY", "ADDED"], keys.iter().map(row).collect())?;
        }
        Ok(Status::Done)
    }
}
