//! Real shared libraries, made by the C compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use storage_registry::plugins::{Keyring, Manifest, Package, PrivateKey, Problem, Verified, keygen, pack};
use tempfile::TempDir;

/// The fixture, compiled with `switches`.
pub(crate) fn compile(switches: &[&str]) -> Vec<u8> {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let library = dir.path().join("plugin.so");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Werror"])
        .args(switches)
        .arg("-I")
        .arg(crate_dir.join("../storage-plugin/include"))
        .arg("-o")
        .arg(&library)
        .arg(crate_dir.join("tests/package/plugin.c"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(library).unwrap()
}

/// The fixture as it is.
pub(crate) fn library() -> &'static [u8] {
    static LIBRARY: OnceLock<Vec<u8>> = OnceLock::new();
    LIBRARY.get_or_init(|| compile(&[]))
}

/// A signed package of the fixture and a keyring that trusts its signer.
pub(crate) struct Signed {
    pub(crate) root: TempDir,
    pub(crate) dir: PathBuf,
    pub(crate) key: PrivateKey,
    pub(crate) keyring: Keyring,
}

impl Signed {
    pub(crate) fn new() -> Self {
        let (root, dir) = packed();
        let key_path = root.path().join("author");
        let public = keygen(&key_path).unwrap();
        let key = PrivateKey::read(&key_path).unwrap();
        storage_registry::plugins::sign(&dir, &key).unwrap();
        let mut keyring = Keyring::default();
        keyring.add("author", public).unwrap();
        Self { root, dir, key, keyring }
    }

    pub(crate) fn verify(&self) -> Result<Verified, Problem> {
        Package::read(&self.dir)?.verify(&self.keyring, false)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Changes a file's text.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.file(name)).unwrap();
        fs::write(self.file(name), change(text)).unwrap();
    }
}

/// An unsigned package of the fixture.
pub(crate) fn packed() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let bare = root.path().join("plugin.so");
    fs::write(&bare, library()).unwrap();
    let (dir, _): (_, Manifest) = pack(&bare, root.path(), None).unwrap();
    (root, dir)
}

/// What reading and checking these bytes as a bare library says.
pub(crate) fn verify_bytes(bytes: &[u8]) -> Result<Verified, Problem> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plugin.so");
    fs::write(&path, bytes).unwrap();
    Package::read(&path)?.verify(&Keyring::default(), true)
}
