//! Loading: what is remembered, and what later calls take in.

use std::fs;

use storage_registry::plugins::PluginOptions;
use storage_registry::{ErrorKind, Origin, Registry};

use crate::common::{Place, block_on, states, types, version};

#[test]
fn a_missing_directory_is_empty() {
    let place = Place::new();
    let options = PluginOptions { dir: Some(place.path("nowhere")), ..place.options.clone() };
    assert!(Registry::new().load_plugins(&options).unwrap().plugins.is_empty());
    assert!(!place.path("nowhere").exists());
}

#[test]
fn a_plugin_is_a_type_like_any_other() {
    let place = Place::lenient();
    let file = place.drop_in("typical@1.2.0", &[]);
    let (registry, report) = place.load();
    assert_eq!(states(&report.plugins), "typical@1.2.0 enabled");
    let entry = registry.resolve("typical@^1.1").unwrap();
    let sha256 = report.plugins[0].sha256.unwrap().to_string();
    assert_eq!(entry.origin, Origin::Plugin { path: file, sha256 });
    let backend = block_on(registry.open_backend("typical:")).unwrap();
    assert_eq!((backend.info().name.as_str(), &backend.info().version), ("typical", &version("1.2.0")));
    // Another registry of the same process shares the library, which cannot be loaded twice.
    let (other, _) = place.load();
    assert!(block_on(other.open_backend("typical:")).is_ok());
}

#[test]
fn a_trial_is_made_once() {
    let mut place = Place::lenient();
    place.drop_in("tried@1.0.0", &[]);
    assert_eq!(place.load().1.loaded().count(), 1);
    place.options.trial.program = Some("/nowhere/trial".into());
    assert_eq!(place.load().1.loaded().count(), 1);
}

#[test]
fn the_copy_is_private_and_read_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::lenient();
    let file = place.drop_in("copied@1.0.0", &[]);
    let sha256 = place.load().1.plugins[0].sha256.unwrap();
    let copy = place.inside(&format!(".state/copies/copied-1.0.0-{sha256}.so"));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&copy), mode(&place.inside(".state"))), (0o400, 0o700));
    assert!(fs::read_to_string("/proc/self/maps").unwrap().contains(copy.to_str().unwrap()));
    // Overwriting the file that was dropped in does not reach the loaded one.
    fs::write(&file, "overwritten").unwrap();
    assert_eq!(place.states(), format!("{} refused", file.display()));
    // A copy that was tampered with is found out, and made anew.
    fs::copy(place.compile("copied@1.0.0", &[]), &file).unwrap();
    let sha256 = place.load().1.plugins[0].sha256.unwrap();
    let copy = place.inside(&format!(".state/copies/copied-1.0.0-{sha256}.so"));
    fs::remove_file(&copy).unwrap();
    fs::write(&copy, "tampered").unwrap();
    assert_eq!(states(&place.manager().verify().unwrap()), "copied@1.0.0 refused");
}

#[test]
fn later_calls_take_in_what_has_changed() {
    let place = Place::lenient();
    let registry = Registry::new();
    let reload = || {
        registry.load_plugins(&place.options).unwrap();
        types(&registry)
    };
    let manager = place.manager();
    manager.install(&place.compile("changing@1.0.0", &[])).unwrap();
    assert_eq!(reload(), "changing@1.0.0 active");
    let store = block_on(registry.open_backend("changing:")).unwrap();
    manager.update(&place.compile("changing@1.1.0-rc.1", &[])).unwrap();
    manager.update(&place.compile("changing@1.1.0", &[])).unwrap();
    assert_eq!(reload(), "changing@1.0.0 active, changing@1.1.0-rc.1 experimental, changing@1.1.0 active");
    assert_eq!(registry.resolve("changing").unwrap().version, version("1.1.0"));
    assert_eq!(store.info().version, version("1.0.0"));
    manager.rollback("changing").unwrap();
    assert_eq!(reload(), "changing@1.0.0 active, changing@1.1.0-rc.1 experimental, changing@1.1.0 disabled");
    assert_eq!(registry.resolve("changing").unwrap().version, version("1.0.0"));
    manager.enable("changing", Some(&version("1.1.0"))).unwrap();
    manager.uninstall("changing", Some(&version("1.0.0"))).unwrap();
    assert_eq!(reload(), "changing@1.1.0-rc.1 experimental, changing@1.1.0 active");
    // The same version of another build, in the same place.
    manager.uninstall("changing", None).unwrap();
    manager.install(&place.compile("changing@1.1.0", &[])).unwrap();
    assert_eq!(reload(), "changing@1.1.0 active");
    fs::remove_dir_all(place.inside("")).unwrap();
    assert_eq!(reload(), "");
    block_on(store.close()).unwrap();
}

#[test]
fn one_that_is_disabled_is_known_but_not_loaded() {
    let place = Place::lenient();
    place.manager().install(&place.compile("off@1.0.0", &[])).unwrap();
    place.manager().disable("off", None).unwrap();
    let (registry, report) = place.load();
    assert_eq!(
        (types(&registry).as_str(), states(&report.plugins).as_str()),
        ("off@1.0.0 disabled", "off@1.0.0 disabled")
    );
    assert!(!fs::read_to_string("/proc/self/maps").unwrap().contains("/off-1.0.0-"));
    let error = block_on(registry.open("off:")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("disabled"), "{error}");
    place.manager().enable("off", None).unwrap();
    registry.load_plugins(&place.options).unwrap();
    assert!(block_on(registry.open("off:")).is_ok());
}

#[test]
fn a_plugin_that_is_not_installed() {
    let mut place = Place::new();
    let file = place.compile("alone@1.0.0", &[]);
    let registry = Registry::new();
    let error = registry.load_plugin(&file, &place.options).unwrap_err();
    assert!(error.message().contains("--allow-unsigned"), "{error}");
    place.options.allow_unsigned = true;
    let entry = registry.load_plugin(&file, &place.options).unwrap();
    assert_eq!(entry.to_string(), "alone@1.0.0");
    assert!(block_on(registry.open_backend("alone:")).is_ok());
    assert_eq!(fs::read_dir(place.inside("")).unwrap().count(), 0);
    // Nor does it matter that it is there already.
    assert!(Registry::new().load_plugin(&file, &place.options).is_ok());
}
