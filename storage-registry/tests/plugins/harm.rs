//! Plugins that end the process are quarantined at the next start; those that misbehave are disabled in this one.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use storage_registry::plugins::PluginState;
use storage_registry::{ErrorKind, Registry, RegistryEvent, Status};

use crate::common::{Place, block_on, eventually, states, types};

/// Where the other process finds the plugin directory, and which plugin it opens.
const DIRECTORY: &str = "PLUGIN_TEST_DIRECTORY";
const OPENED: &str = "PLUGIN_TEST_OPENED";

/// Runs [`a_process_of_its_own`] there.
fn run_elsewhere(place: &Place, opened: &str) -> ExitStatus {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "harm::a_process_of_its_own"]);
    command.env(DIRECTORY, place.inside("")).env(OPENED, opened);
    command.output().unwrap().status
}

#[test]
fn a_process_of_its_own() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let mut place = Place::lenient();
    place.options.dir = Some(directory.into());
    let (registry, _) = place.load();
    let opened = env::var(OPENED).unwrap();
    if !opened.is_empty() {
        let _ = block_on(registry.open_backend(&opened));
    }
}

fn markers(place: &Place) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(place.inside(".state/loading"));
    entries.map_or_else(|_| Vec::new(), |entries| entries.map(|entry| entry.unwrap().path()).collect())
}

#[test]
fn one_that_ends_the_process_while_it_is_loaded() {
    let place = Place::lenient();
    place.drop_in("loads@1.0.0", &["ABORTS_IN_EARNEST"]);
    place.drop_in("innocent@1.0.0", &[]);
    assert!(!run_elsewhere(&place, "").success());
    let (registry, report) = place.load();
    assert_eq!(states(&report.plugins), "innocent@1.0.0 enabled, loads@1.0.0 quarantined");
    let reason = report.plugins[1].reason.clone().unwrap();
    assert!(
        reason.contains("while it was loaded") && reason.contains("storage plugin enable loads@1.0.0"),
        "{reason}"
    );
    // It is known as a type, and says why it cannot be used.
    let error = block_on(registry.open("loads:")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("while it was loaded"), "{error}");
    assert!(run_elsewhere(&place, "").success(), "the next start goes on without it");
    assert!(markers(&place).is_empty());
}

#[test]
fn one_that_ends_the_process_while_it_opens() {
    let place = Place::lenient();
    place.manager().install(&place.compile("opens@1.0.0", &["OPEN_ABORTS"])).unwrap();
    assert!(run_elsewhere(&place, "").success());
    assert_eq!(place.states(), "opens@1.0.0 enabled");
    assert!(!run_elsewhere(&place, "opens:").success());
    assert_eq!(place.states(), "opens@1.0.0 quarantined");
    let error = place.manager().install(&place.compile("opens@1.0.0", &[])).unwrap_err();
    assert!(error.message().contains("pins"), "{error}");
    place.manager().enable("opens", None).unwrap();
    assert_eq!(place.states(), "opens@1.0.0 enabled");
    assert!(!run_elsewhere(&place, "opens:").success(), "it was loaded again");
    assert_eq!(place.states(), "opens@1.0.0 quarantined");
    // An update goes round it.
    place.manager().update(&place.compile("opens@1.0.1", &[])).unwrap();
    assert!(block_on(place.load().0.open_backend("opens:")).is_ok());
}

#[test]
fn a_power_cut_is_nobodys_fault() {
    let place = Place::lenient();
    place.drop_in("dark@1.0.0", &["OPEN_ABORTS"]);
    assert!(!run_elsewhere(&place, "dark:").success());
    let [marker] = &markers(&place)[..] else { panic!("no marker") };
    let text = fs::read_to_string(marker).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim()), "{text}");
    fs::write(marker, text.replace(boot.trim(), "another")).unwrap();
    assert_eq!(place.states(), "dark@1.0.0 enabled");
    assert!(markers(&place).is_empty());
    // Nor does a marker that cannot be read do harm.
    fs::write(marker, "rubbish").unwrap();
    assert_eq!(place.states(), "dark@1.0.0 enabled");
    assert!(markers(&place).is_empty());
}

#[test]
fn a_process_that_lives_is_not_blamed_and_a_slow_open_not_for_long() {
    let place = Place::lenient();
    place.drop_in("slow@1.0.0", &["OPEN_PENDS"]);
    let (registry, _) = place.load();
    block_on(async {
        let first = registry.open_backend("slow:");
        let second = registry.open_backend("slow:");
        let both = async { tokio::join!(first, second) };
        let timed_out = tokio::time::timeout(Duration::from_millis(100), both).await.is_err();
        assert!(timed_out);
        assert!(markers(&place).is_empty(), "an open that is dropped is over");

        let begun = Instant::now();
        let slow = registry.open_backend("slow:");
        tokio::pin!(slow);
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut slow).await.is_err());
        // It goes two seconds after the open began, which a slow machine may have used up by then.
        let is_marked = || markers(&place).len() == 1 || begun.elapsed() > Duration::from_millis(1_800);
        assert!(is_marked(), "an open under way is marked");
        assert_eq!(place.states(), "slow@1.0.0 enabled");
        assert!(run_elsewhere(&place, "").success());
        assert!(is_marked(), "another process takes no marker away");
        assert!(tokio::time::timeout(Duration::from_millis(2_500), &mut slow).await.is_err());
        eventually("the marker stays", || markers(&place).is_empty());
    });
    assert_eq!(place.states(), "slow@1.0.0 enabled");
}

#[test]
fn one_that_is_killed_in_a_slow_open_is_not_blamed() {
    let place = Place::lenient();
    place.drop_in("patient@1.0.0", &["OPEN_PENDS"]);
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "harm::a_process_of_its_own"]);
    let mut child = command.env(DIRECTORY, place.inside("")).env(OPENED, "patient:").spawn().unwrap();
    eventually("it never opens", || markers(&place).iter().any(|path| reads(path, "opening")));
    eventually("the marker stays", || markers(&place).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(place.states(), "patient@1.0.0 enabled");
}

fn reads(path: &Path, what: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains(what))
}

#[test]
fn one_that_panics_again_and_again_is_disabled_in_this_process() {
    let place = Place::lenient();
    place.drop_in("panics@1.0.0", &["OPEN_PANICS"]);
    let (registry, _) = place.load();
    let (other, _) = place.load();
    let mut events = registry.subscribe();
    for _ in 0..5 {
        assert_eq!(block_on(registry.open_backend("panics:")).unwrap_err().kind(), ErrorKind::Internal);
    }
    let event = events.try_recv().unwrap();
    let RegistryEvent::StatusChanged { to: Status::Quarantined { reason }, .. } = event else {
        panic!("{event}")
    };
    assert!(reason.contains("panic"), "{reason}");
    let error = block_on(registry.open_backend("panics:")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        (types(&registry).as_str(), types(&other).as_str()),
        ("panics@1.0.0 quarantined", "panics@1.0.0 quarantined")
    );
    // Loading again does not bring it back, and a new registry knows, too.
    registry.load_plugins(&place.options).unwrap();
    assert_eq!(types(&registry), "panics@1.0.0 quarantined");
    let (late, report) = place.load();
    assert_eq!(types(&late), "panics@1.0.0 quarantined");
    assert_eq!(report.plugins[0].state, PluginState::Enabled, "it is for this process alone");
    // A registry that is gone hears of nothing.
    drop::<Registry>(other);
    thread::yield_now();
}
