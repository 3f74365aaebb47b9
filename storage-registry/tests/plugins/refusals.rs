//! One bad file is refused, says why, and harms neither the program nor another plugin.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, Instant};

use storage_registry::plugins::{PluginState, ProblemKind};
use storage_registry::{ErrorKind, MEMORY, Registry, TypeDescriptor as _};

use crate::common::{Place, flipped, states};

#[test]
fn files_that_are_no_plugins() {
    let place = Place::lenient();
    let good = fs::read(place.drop_in("good@1.0.0", &[])).unwrap();
    // As on a machine of the other kind.
    let mut foreign = good.clone();
    foreign[18] = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
    for (name, content) in [("empty.so", &b""[..]), ("text.so", b"text\n"), ("foreign.so", &foreign)] {
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
        ("foreign.so", std::env::consts::ARCH),
    ] {
        let reason =
            refused.iter().find(|(refused, _)| *refused == name).unwrap_or_else(|| panic!("{name}")).1;
        assert!(reason.contains(says), "{name}: {reason}");
    }
    assert_eq!(refused.len(), 8, "{refused:?}");
    assert_eq!(report.loaded().count(), 1);
    assert_eq!(registry.resolve("good").unwrap().summary, "a type for tests");
}

/// Loading such a file would end the process.
#[test]
fn files_that_are_cut_off() {
    let place = Place::new();
    let package = place.signed("cut@1.0.0");
    place.trust();
    fs::rename(package, place.inside("cut-1.0.0")).unwrap();
    let library = place.inside("cut-1.0.0/libcut.so");
    let whole = fs::read(&library).unwrap();
    for tenth in 1..10 {
        fs::write(&library, &whole[..whole.len() * tenth / 10]).unwrap();
        let (_, report) = place.load();
        assert_eq!(report.plugins[0].problem, Some(ProblemKind::Size), "{report:?}");
    }

    let mut bare = Place::lenient();
    // Nothing but the check of the file itself keeps it from being tried.
    bare.options.trial.program = Some("/nowhere/trial".into());
    for tenth in 1..10 {
        fs::write(bare.inside("cut.so"), &whole[..whole.len() * tenth / 10]).unwrap();
        let (_, report) = bare.load();
        assert_eq!(report.plugins[0].problem, Some(ProblemKind::NotALibrary), "{report:?}");
    }
}

#[test]
fn plugins_that_cannot_be_loaded() {
    for (macros, says) in [
        (&["CONSTRUCTOR_ABORTS"][..], "SIGABRT"),
        (&["INIT_ABORTS"], "SIGABRT"),
        (&["INIT_FAILS"], "the licence has run out"),
        (&["DESCRIPTOR_MAGIC=1"], "magic"),
        (&["DESCRIPTOR_MAJOR=2"], "2.0"),
        (&["DESCRIPTOR_VERSION=\"1.0.1\""], "its note says bad@1.0.0, and the loaded plugin bad@1.0.1"),
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
fn one_that_is_another_outside_of_the_trial() {
    let place = Place::lenient();
    let file = place.drop_in("liar@1.0.0", &["LIES_IN_EARNEST"]);
    assert!(place.manager().trial(&file).is_ok(), "it takes the trial in");
    let (registry, report) = place.load();
    assert!(registry.list().is_empty(), "{report:?}");
    assert_eq!(report.plugins[0].problem, Some(ProblemKind::Contradiction), "{report:?}");
    assert!(report.plugins[0].reason.as_deref().unwrap().contains("liar@9.9.9"), "{report:?}");
    assert!(Registry::new().load_plugin(&file, &place.options).is_err());
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
    // A bad signature is no missing one, whatever is allowed.
    place.options.allow_unsigned = true;
    let problem = |place: &Place| {
        let (registry, report) = place.load();
        assert!(registry.list().is_empty(), "{report:?}");
        report.plugins[0].problem
    };
    let other = fs::read(place.signed("other@1.0.0").join("plugin.toml.sig")).unwrap();
    for bad in [&b"rubbish"[..], b"", &saved[..saved.len() / 2], &other] {
        fs::write(&signature, bad).unwrap();
        assert_eq!(problem(&place), Some(ProblemKind::BadSignature));
    }
    place.options.allow_unsigned = false;
    fs::remove_file(&signature).unwrap();
    assert_eq!(problem(&place), Some(ProblemKind::Unsigned));
    fs::write(&signature, &saved).unwrap();
    let keyring = place.inside("trusted-keys.toml");
    let trusted = fs::read(&keyring).unwrap();
    fs::write(&keyring, "").unwrap();
    assert_eq!(problem(&place), Some(ProblemKind::UntrustedKey));
    fs::write(&keyring, trusted).unwrap();

    let library = place.inside("signed-1.0.0/libsigned.so");
    let whole = fs::read(&library).unwrap();
    for seed in 0..200 {
        fs::write(&library, flipped(&whole, seed, &(0..0))).unwrap();
        let plugin = place.load().1.plugins.remove(0);
        let refused = (plugin.state, plugin.problem);
        assert_eq!(refused, (PluginState::Refused, Some(ProblemKind::Hash)), "{seed}: {plugin:?}");
    }
    fs::write(&library, whole).unwrap();
    assert_eq!(states(&place.load().1.plugins), "signed@1.0.0 enabled");
}

#[test]
fn a_manifest_with_unknown_keys() {
    let place = Place::lenient();
    // Its manifest has all that a manifest can have.
    place.manager().install(&place.compile("keys@1.0.0", &[])).unwrap();
    let manifest = place.inside("keys-1.0.0/plugin.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    for (changed, says) in [
        (format!("sumary = \"x\"\n{text}"), "did you mean \"summary\""),
        (format!("{text}\nsummary = \"x\"\n"), "unknown key \"summary\""),
        (format!("{text}\npage_lenght = 7\n"), "did you mean \"page_len\""),
        (text.replace("atomic_scope", "atomic_scop"), "did you mean \"atomic_scope\""),
        (format!("{text}\n[later]\nkey = 1\n"), "unknown key \"later\""),
    ] {
        assert_ne!(changed, text);
        fs::write(&manifest, changed).unwrap();
        let reason = place.refusal();
        assert!(reason.contains(says) && reason.contains("plugin.toml: line "), "{reason}");
    }
    fs::write(&manifest, text).unwrap();
    assert_eq!(place.states(), "keys@1.0.0 enabled");
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
