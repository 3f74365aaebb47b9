//! A program that runs takes in what is installed.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use storage_registry::plugins::pack;
use storage_registry::{Registry, RegistryEvent};

use crate::common::{Place, block_on, eventually, types, version};

#[test]
fn what_is_installed_while_the_program_runs() {
    let place = Place::lenient();
    place.manager().install(&place.compile("watched@1.0.0", &[])).unwrap();
    let registry = Registry::new();
    let watch = registry.watch_plugins(&place.options).unwrap();
    assert_eq!(watch.directory(), place.inside("").parent().unwrap().join("plugins"));
    assert_eq!(types(&registry), "watched@1.0.0 active");
    let old = block_on(registry.open_backend("watched:")).unwrap();
    let mut events = registry.subscribe();

    place.manager().update(&place.compile("watched@1.1.0", &[])).unwrap();
    let event =
        block_on(async { tokio::time::timeout(Duration::from_secs(30), events.recv()).await.unwrap() });
    let RegistryEvent::Registered(entry) = event.unwrap() else { panic!("another event") };
    assert_eq!(entry.to_string(), "watched@1.1.0");
    let new = block_on(registry.open_backend("watched:")).unwrap();
    assert_eq!((&old.info().version, &new.info().version), (&version("1.0.0"), &version("1.1.0")));

    place.manager().rollback("watched").unwrap();
    eventually("it is not disabled", || types(&registry) == "watched@1.0.0 active, watched@1.1.0 disabled");
    place.manager().uninstall("watched", Some(&version("1.1.0"))).unwrap();
    eventually("it is not removed", || types(&registry) == "watched@1.0.0 active");

    // A file that is copied bit by bit is taken in once it is whole.
    let bytes = fs::read(place.compile("piecemeal@1.0.0", &[])).unwrap();
    let mut file = fs::File::create(place.inside("piecemeal.so")).unwrap();
    for part in bytes.chunks(bytes.len() / 4) {
        file.write_all(part).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    drop(file);
    eventually("it is not loaded", || types(&registry) == "piecemeal@1.0.0 active, watched@1.0.0 active");

    // And so is a package that is copied file by file.
    let (package, _) = pack(&place.compile("copied@1.0.0", &[]), &place.path("dist"), None).unwrap();
    fs::create_dir(place.inside("copied-1.0.0")).unwrap();
    for name in ["plugin.toml", "libcopied.so"] {
        std::thread::sleep(Duration::from_millis(500));
        fs::copy(package.join(name), place.inside("copied-1.0.0").join(name)).unwrap();
    }
    eventually("it is not loaded", || types(&registry).contains("copied@1.0.0 active"));

    drop(watch);
    place.manager().install(&place.compile("late@1.0.0", &[])).unwrap();
    std::thread::sleep(Duration::from_millis(800));
    assert!(registry.resolve("late").is_err());
}

#[test]
fn a_directory_that_is_not_there_yet() {
    let mut place = Place::lenient();
    place.options.dir = Some(place.path("a/b/plugins"));
    let registry = Registry::new();
    let _watch = registry.watch_plugins(&place.options).unwrap();
    place.manager().install(&place.compile("first@1.0.0", &[])).unwrap();
    eventually("it is not loaded", || types(&registry) == "first@1.0.0 active");
}
