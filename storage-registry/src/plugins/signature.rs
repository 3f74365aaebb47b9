//! `plugin.toml.sig`: who vouches for a package.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::Signature;
use serde::Serialize;
use storage_core::{Error, Result};

use super::{KeyId, Keyring, Manifest, Package, PrivateKey, Problem, ProblemKind, files};

/// The name of the file.
pub(super) const FILE: &str = "plugin.toml.sig";
/// How large it may be; it has about 150 bytes.
pub(super) const MAX_FILE: u64 = 4_096;

const HEADER: &str = "storage plugin signature ed25519";
/// Stands before what is signed, so that a signature made for something else never fits.
const DOMAIN: &[u8] = b"storage plugin manifest v1\0";

/// Whether somebody who is trusted vouches for a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SignatureState {
    /// There is no signature.
    Unsigned,
    /// It is by a trusted key.
    Trusted {
        /// The key.
        key: KeyId,
        /// Its name in the keyring.
        name: String,
    },
    /// It is by a key that is not in the keyring, so that it cannot be checked.
    Untrusted {
        /// The key.
        key: KeyId,
    },
    /// It is damaged, or is of another manifest.
    Bad {
        /// What is wrong.
        reason: String,
    },
}

impl SignatureState {
    /// Checks the text of a signature over the exact bytes of a manifest.
    pub(super) fn of(manifest: &[u8], signature: Option<&[u8]>, keyring: &Keyring) -> Self {
        let Some(signature) = signature else { return Self::Unsigned };
        let (key, signature) = match parse(signature) {
            Ok(parsed) => parsed,
            Err(error) => return Self::Bad { reason: error.message().to_owned() },
        };
        let Some(trusted) = keyring.get(&key) else { return Self::Untrusted { key } };
        if !trusted.key.signed(&message(manifest), &signature) {
            let reason = format!("it does not fit {} and the key {key} ({})", Manifest::FILE, trusted.name);
            return Self::Bad { reason };
        }
        Self::Trusted { key, name: trusted.name.clone() }
    }

    /// What it keeps from being loaded.
    pub(super) fn problem(&self) -> Option<Problem> {
        let (kind, message) = match self {
            Self::Trusted { .. } => return None,
            Self::Unsigned => (
                ProblemKind::Unsigned,
                "it is not signed: sign its package with `storage plugin sign`, or allow unsigned plugins with \
                 --allow-unsigned"
                    .to_owned(),
            ),
            Self::Untrusted { key } => (
                ProblemKind::UntrustedKey,
                format!(
                    "it is signed with the key {key}, which is not trusted: if you know whose it is, run `storage \
                     plugin trust` with the signer's public key"
                ),
            ),
            Self::Bad { reason } => (
                ProblemKind::BadSignature,
                format!("its signature {FILE} is not good: {reason}; get the package again, or sign it again"),
            ),
        };
        Some(Problem::new(kind, message))
    }
}

/// Signs a package: writes `plugin.toml.sig` beside its `plugin.toml`, over one that is there.
///
/// The signature is over the bytes of the manifest, and so over the hash of the library, which is checked here to be
/// that of the file.
///
/// # Errors
/// As reading the package; [`Corrupt`](storage_core::ErrorKind::Corrupt) if the library is not the one that the
/// manifest describes.
pub fn sign(dir: &Path, key: &PrivateKey) -> Result<KeyId> {
    let package = Package::read(dir)?;
    let manifest = package.manifest_bytes().ok_or_else(|| {
        Error::invalid(format!("{} is no package: make one with `storage plugin pack`", dir.display()))
    })?;
    package.check_library()?;
    let id = key.public().id();
    let signature = BASE64.encode(key.sign(&message(manifest)).to_bytes());
    files::replace(
        &dir.join(FILE),
        format!("{HEADER}\nkey {id}\nsignature {signature}\n").as_bytes(),
        0o644,
    )?;
    Ok(id)
}

fn message(manifest: &[u8]) -> Vec<u8> {
    [DOMAIN, manifest].concat()
}

fn parse(text: &[u8]) -> Result<(KeyId, Signature)> {
    let wrong = || Error::invalid("it is damaged");
    let text = str::from_utf8(text).map_err(|_| wrong())?;
    let mut lines = text.lines();
    let (Some(HEADER), Some(key), Some(signature), None) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return Err(wrong());
    };
    let key = key.strip_prefix("key ").ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
    let signature = signature.strip_prefix("signature ").and_then(|text| BASE64.decode(text).ok());
    let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok()).ok_or_else(wrong)?;
    Ok((key, signature))
}
