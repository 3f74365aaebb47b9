//! Keys and the keyring.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use storage_registry::ErrorKind;
use storage_registry::plugins::{Keyring, PrivateKey, PublicKey, keygen};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_pair_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let (path, public_path) = (dir.path().join("author"), dir.path().join("author.pub"));
    let public = keygen(&path).unwrap();
    assert_eq!((mode(&path), mode(&public_path)), (0o600, 0o644));
    assert_eq!(PublicKey::read(&public_path).unwrap(), public);
    assert_eq!(PrivateKey::read(&path).unwrap().public(), public);

    let before = fs::read(&path).unwrap();
    assert!(keygen(&path).unwrap_err().message().contains("not overwritten"));
    fs::remove_file(&public_path).unwrap();
    assert!(keygen(&path).unwrap_err().message().contains("not overwritten"));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_ne!(keygen(&dir.path().join("other")).unwrap(), public);
}

#[test]
fn a_private_key_is_its_owners_alone_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("author");
    keygen(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let secret = text.lines().nth(1).unwrap();
    let key = PrivateKey::read(&path).unwrap();
    assert!(
        !format!("{key:?}").contains(secret) && format!("{key:?}").contains(&key.public().id().to_string())
    );

    for readable in [0o640, 0o604, 0o620, 0o644] {
        fs::set_permissions(&path, Permissions::from_mode(readable)).unwrap();
        let error = PrivateKey::read(&path).unwrap_err();
        assert!(error.message().contains("chmod 600"), "{readable:o}: {error}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    for damaged in
        ["", secret, &text[..text.len() - 5], &format!("{text}more\n"), &text.replace("private", "public")]
    {
        fs::write(&path, damaged).unwrap();
        let error = PrivateKey::read(&path).unwrap_err();
        assert!(error.message().contains("is no private key"), "{error}");
        assert!(!error.message().contains(secret));
    }
    fs::write(&path, &text).unwrap();
    let error = PublicKey::read(&path).unwrap_err();
    assert!(error.message().contains("public key ed25519") && !error.message().contains(secret), "{error}");
    let error = secret[1..].parse::<PublicKey>().unwrap_err();
    assert!(!error.message().contains(&secret[1..20]), "{error}");
    assert_eq!(PrivateKey::read(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_public_key_is_a_point_of_the_curve() {
    let weak = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for wrong in ["", "AAAA", weak, &"A".repeat(44), "no base64!"] {
        assert!(wrong.parse::<PublicKey>().unwrap_err().message().contains("is no public key"), "{wrong}");
    }
}

#[test]
fn a_keyring_keeps_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(Keyring::FILE);
    assert_eq!(Keyring::read(&path).unwrap(), Keyring::default(), "one that is not there is empty");

    let [first, second] = ["first", "second"].map(|name| keygen(&dir.path().join(name)).unwrap());
    let mut keyring = Keyring::default();
    let id = keyring.add("Ann \"the author\"", first).unwrap();
    keyring.add("Ben", second).unwrap();
    keyring.write(&path).unwrap();
    assert_eq!(mode(&path), 0o644);
    assert_eq!(Keyring::read(&path).unwrap(), keyring);
    assert_eq!(keyring.get(&id).unwrap().key, first);

    assert!(keyring.add("Ben", keygen(&dir.path().join("third")).unwrap()).is_err(), "the name is taken");
    assert!(keyring.add("Cid", first).unwrap_err().message().contains("is there already"));
    assert!(keyring.add("two\nlines", first).is_err());
    let error = keyring.remove("Dan").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("Ben ("), "{error}");
    assert_eq!(keyring.remove("Ben").unwrap().key, second);
    assert_eq!(keyring.remove(&id.to_string()).unwrap().key, first);
    assert!(keyring.keys().is_empty());
}

#[test]
fn a_keyring_that_others_can_change_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(Keyring::FILE);
    Keyring::default().write(&path).unwrap();
    for writable in [0o666, 0o664, 0o646] {
        fs::set_permissions(&path, Permissions::from_mode(writable)).unwrap();
        let error = Keyring::read(&path).unwrap_err();
        assert!(error.message().contains("chmod 644"), "{writable:o}: {error}");
    }
}

#[test]
fn a_damaged_keyring_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(Keyring::FILE);
    let key = keygen(&dir.path().join("author")).unwrap();
    let good = format!("[[key]]\nname = \"a\"\nkey = \"{key}\"\nadded = \"2026-01-01T00:00:00Z\"\n");
    for (text, says) in [
        (
            good.replace("[[key]]", "[[keys]]"),
            "line 1, column 3: unknown key \"keys\", did you mean \"key\"?",
        ),
        (good.replace("name", "nmae"), "line 2, column 1: unknown key \"nmae\", did you mean \"name\"?"),
        (good.replace(&key.to_string(), "x"), "line 3, column 7"),
        (format!("{good}{good}"), "is there already"),
        ("key = 1".to_owned(), "line 1, column 7"),
        ("key = [1]".to_owned(), "line 1, column 8"),
    ] {
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let error = Keyring::read(&path).unwrap_err();
        assert!(error.message().contains(says) && error.message().contains(Keyring::FILE), "{text}: {error}");
    }
}
