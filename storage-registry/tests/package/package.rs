//! Packages: their library, their signature, and who made it.

use std::fs;
use std::os::unix::fs::symlink;

use storage_registry::plugins::{
    Keyring, Package, PrivateKey, ProblemKind, SignatureState, inspect, keygen, sign,
};
use storage_registry::{Error, ErrorKind};

use crate::support::{Signed, library};

#[test]
fn a_signed_package_passes() {
    let signed = Signed::new();
    let verified = signed.verify().unwrap();
    let key = signed.key.public().id();
    assert_eq!(verified.signature, SignatureState::Trusted { key, name: "author".into() });
    assert_eq!(inspect(&signed.dir, &signed.keyring).unwrap().problems, []);
    let name = signed.dir.file_name().unwrap().to_str().unwrap();
    let package = Package::read_in(signed.root.path(), name).unwrap();
    assert_eq!(package.files().len(), 3);
}

/// Each outcome is another kind, and says what to do.
#[test]
fn each_lack_of_trust_has_its_own_name() {
    let refused = |signed: &Signed, kind, error_kind, says: &str| {
        let problem = signed.verify().unwrap_err();
        assert_eq!(problem.kind, kind, "{problem}");
        assert!(problem.message.contains(says), "{problem}");
        assert!(problem.message.starts_with(&signed.dir.display().to_string()), "{problem}");
        assert_eq!(Error::from(problem).kind(), error_kind);
        Package::read(&signed.dir).unwrap().verify(&signed.keyring, true).is_ok()
    };

    let signed = Signed::new();
    fs::remove_file(signed.file("plugin.toml.sig")).unwrap();
    let denied = ErrorKind::PermissionDenied;
    assert!(refused(&signed, ProblemKind::Unsigned, denied, "--allow-unsigned"), "may be allowed");

    let mut signed = Signed::new();
    signed.keyring.remove("author").unwrap();
    let id = signed.key.public().id().to_string();
    assert!(refused(&signed, ProblemKind::UntrustedKey, denied, &id), "may be allowed");
    assert!(refused(&signed, ProblemKind::UntrustedKey, denied, "storage plugin trust"));

    // One character of the manifest, of the key's id and of the signature.
    let signed = Signed::new();
    signed.edit("plugin.toml", |text| text.replace("by hand", "by Hand"));
    assert!(!refused(&signed, ProblemKind::BadSignature, ErrorKind::Corrupt, "does not fit"));

    let signed = Signed::new();
    signed.edit("plugin.toml.sig", |text| {
        let at = text.len() - 10;
        let mut bytes = text.into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    });
    assert!(!refused(&signed, ProblemKind::BadSignature, ErrorKind::Corrupt, "sign it again"));

    for damaged in ["", "text", "\n\n\n"] {
        signed.edit("plugin.toml.sig", |_| damaged.into());
        assert!(!refused(&signed, ProblemKind::BadSignature, ErrorKind::Corrupt, "damaged"));
    }

    let signed = Signed::new();
    let mut bytes = library().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(signed.file("libexample.so"), &bytes).unwrap();
    assert!(!refused(&signed, ProblemKind::Hash, ErrorKind::Corrupt, "damaged or replaced"));
    let error = sign(&signed.dir, &signed.key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "what does not fit is not signed either");

    bytes.pop();
    fs::write(signed.file("libexample.so"), &bytes).unwrap();
    assert!(!refused(&signed, ProblemKind::Size, ErrorKind::Corrupt, "cut off"));
}

/// A good signature by the trusted key, but of another package.
#[test]
fn a_signature_fits_one_manifest() {
    let signed = Signed::new();
    signed.edit("plugin.toml", |text| text + "\n");
    assert_eq!(signed.verify().unwrap_err().kind, ProblemKind::BadSignature);
    sign(&signed.dir, &signed.key).unwrap();
    assert!(signed.verify().is_ok());
}

/// Another key whose owner wrote the trusted key's id into the signature.
#[test]
fn the_key_counts_and_not_its_id() {
    let signed = Signed::new();
    let path = signed.root.path().join("stranger");
    keygen(&path).unwrap();
    let stranger = PrivateKey::read(&path).unwrap();
    sign(&signed.dir, &stranger).unwrap();
    assert_eq!(signed.verify().unwrap_err().kind, ProblemKind::UntrustedKey);
    let (theirs, trusted) = (stranger.public().id().to_string(), signed.key.public().id().to_string());
    signed.edit("plugin.toml.sig", |text| text.replace(&theirs, &trusted));
    assert_eq!(signed.verify().unwrap_err().kind, ProblemKind::BadSignature);
}

#[test]
fn links_within_a_package_are_not_followed() {
    for name in ["libexample.so", "plugin.toml", "plugin.toml.sig"] {
        let signed = Signed::new();
        let moved = signed.root.path().join("moved");
        fs::rename(signed.file(name), &moved).unwrap();
        symlink(&moved, signed.file(name)).unwrap();
        let problem = Package::read(&signed.dir).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Unreadable);
        assert!(problem.message.contains(name) && problem.message.contains("symbolic link"), "{problem}");
    }
    let signed = Signed::new();
    let plugins = tempfile::tempdir().unwrap();
    symlink(&signed.dir, plugins.path().join("example-1.2.3")).unwrap();
    assert_eq!(Package::read_in(plugins.path(), "example-1.2.3").unwrap_err().kind, ProblemKind::Unreadable);
}

#[test]
fn a_damaged_manifest_is_a_finding() {
    let signed = Signed::new();
    signed.edit("plugin.toml", |text| text.replace("size", "sise"));
    let inspection = inspect(&signed.dir, &Keyring::default()).unwrap();
    assert_eq!(inspection.problems.len(), 1);
    assert_eq!(inspection.problems[0].kind, ProblemKind::Manifest);
    assert!(inspection.problems[0].message.contains("plugin.toml: line "), "{}", inspection.problems[0]);

    fs::remove_file(signed.file("plugin.toml")).unwrap();
    assert_eq!(Package::read(&signed.dir).unwrap_err().kind, ProblemKind::Missing);
}
