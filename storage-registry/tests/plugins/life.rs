//! Installing, updating, rolling back and removing.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::thread;
use std::time::{Duration, SystemTime};

use storage_registry::ErrorKind;
use storage_registry::plugins::{PluginState, ProblemKind, pack};

use crate::common::{Place, version};

#[test]
fn from_install_to_uninstall() {
    let place = Place::new();
    let manager = place.manager();
    let first = place.signed("whole@1.0.0");
    let error = manager.install(&first).unwrap_err();
    assert!(error.message().contains("storage plugin trust"), "{error}");
    assert_eq!(place.states(), "");
    place.trust();
    let installed = manager.install(&first).unwrap();
    assert_eq!((installed.state, installed.path), (PluginState::Enabled, place.inside("whole-1.0.0")));
    assert!(installed.installed_at.is_some() && installed.source.unwrap().ends_with("whole-1.0.0"));
    let error = manager.install(&first).unwrap_err();
    assert!(error.message().contains("installed already"), "{error}");

    let second = place.signed("whole@1.1.0");
    manager.update(&second).unwrap();
    assert_eq!(place.states(), "whole@1.0.0 enabled, whole@1.1.0 enabled");
    for (package, says) in
        [(place.signed("whole@1.0.1"), "not higher"), (place.signed("other@1.0.0"), "not installed")]
    {
        let error = manager.update(&package).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains(says), "{error}");
    }
    let (disabled, used) = manager.rollback("whole").unwrap();
    assert_eq!((disabled.to_string().as_str(), used.to_string().as_str()), ("whole@1.1.0", "whole@1.0.0"));
    assert_eq!(disabled.state, PluginState::Disabled);
    assert!(disabled.reason.unwrap().contains("storage plugin enable"));
    assert_eq!(place.states(), "whole@1.0.0 enabled, whole@1.1.0 disabled");
    assert_eq!(manager.rollback("whole").unwrap_err().kind(), ErrorKind::InvalidInput);
    manager.disable("whole", Some(&version("1.0.0"))).unwrap();
    assert_eq!(manager.enable("whole", None).unwrap().len(), 2);
    assert_eq!(place.states(), "whole@1.0.0 enabled, whole@1.1.0 enabled");
    assert!(manager.verify().unwrap().iter().all(|plugin| plugin.problem.is_none()));

    manager.uninstall("whole", Some(&version("1.1.0"))).unwrap();
    assert_eq!(place.states(), "whole@1.0.0 enabled");
    assert_eq!(manager.uninstall("whole", None).unwrap().len(), 1);
    assert_eq!(place.states(), "");
    for kind in ["copies", "trials", "loading"] {
        let left = fs::read_dir(place.inside(".state").join(kind)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{kind}");
    }
    for error in [
        manager.uninstall("whole", None).unwrap_err(),
        manager.enable("whole", None).unwrap_err(),
        manager.disable("whole", Some(&version("1.0.0"))).unwrap_err(),
        manager.rollback("whole").unwrap_err(),
        manager.untrust("nobody").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

#[test]
fn an_approval_is_for_one_library() {
    let mut place = Place::lenient();
    let file = place.compile("approved@1.0.0", &[]);
    place.manager().install(&file).unwrap();
    place.options.allow_unsigned = false;
    assert_eq!(place.states(), "approved@1.0.0 enabled");
    assert_eq!(place.load().1.loaded().count(), 1);
    let other = place.compile("approved@1.0.0", &[]);
    fs::copy(other, place.inside("approved-1.0.0/libapproved.so")).unwrap();
    assert_eq!(place.states(), "approved@1.0.0 refused");
}

#[test]
fn a_pin_holds_against_a_good_signature() {
    let place = Place::new();
    let package = place.signed("pinned@1.0.0");
    place.trust();
    place.manager().install(&package).unwrap();
    fs::remove_dir_all(&package).unwrap();
    fs::remove_dir_all(place.inside("pinned-1.0.0")).unwrap();
    // What is pinned but gone is a problem, too.
    let gone = place.manager().list().unwrap().remove(0);
    assert_eq!((gone.state, gone.problem), (PluginState::Refused, Some(ProblemKind::Missing)));

    fs::rename(place.signed("pinned@1.0.0"), place.inside("pinned-1.0.0")).unwrap();
    let reason = place.refusal();
    assert!(reason.contains("plugins.lock pins pinned@1.0.0"), "{reason}");
    place.manager().uninstall("pinned", None).unwrap();
    assert_eq!(place.states(), "");
    place
        .manager()
        .install(&{
            fs::remove_dir_all(place.path("dist")).unwrap();
            place.signed("pinned@1.0.0")
        })
        .unwrap();
    assert_eq!(place.states(), "pinned@1.0.0 enabled");
}

#[test]
fn a_key_that_is_trusted_no_longer() {
    let place = Place::new();
    let package = place.signed("untrusted@1.0.0");
    place.trust();
    place.manager().install(&package).unwrap();
    assert_eq!(place.manager().untrust("release").unwrap().name, "release");
    assert_eq!(place.states(), "untrusted@1.0.0 refused");
}

#[test]
fn a_damaged_lock_file_says_where() {
    let place = Place::lenient();
    fs::write(place.inside("plugins.lock"), "[[plugin]]\nnme = \"a\"\n").unwrap();
    let error = place.manager().list().unwrap_err();
    assert!(error.message().contains("plugins.lock: line 2, column 1: unknown key \"nme\""), "{error}");
}

#[test]
fn one_dropped_in_can_be_disabled_and_removed() {
    let place = Place::lenient();
    place.drop_in("dropped@1.0.0", &[]);
    place.manager().disable("dropped", None).unwrap();
    assert_eq!(place.states(), "dropped@1.0.0 disabled");
    // Disabling has pinned it, but not approved it.
    let mut strict = Place { root: place.root, options: place.options };
    strict.options.allow_unsigned = false;
    strict.manager().enable("dropped", None).unwrap();
    assert_eq!(strict.states(), "dropped@1.0.0 refused");
    strict.manager().uninstall("dropped", None).unwrap();
    assert_eq!(strict.states(), "");
}

#[test]
fn what_a_crash_left_behind_is_not_seen_and_goes_away() {
    let place = Place::lenient();
    let (package, _) = pack(&place.compile("left@1.0.0", &[]), &place.path("dist"), None).unwrap();
    fs::create_dir(place.inside(".new-123456")).unwrap();
    fs::copy(package.join("plugin.toml"), place.inside(".new-123456/plugin.toml")).unwrap();
    fs::rename(&package, place.inside(".old-123456")).unwrap();
    assert_eq!(place.states(), "");
    let (old, new) = (place.inside(".state/copies/.new-old"), place.inside(".state/copies/.new-new"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(place.inside(".state/copies")).unwrap();
    for (path, age) in [(&old, 2 * 60 * 60), (&new, 60)] {
        let written = SystemTime::now() - Duration::from_secs(age);
        fs::File::create(path).unwrap().set_modified(written).unwrap();
    }
    place.manager().install(&place.compile("left@1.0.0", &[])).unwrap();
    assert!(!place.inside(".new-123456").exists() && !place.inside(".old-123456").exists());
    // A process that loads plugins may still be writing the other.
    assert!(!old.exists() && new.exists());
}

#[test]
fn changes_at_once_come_one_after_the_other() {
    let place = Place::lenient();
    let files: Vec<_> = (0..6).map(|patch| place.compile(&format!("busy@1.0.{patch}"), &[])).collect();
    thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| place.manager().install(file).unwrap());
        }
    });
    let lock = fs::read_to_string(place.inside("plugins.lock")).unwrap();
    assert_eq!(lock.matches("[[plugin]]").count(), 6, "{lock}");
    assert!(place.manager().list().unwrap().iter().all(|plugin| plugin.state == PluginState::Enabled));

    // A lock that another process holds is waited for.
    let held = fs::File::open(place.inside(".state/lock")).unwrap();
    held.lock().unwrap();
    thread::scope(|scope| {
        let disabling = scope.spawn(|| place.manager().disable("busy", Some(&version("1.0.3"))).unwrap());
        thread::sleep(Duration::from_millis(200));
        assert!(!disabling.is_finished());
        held.unlock().unwrap();
        assert_eq!(disabling.join().unwrap()[0].state, PluginState::Disabled);
    });
}
