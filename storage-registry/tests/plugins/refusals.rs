//! One bad file is refused, says why, and harms neither the program nor another plugin.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, Instant};

use storage_registry::plugins::{PluginState, ProblemKind, pack};
use storage_registry::{ErrorKind, MEMORY, Registry, TypeDescriptor as _};

use crate::common::{Place, states};

#[test]
fn files_that_are_no_plugins() {
    let place = Place::lenient();
    let good = fs::read(place.drop_in("good@1.0.0", &[])).unwrap();
    let truncated = &good[..good.len() / 2];
    for (name, content) in [("empty.so", &b""[..]), ("text.so", b"text\n"), ("truncated.so", truncated)] {
        fs::write(place.inside(name), content).unwrap();
    }
    fs::create_dir(place.inside("directory")).unwrap();
    fs::create_dir(place.inside("directory.so")).unwrap();
    symlink(place.inside("good-1.0.0.so"), place.inside("link.so")).unwrap();
    symlink("/nowhere", place.inside("dangling.so")).unwrap();
    symlink(place.root.path(), place.inside("linked-directory")).unwrap();
    // These are none of its business.
    fs::write(place.inside("README"), "text").unwrap();
    fs::write(place.inside(".hidden.so"), "text").unwrap();

    let (registry, report) = place.load();
    let refused: Vec<_> = (report.refused())
        .map(|plugin| (plugin.path.file_name().unwrap().to_str().unwrap(), plugin.reason.as_deref().unwrap()))
        .collect();
    for (name, says) in [
        ("directory", "plugin.toml"),
        ("linked-directory", "symbolic link"),
        ("dangling.so", "symbolic link"),
        ("directory.so", "plugin.toml"),
        ("empty.so", "empty"),
        ("link.so", "symbolic link"),
        ("text.so", "ELF"),
        ("truncated.so", "no intact shared library"),
    ] {
        let reason =
            refused.iter().find(|(refused, _)| *refused == name).unwrap_or_else(|| panic!("{name}")).1;
        assert!(reason.contains(says), "{name}: {reason}");
    }
    assert_eq!(refused.len(), 8, "{refused:?}");
    assert_eq!(report.loaded().count(), 1);
    assert_eq!(registry.resolve("good").unwrap().summary, "a type for tests");
}

#[test]
fn plugins_that_cannot_be_loaded() {
    for (macros, says) in [
        (&["CONSTRUCTOR_ABORTS"][..], "SIGABRT"),
        (&["INIT_ABORTS"], "SIGABRT"),
        (&["INIT_FAILS"], "the licence has run out"),
        (&["DESCRIPTOR_MAGIC=1"], "magic"),
        (&["DESCRIPTOR_MAJOR=2"], "2.0"),
        (&["DESCRIPTOR_VERSION=\"1.0.1\""], "1.0.1"),
        (&["NULL_DESCRIPTOR"], "null"),
        (&["NULL_FUNCTIONS"], "null"),
        (&["NULL_FUNCTION"], "cancel"),
        (&["NO_ENTRY"], "storage_plugin_entry"),
    ] {
        let place = Place::lenient();
        place.drop_in("bad@1.0.0", macros);
        let reason = place.refusal();
        assert!(reason.to_lowercase().contains(&says.to_lowercase()), "{macros:?}: {reason}");
        // What a process that ended has said is told.
        assert!(macros != ["CONSTRUCTOR_ABORTS"] || reason.contains("no use"), "{reason}");
        assert!(place.manager().trial(&place.inside("bad-1.0.0.so")).is_err());
        let error = place.manager().install(&place.inside("bad-1.0.0.so")).unwrap_err();
        assert!(error.message().contains("bad-1.0.0.so"), "{error}");
    }
}

