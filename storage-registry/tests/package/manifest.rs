//! `plugin.toml`.

use std::fs;

use serde_json::json;
use storage_registry::plugins::{Description, Manifest, Package, ProblemKind, host_target, pack};
use storage_registry::{Capabilities, Feature, MEMORY, TypeDescriptor};

use crate::support::{Signed, library, packed};

fn text() -> String {
    let (_root, dir) = packed();
    fs::read_to_string(dir.join("plugin.toml")).unwrap()
}

#[test]
fn a_package_holds_what_the_library_says() {
    let (_root, dir) = packed();
    assert!(dir.ends_with("example-1.2.3"));
    let package = Package::read(&dir).unwrap();
    let manifest = package.manifest().unwrap();
    assert_eq!((manifest.name.as_str(), manifest.version.to_string().as_str()), ("example", "1.2.3"));
    assert_eq!((manifest.abi.to_string().as_str(), &manifest.target), ("1.0", &host_target()));
    assert_eq!((manifest.size, manifest.sha256), (library().len() as u64, package.sha256()));
    assert_eq!((manifest.file.as_str(), manifest.built_with.as_str()), ("libexample.so", "by hand"));
    assert!(manifest.capabilities.is_none() && manifest.config_schema.is_none());
    assert_eq!(package.library(), library());
    assert_eq!(package.files().len(), 2, "library and manifest");
}

#[test]
fn a_description_survives_the_file() {
    let root = tempfile::tempdir().unwrap();
    let bare = root.path().join("plugin.so");
    fs::write(&bare, library()).unwrap();
    let mut capabilities = MEMORY.capabilities().emulated(Feature::Sort, "reads all");
    capabilities.limits.value_bytes = usize::MAX;
    let said = Description {
        name: "example".into(),
        version: "1.2.3".parse().unwrap(),
        capabilities,
        // Null and quotes have no form in TOML and a special one.
        config_schema: json!({"type": "object", "default": null, "title": "\"''' quoted"}),
        ..Description::of(&MEMORY)
    };
    let (dir, written) = pack(&bare, root.path(), Some(&said)).unwrap();
    let package = Package::read(&dir).unwrap();
    let read = package.manifest().unwrap();
    assert_eq!(read.config_schema, Some(said.config_schema.clone()));
    assert_eq!((&read.schemes, &read.summary), (&Some(said.schemes.clone()), &Some(said.summary.clone())));
    let offered = read.capabilities.clone().unwrap();
    assert_eq!(offered.features, said.capabilities.features);
    assert_eq!(offered.limits.value_bytes, i64::MAX as usize, "the largest integer of TOML");
    assert_eq!((&written.name, written.size), (&read.name, read.size));

    let other = Description { name: "other".into(), ..said };
    let elsewhere = root.path().join("elsewhere");
    assert!(
        pack(&bare, &elsewhere, Some(&other)).unwrap_err().message().contains("so that both say the same")
    );
    assert!(!elsewhere.exists(), "nothing is left behind");
}

#[test]
fn a_package_is_not_overwritten() {
    let (root, dir) = packed();
    let error = pack(&root.path().join("plugin.so"), root.path(), None).unwrap_err();
    assert!(error.message().contains("exists already"), "{error}");
    let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(pack(&dir, root.path(), None).unwrap_err().message().contains("is a package already"));
}

