//! A directory that this user cannot change: one of root, or on a read-only disk.

use std::env;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind as Io, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};

use storage_registry::{ErrorKind, Registry};

use crate::common::{Place, block_on, types};

/// Where the other process finds the plugin directory, and what it does.
const DIRECTORY: &str = "PLUGIN_TEST_SHARED_DIRECTORY";
const TASK: &str = "PLUGIN_TEST_SHARED_TASK";
/// A user who owns nothing.
const NOBODY: u32 = 65_534;

#[test]
fn as_a_user_who_cannot_change_it() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let mut place = Place::lenient();
    place.options.dir = Some(directory.into());
    let registry = Registry::new();
    let watch = registry.watch_plugins(&place.options).unwrap();
    match env::var(TASK).unwrap().as_str() {
        "use" => {
            assert_eq!(types(&registry), "deadly@1.0.0 active, shared@1.0.0 active");
            assert!(block_on(registry.open_backend("shared:")).is_ok());
            let error = place.manager().install(&place.compile("mine@1.0.0", &[])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            let error = place.manager().disable("shared", None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        }
        "die" => drop(block_on(registry.open_backend("deadly:"))),
        "recover" => {
            assert_eq!(types(&registry), "deadly@1.0.0 quarantined, shared@1.0.0 active");
            place.manager().enable("deadly", None).unwrap();
            registry.load_plugins(&place.options).unwrap();
            assert_eq!(types(&registry), "deadly@1.0.0 active, shared@1.0.0 active");
        }
        task => panic!("{task}"),
    }
    drop(watch);
}

/// None if that user cannot run this test.
fn run_as_other(place: &Place, cache: &Path, task: &str) -> Option<ExitStatus> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "shared::as_a_user_who_cannot_change_it"]);
    command.env(DIRECTORY, place.inside("")).env(TASK, task).env("XDG_CACHE_HOME", cache).current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    match command.output() {
        Ok(output) => {
            let (out, error) = (&output.stdout, &output.stderr);
            let said = format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error));
            assert!(task == "die" || output.status.success(), "{task}: {said}");
            Some(output.status)
        }
        Err(error) if error.kind() == Io::PermissionDenied => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_is_written_goes_to_the_users_cache() {
    let place = Place::lenient();
    place.drop_in("shared@1.0.0", &[]);
    place.drop_in("deadly@1.0.0", &["OPEN_ABORTS"]);
    let cache = place.path("cache");
    fs::create_dir(&cache).unwrap();
    // Its owner has used it already: that part is no business of others.
    assert_eq!(place.load().1.loaded().count(), 2);
    let before = fs::read_dir(place.inside(".state/trials")).unwrap().count();
    fs::set_permissions(place.root.path(), Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(&cache, Some(NOBODY), Some(NOBODY)).unwrap();
    } else {
        fs::set_permissions(place.inside(""), Permissions::from_mode(0o555)).unwrap();
    }

    let ran = run_as_other(&place, &cache, "use").is_some();
    if ran {
        let killed = run_as_other(&place, &cache, "die").unwrap();
        assert!(!killed.success());
        run_as_other(&place, &cache, "recover");
        let states: Vec<_> = fs::read_dir(cache.join("storage/plugins")).unwrap().collect();
        let [Ok(state)] = &states[..] else { panic!("{states:?}") };
        assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(state.path().join("copies")).unwrap().count(), 2);
        assert_eq!(fs::read_dir(place.inside(".state/trials")).unwrap().count(), before);
        // Another user's trouble is none of the owner's.
        assert_eq!(place.states(), "deadly@1.0.0 enabled, shared@1.0.0 enabled");
    } else {
        writeln!(
            io::stderr(),
            "not run: a plugin directory of root used by another user, who cannot read this test"
        )
        .unwrap();
    }
    fs::set_permissions(place.inside(""), Permissions::from_mode(0o755)).unwrap();
}
