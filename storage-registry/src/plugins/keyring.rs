//! `trusted-keys.toml`: whose signatures count.

use std::path::Path;

use serde::{Deserialize, Serialize};
use storage_core::{Error, ErrorKind, Result, Timestamp};

use super::files::{self, Opened};
use super::{KeyId, ProblemKind, PublicKey, text};
use crate::entry::shown;

/// A file of some thousands of keys.
const MAX_FILE: u64 = 1 << 20;

/// The public keys whose signatures count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyring {
    #[serde(default, rename = "key")]
    keys: Vec<TrustedKey>,
}

/// A key whose signatures count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// Whose key it is; unique in the keyring.
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// When it was added, in RFC 3339.
    pub added: String,
}

impl Keyring {
    /// The name of the file in a plugin directory.
    pub const FILE: &'static str = "trusted-keys.toml";

    /// Reads a keyring; one that is not there is empty.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is no keyring (the message says where), or if others than its
    /// owner can change it: then the mode to set is in the message.
    pub fn read(path: &Path) -> Result<Self> {
        let file = match Opened::follow(path) {
            Err(problem) if problem.kind == ProblemKind::Missing => return Ok(Self::default()),
            opened => opened?,
        };
        file.check_owner(0o022)?;
        let text = file.read_text(MAX_FILE)?;
        let keyring = text::decode_list(&text, "key", &["name", "key", "added"]).and_then(|read: Self| {
            let mut keyring = Self::default();
            read.keys.into_iter().try_for_each(|key| keyring.insert(key))?;
            Ok(keyring)
        });
        keyring.map_err(|error| Error::invalid(format!("{}: {}", path.display(), error.message())))
    }

    /// Writes the keyring; after a crash there is the old one or the new one.
    ///
    /// # Errors
    /// What writing meets.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::replace(path, text::encode(self)?.as_bytes(), 0o644)
    }

    /// The keys, in the order in which they were added.
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }

    /// The key of an id.
    pub fn get(&self, id: &KeyId) -> Option<&TrustedKey> {
        self.keys.iter().find(|trusted| trusted.key.id() == *id)
    }

    /// Trusts a key from now on.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the name is not valid, or the name or the key is there already.
    pub fn add(&mut self, name: &str, key: PublicKey) -> Result<KeyId> {
        self.insert(TrustedKey { name: name.to_owned(), key, added: Timestamp::now().to_string() })?;
        Ok(key.id())
    }

    /// Trusts a key, given by its name or id, no longer.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is none; the message lists those there are.
    pub fn remove(&mut self, name_or_id: &str) -> Result<TrustedKey> {
        let is_meant =
            |trusted: &TrustedKey| trusted.name == name_or_id || trusted.key.id().to_string() == name_or_id;
        if let Some(position) = self.keys.iter().position(is_meant) {
            return Ok(self.keys.remove(position));
        }
        let known: Vec<_> = self.keys.iter().map(|key| format!("{} ({})", key.name, key.key.id())).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Error::new(
            ErrorKind::NotFound,
            format!("no trusted key has the name or id {}; trusted: {known}", shown(name_or_id)),
        ))
    }

    fn insert(&mut self, new: TrustedKey) -> Result<()> {
        if new.name.is_empty() || new.name.len() > 100 || new.name.contains(char::is_control) {
            return Err(Error::invalid(format!(
                "name {} of a key is not one line of at most 100 bytes",
                shown(&new.name)
            )));
        }
        let id = new.key.id();
        match self.keys.iter().find(|present| present.name == new.name || present.key.id() == id) {
            Some(present) => Err(Error::invalid(format!(
                "key {} ({id}) cannot be added: {} ({}) is there already",
                shown(&new.name),
                shown(&present.name),
                present.key.id()
            ))),
            None => {
                self.keys.push(new);
                Ok(())
            }
        }
    }
}