#[test]
fn an_init_that_hangs_ends_with_its_limit() {
    let mut place = Place::lenient();
    place.drop_in("hangs@1.0.0", &["INIT_HANGS"]);
    place.options.limits.init = Duration::from_millis(300);
    let started = Instant::now();
    let reason = place.refusal();
    assert!(reason.contains("300ms"), "{reason}");
    // And if the process itself hangs, it is killed.
    place.options.limits.init = Duration::from_secs(600);
    place.options.trial.limit = Duration::from_millis(500);
    let reason = place.refusal();
    assert!(reason.contains("did not load within 500ms"), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_a_plugin_prints_is_no_answer() {
    let place = Place::lenient();
    place.drop_in("prints@1.0.0", &["INIT_PRINTS"]);
    assert_eq!(states(&place.load().1.plugins), "prints@1.0.0 enabled");
}

#[test]
fn what_nobody_vouches_for() {
    let mut place = Place::new();
    place.drop_in("bare@1.0.0", &[]);
    assert!(place.refusal().contains("--allow-unsigned"));
    fs::remove_file(place.inside("bare-1.0.0.so")).unwrap();

    let package = place.signed("signed@1.0.0");
    fs::rename(&package, place.inside("signed-1.0.0")).unwrap();
    assert!(place.refusal().contains("storage plugin trust"));
    place.trust();
    assert_eq!(states(&place.load().1.plugins), "signed@1.0.0 enabled");

    let signature = place.inside("signed-1.0.0/plugin.toml.sig");
    let saved = fs::read(&signature).unwrap();
    fs::write(&signature, "rubbish").unwrap();
    // A bad signature is no missing one, whatever is allowed.
    place.options.allow_unsigned = true;
    assert!(place.refusal().contains("signature"));
    fs::write(&signature, saved).unwrap();

    let library = place.inside("signed-1.0.0/libsigned.so");
    let mut bytes = fs::read(&library).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&library, bytes).unwrap();
    let plugin = place.load().1.plugins.remove(0);
    assert_eq!((plugin.state, plugin.problem), (PluginState::Refused, Some(ProblemKind::Hash)), "{plugin:?}");
}

#[test]
fn a_manifest_with_unknown_keys() {
    let place = Place::lenient();
    let (package, _) = pack(&place.compile("keys@1.0.0", &[]), &place.inside(""), None).unwrap();
    let manifest = package.join("plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("sumary = \"x\"\n{text}")).unwrap();
    assert!(place.refusal().contains("did you mean \"summary\""));
}

#[test]
fn duplicates_of_linked_in_types_and_of_each_other() {
    let place = Place::lenient();
    place.drop_in(&format!("memory@{}", MEMORY.version()), &[]);
    place.drop_in("twice@1.0.0", &[]);
    fs::rename(place.compile("twice@1.0.0", &[]), place.inside("twice-again.so")).unwrap();
    let registry = Registry::linked();
    let report = registry.load_plugins(&place.options).unwrap();
    let memory = MEMORY.version();
    assert_eq!(
        states(&report.plugins),
        format!("memory@{memory} refused, twice@1.0.0 enabled, twice@1.0.0 refused")
    );
    let reasons: Vec<_> = report.refused().map(|plugin| plugin.reason.as_deref().unwrap()).collect();
    assert!(reasons[0].contains("this program itself"), "{reasons:?}");
    assert!(reasons[1].contains("twice"), "{reasons:?}");
    assert!(report.refused().all(|plugin| plugin.problem == Some(ProblemKind::Duplicate)));
}

#[test]
fn a_directory_that_others_can_change() {
    let place = Place::lenient();
    place.drop_in("any@1.0.0", &[]);
    for mode in [0o777, 0o775, 0o757] {
        fs::set_permissions(place.inside(""), Permissions::from_mode(mode)).unwrap();
        for error in [
            Registry::new().load_plugins(&place.options).unwrap_err(),
            Registry::new().watch_plugins(&place.options).unwrap_err(),
            place.manager().list().unwrap_err(),
            place.manager().install(&place.inside("any-1.0.0.so")).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{mode:o}");
            assert!(error.message().contains("chmod 755"), "{error}");
        }
    }
    fs::set_permissions(place.inside(""), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(place.load().1.loaded().count(), 1);
    fs::set_permissions(place.inside(".state"), Permissions::from_mode(0o755)).unwrap();
    let error = Registry::new().load_plugins(&place.options).unwrap_err();
    assert!(error.message().contains("chmod 700"), "{error}");
}

#[test]
fn no_program_to_try_a_plugin_in() {
    let mut place = Place::lenient();
    place.drop_in("untried@1.0.0", &[]);
    // This test has not called `run_trial_if_asked`, and there is nothing beside it.
    place.options.trial.program = None;
    assert!(place.refusal().contains("run_trial_if_asked"));
    place.options.trial.program = Some("/nowhere/trial".into());
    assert!(place.refusal().contains("/nowhere/trial"));
    // A program that knows nothing of trials is no good either.
    place.options.trial.program = Some("/bin/true".into());
    assert!(place.refusal().contains("did not answer"));
}
