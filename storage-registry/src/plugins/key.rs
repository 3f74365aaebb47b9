//! Keys: private ones sign packages, public ones are trusted to have signed them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use storage_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::Digest;
use super::files::{self, Opened};
use crate::entry::shown;

const PRIVATE_HEADER: &str = "storage plugin private key ed25519";
const PUBLIC_HEADER: &str = "storage plugin public key ed25519";
/// Key files are far smaller.
const MAX_FILE: u64 = 4_096;

/// The short name of a key: the first 16 digits of the SHA-256 digest of the public key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyId(String);

impl KeyId {
    const DIGITS: usize = 16;
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == Self::DIGITS && text.bytes().all(digit) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid(format!("{} is no key id: it has 16 digits of 0-9 a-f", shown(text))))
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

impl TryFrom<String> for KeyId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// An ed25519 public key; as text, 44 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads what [`keygen`] wrote to the file that ends in `.pub`.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) or [`InvalidInput`](ErrorKind::InvalidInput), with the path.
    pub fn read(path: &Path) -> Result<Self> {
        let text = Opened::follow(path)?.read_text(MAX_FILE)?;
        let key = body(&text, PUBLIC_HEADER).and_then(str::parse);
        key.map_err(|error| Error::invalid(format!("{}: {}", path.display(), error.message())))
    }

    /// Its short name.
    pub fn id(&self) -> KeyId {
        let mut digits = Digest::of(self.0.as_bytes()).to_string();
        digits.truncate(KeyId::DIGITS);
        KeyId(digits)
    }

    /// Whether the private key to this one signed `message`.
    pub(super) fn signed(&self, message: &[u8], signature: &Signature) -> bool {
        // Strict, so that there is one signature and one key to a message.
        self.0.verify_strict(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = BASE64.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok()).filter(|key| !key.is_weak());
        // Without the text: it may be a private key, given by mistake.
        let wrong = || Error::invalid("this is no public key: one is 32 bytes of ed25519 in base64");
        key.map(Self).ok_or_else(wrong)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// An ed25519 private key. Overwritten in memory when dropped; never shown.
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// Reads what [`keygen`] wrote.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is no private key, or if others than its owner can read or
    /// change it; [`NotFound`](ErrorKind::NotFound). The message holds nothing of the file.
    pub fn read(path: &Path) -> Result<Self> {
        let file = Opened::follow(path)?;
        file.check_owner(0o077)?;
        let bytes = Zeroizing::new(file.read(MAX_FILE)?);
        let wrong = || {
            Error::invalid(format!("{} is no private key: `storage plugin keygen` makes one", path.display()))
        };
        let text = str::from_utf8(&bytes).map_err(|_| wrong())?;
        let mut seed = Zeroizing::new([0; 32]);
        // The decoder asks for room by the length of the text.
        let mut decoded = Zeroizing::new([0; 36]);
        let length = BASE64.decode_slice(body(text, PRIVATE_HEADER).map_err(|_| wrong())?, &mut *decoded);
        if !matches!(length, Ok(32)) {
            return Err(wrong());
        }
        seed.copy_from_slice(&decoded[..32]);
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The public key to it.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(super) fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public().id())
    }
}

/// Makes a new pair of keys: the private one goes to `path`, for its owner alone (mode 0600), the public one to
/// the same path with `.pub` at its end.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) if one of the files is there: keys are not overwritten. Otherwise
/// what writing meets.
pub fn keygen(path: &Path) -> Result<PublicKey> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|error| {
        Error::new(ErrorKind::Internal, format!("the system gives no random numbers: {error}"))
    })?;
    let key = PrivateKey(SigningKey::from_bytes(&seed));
    let public = key.public();
    let public_path = public_path(path);
    if public_path.exists() {
        return Err(Error::invalid(format!(
            "{} exists already and is not overwritten: choose another name",
            public_path.display()
        )));
    }
    let mut encoded = Zeroizing::new([0; 44]);
    BASE64
        .encode_slice(seed.as_slice(), &mut *encoded)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("the key cannot be encoded: {error}")))?;
    let mut text = Zeroizing::new(Vec::with_capacity(128));
    for part in [PRIVATE_HEADER.as_bytes(), b"\n", &*encoded, b"\n"] {
        text.extend_from_slice(part);
    }
    files::create(path, &text, 0o600)?;
    files::create(&public_path, format!("{PUBLIC_HEADER}\n{public}\n").as_bytes(), 0o644)?;
    Ok(public)
}

fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// The second line of a key file, whose first line says what it is.
fn body<'text>(text: &'text str, header: &str) -> Result<&'text str> {
    let mut lines = text.lines();
    match (lines.next(), lines.next(), lines.next()) {
        (Some(first), Some(body), None) if first == header => Ok(body),
        _ => Err(Error::invalid(format!("it is not the line {header:?} and then the key"))),
    }
}