#[test]
fn mistakes_are_named_with_their_place() {
    let good = text();
    assert!(good.parse::<Manifest>().is_ok());
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} in {good}");
        good.replace(from, to).parse::<Manifest>().unwrap_err().message().to_owned()
    };
    let message = replaced("version = ", "versoin = ");
    assert!(
        message.starts_with("line 2, column 1: unknown key \"versoin\", did you mean \"version\"?"),
        "{message}"
    );
    assert!(replaced("name = \"example\"", "").contains("missing field `name`"));
    assert!(replaced("\"example\"", "\"Example\"").contains("type name \"Example\" is not valid"));
    assert!(replaced("\"1.2.3\"", "\"1.2\"").starts_with("line 2, column 11: "));
    assert!(replaced("abi = \"1.0\"", "abi = \"one\"").contains("major.minor"));
    assert!(replaced("abi = \"1.0\"", "abi = 1.0").contains("invalid type"));
    for file in ["../libexample.so", "/lib/x.so", ".hidden", "", "plugin.toml", "a\\u0000b"] {
        assert!(
            replaced("\"libexample.so\"", &format!("\"{file}\"")).contains("is not the name of a file"),
            "{file}"
        );
    }
    assert!(replaced("sha256 = \"", "sha256 = \"0").contains("no SHA-256 digest"));
    assert!(replaced("built_with = \"by hand\"", "built_with = \"two\\nlines\"").contains("one line"));
    assert!(replaced("size = ", "size = -").starts_with("line 7, column 8"));
    assert!(replaced("abi = ", "schemes = [\"No\"]\nabi = ").contains("URL scheme"));
    assert!(replaced("abi = ", "config_schema = \"[]\"\nabi = ").contains("JSON object"));
    assert!(replaced("abi = ", "config_schema = \"{\"\nabi = ").contains("line 4, column 17"));
    for table in ["capabilities", "capabilities.limits"] {
        let message = format!("{good}\n[{table}]\nbatch_size = 1\n").parse::<Manifest>().unwrap_err();
        assert!(message.message().contains("unknown key \"batch_size\""), "{message}");
    }
    for garbage in ["= = =", "name = \"", "[[[", "\u{feff}\u{0}", &"[".repeat(10_000), &"a.".repeat(10_000)] {
        assert!(garbage.parse::<Manifest>().is_err());
    }
}

#[test]
fn limits_that_an_earlier_version_did_not_know_are_the_default() {
    let offered = Capabilities::none().native([Feature::Get]);
    let mut capabilities = toml::Table::try_from(&offered).unwrap();
    let limits = capabilities["limits"].as_table_mut().unwrap();
    assert!(limits.remove("atomic_len").is_some() && limits.remove("atomic_bytes").is_some());
    let table: toml::Table = toml::Table::from_iter([("capabilities".to_owned(), capabilities.into())]);
    let manifest: Manifest = format!("{}\n{table}", text()).parse().unwrap();
    assert_eq!(manifest.capabilities, Some(offered));
}

#[test]
fn features_of_later_versions_are_left_out() {
    let mut capabilities = toml::Table::try_from(Capabilities::none().native([Feature::Get])).unwrap();
    capabilities["features"].as_table_mut().unwrap().insert("time_travel".into(), "native".into());
    let table: toml::Table = toml::Table::from_iter([("capabilities".to_owned(), capabilities.into())]);
    let manifest: Manifest = format!("{}\n{table}", text()).parse().unwrap();
    assert_eq!(manifest.capabilities, Some(Capabilities::none().native([Feature::Get])));
}

#[test]
fn manifest_and_library_say_the_same() {
    for (from, to) in [
        ("name = \"example\"", "name = \"other\""),
        ("version = \"1.2.3\"", "version = \"1.2.4\""),
        ("abi = \"1.0\"", "abi = \"1.1\""),
        (&format!("target = \"{}", host_target()), "target = \"mips-unknown-linux-gnu"),
    ] {
        let signed = Signed::new();
        signed.edit("plugin.toml", |text| {
            assert!(text.contains(from), "{from} in {text}");
            text.replace(from, to)
        });
        storage_registry::plugins::sign(&signed.dir, &signed.key).unwrap();
        let problem = signed.verify().unwrap_err();
        assert_eq!(problem.kind, ProblemKind::Contradiction, "{problem}");
    }
    let signed = Signed::new();
    signed.edit("plugin.toml", |text| text.replace("glibc = \"2.", "glibc = \"9."));
    storage_registry::plugins::sign(&signed.dir, &signed.key).unwrap();
    assert_eq!(signed.verify().unwrap_err().kind, ProblemKind::Incompatible);
}
